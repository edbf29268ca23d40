"""What dpk-trackers brings."""

from __future__ import annotations
