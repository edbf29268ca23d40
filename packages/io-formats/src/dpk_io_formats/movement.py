"""Poses and tracks as netCDF of movement (github.com/neuroinformatics-unit/movement).

What this is based on: ``movement/validators/datasets.py`` of movement 0.15.0, whose
``ValidPosesInputs`` and ``ValidBboxesInputs`` define the datasets, and its user guide, which saves
them with ``Dataset.to_netcdf`` and opens them with ``xarray.load_dataset``:

==============  =====================================  ========================================
``position``    (time, space, keypoints, individuals)  poses: x, y of each keypoint
                (time, space, individuals)             boxes: x, y of the centre
``shape``       (time, space, individuals)             boxes: width, height
``confidence``  (time, [keypoints,] individuals)       NaN where unknown
attributes      ``ds_type`` "poses" or "bboxes", ``source_software``, ``fps``, ``time_unit``
==============  =====================================  ========================================

``time`` counts frames, or seconds (frame / fps) when ``fps`` is known. Coordinates are those of the
program that they come from, in pixels with y down; movement leaves them as they are, and so do we.

What netCDF has no place for in these datasets stands in an attribute ``dpk`` (JSON: skeleton,
provenance, ids), which movement carries along unread, so that dpk finds it again. Every individual
has an entry in every frame from the first to the last; where it was not seen, that is NaN. A row
without any coordinate is therefore not there after reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import (
    DpkError,
    FileFormatError,
    SkeletonError,
    ValidationError,
)
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats import plain_hdf5 as hdf5
from dpk_io_formats import tidy
from dpk_io_formats.movement_writing import DIMS, write_poses, write_tracks

_TYPE_OF = {"poses": "poses", "tracks": "bboxes"}
_KIND_OF = {"poses": "poses", "bboxes": "tracks"}
_NEVER = "movement's frames are whole; time is no multiple of 1 / fps"


class MovementFormat(PoseFormat):
    """Reads and writes movement's netCDF files."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            return path.is_file() and h5py.is_hdf5(path) and bool(self.kinds(path))
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        with hdf5.opened(Path(path)) as file:
            if "position" not in file:
                return ()
            kind = _KIND_OF.get(hdf5.text_of(file.attrs.get("ds_type", "")))
        return () if kind is None else (kind,)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        fps: float | None = None,
        **options: Any,
    ) -> PoseStream | Tracks:
        """Poses as a stream, or tracks of the boxes' centres.

        Parameters
        ----------
        fps
            Frames a second, for a file in seconds that does not say.

        Raises
        ------
        FileMissingError
        FileFormatError
            When the file is damaged, three-dimensional, or no dataset of movement.
        ValidationError
            On unknown options.
        """
        if options:
            raise ValidationError(f"movement: unknown options {', '.join(sorted(options))}")
        path = Path(path)
        if _is_netcdf3(path):
            raise FileFormatError(
                f"{path} is netCDF 3; save it anew with ds.to_netcdf(path, format='NETCDF4')"
            )
        with hdf5.opened(path) as file:
            head = _read_head(file, _TYPE_OF[kind], path, fps)
            if kind == "tracks":
                return _read_tracks(file, head, path, report)

        def pieces() -> Iterator[Poses]:
            return _read_pieces(path, head, report)

        return PoseStream(head.skeleton, pieces, None, head.provenance)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        fps: float | None = None,
        **options: Any,
    ) -> None:
        """Write poses, reading the stream twice, or the boxes of tracks.

        Parameters
        ----------
        fps
            Frames a second, to give time in seconds. Default: what the provenance says under
            ``"fps"``, else time counts frames.

        Raises
        ------
        ValidationError
            For labels, for an individual that stands twice in a frame, for frame numbers so far
            apart that most of the file would be empty, and unknown options.
        MissingDependencyError
            Without h5netcdf.
        """
        if options:
            raise ValidationError(f"movement: unknown options {', '.join(sorted(options))}")
        if isinstance(data, AnnotationSet):
            raise ValidationError("movement holds poses and tracks, no labelled images")
        rate = fps if fps is not None else data.provenance.get("fps")
        good = isinstance(rate, (int, float)) and np.isfinite(rate) and rate > 0
        if fps is not None and not good:
            raise ValidationError(f"fps: expected a number above 0, found {fps}")
        rate = float(rate) if good and rate is not None else None
        if isinstance(data, Tracks):
            write_tracks(Path(path), data, rate, report)
        else:
            write_poses(Path(path), data, rate, report)


# -- reading --------------------------------------------------------------------------------------


def _is_netcdf3(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(3) == b"CDF"


@attrs.frozen
class _Head:
    """What is known of a file before its positions are read."""

    frames: np.ndarray
    ids: np.ndarray
    skeleton: Skeleton
    provenance: dict[str, Any]


def _read_head(file: h5py.File, ds_type: str, path: Path, fps: float | None) -> _Head:
    dims = DIMS[ds_type]
    position = _variable(file, "position", dims, path)
    space = hdf5.texts(file, "space", path)
    if space != ["x", "y"]:
        raise FileFormatError(
            f"{path} has the spatial axes {', '.join(space)}; expected x, y: dpk's coordinates are "
            "pixels of a video"
        )
    individuals = hdf5.texts(file, "individuals", path)
    sizes = dict(zip(dims, position.shape, strict=True))
    stored = _stored(file, path)
    rate = fps if fps is not None else _rate(file)
    frames = _frames(file, rate, path)
    names = hdf5.texts(file, "keypoints", path) if "keypoints" in dims else ["centre"]
    found = {"time": len(frames), "space": 2, "individuals": len(individuals)}
    found["keypoints"] = len(names)
    for dim in dims:
        if found[dim] != sizes[dim]:
            raise FileFormatError(
                f"{path}: {dim} has {found[dim]} entries, 'position' has {sizes[dim]}"
            )
    ids = _ids(stored, len(individuals))
    provenance = stored.get("provenance") if ids is not None else None
    if not isinstance(provenance, dict):
        provenance = _provenance(file, frames, rate, individuals)
    return _Head(
        frames,
        np.array(range(len(individuals)) if ids is None else ids, np.int64),
        _skeleton(stored, names, path),
        provenance,
    )


def _variable(file: h5py.File, name: str, dims: tuple[str, ...], path: Path) -> h5py.Dataset:
    found = hdf5.dataset(file, name, path)
    named = tuple(_dim_name(found, i) for i in range(found.ndim))
    if named != dims:
        raise FileFormatError(
            f"{path}: {name!r} has the dimensions ({', '.join(named)}); expected "
            f"({', '.join(dims)})"
        )
    if found.dtype.kind != "f" or {"scale_factor", "add_offset"} & set(found.attrs):
        raise FileFormatError(f"{path}: {name!r} holds {found.dtype}; expected plain decimals")
    return found


def _dim_name(variable: h5py.Dataset, i: int) -> str:
    scales = variable.dims[i]
    return scales[0].name.rpartition("/")[2] if len(scales) else "?"


def _stored(file: h5py.File, path: Path) -> dict[str, Any]:
    if "dpk" not in file.attrs:
        return {}
    return hdf5.json_of(hdf5.text_of(file.attrs["dpk"]), "the attribute 'dpk'", path)


def _ids(stored: dict[str, Any], n: int) -> list[int] | None:
    """The ids that dpk gave the individuals, None in files of other programs."""
    ids = stored.get("ids")
    if not isinstance(ids, list) or len(ids) != n:
        return None
    return ids if all(isinstance(i, int) and abs(i) < 2**31 for i in ids) else None


def _skeleton(stored: dict[str, Any], names: list[str], path: Path) -> Skeleton:
    links = stored.get("skeleton")
    k = len(names)
    if not isinstance(links, list) or len(links) != k:
        links = [[-1, -1]] * k
    try:
        return Skeleton(tuple(names), [link[0] for link in links], [link[1] for link in links])
    except (SkeletonError, TypeError, ValueError, LookupError) as error:
        raise SkeletonError(f"{path}: {error}") from None


def _rate(file: h5py.File) -> float | None:
    try:
        rate = float(np.ravel(file.attrs["fps"])[0])
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return rate if np.isfinite(rate) and rate > 0 else None


def _frames(file: h5py.File, rate: float | None, path: Path) -> np.ndarray:
    time = hdf5.array(file, "time", path)
    unit = hdf5.text_of(file.attrs.get("time_unit", "frames"))
    if time.ndim != 1 or time.dtype.kind not in "fiu" or not np.isfinite(time).all():
        raise FileFormatError(f"{path}: 'time' holds {time.dtype}; expected frames or seconds")
    if unit == "seconds":
        if rate is None:
            raise FileFormatError(f"{path} is in seconds and has no 'fps'; read it with fps=")
        time = time * rate
    elif unit != "frames":
        raise FileFormatError(f"{path}: time_unit is {unit!r}; expected 'frames' or 'seconds'")
    frames = np.rint(time)
    if len(time) and (np.abs(time - frames).max() > 0.05 or np.abs(frames).max() > 2**53):
        raise FileFormatError(f"{path}: {_NEVER}; read it with the right fps=")
    return frames.astype(np.int64)


def _provenance(
    file: h5py.File, frames: np.ndarray, rate: float | None, individuals: list[str]
) -> dict[str, Any]:
    provenance: dict[str, Any] = {}
    if "source_software" in file.attrs:
        provenance["source_software"] = hdf5.text_of(file.attrs["source_software"])
    if rate is not None:
        provenance["fps"] = rate
    if len(frames):
        provenance["frame_range"] = [int(frames.min()), int(frames.max())]
    return provenance | tidy.with_track_names(dict(enumerate(individuals)))


def _count_attributes(file: h5py.File, report: LossReport | None) -> None:
    known = {"dpk", "ds_type", "source_software", "fps", "time_unit", "_NCProperties"}
    if report is not None:
        others = sorted(set(file.attrs) - known)
        report.add("attributes", len(others), f"dpk has no place for them ({', '.join(others)})")
        dims = {"time", "space", "keypoints", "individuals"}
        extra = sorted(set(file) - dims - {"position", "confidence", "shape"})
        report.add("variables", len(extra), f"dpk has no place for them ({', '.join(extra)})")


def _read_pieces(path: Path, head: _Head, report: LossReport | None) -> Iterator[Poses]:
    k, n_individuals = len(head.skeleton), len(head.ids)
    step = max(1, min(PIECE // max(1, n_individuals), 2**22 // max(1, k * n_individuals)))
    ids = head.ids.astype(np.int32)
    with hdf5.opened(path) as file:
        _count_attributes(file, report)
        position = _variable(file, "position", DIMS["poses"], path)
        confidence = _confidence(file, ("time", "keypoints", "individuals"), path)
        for start in range(0, len(head.frames), step):
            stop = min(start + step, len(head.frames))
            xy = _filled(position, slice(start, stop)).transpose(0, 3, 2, 1)
            there = ~np.isnan(xy).all(axis=(2, 3))
            t, i = np.nonzero(there)
            scores = np.full(xy.shape[:3], np.nan)
            if confidence is not None:
                scores = _filled(confidence, slice(start, stop)).transpose(0, 2, 1)
            frames = head.frames[start:stop][t]
            place = tidy.Rows(path, start)
            place.check(~np.isinf(xy).any(axis=(1, 2, 3)), "a position is infinite")
            chosen = xy[there]
            if report is not None:
                unseen = int((~np.isnan(scores) & ~there[..., None]).sum())
                report.add("confidences", unseen, "their individual has no position in the frame")
                missing = np.isnan(chosen)
                half = int((missing.any(axis=2) & ~missing.all(axis=2)).sum())
                report.add("coordinates", half, "the other one of the same keypoint is missing")
                if chosen.dtype.itemsize > 4:
                    rounded = ~missing & (chosen.astype(np.float32) != chosen)
                    report.add("decimals", int(rounded.sum()), "numbers are rounded to float32")
            nowhere = np.isnan(chosen).any(axis=2)
            yield Poses(
                chosen,
                _scores(scores[there], nowhere, report),
                head.skeleton,
                frames,
                ids[i],
                head.provenance,
            )


def _read_tracks(file: h5py.File, head: _Head, path: Path, report: LossReport | None) -> Tracks:
    _count_attributes(file, report)
    whole = slice(None)
    xy = _filled(_variable(file, "position", DIMS["bboxes"], path), whole).transpose(0, 2, 1)
    shape = _filled(_variable(file, "shape", DIMS["bboxes"], path), whole).transpose(0, 2, 1)
    confidence = _confidence(file, ("time", "individuals"), path)
    scores = np.full(xy.shape[:2], np.nan) if confidence is None else _filled(confidence, whole)
    if shape.shape != xy.shape or scores.shape != xy.shape[:2]:
        raise FileFormatError(f"{path}: position, shape and confidence disagree in their lengths")
    tidy.Rows(path, 0).check(
        ~(np.isinf(xy) | np.isinf(shape)).any(axis=(1, 2)), "a position or shape is infinite"
    )
    there = ~np.isnan(xy).all(axis=2)
    if report is not None:
        lost = int((~there & ~np.isnan(shape).all(axis=2)).sum())
        report.add("shapes", lost, "they have no position")
    t, i = np.nonzero(there)
    return Tracks(
        head.frames[t],
        head.ids[i],
        xy[..., 0][there],
        xy[..., 1][there],
        shape[..., 0][there],
        shape[..., 1][there],
        score=_scores(scores[there], np.zeros(len(t), bool), report),
        provenance=head.provenance,
    )


def _confidence(file: h5py.File, dims: tuple[str, ...], path: Path) -> h5py.Dataset | None:
    return _variable(file, "confidence", dims, path) if hdf5.is_there(file, "confidence") else None


def _filled(variable: h5py.Dataset, rows: slice) -> np.ndarray:
    """Values with what netCDF calls missing as NaN."""
    if variable.size * variable.dtype.itemsize > 2**40:
        raise FileFormatError(f"{variable.name} should hold {variable.shape} numbers: damaged")
    values = np.asarray(variable[rows])
    fill = np.ravel(variable.attrs.get("_FillValue", np.nan))
    if len(fill) and not np.isnan(fill[0]):
        values = np.where(values == fill[0], np.nan, values)
    return values


def _scores(found: np.ndarray, nowhere: np.ndarray, report: LossReport | None) -> np.ndarray:
    absent = np.isnan(found) & ~nowhere
    clipped = np.clip(np.where(absent, 1.0, found), 0, 1)
    if report is not None:
        why = "the file has none; 1 stands in their place"
        report.add("confidences", int(absent.sum()), why)
        outside = ~absent & ~nowhere & (clipped != found)
        report.add("confidences", int(outside.sum()), "they lie outside 0 to 1 and are clipped")
        lost = int((nowhere & ~np.isnan(found)).sum())
        report.add("confidences", lost, "the keypoint has no position, so its score is 0")
    return np.where(nowhere, 0.0, clipped).astype(np.float32)
