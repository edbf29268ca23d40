"""Between sleap-io's classes and ours: skeletons, points, labels.

All that this package takes from sleap-io 0.9 passes through here, apart from its decoder of
skeletons (`sleap_header`). Pixels need no change: since format 1.1 SLEAP has "points with midpixel
coordinates, top left corner at (-0.5, -0.5)" (SLEAP, sleap/io/format/hdf5.py, LabelsV1Adaptor),
and so has dpk.

What points mean (SLEAP, sleap/gui/widgets/video.py, QtNode.mousePressEvent; sleap-io 0.9,
model/instance.py):

* ``visible`` is False for "missing from this instance", which a right-click says. The coordinates
  that still stand there are where the node was put when the instance was made; SLEAP trains on none
  of them (``Instance.numpy`` gives NaN). They are missing here.
* ``complete`` is set once a person has moved or toggled the point. A missing one that is complete
  was looked for, and is ``annotated`` here.
* A keypoint that is hidden, but whose place is labelled, is a visible point to SLEAP.

Edges point from parent to child. SLEAP's may form circles, lie twice and point in any direction;
those that no tree can have are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from dpk_core.annotations import HIDDEN, NOT_LABELLED, VISIBLE, AnnotationSet
from dpk_core.errors import SkeletonError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.skeleton import NONE, Skeleton
from dpk_io_formats.name_graph import forest

if TYPE_CHECKING:
    import sleap_io

MISSING, INVISIBLE_HIDDEN = "missing", "hidden"
"""What points are that SLEAP calls not visible."""

_PLAIN_NAMES = ("", "Skeleton")


# -- skeletons ------------------------------------------------------------------------------------


def from_sleap_skeleton(
    sleap: sleap_io.Skeleton, where: object, report: LossReport | None = None
) -> Skeleton:
    """Nodes in their order, edges as a forest, symmetries as swap partners.

    Raises
    ------
    SkeletonError
        For names that are empty or stand twice, with ``where``.
    """
    report = LossReport() if report is None else report
    index = {id(node): i for i, node in enumerate(sleap.nodes)}
    pairs = [(index[id(edge.source)], index[id(edge.destination)]) for edge in sleap.edges]
    k = len(sleap.nodes)
    parent, circles = forest(k, pairs)
    kept = {(p, i) for i, p in enumerate(parent) if p != NONE}
    turned = len(kept - set(pairs))
    report.add("skeleton edges", circles, "they close a circle, and a skeleton is made of trees")
    report.add(
        "skeleton edges", len(pairs) - circles - len(kept), "they stand twice between two nodes"
    )
    report.add("directions of skeleton edges", turned, "a keypoint has one parent")
    swap, symmetries = [NONE] * k, 0
    for symmetry in sleap.symmetries:
        nodes = [index[id(node)] for node in symmetry.nodes]
        if len(nodes) == 2 and swap[nodes[0]] == swap[nodes[1]] == NONE:
            swap[nodes[0]], swap[nodes[1]] = nodes[1], nodes[0]
        else:
            symmetries += 1
    report.add("symmetries", symmetries, "a keypoint has one partner, and is not its own")
    name = sleap.name or ""
    plain = name in _PLAIN_NAMES or name.removeprefix("Skeleton-").isdigit()
    report.add("skeleton names", int(not plain), "a skeleton has none here")
    try:
        return Skeleton(tuple(sleap.node_names), parent, swap)
    except SkeletonError as error:
        raise SkeletonError(f"{where}: {error}") from None


def to_sleap_skeleton(skeleton: Skeleton, report: LossReport | None = None) -> sleap_io.Skeleton:
    """An edge from each parent to its child, a symmetry for each mutual pair."""
    from sleap_io import Edge, Node, Symmetry
    from sleap_io import Skeleton as SleapSkeleton

    nodes = [Node(name) for name in skeleton.names]
    flip = skeleton.flip_order
    if report is not None:
        unmatched = sum(s != NONE and flip[i] == i for i, s in enumerate(skeleton.swap))
        report.add("swap partners", unmatched, "SLEAP's symmetries are mutual, between two nodes")
    return SleapSkeleton(
        nodes=nodes,
        edges=[Edge(nodes[parent], nodes[child]) for child, parent in skeleton.edges],
        symmetries=[Symmetry({nodes[i], nodes[j]}) for i, j in enumerate(flip) if i < j],
        name="Skeleton-0",
    )


# -- points ---------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class PointLabels:
    """keypoints (n, k, 2), visibility (n, k), annotated (n, k), as in `AnnotationSet`."""

    keypoints: np.ndarray
    visibility: np.ndarray
    annotated: np.ndarray


def labels_of_points(
    xy: np.ndarray,
    visible: np.ndarray,
    complete: np.ndarray,
    invisible: str = MISSING,
    report: LossReport | None = None,
) -> PointLabels:
    """What a user's points say.

    Parameters
    ----------
    xy, visible, complete
        (n, k, 2), (n, k), (n, k) as SLEAP has them.
    invisible
        What points are that are not visible: "missing", as SLEAP takes them, or "hidden", for
        labels whose author put such points where the hidden keypoint is.
    """
    if invisible not in (MISSING, INVISIBLE_HIDDEN):
        raise ValidationError(
            f"invisible: expected {MISSING!r} or {INVISIBLE_HIDDEN!r}, found {invisible!r}"
        )
    placed = np.isfinite(xy).all(axis=-1)
    kept = placed & visible if invisible == MISSING else placed
    keypoints = np.where(kept[..., None], xy, np.nan)
    visibility = np.where(kept, np.where(visible, VISIBLE, HIDDEN), NOT_LABELLED)
    if report is not None:
        report.add(
            "coordinates of points that are not visible",
            int((placed & ~kept).sum()),
            "SLEAP takes those points for missing; keep them with invisible=hidden",
        )
        report.add(
            "marks of visible points", int((visible & ~placed).sum()), "they have no coordinates"
        )
        report.add(
            "marks of points that nobody moved",
            int((kept & ~complete).sum()),
            "every labelled keypoint counts as a person's",
        )
    return PointLabels(keypoints, visibility.astype(np.uint8), kept | complete)


def points_of_labels(
    keypoints: np.ndarray, annotated: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """xy, visible, complete of labels: the inverse of `labels_of_points`."""
    placed = np.isfinite(keypoints).all(axis=-1)
    return np.where(placed[..., None], keypoints, np.nan), placed, annotated.astype(bool)


def report_points(annotations: AnnotationSet, report: LossReport | None) -> None:
    """Count what SLEAP's points cannot say."""
    if report is None:
        return
    placed = np.isfinite(annotations.keypoints).all(axis=2)
    visibility = annotations.visibility
    report.add(
        "visibilities",
        int((placed & (visibility == HIDDEN)).sum()),
        "SLEAP takes a point that is not visible for missing; hidden keypoints become visible",
    )
    report.add(
        "visibilities",
        int((placed & (visibility == NOT_LABELLED)).sum()),
        "a keypoint with coordinates becomes visible",
    )
    report.add(
        "unconfirmed keypoints",
        int((placed & ~annotations.annotated).sum()),
        "SLEAP takes every point of a user's instance for labelled",
    )


# -- labels ---------------------------------------------------------------------------------------


@attrs.frozen
class FrameRows:
    """A frame to write: which video, its number there, and the rows of its animals.

    Parameters
    ----------
    state
        "labelled", "negative" (looked at, and nothing there) or "waiting" (to be labelled).
    """

    video: int
    number: int
    rows: tuple[int, ...]
    state: str = "labelled"


def to_sleap_labels(
    annotations: AnnotationSet,
    keypoints: np.ndarray,
    frames: Sequence[FrameRows],
    videos: Sequence[sleap_io.Video],
    individuals: Sequence[str],
    report: LossReport | None = None,
) -> sleap_io.Labels:
    """Rows as users' instances, frames that wait for a label as suggestions.

    Parameters
    ----------
    keypoints
        (n, k, 2) in pixels of the frames.
    individuals
        For each row the name of its track, "" for none.
    """
    from sleap_io import Instance, LabeledFrame, Labels, SuggestionFrame, Track

    skeleton = to_sleap_skeleton(annotations.skeleton, report)
    report_points(annotations, report)
    xy, visible, complete = points_of_labels(keypoints, annotations.annotated)
    tracks = {name: Track(name) for name in individuals if name}
    labelled, suggestions = [], []
    for frame in frames:
        video = videos[frame.video]
        if frame.state == "waiting":
            suggestions.append(SuggestionFrame(video, frame.number))
            continue
        instances = [
            Instance(
                _points(xy[i], visible[i], complete[i], skeleton),
                skeleton=skeleton,
                track=tracks.get(individuals[i]),
                tracking_score=0.0,
            )
            for i in (frame.rows if frame.state == "labelled" else ())
        ]
        labelled.append(
            LabeledFrame(video, frame.number, instances, is_negative=frame.state == "negative")
        )
    return Labels(
        labeled_frames=labelled,
        videos=list(videos),
        skeletons=[skeleton],
        tracks=list(tracks.values()),
        suggestions=suggestions,
    )


def _points(xy: np.ndarray, visible: np.ndarray, complete: np.ndarray, skeleton: Any) -> Any:
    from sleap_io.model.instance import PointsArray

    points = PointsArray.empty(len(xy))
    points["xy"], points["visible"], points["complete"] = xy, visible, complete
    points["name"] = skeleton.node_names
    return points


def closed_video(name: str, backend: dict[str, Any]) -> sleap_io.Video:
    """A video that is only named: nothing is opened, neither now nor when it is written."""
    from sleap_io import Video

    return Video(filename=name, backend_metadata=backend, open_backend=False)
