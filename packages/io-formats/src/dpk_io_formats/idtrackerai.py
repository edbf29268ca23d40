"""Trajectories of idtracker.ai (Romero-Ferrero et al. 2019, Nature Methods 16:179).

What this reader is based on: ``idtrackerai/utils/trajectories_io.py`` of idtracker.ai 6.0.14, and
the page "Trajectory files" of its user guide for version 5. Read are, of a session folder, its
folder ``trajectories``, or a single file:

- ``NAME.h5``: datasets ``trajectories`` (frames, animals, 2) and ``id_probabilities``
  (frames, animals) or (frames, animals, 1), and attributes;
- ``NAME_csv/``, or the ``trajectories.csv`` in it: columns time, x1, y1, x2, y2, ...;
- ``NAME_tidy.csv``: frame, time, individual, x, y, probability;
- ``NAME.parquet`` with the same columns.

``NAME.npy`` and ``NAME.pickle`` are Python pickles, which can run any code when they are opened;
they never are. ``idtrackerai_format SESSION --formats h5`` (version 6) or ``idtrackerai_csv
SESSION`` (version 5) writes the same trajectories plainly.

Coordinates: x, y of a blob's centre of mass by ``cv2.moments`` of its contour (``blob.py``), which
runs through the centres of pixels; (0, 0) is the centre of the top-left pixel. Frames count from 0,
in the order of the video. An animal that was not found is NaN, and has no row here.
"""

from __future__ import annotations

import csv
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.tracks import Tracks
from dpk_io_formats import parquet, tidy
from dpk_io_formats import plain_hdf5 as hdf5
from dpk_io_formats.mot import numbers_in

_STEMS = (
    "trajectories",
    "validated",
    "without_gaps",
    "with_gaps",
    "trajectories_validated",
    "trajectories_wo_gaps",
    "trajectories_wo_identification",
)
"""In the order in which idtracker.ai itself looks for them."""
_PLAIN = (".h5", ".hdf5", "_csv", "_tidy.csv", ".parquet")
_PICKLES = (".npy", ".pickle")
_TIDY = ("frame", "time", "individual", "x", "y", "probability")
_KEPT = {"frames_per_second", "version", "identities_labels", "video_paths"}
_LARGEST_HEADER = 2**22


@attrs.frozen
class _Found:
    trajectories: np.ndarray
    probabilities: np.ndarray | None
    attributes: dict[str, Any]


class IdtrackeraiFormat(PoseFormat):
    """Reads trajectories of idtracker.ai."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        path = Path(path)
        try:
            if path.is_dir():
                return _in_folder(path) is not None
            return _kind_of(path) is not None
        except (DpkError, OSError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        return ("tracks",)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "tracks",
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> Tracks:
        """Tracks with the identification's probabilities as scores.

        Raises
        ------
        FileMissingError
        FileFormatError
            Also for a pickle: the message says how to get the same trajectories plainly.
        ValidationError
            On unknown options.
        """
        if options:
            raise ValidationError(f"idtrackerai: unknown options {', '.join(sorted(options))}")
        path = Path(path)
        if not path.exists():
            raise FileMissingError(f"nothing is at {path}")
        file = path
        if path.is_dir():
            within = _in_folder(path)
            if within is None:
                raise FileFormatError(
                    f"{path} holds no trajectories; expected trajectories.h5, trajectories_csv or "
                    "another of idtracker.ai's files"
                )
            file = within
        form = _kind_of(file)
        if form is None:
            raise FileFormatError(
                f"{file} is none of idtracker.ai's files of trajectories, cut short or damaged"
            )
        if form == "pickle":
            raise FileFormatError(
                f"{file} is a Python pickle, which can run any code and is never opened here; "
                "write the trajectories plainly with: idtrackerai_format SESSION --formats h5 "
                "(idtracker.ai 6) or idtrackerai_csv SESSION (5)"
            )
        found = {
            "h5": _read_h5,
            "csv": _read_csv,
            "tidy": _read_tidy,
            "parquet": _read_parquet,
        }[form](file)
        return _tracks(found, file, report)


# -- which file -----------------------------------------------------------------------------------


def _in_folder(folder: Path) -> Path | None:
    """The file that idtracker.ai itself would load, a plain one before a pickle."""
    if (folder / "trajectories").is_dir():
        folder = folder / "trajectories"
    if (folder / "trajectories.csv").is_file():
        return folder / "trajectories.csv"
    for ends in (_PLAIN, _PICKLES):
        for stem in _STEMS:
            for end in ends:
                path = folder / (stem + end)
                if path.is_dir() and (path / "trajectories.csv").is_file():
                    return path / "trajectories.csv"
                if path.is_file() and _kind_of(path) is not None:
                    return path
    return None


def _kind_of(path: Path) -> str | None:
    """ "h5", "csv", "tidy", "parquet" or "pickle" by content, None for anything else."""
    with path.open("rb") as file:
        start = file.read(_LARGEST_HEADER if path.suffix == ".csv" else 256)
    if path.stem in _STEMS and (
        (start[:6] == b"\x93NUMPY" and b"'|O'" in start) or start[:1] == b"\x80"
    ):
        return "pickle"
    if start[:4] == parquet.MAGIC:
        with parquet.opened(path) as table:
            return "parquet" if tuple(table.schema_arrow.names[:6]) == _TIDY else None
    if h5py.is_hdf5(path):
        with hdf5.opened(path) as group:
            found = hdf5.child(group, "trajectories", path)
            fits = isinstance(found, h5py.Dataset) and len(found.shape or ()) == 3
            return "h5" if fits and found.shape[2] == 2 else None
    if path.suffix != ".csv":
        return None
    header = tuple(start.split(b"\n")[0].decode("utf-8", "replace").strip().split(","))
    if header == _TIDY:
        return "tidy"
    return "csv" if len(header) > 2 and header == _wide(len(header) // 2) else None


def _wide(n: int) -> tuple[str, ...]:
    return ("time", *(f"{axis}{i}" for i in range(1, n + 1) for axis in "xy"))


# -- reading --------------------------------------------------------------------------------------


def _read_h5(path: Path) -> _Found:
    with hdf5.opened(path) as file:
        trajectories = hdf5.array(file, "trajectories", path)
        probabilities = None
        if hdf5.is_there(file, "id_probabilities"):
            probabilities = hdf5.array(file, "id_probabilities", path)
        attributes: dict[str, Any] = {key: _plain(value) for key, value in file.attrs.items()}
        others = set(map(str, file)) - {"trajectories", "id_probabilities"}
        if "identities_labels" in others:
            attributes["identities_labels"] = hdf5.texts(file, "identities_labels", path)
        attributes |= dict.fromkeys(others - {"identities_labels"})
    return _Found(trajectories, probabilities, attributes)


def _read_csv(path: Path) -> _Found:
    table = _numbers(path)
    trajectories = table[:, 1:].reshape(len(table), table.shape[1] // 2, 2)
    probabilities = None
    beside = path.with_name("id_probabilities.csv")
    if beside.is_file() and path.name == "trajectories.csv":
        probabilities = _numbers(beside)[:, 1:]
    attributes = _attributes(path.with_name("attributes.json"))
    if path.with_name("areas.csv").is_file():
        attributes["areas"] = None
    return _Found(trajectories, probabilities, attributes)


def _read_tidy(path: Path) -> _Found:
    return _dense(_numbers(path), path, 2, _attributes(path.with_name("attributes_tidy.json")))


def _read_parquet(path: Path) -> _Found:
    with parquet.opened(path) as file:
        text = (file.schema_arrow.metadata or {}).get(b"idtrackerai_attributes", b"{}")
        columns = []
        for name in _TIDY:
            column = file.read(columns=[name])[name]
            values = column.to_numpy()
            if values.dtype.kind not in "fiu":
                raise FileFormatError(f"{path}: the column {name!r} holds {column.type}")
            columns.append(values.astype(np.float64))
    attributes = hdf5.json_of(text.decode("utf-8", "replace"), "its metadata", path)
    return _dense(np.stack(columns, axis=1), path, 1, attributes)


def _dense(table: np.ndarray, path: Path, first_row: int, attributes: dict[str, Any]) -> _Found:
    """(frames, animals, 2) from rows of frame, time, individual, x, y, probability."""
    where = tidy.Rows(path, first_row)
    pair = table[:, [0, 2]]
    where.check(
        ((np.mod(pair, 1) == 0) & (pair >= 0) & (pair < 2**31)).all(axis=1),
        "frame and individual must be whole numbers from 0",
    )
    if not len(table):
        return _Found(np.empty((0, 0, 2)), None, attributes)
    frames, animals = pair.astype(np.int64).T
    tidy.check_pairs(frames, animals, where)
    shape = int(frames.max()) + 1, int(animals.max()) + 1
    if shape[0] * shape[1] > 100 * len(table) + 10**6:
        raise FileFormatError(
            f"{path} has {len(table)} rows for {shape[0]} frames of {shape[1]} animals; a number "
            "of a frame or an individual is far off"
        )
    trajectories, probabilities = np.full((*shape, 2), np.nan), np.full(shape, np.nan)
    trajectories[frames, animals] = table[:, 3:5]
    probabilities[frames, animals] = table[:, 5]
    return _Found(trajectories, probabilities, attributes)


def _numbers(path: Path) -> np.ndarray:
    """The rows under the header as float64."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            width = len(file.readline(_LARGEST_HEADER).split(","))
            table = numbers_in(file)
    except (ValueError, OSError) as error:
        raise _explain(path, error) from None
    if not len(table):
        return np.empty((0, width))
    if table.shape[1] != width:
        raise FileFormatError(
            f"{path}: the header has {width} columns, the rows have {table.shape[1]}"
        )
    return table


def _explain(path: Path, error: Exception) -> FileFormatError:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            width = len(next(rows, []))
            for number, cells in enumerate(rows, 2):
                if len(cells) != width:
                    return FileFormatError(
                        f"{path}, row {number}: expected {width} cells, found {len(cells)}; the "
                        "file may be cut short"
                    )
                for cell in cells:
                    try:
                        float(cell)
                    except ValueError:
                        return FileFormatError(
                            f"{path}, row {number}: expected a number, found {cell[:80]!r}"
                        )
    except (OSError, UnicodeDecodeError, csv.Error) as damage:
        error = damage
    return FileFormatError(f"{path} is not what idtracker.ai writes: {error}")


def _attributes(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}") from None
    return hdf5.json_of(text, "it", path)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, float)) else str(value)


# -- tracks ---------------------------------------------------------------------------------------


def _tracks(found: _Found, path: Path, report: LossReport | None) -> Tracks:
    trajectories = found.trajectories
    if trajectories.ndim != 3 or trajectories.shape[2] != 2 or trajectories.dtype.kind not in "fiu":
        raise FileFormatError(
            f"{path}: the trajectories are {trajectories.dtype} of the shape {trajectories.shape}; "
            "expected numbers of the shape (frames, animals, 2)"
        )
    trajectories = trajectories.astype(np.float64)
    shape = trajectories.shape[:2]
    if np.isinf(trajectories).any():
        frame = int(np.argwhere(np.isinf(trajectories))[0, 0])
        raise FileFormatError(f"{path}: a coordinate in frame {frame} is infinite")
    there = ~np.isnan(trajectories).any(axis=2)
    scores = np.ones(shape)
    if found.probabilities is not None:
        if found.probabilities.size != scores.size or found.probabilities.dtype.kind not in "fiu":
            raise FileFormatError(
                f"{path}: the id_probabilities have the shape {found.probabilities.shape}; "
                f"expected {shape}"
            )
        scores = found.probabilities.reshape(shape).astype(np.float64)
    known = (scores >= 0) & (scores <= 1)
    if report is not None:
        half = int((~there & ~np.isnan(trajectories).all(axis=2)).sum())
        report.add("coordinates", half, "the other one of the same animal is missing")
        absent = int((there & ~known).sum())
        report.add("id_probabilities", absent, "not from 0 to 1; the score 1 stands in their place")
        lost = sorted(set(found.attributes) - _KEPT)
        report.add("attributes", len(lost), f"tracks have no place for them ({', '.join(lost)})")
    frames, ids = np.nonzero(there)
    return Tracks(
        frames,
        ids,
        trajectories[there][:, 0],
        trajectories[there][:, 1],
        score=np.where(known, scores, 1.0)[there].astype(np.float32),
        provenance=_provenance(found.attributes, shape[1]),
    )


def _provenance(attributes: dict[str, Any], n_animals: int) -> dict[str, Any]:
    provenance: dict[str, Any] = {"source_software": "idtracker.ai"}
    for key, name in (("version", "source_version"), ("frames_per_second", "fps")):
        if isinstance(attributes.get(key), (str, int, float)):
            provenance[name] = attributes[key]
    videos = attributes.get("video_paths")
    if isinstance(videos, list):
        provenance["videos"] = [str(video) for video in videos]
    labels = attributes.get("identities_labels")
    if isinstance(labels, list) and len(labels) == n_animals:
        provenance |= tidy.with_track_names({i: str(label) for i, label in enumerate(labels)})
    return provenance
