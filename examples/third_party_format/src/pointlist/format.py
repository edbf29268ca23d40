"""Poses as text: a line of names, then one line for each row.

    #pointlist nose tail
    0 -1 12.5 30.25 40.0 31.0

that is frame, track, and x, y of each keypoint. The centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dpk_core import PoseFormat, Poses, PoseStream, Skeleton
from dpk_core.errors import FileFormatError

MAGIC = "#pointlist"


class PointList(PoseFormat):
    """Reads and writes a line for each row."""

    def sniff(self, path):
        path = Path(path)
        try:
            return path.is_file() and path.open("rb").read(len(MAGIC)) == MAGIC.encode()
        except OSError:
            return False

    def kinds(self, path):
        return ("poses",)

    def read(self, path, kind="poses", *, report=None):
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            skeleton = Skeleton(tuple(file.readline().split()[1:]))

        def pieces() -> Iterator[Poses]:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                file.readline()
                for number, line in enumerate(file, start=2):
                    yield _pose(line, skeleton, f"{path}, line {number}")

        return PoseStream(skeleton, pieces)

    def write(self, path, data, *, report=None):
        with Path(path).open("w", encoding="utf-8") as file:
            print(MAGIC, *data.skeleton.names, file=file)
            for piece in data:
                for frame, track, points in zip(
                    piece.frames, piece.track_ids, piece.keypoints, strict=True
                ):
                    print(frame, track, *(repr(float(v)) for v in points.ravel()), file=file)
                if report is not None:
                    report.add("scores", piece.scores.size, "a list of points has none")
        if report is not None:
            skeleton = data.skeleton
            report.add("skeleton edges", len(skeleton.edges), "a list of points has none")
            report.add("swap partners", sum(i >= 0 for i in skeleton.swap), "as the edges")
            report.add("provenance entries", len(data.provenance), "a list of points has none")


def _pose(line: str, skeleton: Skeleton, place: str) -> Poses:
    try:
        frame, track, *values = line.split()
        points = np.array(values, float).reshape(1, len(skeleton), 2)
        scores = np.isfinite(points).all(axis=2).astype(float)
        return Poses(points, scores, skeleton, [int(frame)], [int(track)])
    except ValueError as error:
        raise FileFormatError(
            f"{place}: expected frame, track and x, y of {len(skeleton)} keypoints, "
            f"found {line[:80]!r} ({error})"
        ) from None
