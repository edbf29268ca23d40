"""dpk-io-formats: other programs' labels, predictions and tracks for dpk."""

from __future__ import annotations

__version__ = "0.1.0"
