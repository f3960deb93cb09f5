"""Long lists, rendered once for each kind of row: `{% alike KEY… %}…{% endalike %}` with `{% own VALUE %}` inside.

A row of the list of guests is some sixty nodes, and a page has a hundred rows of a handful of kinds. So the block is rendered for the first
row of a kind (the values after `alike` are the same), with a gap for every `own`; for the others only the gaps are filled.
What the block decides by therefore has to stand in the key, and what is a row's own in an `own`: `tests/web/test_alike.py` compares
both ways of rendering.
"""

from __future__ import annotations

import re
import secrets
from html import escape
from typing import TYPE_CHECKING, Any, Final

from django import template
from django.utils.html import conditional_escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.template.base import FilterExpression, NodeList, Parser, Token
    from django.template.context import Context

register = template.Library()

_GAP: Final = f"\0{secrets.token_hex(8)}\0"
_GAPS: Final = "alike gaps"
_INDENTATION = re.compile(r"\s*\n\s*")
_SPECIAL = re.compile(r"""[&<>"']""")
_PLAIN = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")


class OwnNode(template.Node):
    """`{% own VALUE %}`: what one row has for itself, escaped like any value; nothing for None.

    Resolved in the context of the `alike` around it: a name that is given within that block is not known here.
    """

    def __init__(self, text: str, value: FilterExpression) -> None:
        self.text = text
        self._value = value
        # Most are plain paths with a plain filter or none, which are looked up here in a fifth of the time; one that leads nowhere
        # is an error.
        path, *_ = text.split("|")
        plain = _PLAIN.fullmatch(path) and not any(args or _minds(function) for function, args in value.filters)
        self.root, *self._path = path.split(".") if plain else [""]
        self._filters = [function for function, _ in value.filters]

    def render(self, context: Context) -> str:
        """The value, or a gap for it."""
        gaps: list[OwnNode] | None = context.get(_GAPS)
        if gaps is None:
            return self.fill(context, context[self.root] if self.root else None)
        gaps.append(self)
        return _GAP

    def fill(self, context: Context, root: Any) -> str:
        """The value; `root` is what `self.root` is called in the context, where it is called anything."""
        value: Any
        if self.root:
            value = root
            for name in self._path:
                value = value[name] if type(value) is dict else getattr(value, name)
            for function in self._filters:
                value = function(value)
        else:
            value = self._value.resolve(context)
        if type(value) is str:  # what conditional_escape comes to, past its questions
            return escape(value) if _SPECIAL.search(value) else value
        return "" if value is None else conditional_escape(value)


def _minds(function: Any) -> bool:
    """Whether a filter is one that Django treats in a way of its own."""
    return any(getattr(function, flag, False) for flag in ("expects_localtime", "needs_autoescape", "is_safe"))


class _Kind:
    """A rendered block with its gaps."""

    def __init__(self, html: str, gaps: Sequence[OwnNode]) -> None:
        # The template's own indentation, a fifth of a page of a hundred rows, is left out; what is in a gap stays as it is.
        self._parts = [piece for part in _INDENTATION.sub("\n", html).split(_GAP) for piece in (part, "")][:-1]
        if len(self._parts) != 2 * len(gaps) + 1:
            raise template.TemplateSyntaxError("A value of {% own %} was used by another tag instead of shown.")
        self._nodes = list({node.text: node for node in gaps}.values())
        places = {node.text: place for place, node in enumerate(self._nodes)}
        self._order = [places[node.text] for node in gaps]
        self._roots = {node.root for node in self._nodes if node.root}

    def fill(self, context: Context) -> str:
        roots = {name: context[name] for name in self._roots}
        values = [node.fill(context, roots.get(node.root)) for node in self._nodes]
        parts = self._parts.copy()
        parts[1::2] = [values[place] for place in self._order]
        return "".join(parts)


class AlikeNode(template.Node):
    """`{% alike KEY… %}…{% endalike %}`."""

    child_nodelists = ("nodelist",)

    def __init__(self, key: Sequence[FilterExpression], nodelist: NodeList) -> None:
        self._key = key
        self.nodelist = nodelist

    def render(self, context: Context) -> str:
        """The block for this row."""
        kept: Any = context.render_context.dicts[-1]  # of this rendering alone
        kinds: dict[tuple[Any, ...], _Kind] = kept.setdefault(self, {})
        key = tuple(value.resolve(context) for value in self._key)
        if key not in kinds:
            gaps: list[OwnNode] = []
            with context.push(**{_GAPS: gaps}):
                html = self.nodelist.render(context)
            kinds[key] = _Kind(html, gaps)
        return kinds[key].fill(context)


@register.tag
def own(parser: Parser, token: Token) -> OwnNode:
    """A value that differs from row to row of one kind."""
    text = token.split_contents()
    if len(text) != 2:
        raise template.TemplateSyntaxError("own takes one value.")
    return OwnNode(text[1], parser.compile_filter(text[1]))


@register.tag
def alike(parser: Parser, token: Token) -> AlikeNode:
    """A row that is rendered once for all that have the same key."""
    key = [parser.compile_filter(text) for text in token.split_contents()[1:]]
    nodelist = parser.parse(("endalike",))
    parser.delete_first_token()
    return AlikeNode(key, nodelist)
