"""Pure functions from (spec, facts) to manifests; no client, no clock, no file but our own templates.

``render_archive`` is the whole of it; one module for each concern.
"""

from pacs_operator.render.archive import config_hash, render_archive

__all__ = ["config_hash", "render_archive"]
