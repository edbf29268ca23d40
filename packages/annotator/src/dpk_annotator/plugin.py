"""What dpk-annotator brings: nothing yet."""

from __future__ import annotations
