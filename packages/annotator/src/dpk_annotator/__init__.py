"""dpk-annotator: labelling in the browser for dpk."""

from __future__ import annotations

__version__ = "0.1.0"
