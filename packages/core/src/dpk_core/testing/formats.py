"""The contract of `PoseFormat`: what is written can be read again, and nothing is lost unsaid."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import HIDDEN, AnnotationSet, Source
from dpk_core.errors import DpkError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.services.formats import get_format
from dpk_core.specs import FormatSpec
from dpk_core.streams import PoseStream
from dpk_core.testing.contract import require
from dpk_core.testing.datasets import dot_annotations
from dpk_core.tracks import Tracks

CLOSE_PX = 5e-3
"""Text may round coordinates so much."""

_STRANGE = {
    "empty": b"",
    "zeros": bytes(512),
    "text": b"frame,when\n1,2\n",
    "json": b'{"a": [1, 2]}',
    "png": b"\x89PNG\r\n\x1a\n\x00\x00",
    "hdf5": b"\x89HDF\r\n\x1a\n\x00\x00",
}


def check_format(
    name: str,
    example: str | Path | None = None,
    *,
    samples: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Check a registered format against the contract of `PoseFormat`.

    Parameters
    ----------
    name
        As it is announced.
    example
        A file or folder of the format, for those that only read.
    samples
        What to write for "annotations", "poses" or "tracks" instead of `sample_of` that kind, for
        a format that holds only some of what there is: one animal, one video, boxes.
    options
        For writing.

    Raises
    ------
    ContractError
    """  # fmt: skip
    spec, found = get_format(name)
    require(isinstance(found, PoseFormat), "a format derives from dpk_core.PoseFormat", type(found))
    require(bool(spec.reads or spec.writes), "a format reads or writes something")
    with tempfile.TemporaryDirectory(prefix="dpk-format-") as temporary:
        folder = Path(temporary)
        _check_sniffing(found, folder)
        if example is not None:
            for kind in _check_claim(found, Path(example)):
                _check_kind(found.read(Path(example), kind), kind)
        for kind in spec.writes:
            data = (samples or {}).get(kind) or sample_of(kind)
            _check_writing(spec, found, kind, data, folder / kind, options)


def sample_of(kind: str) -> AnnotationSet | PoseStream | Tracks:
    """A little of everything: two animals with names in a frame, missing and hidden keypoints."""
    rng = np.random.default_rng(7)
    names = {"track_names": {"0": "anna", "3": "bert"}}
    if kind == "annotations":
        dots = dot_annotations(8, channels=3)
        visibility = dots.visibility.copy()
        visibility[0, 1] = HIDDEN
        rows = [0, 0, 1, 2, 6]
        sources = tuple(
            Source("walk.mp4", frame, individual)
            for frame, individual in zip(
                [3, 3, 5, 9, 12], ["anna", "bert", "anna", "bert", "anna"], strict=True
            )
        )
        keypoints = dots.keypoints[rows]
        keypoints[1] = dots.keypoints[3]
        return AnnotationSet(
            dots.images[rows], keypoints, dots.skeleton,
            visibility=visibility[rows], sources=sources,
        )  # fmt: skip
    if kind == "poses":
        keypoints = rng.uniform(0, 60, (40, 3, 2)).astype(np.float32)
        keypoints[3, 1] = np.nan
        scores = rng.uniform(0.01, 1, (40, 3)).astype(np.float32)
        frames, ids = np.repeat(np.arange(5, 25), 2), np.tile([0, 3], 20)
        poses = Poses(keypoints, scores, dot_annotations(1).skeleton, frames, ids, names)
        return PoseStream.of(poses, piece=16)
    n = 12
    return Tracks(
        np.repeat(np.arange(2, 2 + n // 2), 2), np.tile([0, 3], n // 2),
        rng.uniform(10, 90, n), rng.uniform(10, 90, n), np.full(n, 8.0), np.full(n, 5.0),
        rng.uniform(-3, 3, n), rng.uniform(0.1, 1, n).astype(np.float32), np.arange(n) % 3 == 1,
        names,
    )  # fmt: skip


def _check_sniffing(found: PoseFormat, folder: Path) -> None:
    (folder / "folder").mkdir()
    paths = [folder / "absent", folder / "folder"]
    for stem, content in _STRANGE.items():
        paths.append(folder / stem)
        paths[-1].write_bytes(content)
    for path in paths:
        try:
            claimed = found.sniff(path)
        except Exception as error:  # whatever it is, it must not come out
            require(False, f"sniff never raises; of {path.name}", repr(error))
        require(claimed is False, f"sniff gives False for something else ({path.name})", claimed)


def _check_claim(found: PoseFormat, path: Path) -> tuple[str, ...]:
    require(found.sniff(path) is True, "sniff gives True for a file of the format", path.name)
    kinds = found.kinds(path)
    require(len(kinds) > 0, "kinds says what is in the file", kinds)
    return kinds


def _check_kind(data: Any, kind: str) -> None:
    expected = {"annotations": AnnotationSet, "poses": PoseStream, "tracks": Tracks}[kind]
    require(isinstance(data, expected), f"read gives {expected.__name__} for {kind}", type(data))
    if isinstance(data, PoseStream):
        first, second = data.read(), data.read()
        require(len(first) == len(second), "a stream can be read twice", (len(first), len(second)))
        if data.length is not None:
            require(len(first) == data.length, "a stream is as long as it says", len(first))
    if isinstance(data, AnnotationSet) and len(data):
        require(data.images[0].shape == data.image_shape, "images have the shape of the set")


def _check_writing(
    spec: FormatSpec, found: PoseFormat, kind: str, data: Any, folder: Path, options: dict[str, Any]
) -> None:
    folder.mkdir()
    target = folder / f"sample{spec.suffixes[0] if spec.suffixes else ''}"
    report = LossReport()
    found.write(target, data, report=report, **options)
    require(target.exists(), "write makes what it was asked for", sorted(folder.iterdir()))
    others = [path.name for path in folder.iterdir() if path != target]
    require(not others, "write puts nothing beside its target", others)
    if kind not in spec.reads:
        return
    require(kind in _check_claim(found, target), f"kinds names {kind} where they were written")
    read = found.read(target, kind, report=report)
    _check_kind(read, kind)
    differences = _differences(kind, data, read)
    require(
        len(differences) <= len(report),
        f"what is lost of {kind} is in the report; lost: {', '.join(differences)}; reported",
        str(report),
    )
    if target.is_file():
        _check_damage(found, target, kind)


def _check_damage(found: PoseFormat, path: Path, kind: str) -> None:
    """A file that was cut short is refused with a reason, or read as far as it goes."""
    content = path.read_bytes()
    for share in (0.0, 0.3, 0.9):
        cut = path.with_name(f"cut{path.suffix}")
        cut.write_bytes(content[: int(share * len(content))])
        try:
            if found.sniff(cut):
                _check_kind(found.read(cut, kind), kind)
        except DpkError as error:
            require(bool(str(error)), "an error about a damaged file says what is wrong")
        except Exception as error:
            require(False, "a file that was cut short raises a DpkError", repr(error))


def _differences(kind: str, before: Any, after: Any) -> list[str]:
    """What changed; a coordinate that moved is never forgiven."""
    if kind == "annotations":
        return _label_differences(before, after)
    return (
        _pose_differences(before.read(), after.read())
        if kind == "poses"
        else _track_differences(before, after)
    )


def _label_differences(before: AnnotationSet, after: AnnotationSet) -> list[str]:
    seen = {_place(row) for row in before.keypoints}
    lost = seen - {_place(row) for row in after.keypoints}
    require(
        not lost or len(after) < len(before),
        "no labelled coordinate changes; moved or gone",
        sorted(lost)[:3],
    )
    both = len(before) == len(after)
    order = _order(before.keypoints, after.keypoints) if both else np.arange(0)
    checks = {
        "rows": both,
        "visibilities": both and np.array_equal(before.visibility, after.visibility[order]),
    }
    for name in ("individual", "frame"):
        a = [getattr(source, name) for source in before.sources]
        b = [getattr(after.sources[i], name) for i in order]
        checks[f"{name}s"] = both and a == b
    return [what for what, same in checks.items() if not same] + _skeletons(before, after)


def _pose_differences(before: Poses, after: Poses) -> list[str]:
    require(len(before) == len(after), "every row of poses is there", len(after))
    order = _order(before.keypoints, after.keypoints)
    moved = np.abs(before.keypoints - after.keypoints[order])
    require(
        bool(np.all((moved < CLOSE_PX) | np.isnan(before.keypoints))),
        "no coordinate of a pose changes",
        np.nanmax(moved, initial=0),
    )
    names = before.provenance["track_names"]
    checks = {
        "scores": np.allclose(before.scores, after.scores[order], atol=1e-3),
        "frames": np.array_equal(before.frames, after.frames[order]),
        "tracks": _same_partition(before.track_ids, after.track_ids[order]),
        "track names": set(names.values()) == set(after.provenance.get("track_names", {}).values()),
    }
    return [what for what, same in checks.items() if not same] + _skeletons(before, after)


def _track_differences(before: Tracks, after: Tracks) -> list[str]:
    require(len(before) == len(after), "every row of the tracks is there", len(after))
    order = _order(np.stack([before.x, before.y], 1), np.stack([after.x, after.y], 1))
    for axis in ("x", "y"):
        moved = np.abs(getattr(before, axis) - getattr(after, axis)[order]).max()
        require(moved < CLOSE_PX, f"no {axis} of a track changes", moved)
    found = {name: column[order].astype(float) for name, column in after.columns().items()}
    same = {
        name: np.allclose(column.astype(float), found[name], atol=1e-3, equal_nan=True)
        for name, column in before.columns().items()
        if name not in ("x", "y", "id")
    }
    same["id"] = _same_partition(before.id, after.id[order])
    return [what for what, is_same in same.items() if not is_same]


def _skeletons(before: Any, after: Any) -> list[str]:
    a, b = before.skeleton, after.skeleton
    require(a.names == b.names, "keypoints keep their names and order", b.names)
    checks = {
        "skeleton edges": np.array_equal(a.parent, b.parent),
        "swap partners": np.array_equal(a.swap, b.swap),
    }
    return [what for what, same in checks.items() if not same]


def _place(row: np.ndarray) -> str:
    return np.array2string(np.round(row, 1))


def _order(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """For each row the one that is nearest to it, each taken once as far as that goes."""
    a, b = (np.nan_to_num(x.reshape(len(x), -1), nan=-1e3) for x in (before, after))
    distance = np.abs(a[:, None] - b[None]).max(axis=2)
    return distance.argmin(axis=1)


def _same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether equal ids are where they were, whatever their numbers."""
    if (b == NO_TRACK).any():
        return False
    return (
        len(set(zip(a.tolist(), b.tolist(), strict=True)))
        == len(set(a.tolist()))
        == len(set(b.tolist()))
    )
