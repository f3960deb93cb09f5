"""`makemessages` that also knows the names of static/js/i18n.js: `t("…")` and `tn("one", "many", n)`."""

from __future__ import annotations

from django.core.management.commands import makemessages


class Command(makemessages.Command):
    """Django's own, with two more keywords for xgettext (`-d djangojs` reads the ES modules)."""

    xgettext_options = [*makemessages.Command.xgettext_options, "--keyword=t", "--keyword=tn:1,2"]
