"""Static files with their content's hash in the name, imports between ES modules rewritten along, so that they cache for ever."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStorage(CompressedManifestStaticFilesStorage):
    """WhiteNoise's compressed manifest storage, also for `import … from "./x.js"`."""

    support_js_module_import_aggregation = True
