"""Poses of any length, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import ValidationError
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton

PIECE = 8192
"""Rows in a piece, unless somebody has a reason for another number."""


@attrs.frozen(repr=False, eq=False)
class PoseStream:
    """What a file of poses holds, read in pieces, so that a million frames need no memory.

    Parameters
    ----------
    skeleton
        Of all rows.
    pieces
        Called without arguments, gives an iterator over `Poses` of some rows each, from the first
        row to the last; it may be called again.
    length
        Number of rows, None when that is not known before the end.
    provenance
        As in `Poses`.

    Examples
    --------
    >>> poses = Poses(np.zeros((5, 1, 2)), np.ones((5, 1)), Skeleton(("nose",)))
    >>> stream = PoseStream.of(poses, piece=2)
    >>> [len(piece) for piece in stream]
    [2, 2, 1]
    >>> stream.read()
    Poses(5 rows, 1 keypoints, frames 0-4, 0 tracks)
    """

    skeleton: Skeleton
    pieces: Callable[[], Iterator[Poses]]
    length: int | None = None
    provenance: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of(cls, poses: Poses, piece: int = PIECE) -> PoseStream:
        """Poses that are in memory already."""

        def pieces() -> Iterator[Poses]:
            return (poses[i : i + piece] for i in range(0, len(poses), piece))

        return cls(poses.skeleton, pieces, len(poses), poses.provenance)

    def __iter__(self) -> Iterator[Poses]:
        return self.pieces()

    def read(self) -> Poses:
        """All rows at once."""
        found = list(self)
        k = len(self.skeleton)
        if any(len(piece.skeleton) != k for piece in found):
            raise ValidationError(f"a piece has another skeleton than the stream ({k} keypoints)")
        return Poses(
            np.concatenate([np.empty((0, k, 2), np.float32), *(p.keypoints for p in found)]),
            np.concatenate([np.empty((0, k), np.float32), *(p.scores for p in found)]),
            self.skeleton,
            np.concatenate([np.empty(0, np.int64), *(p.frames for p in found)]),
            np.concatenate([np.empty(0, np.int32), *(p.track_ids for p in found)]),
            self.provenance,
        )

    def __repr__(self) -> str:
        length = "?" if self.length is None else self.length
        return f"PoseStream({length} rows, {len(self.skeleton)} keypoints)"
