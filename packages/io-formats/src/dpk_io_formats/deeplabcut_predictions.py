"""The tables that DeepLabCut's ``analyze_videos`` writes, as .h5 and as .csv.

A row for each frame of the video, from 0; columns with the levels scorer, (individuals,)
bodyparts, coords, the last being x, y and likelihood. Multi-animal projects have the individuals;
body parts that are there once a frame belong to one called "single". What is missing is NaN, or -1
where version 3 had nothing to put in.

Coordinates are those of the labels, see `dpk_io_formats.deeplabcut`: (0, 0) is the centre of the
top-left pixel. With ``cropping`` in the project's configuration (or ``cropping=[x1, x2, y1, y2]``),
they count from the corner of that rectangle, and the table does not say so: give
``offset=(x1, y1)``. Source: DeepLabCut 2.3 and 3.0, ``utils/make_labeled_video.py`` (``df_x +=
x1``), ``utils/auxiliaryfunctions.py`` (save_data), ``pose_estimation_pytorch/apis/
analyze_videos.py`` (create_df_from_prediction), ``refine_training_dataset/stitch.py`` (whose
tables have the key "tracks").

Poses hold single precision: coordinates are kept to 24 bits, a thousandth of a pixel at 8,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import DpkError, FileFormatError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats.deeplabcut_hdf import has_frame
from dpk_io_formats.deeplabcut_prediction_table import (
    PredictionTable,
    open_predictions,
    peek_layout,
)
from dpk_io_formats.deeplabcut_table import Layout
from dpk_io_formats.literals import PickledDataError


class DeepLabCutPredictionsFormat(PoseFormat):
    """Reads and writes .h5 and .csv, as the suffix says."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            layout = peek_layout(Path(path))
        except PickledDataError:
            return has_frame(Path(path))  # reading says what to do
        except (DpkError, OSError, ValueError):
            return False
        return not layout.scorer.endswith("_tracker")  # those of Lightning Pose

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return ("poses",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        scorer: str = "",
        offset: tuple[float, float] = (0.0, 0.0),
        video: str = "",
        **options: Any,
    ) -> PoseStream:
        """Poses of a video, with the scorer and the names of individuals in the provenance.

        Without individuals there is a row for each frame. With them, there is one for each that
        has anything; their numbers follow the columns.

        Parameters
        ----------
        scorer
            Whose columns, when there are several; the first by default.
        offset
            x and y of the corner of the rectangle that was analysed, added to all coordinates.
        video
            Of predictions for labelled images, the folder whose images to read as frames.

        Raises
        ------
        FileMissingError
        FileFormatError
            When the table is not what DeepLabCut writes; while the stream is read, with the row.
        ValidationError
            On an option that there is not.
        """
        if options:
            raise ValidationError(f"deeplabcut-predictions: unknown options {sorted(options)}")
        if kind != "poses":
            raise ValidationError(f"predictions of DeepLabCut are poses, not {kind}")
        table = open_predictions(Path(path), scorer=scorer, video=video)
        return stream_of(table, Path(path), report, offset=offset)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        scorer: str = "",
        unique: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        """Write a table; see `deeplabcut_predictions_write.write_predictions`."""
        from dpk_io_formats.deeplabcut_predictions_write import write_predictions

        if not isinstance(data, PoseStream):
            raise ValidationError(
                f"predictions of DeepLabCut are poses, found {type(data).__name__}; for labels "
                "write deeplabcut"
            )
        write_predictions(
            Path(path), data, LossReport() if report is None else report, scorer=scorer,
            unique=unique, **options,
        )  # fmt: skip


def stream_of(
    table: PredictionTable,
    path: Path,
    report: LossReport | None,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
) -> PoseStream:
    """Poses as a stream; what is lost is counted the first time it is read to the end."""
    layout = table.layout
    skeleton = Skeleton(layout.bodyparts)
    provenance: dict[str, Any] = {"scorer": layout.scorer, "n_frames": table.n_frames}
    if layout.is_multi:
        provenance["track_names"] = {str(i): name for i, name in enumerate(layout.individuals)}
    if table.video:
        provenance["video"] = table.video
    shift = np.array(offset, np.float64)
    if shift.shape != (2,) or not np.isfinite(shift).all():
        raise ValidationError(f"offset: expected two numbers, found {offset!r}")
    counted = report is None
    if report is not None:
        others = ", ".join(layout.other_scorers)
        report.add("scorers", len(layout.other_scorers), f"{others}: choose with scorer=NAME")
        report.add("splits", int("set" in layout.ignored), "poses do not tell training from test")
        names = [name for name in layout.ignored if name != "set"]
        listed = ", ".join(dict.fromkeys(names))
        report.add("columns", len(names), f"{listed}: neither x, y nor likelihood")

    def pieces() -> Iterator[Poses]:
        nonlocal counted
        counter = _Counter(layout)
        for frames, values in table.pieces():
            counter.rows, counter.end = counter.rows + len(frames), int(frames[-1]) + 1
            yield _poses(layout, skeleton, frames, values, shift, provenance, counter, path)
        if not counted and report is not None:
            counted = True
            counter.tell(report)

    length = None if layout.is_multi else table.n_frames
    return PoseStream(skeleton, pieces, length, provenance)


class _Counter:
    """What does not come over, counted while it streams."""

    def __init__(self, layout: Layout) -> None:
        self.clipped = self.orphans = self.placeholders = self.unscored = 0
        self.rows = self.end = 0
        self.seen = np.zeros(layout.columns.shape[:2], bool)
        self._layout = layout

    def tell(self, report: LossReport) -> None:
        report.add("scores", self.clipped, "outside 0 to 1, they are moved to the nearest of both")
        report.add("scores", self.unscored, "there is a position and no likelihood: taken for 1")
        report.add("scores", self.orphans, "of keypoints without a position, they become 0")
        report.add("placeholders", self.placeholders, "negative likelihoods stand for missing")
        gaps = self.end - self.rows
        report.add("gaps in the frames", gaps, "tables that dpk writes have a row for each frame")
        layout = self._layout
        if layout.is_multi:
            seen = np.flatnonzero(self.seen.any(axis=1))
            lost = [name for i, name in enumerate(layout.individuals) if i not in seen]
            report.add("individuals", len(lost), f"{', '.join(lost)}: nowhere in the table")
        if layout.unique:
            unseen = ~self.seen[:, -layout.unique :].any(axis=0)
            report.add(
                "unique body parts",
                int(unseen.sum()),
                "nowhere in the table, so that nothing tells them from those of every animal",
            )


def _poses(
    layout: Layout,
    skeleton: Skeleton,
    frames: np.ndarray,
    values: np.ndarray,
    shift: np.ndarray,
    provenance: dict[str, Any],
    counter: _Counter,
    path: Path,
) -> Poses:
    found = layout.arrange(values)  # (n, individuals, k, 3)
    infinite = np.argwhere(np.isinf(found))
    if len(infinite):
        raise FileFormatError(
            f"{path}, frame {frames[infinite[0][0]]}: expected finite numbers, found inf"
        )
    xy, scores = found[..., :2] + shift, found[..., 2].copy()
    placeholder = scores < 0
    if placeholder.any():
        at = (found[..., :2] == found[..., 2:]).all(axis=-1) & placeholder  # -1, -1, -1
        counter.placeholders += int(at.sum())
        xy[at], scores[at] = np.nan, np.nan
    missing = np.isnan(xy).any(axis=-1)
    there = ~missing | np.isfinite(scores)
    in_row = ~missing.all(axis=-1)
    orphans = missing & np.isfinite(scores)
    if layout.is_multi:  # an animal without any position has likelihoods of 0, see the writer
        orphans &= (scores != 0) | in_row[..., None]
    counter.orphans += int(orphans.sum())
    counter.unscored += int((~missing & np.isnan(scores)).sum())
    scores = np.where(missing, 0.0, np.where(np.isnan(scores), 1.0, scores))
    counter.clipped += int(((scores < 0) | (scores > 1)).sum())
    scores = np.clip(scores, 0.0, 1.0)
    xy[missing] = np.nan
    counter.seen |= (~missing).any(axis=0)
    if not layout.is_multi:
        return Poses(
            xy[:, 0].astype(np.float32), scores[:, 0].astype(np.float32), skeleton, frames,
            provenance=provenance,
        )  # fmt: skip
    row, individual = np.nonzero(there.any(axis=-1))
    return Poses(
        xy[row, individual].astype(np.float32),
        scores[row, individual].astype(np.float32),
        skeleton,
        frames[row],
        individual.astype(np.int32),
        provenance,
    )
