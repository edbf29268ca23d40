"""What dpk-annotator brings."""

from __future__ import annotations
