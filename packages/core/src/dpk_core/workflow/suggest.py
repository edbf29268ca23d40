"""Suggest: which frames to label next, by what the model made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import attrs
import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileMissingError, ValidationError, VideoError
from dpk_core.interfaces import Model
from dpk_core.poses import Poses
from dpk_core.services.storage import read_annotations, read_poses
from dpk_core.services.suggestions import (
    farthest_points,
    image_features,
    pose_features,
    rank_average,
    select,
)
from dpk_core.services.suggestions.criteria import (
    MOTION,
    Criterion,
    confidence,
    entropy,
    motion,
    reasons,
)
from dpk_core.workflow.predict import default_output
from dpk_core.workflow.progress import Progress, ignore
from dpk_core.workflow.suggest_entropy import entropy_of_rows
from dpk_core.workflow.suggest_images import RowImages
from dpk_core.workflow.taken_frames import names_of

CRITERIA = ("confidence", "entropy", *MOTION)
BY = ("combined", *CRITERIA, "diversity")

_SHORTLIST, _LEAST, _PART = 5, 2, 5
"""How many of the highest ranked "combined" chooses different ones from: 5 times the number asked
for (Zhdanov 2019, arXiv:1901.05954, "Diverse mini-batch active learning": prefilter), but of few
frames no more than a fifth, or twice the number."""
_MOST_COMPARED = 1000
"""Rows that are compared with each other at most, and labelled ones with them."""


@attrs.frozen
class Suggestion:
    """One frame to label.

    Parameters
    ----------
    row
        Of the poses.
    frame
        Its number in the video, or the image's in the set.
    track
        Id of the individual, -1 for none.
    score
        From 0 to 1, the highest is the most wanted by the ranking.
    values
        What each criterion gave, NaN where it is not known.
    reasons
        In words, the strongest first.
    """

    row: int
    frame: int
    track: int
    score: float
    values: dict[str, float]
    reasons: tuple[str, ...]


@attrs.frozen(eq=False, repr=False)
class Suggestions:
    """Frames to label, and what all others were given.

    Parameters
    ----------
    chosen
        The most wanted first.
    by
        How they were chosen.
    values
        By criterion, (n,) for all rows of the poses.
    ranking
        (n,) in [0, 1] by which rows were ranked.
    candidates
        (n,) bool: rows that could be chosen, as nobody labelled them yet.
    notes
        What a user should know.
    """

    chosen: tuple[Suggestion, ...]
    by: str
    values: dict[str, np.ndarray]
    ranking: np.ndarray
    candidates: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> np.ndarray:
        """(m,) int64 rows of the poses."""
        return np.array([one.row for one in self.chosen], np.int64)

    @property
    def frames(self) -> np.ndarray:
        """(m,) int64 numbers of the frames."""
        return np.array([one.frame for one in self.chosen], np.int64)

    def __repr__(self) -> str:
        return f"Suggestions({len(self.chosen)} of {len(self.candidates)} rows, by {self.by})"


def suggest_frames(
    source: str | PathLike[str] | AnnotationSet,
    poses: str | PathLike[str] | Poses | None = None,
    n: int = 20,
    *,
    by: str = "combined",
    labels: str | PathLike[str] | AnnotationSet | None = None,
    model: str | PathLike[str] | Model | None = None,
    min_distance: int | None = None,
    use_images: bool = True,
    progress: Progress = ignore,
) -> Suggestions:
    """Choose the frames from whose labels a model can be expected to learn most.

    Nothing is written; see `dpk_core.workflow.suggest_add.add_suggestions`.

    Parameters
    ----------
    source
        A video, a labelled set or a folder of images; or a set in memory. Images of a set that
        have a label are not suggested.
    poses
        What a model found in it, or the file. Default: where ``dpk predict`` writes it.
    n
        How many. Where several individuals were tracked, each in a frame counts.
    by
        - "combined": rows are ranked by each criterion that can be known; certainty (confidence,
          entropy) counts as much as motion (speed, acceleration, autoregression). Of the highest,
          up to 5 n, those n are taken that differ most in pose and image from each other and from
          what is labelled;
        - one of `CRITERIA` alone: the n highest, "entropy" with a model only, those of motion for
          a video only;
        - "diversity": those that differ most, whatever the model says.
    labels
        A set with frames of this video that are not to be suggested again.
    model
        A model, or its file, to look at confidence maps again: poses don't hold them.
    min_distance
        Frames between two suggestions of one individual. Default: a tenth of the video's length
        divided by n. Images of a set have no order, so there it is 1.
    use_images
        False compares poses alone, without looking at images.

    Raises
    ------
    FileMissingError, FileFormatError, VideoError, ModelFileError
    ValidationError
        When the poses are not of this source or empty, nothing is left to label, or a criterion
        can't be known.

    References
    ----------
    The loop: Graving et al. 2019, eLife 8:e47994, Figure 1 and Appendix 3; Nath et al. 2019,
    Nature Protocols 14:2152. Each criterion names its own in `dpk_core.services.suggestions`.
    """
    if by not in BY:
        raise ValidationError(f"by: expected one of {', '.join(BY)}; found {by!r}")
    if n < 1:
        raise ValidationError(f"n: expected at least 1, found {n}")
    found, folder = given_poses(source, poses)
    given = source if isinstance(source, AnnotationSet) else Path(source)
    with RowImages(given, found, folder) as images:
        present, place = _read_labels(labels)
        candidates = _candidates(images, present, place)
        notes: list[str] = []
        criteria = _criteria(by, images, candidates, model, notes, progress)
        ranking = _ranking(criteria, len(found))
        gap = _distance(images, candidates, n, min_distance)
        rows = _choose(by, images, ranking, candidates, n, gap, use_images, notes, progress)
    return Suggestions(
        _suggestions(found, rows, ranking, criteria, by),
        by,
        {c.name: c.values for c in criteria},
        ranking,
        candidates,
        tuple(notes),
    )


# -- what there is ------------------------------------------------------------------------------


def given_poses(
    source: str | PathLike[str] | AnnotationSet, poses: str | PathLike[str] | Poses | None
) -> tuple[Poses, Path]:
    """The poses of a source, and the folder to which names in them are relative."""
    if isinstance(poses, Poses):
        return poses, Path()
    if poses is None:
        if isinstance(source, AnnotationSet):
            raise ValidationError("poses: expected those that a model found in the set")
        if not Path(source).exists():
            raise FileMissingError(f"no video, labelled set or image folder at {source}")
        poses = default_output(source)
        if not poses.exists():
            raise FileMissingError(
                f"no poses at {poses}: find them first (dpk predict MODEL {source}), or say where "
                "they are (--poses)"
            )
    return read_poses(poses), Path(poses).parent


def _read_labels(
    labels: str | PathLike[str] | AnnotationSet | None,
) -> tuple[AnnotationSet | None, Path]:
    if labels is None or isinstance(labels, AnnotationSet):
        return labels, Path()
    return read_annotations(labels), Path(labels).parent


def _candidates(images: RowImages, present: AnnotationSet | None, place: Path) -> np.ndarray:
    """(n,) bool: rows that nobody has labelled, and that are in no given set."""
    poses = images.poses
    free = np.ones(len(poses), bool)
    if images.annotations is not None:
        labelled = np.asarray(images.annotations.annotated.any(axis=1))
        free &= ~labelled[poses.frames]
    if present is not None and images.path is not None:
        free &= ~_are_taken(images, present, place)
    if not free.any():
        raise ValidationError(
            f"nothing is left to suggest: all of the {len(np.unique(poses.frames))} frames with "
            "poses are labelled, or in the set, already"
        )
    return free


def _are_taken(images: RowImages, present: AnnotationSet, place: Path) -> np.ndarray:
    """Rows whose frame is in the set: that individual's, or the frame as a whole."""
    videos = {video: names_of(video, place) for video in {s.video for s in present.sources}}
    taken: set[tuple[object, str]]
    if images.files is not None:
        taken = {(name, s.individual) for s in present.sources for name in videos[s.video]}
        files = [names_of(str(path)) for path in images.files]
        keys: list[set[object]] = [set(files[i]) for i in images.poses.frames.tolist()]
    else:
        mine = names_of(str(images.path))
        taken = {(s.frame, s.individual) for s in present.sources if videos[s.video] & mine}
        keys = [{i} for i in images.poses.frames.tolist()]
    return np.array(
        [
            any((key, who) in taken for key in found for who in (name, ""))
            for found, name in zip(keys, images.names, strict=True)
        ],
        bool,
    )


# -- ranking ------------------------------------------------------------------------------------


def _criteria(
    by: str,
    images: RowImages,
    candidates: np.ndarray,
    model: str | PathLike[str] | Model | None,
    notes: list[str],
    progress: Progress,
) -> list[Criterion]:
    poses = images.poses
    wanted = CRITERIA if by == "combined" else (by,) if by in CRITERIA else ()
    criteria = []
    if "confidence" in wanted:
        criteria.append(confidence(poses))
        if not poses.scores.any():
            notes.append("no keypoint was found in any frame; those suggested are spread over all")
    if "entropy" in wanted and (model is not None or by == "entropy"):
        if model is None:
            raise ValidationError(
                "entropy: poses don't hold confidence maps; give the model, too (--model), which "
                "then looks at the frames again"
            )
        criteria.append(entropy(entropy_of_rows(model, images, candidates, notes, progress)))
    for name, (compute, text) in MOTION.items():
        if name not in wanted:
            continue
        if images.is_video:
            criteria.append(motion(name, text, compute, poses))
        elif by == name:
            raise ValidationError(
                f"{name}: the images of {images.named} don't follow each other in time; choose "
                "confidence, entropy, diversity or combined"
            )
    return criteria


def _ranking(criteria: Sequence[Criterion], n: int) -> np.ndarray:
    if not criteria:
        return np.full(n, 0.5)
    kinds = ["motion" if c.name in MOTION else "certainty" for c in criteria]
    return rank_average([c.values for c in criteria], kinds)


def _distance(images: RowImages, candidates: np.ndarray, n: int, wanted: int | None) -> int:
    if wanted is not None and wanted < 1:
        raise ValidationError(f"min_distance: expected at least 1, found {wanted}")
    if not images.is_video:
        return 1
    frames = images.poses.frames[candidates]
    # so that a shortlist of 5 n always finds room: each row in it rules out fewer than 2 of these
    default = max(1, int(frames.max() - frames.min() + 1) // (2 * _SHORTLIST * n))
    return default if wanted is None else wanted


# -- choosing -----------------------------------------------------------------------------------


def _choose(
    by: str,
    images: RowImages,
    ranking: np.ndarray,
    candidates: np.ndarray,
    n: int,
    gap: int,
    use_images: bool,
    notes: list[str],
    progress: Progress,
) -> np.ndarray:
    """Rows of the poses, the most wanted first."""
    share = max(_LEAST * n, min(_SHORTLIST * n, int(candidates.sum()) // _PART))
    sizes = {"combined": share, "diversity": max(n, _MOST_COMPARED)}
    poses = images.poses
    shortlist = select(
        ranking, sizes.get(by, n), poses.frames, poses.track_ids, gap, candidates
    )  # fmt: skip
    if by in sizes and len(shortlist) > n:
        shortlist = _different(by, images, shortlist, candidates, n, use_images, notes, progress)
    if len(shortlist) < n:
        apart = f" that are {gap} frames apart" if gap > 1 else ""
        notes.append(f"asked for {n}, but there are only {len(shortlist)}{apart}")
    return shortlist


def _different(
    by: str,
    images: RowImages,
    shortlist: np.ndarray,
    candidates: np.ndarray,
    n: int,
    use_images: bool,
    notes: list[str],
    progress: Progress,
) -> np.ndarray:
    """Of the shortlist those n that differ most from each other and from what is labelled."""
    labelled = np.flatnonzero(~candidates)
    if len(labelled) > _MOST_COMPARED:
        spread = np.linspace(0, len(labelled) - 1, _MOST_COMPARED).astype(int)
        labelled = labelled[spread]
    rows = np.concatenate([shortlist, labelled])
    features = pose_features(images.poses.keypoints[rows])
    if use_images:
        try:
            features = np.hstack([features, _image_features(images, rows, progress)])
        except VideoError as error:
            notes.append(f"{error}; frames were compared by their poses alone")
    centers = features[len(shortlist) :]
    chosen, _ = farthest_points(features[: len(shortlist)], n, centers if len(centers) else None)
    return shortlist[chosen if by == "diversity" else np.sort(chosen)]


def _image_features(images: RowImages, rows: np.ndarray, progress: Progress) -> np.ndarray:
    """Of each row; images are read in the order of time, one after the other."""
    order = np.argsort(images.poses.frames[rows], kind="stable")

    def read() -> Iterator[np.ndarray]:
        for done, row in enumerate(rows[order].tolist()):
            progress(done, len(rows), "looking at frames")
            yield images.image(row)
        progress(len(rows), len(rows), "looking at frames")

    features = image_features(read())
    found = np.empty_like(features)
    found[order] = features
    return found


def _suggestions(
    poses: Poses, rows: np.ndarray, ranking: np.ndarray, criteria: Sequence[Criterion], by: str
) -> tuple[Suggestion, ...]:
    otherwise = ("differs from the others" if by == "diversity" else "nothing stands out",)
    return tuple(
        Suggestion(
            row,
            int(poses.frames[row]),
            int(poses.track_ids[row]),
            float(ranking[row]),
            {c.name: float(c.values[row]) for c in criteria},
            why or otherwise,
        )
        for row, why in zip(
            rows.tolist(), reasons(criteria, rows, poses.skeleton.names), strict=True
        )
    )
