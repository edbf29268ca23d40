"""dpk-models: pose estimation networks for dpk."""

from __future__ import annotations

__version__ = "0.1.0"
