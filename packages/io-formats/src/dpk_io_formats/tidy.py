"""The tidy table of poses and tracks: which columns it has, and how rows become arrays.

Poses have one row for each keypoint of each individual in each frame::

    frame,track,track_name,keypoint,x,y,score

The rows of one individual in one frame stand together, one for each keypoint of the skeleton,
always in the same order; ``x`` and ``y`` of a keypoint that was not found are empty and its score
is 0.
``track`` is empty where an individual belongs to no track. Tracks have one row for each individual
in each frame::

    frame,track,track_name,x,y,width,height,angle,score,interpolated

``track_name`` is there only when a track has a name. Coordinates are dpk's own: pixels of the video
frame, (0, 0) the centre of the top-left pixel, frames counted from 0, angles in radians from the x
axis towards the y axis. CSV and Parquet files hold this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from dpk_core.errors import FileFormatError
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE
from dpk_core.tracks import COLUMNS, Tracks

POSE_COLUMNS = ("frame", "track", "track_name", "keypoint", "x", "y", "score")
TRACK_COLUMNS = (
    "frame",
    "track",
    "track_name",
    "x",
    "y",
    "width",
    "height",
    "angle",
    "score",
    "interpolated",
)
_OPTIONAL = "track_name"
_NAMES = "track_names"


# -- columns --------------------------------------------------------------------------------------


def kind_of(columns: Sequence[str]) -> str | None:
    """ "poses" or "tracks" by the columns that a table has, None when it is neither.

    It is generous, so that a table with a changed header is known for what it was meant to be and
    `check_columns` can say what is wrong with it.
    """
    found = set(columns)
    if "frame" in found and {"x", "y"} & found:
        if "keypoint" in found:
            return "poses"
        if "track" in found:
            return "tracks"
    return "poses" if {"keypoint", "x", "y"} <= found else None


def check_columns(columns: Sequence[str], kind: str, path: object) -> None:
    """FileFormatError that names the columns that are missing, unknown or there twice."""
    known = POSE_COLUMNS if kind == "poses" else TRACK_COLUMNS
    missing = [name for name in known if name not in columns and name != _OPTIONAL]
    unknown = [name for name in columns if name not in known]
    twice = sorted({name for name in columns if list(columns).count(name) > 1})
    wrong = [
        f"{what}: {', '.join(map(repr, names))}"
        for what, names in (("missing", missing), ("unknown", unknown), ("twice there", twice))
        if names
    ]
    if wrong:
        raise FileFormatError(
            f"{path}: the columns of a table of {kind} are {', '.join(known)} ({_OPTIONAL} may be "
            f"left out); {'; '.join(wrong)}; rename, add or remove them"
        )


def column_types(kind: str, columns: Iterable[str]) -> dict[str, Any]:
    """Arrow's type of each column."""
    import pyarrow as pa

    names = pa.dictionary(pa.int32(), pa.string())
    if kind == "poses":
        x = pa.float32()
        known = {"frame": pa.int64(), "track": pa.int32(), "keypoint": names}
    else:
        x = pa.float64()
        known = {"frame": pa.int64(), "track": pa.int64(), "interpolated": pa.bool_()}
        known |= dict.fromkeys(("width", "height", "angle"), x)
    known |= {_OPTIONAL: names, "x": x, "y": x, "score": pa.float32()}
    return {name: known[name] for name in columns}


# -- names of tracks ------------------------------------------------------------------------------


def track_names(provenance: Mapping[str, Any]) -> dict[int, str]:
    """Track id to name, as far as ``provenance["track_names"]`` holds such."""
    stored = provenance.get(_NAMES)
    names: dict[int, str] = {}
    for key, name in stored.items() if isinstance(stored, Mapping) else ():
        try:
            number = int(key)
        except (TypeError, ValueError):
            continue
        if isinstance(name, str) and name and number != NO_TRACK:
            names[number] = name
    return names


def with_track_names(names: Mapping[int, str]) -> dict[str, Any]:
    """Provenance that holds these names, empty when there are none."""
    return {_NAMES: {str(number): name for number, name in names.items()}} if names else {}


def count_provenance(
    provenance: Mapping[str, Any], report: LossReport | None, why: str, *, names_kept: bool = True
) -> None:
    """Report entries of the provenance that a file cannot hold, the names of tracks apart."""
    if report is None:
        return
    names = track_names(provenance) if names_kept else {}
    stored = provenance.get(_NAMES)
    kept = isinstance(stored, Mapping) and len(names) == len(stored)
    others = [key for key in provenance if key != _NAMES or not kept]
    report.add("provenance entries", len(others), why)


# -- poses ----------------------------------------------------------------------------------------


def without_infinite(piece: Poses, report: LossReport | None) -> Poses:
    """The same poses, infinite coordinates made missing and reported."""
    infinite = np.isinf(piece.keypoints).any(axis=2)
    if not infinite.any():
        return piece
    if report is not None:
        report.add("keypoints", int(infinite.sum()), "infinite coordinates are written as missing")
    keypoints = np.where(infinite[..., None], np.float32(np.nan), piece.keypoints)
    return attrs.evolve(piece, keypoints=keypoints)


def pose_table(piece: Poses, names: Mapping[int, str]) -> Any:
    """An Arrow table with a row for each keypoint; with ``track_name`` when there are names."""
    import pyarrow as pa

    n, k = piece.scores.shape
    columns = {
        "frame": pa.array(np.repeat(piece.frames, k)),
        "track": _nullable(np.repeat(piece.track_ids, k), NO_TRACK),
        "keypoint": pa.DictionaryArray.from_arrays(
            np.tile(np.arange(k, dtype=np.int32), n), pa.array(piece.skeleton.names, pa.string())
        ),
        "x": pa.array(piece.keypoints[..., 0].ravel(), from_pandas=True),
        "y": pa.array(piece.keypoints[..., 1].ravel(), from_pandas=True),
        "score": pa.array(piece.scores.ravel()),
    }
    if names:
        columns[_OPTIONAL] = _name_column(np.repeat(piece.track_ids, k), names)
    order = [name for name in POSE_COLUMNS if name in columns]
    return pa.table({name: columns[name] for name in order})


def pose_schema(names: Mapping[int, str]) -> Any:
    """The Arrow schema of what `pose_table` gives."""
    import pyarrow as pa

    columns = [name for name in POSE_COLUMNS if names or name != _OPTIONAL]
    return pa.schema(list(column_types("poses", columns).items()))


def poses_of_batches(
    batches: Iterable[Any],
    skeleton: Skeleton,
    path: object,
    first_row: int,
    provenance: dict[str, Any],
    report: LossReport | None = None,
) -> Iterator[Poses]:
    """Poses of the rows of Arrow batches, in pieces of `PIECE` individuals at most.

    Parameters
    ----------
    first_row
        What a user calls the first row of the data: 2 in a CSV file, where the header is row 1.

    Raises
    ------
    FileFormatError
        That names the row.
    """
    import pyarrow as pa

    k = len(skeleton)
    rest: Any = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if rest is not None and len(rest):
            table = pa.concat_tables([rest, table], promote_options="permissive")
        whole = len(table) // k
        for start in range(0, whole, PIECE):
            stop = min(whole, start + PIECE)
            rows = table.slice(start * k, (stop - start) * k)
            yield _poses(rows, skeleton, path, first_row, provenance, report)
            first_row += len(rows)
        rest = table.slice(whole * k)
    if rest is not None and len(rest):
        last = first_row + len(rest) - 1
        raise FileFormatError(
            f"{path}, row {last}: the table ends within an individual, after {len(rest)} of "
            f"{k} keypoints; it may be cut short; expected also "
            f"{', '.join(skeleton.names[len(rest) :])}"
        )


def _poses(
    table: Any,
    skeleton: Skeleton,
    path: object,
    first_row: int,
    provenance: dict[str, Any],
    report: LossReport | None,
) -> Poses:
    k = len(skeleton)
    where = Rows(path, first_row)
    codes = _codes(table["keypoint"], skeleton.names)
    expected = np.tile(np.arange(k, dtype=codes.dtype), len(table) // k)
    where.check(
        codes == expected,
        lambda i: (
            f"found the keypoint {_text(table['keypoint'][i])}, expected "
            f"{skeleton.names[expected[i]]!r}; every individual in a frame needs a row for each of "
            f"{', '.join(skeleton.names)}, in this order, with x and y empty where one is missing"
        ),
    )
    frames = _column(table, "frame", where)
    tracks = _column(table, "track", where, missing=NO_TRACK)
    for name, values in (("frame", frames), ("track", tracks)):
        where.check(
            values == np.repeat(values[::k], k),
            (
                f"the {name} changes within an individual; the {k} rows of its keypoints must "
                "stand together"
            ),
        )
    xy = np.stack([_column(table, name, where, missing=np.nan) for name in ("x", "y")], axis=1)
    where.check(~np.isinf(xy).any(axis=1), "a coordinate is infinite; leave it empty")
    scores = _column(table, "score", where, missing=np.nan)
    missing = np.isnan(xy)
    nowhere = missing.any(axis=1)
    where.check(
        nowhere | ((scores >= 0) & (scores <= 1)),
        lambda i: f"expected a score from 0 to 1, found {_text(table['score'][i])}",
    )
    if report is not None:
        half = int((nowhere & ~missing.all(axis=1)).sum())
        report.add("coordinates", half, "the other one of the same keypoint is missing")
        lost = int((nowhere & (scores > 0)).sum())
        report.add("keypoint scores", lost, "the keypoint has no coordinates, so its score is 0")
    return Poses(
        xy.reshape(-1, k, 2),
        np.where(nowhere, np.float32(0), scores).reshape(-1, k),
        skeleton,
        frames[::k],
        tracks[::k],
        provenance,
    )


# -- tracks ---------------------------------------------------------------------------------------


def track_table(tracks: Tracks, names: Mapping[int, str]) -> Any:
    """An Arrow table with a row for each row of the tracks."""
    import pyarrow as pa

    arrays = tracks.columns()
    columns = {"track": pa.array(arrays.pop("id"))}
    columns |= {
        name: pa.array(array, from_pandas=array.dtype.kind == "f") for name, array in arrays.items()
    }
    if names:
        columns[_OPTIONAL] = _name_column(tracks.id, names)
    order = [name for name in TRACK_COLUMNS if name in columns]
    return pa.table({name: columns[name] for name in order})


def tracks_of_table(table: Any, path: object, first_row: int, provenance: dict[str, Any]) -> Tracks:
    """The inverse of `track_table`.

    Raises
    ------
    FileFormatError
        That names the row: an empty frame or track, an individual that stands twice in a frame.
    """
    where = Rows(path, first_row)
    columns: dict[str, Any] = {}
    for name, dtype in COLUMNS.items():
        missing = np.nan if np.dtype(dtype).kind == "f" else None
        columns[name] = _column(table, "track" if name == "id" else name, where, missing=missing)
        if missing is not None:
            where.check(~np.isinf(columns[name]), f"{name} is infinite")
    check_pairs(columns["frame"], columns["id"], where)
    return Tracks(**columns, provenance=provenance)


def check_pairs(frames: np.ndarray, ids: np.ndarray, where: Rows) -> None:
    """FileFormatError for an individual that stands twice in one frame."""
    order = np.lexsort((ids, frames))
    same = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    single = np.ones(len(frames), bool)
    single[order[1:][same]] = False
    where.check(
        single,
        lambda i: f"the individual {ids[i]} stands in frame {frames[i]} a second time; keep one",
    )


@attrs.frozen
class Rows:
    """The rows of a file, to name the one in which something is wrong.

    Parameters
    ----------
    path
        Of the file.
    first
        What a user calls the first of the rows at hand.
    """

    path: object
    first: int

    def check(self, right: Any, message: str | Callable[[int], str]) -> None:
        """FileFormatError about the first row that is not right."""
        if not np.all(right):
            i = int(np.argmin(right))
            text = message if isinstance(message, str) else message(i)
            raise FileFormatError(f"{self.path}, row {self.first + i}: {text}")


# -- small parts ----------------------------------------------------------------------------------


def _nullable(values: np.ndarray, missing: int) -> Any:
    import pyarrow as pa

    return pa.array(values, mask=values == missing)


def _name_column(ids: np.ndarray, names: Mapping[int, str]) -> Any:
    import pyarrow as pa

    known = np.array(sorted(names), np.int64)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return pa.DictionaryArray.from_arrays(
        pa.array(at.astype(np.int32), mask=known[at] != ids),
        pa.array([names[int(i)] for i in known], pa.string()),
    )


def _column(table: Any, name: str, where: Rows, missing: Any = None) -> np.ndarray:
    """A column as an array; what is empty becomes ``missing``, or is an error."""
    import pyarrow.compute as pc

    column = table[name]
    if column.null_count:
        if missing is None:
            there = column.is_valid().to_numpy()
            where.check(there, f"{name} is empty; every row needs one")
        column = pc.fill_null(column, missing)
    return np.asarray(column.to_numpy())


def _codes(column: Any, names: Sequence[str]) -> np.ndarray:
    """For each row the position of its keypoint among the names, -1 for none of them."""
    import pyarrow as pa

    index = {name: i for i, name in enumerate(names)}
    parts = []
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_encode()
        known = [index.get(name, -1) for name in chunk.dictionary.to_pylist()]
        indices = chunk.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        parts.append(np.array([*known, -1], np.int64)[indices])
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _text(value: Any) -> str:
    found = value.as_py()
    return "nothing" if found is None else repr(found)
