"""dpk-trackers: detectors, trackers and barcodes for dpk."""

from __future__ import annotations

__version__ = "0.1.0"
