"""Finding bytes that a demuxer skipped without a word.

When a block header inside an AVI or Matroska file is damaged, demuxers silently carry on at the
next one they understand. The frames between are gone and all later ones would be numbered too low.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpk_core.services.video.source import VideoSource

# What stands between packets besides their own few header bytes.
_SLACK = {"avi": 64, "matroska": 192}
_AVI_FILLERS = (b"JUNK", b"LIST", b"RIFF", b"idx1", b"ix", b"JUNQ")
_MATROSKA_FILLERS = (
    b"\x1c\x53\xbb\x6b",  # Cues
    b"\x12\x54\xc3\x67",  # Tags
    b"\x10\x43\xa7\x70",  # Chapters
    b"\x19\x41\xa4\x69",  # Attachments
    b"\x11\x4d\x9b\x74",  # SeekHead
)


def find_hole(source: VideoSource, spans: Sequence[tuple[int, int]]) -> tuple[int, str] | None:
    """Where the first stretch of unexplained bytes between packets begins, and a sentence on it.

    Parameters
    ----------
    spans : (position, size) in bytes of every packet of every stream, as demuxed.
    """
    if len(spans) < 2:
        return None
    table = np.array(sorted(spans), dtype=np.int64)
    if table[0, 0] < 0:
        return None
    ends = table[:-1, 0] + table[:-1, 1]
    gaps = table[1:, 0] - ends
    suspects = np.flatnonzero(gaps > _SLACK[source.family])
    with source.path.open("rb") as file:
        for at in suspects:
            file.seek(int(ends[at]))
            if not _holds_filler(file.read(64), source.family):
                return int(ends[at]), (
                    f"bytes {ends[at]} to {table[at + 1, 0]} of the file are damaged and it is "
                    "not known how many frames were there"
                )
    return None


def _holds_filler(head: bytes, family: str) -> bool:
    """Whether something legitimate begins here; a packet's end is exact to a few bytes only."""
    fillers = _MATROSKA_FILLERS if family == "matroska" else _AVI_FILLERS
    return any(head.startswith(fillers, shift) for shift in range(16))
