"""What stands in a SLEAP file (.slp, .pkg.slp) beside its tables: skeletons, tracks, videos.

All of it is JSON. Source of the layout: sleap-io 0.9, io/slp.py, whose decoder reads the skeletons.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import h5py
import numpy as np

from dpk_core.errors import FileFormatError, ValidationError
from dpk_io_formats.json_text import sequence, shown, table
from dpk_io_formats.plain_hdf5 import (
    array,
    child,
    dataset,
    is_own,
    is_there,
    json_of,
    text_of,
    texts,
)
from dpk_io_formats.sleap_columns import column, open_table

if TYPE_CHECKING:
    import sleap_io

TABLES = ("frames", "instances", "points", "pred_points")
NEWEST = 3.0
"""Files of this version and later are laid out in another way (sleap-io 0.9, io/slp.py)."""

_HEADER = {"metadata", "videos_json", "tracks_json", "suggestions_json", "provenance_json"}
_OTHERS = {
    "sessions_json": "recording sessions",
    "identity": "global identities",
    "categories": "categories",
    "events": "events",
    "event_types": "types of events",
    "embeddings": "embeddings",
    "bboxes": "bounding boxes",
    "centroids": "centroids",
    "masks": "masks",
    "rois": "regions of interest",
    "label_images": "label images",
}
_PARTS = {"session_data", "roi_wkb", "mask_rle", "label_image_data", "label_image_objects"}
"""Data of what is counted by another name."""


@attrs.frozen
class VideoEntry:
    """A video as the file names it.

    Parameters
    ----------
    name
        Path as it stands in the file; of an embedded one that of its source, "" when unknown.
    files
        Paths of all images of a sequence, else empty.
    dataset
        In which HDF5 dataset the images are, "" when they are not in one.
    container
        The HDF5 file that has the dataset, "" for the labels' own.
    grayscale
        Whether SLEAP reads one channel; None when it decides by itself.
    kind
        SLEAP's name of the backend, "" when it is not there.
    channels_first
        Whether a dataset of pixels has its channels before height and width.
    """

    name: str
    files: tuple[str, ...] = ()
    dataset: str = ""
    container: str = ""
    grayscale: bool | None = None
    kind: str = ""
    channels_first: bool = False


@attrs.frozen
class Suggestion:
    """A frame that SLEAP suggests to label."""

    video: int
    frame: int
    group: Any = 0


@attrs.frozen
class Header:
    """All of a file but its tables; ``others`` counts what is in it beside poses."""

    path: Path
    version: float
    skeletons: tuple[sleap_io.Skeleton, ...]
    tracks: tuple[str, ...]
    videos: tuple[VideoEntry, ...]
    suggestions: tuple[Suggestion, ...]
    negative: frozenset[tuple[int, int]]
    provenance: dict[str, Any]
    others: dict[str, int]
    cropped: tuple[int, ...] = ()


def is_sleap(file: h5py.File) -> bool:
    """Whether the keys of a SLEAP file are there."""
    return all(is_there(file, key) for key in ("metadata", *TABLES))


# -- header ---------------------------------------------------------------------------------------


def read_header(file: h5py.File, path: Path) -> Header:
    """Skeletons, tracks, videos and the rest, all of it checked.

    Raises
    ------
    FileFormatError
    """
    metadata_group = child(file, "metadata", path)
    if not isinstance(metadata_group, h5py.Group):
        raise FileFormatError(f"{path} has no 'metadata'; expected a SLEAP file")
    version = _version(metadata_group, path)
    metadata = _metadata(metadata_group, path)
    videos = tuple(
        _video(_json_row(row, f"{path}, video {i + 1}"), file, path, f"{path}, video {i + 1}")
        for i, row in enumerate(_rows_of_text(file, "videos_json", path))
    )
    return Header(
        path,
        version,
        _skeletons(metadata, path),
        tuple(_track(row, f"{path}, track {i + 1}") for i, row in
              enumerate(_rows_of_text(file, "tracks_json", path))),
        videos,
        _suggestions(file, len(videos), path),
        _negative(file, path),
        _provenance(file, metadata, path),
        _others(file, path),
        _cropped(file, path),
    )  # fmt: skip


def _version(metadata: h5py.Group, path: Path) -> float:
    value = np.ravel(metadata.attrs.get("format_id", 1.0))
    if value.size != 1 or value.dtype.kind not in "fiu" or not np.isfinite(value[0]):
        raise FileFormatError(f"{path}: expected a number as format_id, found {shown(str(value))}")
    version = float(value[0])
    if version >= NEWEST:
        raise FileFormatError(
            f"{path} is written in SLEAP's format {version:g}, which is newer than what is known "
            f"here (below {NEWEST:g}); update dpk-io-formats, or save it with an older SLEAP"
        )
    return version


def _metadata(group: h5py.Group, path: Path) -> dict[str, Any]:
    if "json" not in group.attrs:
        raise FileFormatError(f"{path} is damaged: it has no skeleton (metadata without json)")
    value = group.attrs["json"]
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        value = value.astype(np.uint8).tobytes()
    return json_of(text_of(value), "the attribute json of metadata", path)


def _skeletons(metadata: dict[str, Any], path: Path) -> tuple[sleap_io.Skeleton, ...]:
    from sleap_io.io.skeleton import SkeletonSLPDecoder

    try:
        names = [node["name"] for node in metadata["nodes"]]
        found = SkeletonSLPDecoder().decode(metadata, names)
        for skeleton in found:
            if not all(isinstance(name, str) for name in skeleton.node_names):
                raise TypeError("a keypoint's name is no text")
    # what the decoder makes of JSON that is not a skeleton's
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: its skeletons cannot be read ({type(error).__name__}: {error}); the file is "
            "damaged, or of a program that writes them in another way"
        ) from error
    return tuple(found)


def _rows_of_text(file: h5py.File, key: str, path: Path) -> list[str]:
    if not is_there(file, key) or dataset(file, key, path).shape == (0,):
        return []
    return texts(file, key, path)


def _json_row(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where} is no JSON ({error})") from None


def _track(row: str, where: str) -> str:
    value = sequence(_json_row(row, where), where)
    if len(value) < 2 or not isinstance(value[1], str):
        raise FileFormatError(f"{where}: expected [frame, name], found {shown(row)}")
    return value[1]


def _video(value: Any, file: h5py.File, path: Path, where: str) -> VideoEntry:
    entry = table(value, where)
    backend = table(entry.get("backend", {}), f"{where}, backend")
    name = backend.get("filename", entry.get("filename", ""))
    files = backend.get("filenames") or []
    key = backend.get("dataset") or ""
    gray = backend.get("grayscale")
    kind = backend.get("type") or ""
    for text in (name, key, kind, *sequence(files, f"{where}, filenames")):
        if not isinstance(text, str) or "\0" in text:
            raise FileFormatError(f"{where}: expected a text, found {shown(text)}")
    gray = bool(gray) if gray is not None else None
    first = backend.get("input_format") == "channels_first"
    if files:
        return VideoEntry(name, tuple(files), grayscale=gray, kind=kind)
    if key and name == ".":
        return VideoEntry(_source_name(file, key, path), (), key, "", gray, kind, first)
    if key:
        return VideoEntry(name, (), key, name, gray, kind, first)
    return VideoEntry(name, grayscale=gray, kind=kind)


def _source_name(file: h5py.File, key: str, path: Path) -> str:
    """Name of the video that embedded images were taken from, "" when it is not said."""
    group = _within(file, key.removesuffix("/video"), path)
    if not isinstance(group, h5py.Group):
        return ""
    for link in ("source_video", "original_video"):
        source = child(group, link, path)
        if not isinstance(source, h5py.Group):
            continue
        stored = source.attrs.get("json")
        if isinstance(child(source, "json", path), h5py.Dataset):
            stored = np.ravel(array(source, "json", path))[0]
        if stored is None:
            continue
        value = json_of(text_of(stored), f"the source of {key!r}", path)
        backend = value.get("backend")
        name = backend.get("filename") if isinstance(backend, dict) else value.get("filename")
        if isinstance(name, str) and name != ".":
            return name
    return ""


def _within(file: h5py.Group, key: str, path: Path) -> Any:
    """What a path of names leads to, without following a link; None when nothing."""
    found: Any = file
    for part in filter(None, key.split("/")):
        if not isinstance(found, h5py.Group) or part == "..":
            return None
        found = child(found, part, path)
    return found


def _suggestions(file: h5py.File, n_videos: int, path: Path) -> tuple[Suggestion, ...]:
    found = []
    for i, row in enumerate(_rows_of_text(file, "suggestions_json", path)):
        where = f"{path}, suggestion {i + 1}"
        value = table(_json_row(row, where), where)
        try:
            video, frame = int(value["video"]), int(value["frame_idx"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise FileFormatError(
                f"{where}: expected a video and a frame_idx, found {shown(row)}"
            ) from None
        if not 0 <= video < n_videos or not 0 <= frame < 2**62:
            raise FileFormatError(f"{where}: frame {frame} of video {video} cannot be")
        found.append(Suggestion(video, frame, value.get("group", 0)))
    return tuple(found)


def _negative(file: h5py.File, path: Path) -> frozenset[tuple[int, int]]:
    if not is_there(file, "negative_frames"):
        return frozenset()
    stored = open_table(file, "negative_frames", path, 2)
    rows = stored[:]
    return frozenset(
        zip(column(rows, 0).astype(int).tolist(), column(rows, 1).astype(int).tolist(),
            strict=True)
    )  # fmt: skip


def _provenance(file: h5py.File, metadata: dict[str, Any], path: Path) -> dict[str, Any]:
    if is_there(file, "provenance_json"):
        value = np.ravel(array(file, "provenance_json", path))
        if value.size == 1:
            return json_of(text_of(value[0]), "its provenance", path)
    stored = metadata.get("provenance")
    return stored if isinstance(stored, dict) else {}


def _others(file: h5py.File, path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    known = {*TABLES, *_HEADER, "negative_frames", "video_crops", *_PARTS}
    for key in file:
        if key in known or (key.startswith("video") and key[5:].isdigit()):
            continue
        item = child(file, key, path)
        if isinstance(item, h5py.Group):
            parts = (item[name] for name in item if is_own(item, name))
            item = next((part for part in parts if isinstance(part, h5py.Dataset)), item)
        n = len(item) if isinstance(item, h5py.Dataset) and item.ndim else 1
        what = _OTHERS.get(key, "unknown entries")
        found[what] = found.get(what, 0) + n
    return found


def _cropped(file: h5py.File, path: Path) -> tuple[int, ...]:
    found = []
    for i, row in enumerate(_rows_of_text(file, "video_crops", path)):
        value = _json_row(row, f"{path}, crop {i + 1}")
        if isinstance(value, dict):
            found.append(value.get("video", -1))
    return tuple(v for v in found if isinstance(v, int))


def choose_skeleton(header: Header, used: np.ndarray, wanted: str | int | None) -> int:
    """The index of the one skeleton to read.

    Raises
    ------
    FileFormatError
        When there are several, and nobody says which.
    ValidationError
        When there is none of that name.
    """
    names = [skeleton.name or f"number {i}" for i, skeleton in enumerate(header.skeletons)]
    if not names:
        raise FileFormatError(f"{header.path} has no skeleton; draw one in SLEAP")
    if wanted is not None:
        for i, name in enumerate(names):
            if str(wanted) in (name, str(i)):
                return i
        raise ValidationError(f"{header.path} has no skeleton {wanted!r}; it has {names}")
    if len(used) > 1:
        several = ", ".join(names[i] for i in used)
        raise FileFormatError(
            f"{header.path} has instances of several skeletons: {several}; say which to read with "
            "the option skeleton=NAME"
        )
    return int(used[0]) if len(used) else 0
