"""What dpk-trackers brings: nothing yet."""

from __future__ import annotations
