"""Poses and tracks as tidy CSV, which every spreadsheet, pandas and R read.

The columns are those of `dpk_io_formats.tidy`; the format is dpk's own, so there is no convention
of another program to follow. The text is UTF-8, the first row is the header, nothing is a comment.
Numbers are written with the fewest digits that give the same number back: float32 for coordinates
and scores of poses, float64 for tracks. An empty cell is a missing value; "NaN" and "NA", as pandas
and R write it, are read as one.

What a table of columns has no place for is reported: the skeleton's edges and swap partners, and
the provenance. Parquet keeps them all; for CSV, give the skeleton back with ``skeleton=``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import NO_TRACK, Poses
from dpk_core.skeleton import NONE, Skeleton
from dpk_core.streams import PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats import tidy

_BLOCK = 4 * 2**20
_LONGEST_HEADER = 2**16
_NO_PLACE = "a CSV table has no place for them; Parquet has"
_MISSING = ("", "NA", "NaN", "nan")
_TRUE = ("true", "True", "TRUE", "1")
_FALSE = ("false", "False", "FALSE", "0")


class TidyCsvFormat(PoseFormat):
    """Reads and writes tidy CSV."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            return tidy.kind_of(_read_header(Path(path))) is not None
        except (FileFormatError, FileMissingError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        kind = tidy.kind_of(_read_header(Path(path)))
        return () if kind is None else (kind,)

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        skeleton: Skeleton | str | PathLike[str] | None = None,
        **options: Any,
    ) -> PoseStream | Tracks:
        """Poses as a stream, or tracks.

        Parameters
        ----------
        skeleton
            A `Skeleton`, or the path of its ``name,parent,swap`` CSV, with the keypoints of the
            table in their order: gives poses the edges and swap partners that CSV cannot hold.

        Raises
        ------
        FileMissingError
        FileFormatError
            When the header is another one, or a row is bad: the message names it. Rows are
            counted as a spreadsheet does, the header being row 1. Of poses, it comes when the
            stream reaches the row.
        ValidationError
            On an unknown option or a skeleton with other keypoints.
        """
        if options:
            raise ValidationError(f"csv: unknown options {', '.join(sorted(options))}")
        path = Path(path)
        columns = _read_header(path)
        tidy.check_columns(columns, kind, path)
        names = _read_track_names(path, kind, columns)
        provenance = tidy.with_track_names(names)
        if kind == "tracks":
            import pyarrow as pa

            table = pa.Table.from_batches(
                _batches(path, kind, columns), pa.schema(tidy.column_types(kind, columns).items())
            )
            return tidy.tracks_of_table(table, path, 2, provenance)
        found = _choose_skeleton(_first_keypoints(path, columns), skeleton, path)

        def pieces() -> Iterator[Poses]:
            batches = _batches(path, kind, columns)
            return tidy.poses_of_batches(batches, found, path, 2, provenance, report)

        return PoseStream(found, pieces, None, provenance)

    def write(
        self,
        path: str | PathLike[str],
        data: AnnotationSet | PoseStream | Tracks,
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> None:
        """Write poses piece by piece, or tracks.

        Raises
        ------
        ValidationError
            For labels, and unknown options.
        """
        if options:
            raise ValidationError(f"csv: unknown options {', '.join(sorted(options))}")
        if isinstance(data, AnnotationSet):
            raise ValidationError("csv holds poses and tracks, no labelled images")
        names = tidy.track_names(data.provenance)
        tidy.count_provenance(data.provenance, report, _NO_PLACE)
        if isinstance(data, Tracks):
            used = set(np.unique(data.id).tolist())
            table = tidy.track_table(data, names)
            _write(Path(path), table.schema, iter([table]))
        else:
            used = set()
            _count_skeleton(data.skeleton, report)
            tables = _pose_tables(data, names, used, report)
            _write(Path(path), tidy.pose_schema(names), tables)
        if report is not None:
            lost = [i for i in names if i not in used]
            report.add("track names", len(lost), "no row is of their track")


# -- writing --------------------------------------------------------------------------------------


def _pose_tables(
    stream: PoseStream, names: dict[int, str], used: set[int], report: LossReport | None
) -> Iterator[Any]:
    rows = 0
    for piece in stream:
        used.update(np.unique(piece.track_ids).tolist())
        rows += len(piece)
        yield tidy.pose_table(tidy.without_infinite(piece, report), names)
    if report is not None and not rows:
        report.add("keypoint names", len(stream.skeleton), "they stand in rows, and there are none")


def _write(path: Path, schema: Any, tables: Iterator[Any]) -> None:
    import pyarrow as pa
    import pyarrow.csv

    # Arrow would put the header in quotes, which is harmless but not what people expect to see.
    options = pa.csv.WriteOptions(include_header=False, batch_size=2**16)
    with path.open("wb") as file:
        file.write((",".join(schema.names) + "\n").encode())
        with pa.csv.CSVWriter(file, schema, write_options=options) as writer:
            for table in tables:
                writer.write_table(table)


def _count_skeleton(skeleton: Skeleton, report: LossReport | None) -> None:
    if report is not None:
        report.add("skeleton edges", len(skeleton.edges), _NO_PLACE)
        swaps = sum(partner != NONE for partner in skeleton.swap)
        report.add("swap partners", swaps, _NO_PLACE)


# -- reading --------------------------------------------------------------------------------------


def _read_header(path: Path) -> list[str]:
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected a CSV file")
    if not path.is_file():
        raise FileMissingError(f"no file at {path}")
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
        return next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], strict=True), [])
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path} is not CSV text in UTF-8: {error}") from None


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each row after the header."""
    number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, cells in enumerate(csv.reader(file), 1):
                if number > 1:
                    yield number, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}, after row {number}: not CSV in UTF-8: {error}") from None


def _first_keypoints(path: Path, columns: list[str]) -> list[str]:
    """Keypoints of the first individual: up to the row where it, or the frame, is another."""
    at = [columns.index(name) for name in ("frame", "track", "keypoint")]
    names: list[str] = []
    first: tuple[str, str] | None = None
    for number, cells in _rows(path):
        if len(cells) != len(columns):
            raise FileFormatError(
                f"{path}, row {number}: expected {len(columns)} cells, found {len(cells)}"
            )
        frame, track, name = (cells[i] for i in at)
        track = "" if track in (*_MISSING, str(NO_TRACK)) else track
        if first is None:
            first = frame, track
        if (frame, track) != first or name in names:
            break
        if not name:
            raise FileFormatError(f"{path}, row {number}: the keypoint has no name")
        names.append(name)
    if not names:
        raise FileFormatError(
            f"{path} has a header and no rows, so it does not say which keypoints there are"
        )
    return names


def _choose_skeleton(
    names: list[str], wanted: Skeleton | str | PathLike[str] | None, path: Path
) -> Skeleton:
    if wanted is None:
        return Skeleton(tuple(names))
    skeleton = wanted if isinstance(wanted, Skeleton) else Skeleton.from_csv(wanted)
    if list(skeleton.names) != names:
        raise ValidationError(
            f"skeleton: {path} has the keypoints {', '.join(names)}; the skeleton has "
            f"{', '.join(skeleton.names)}; they must be the same in the same order"
        )
    return skeleton


def _batches(
    path: Path, kind: str, columns: list[str], wanted: list[str] | None = None
) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.csv

    try:
        with (
            pa.OSFile(str(path)) as file,
            pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
                parse_options=pa.csv.ParseOptions(
                    newlines_in_values=True, ignore_empty_lines=False
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=tidy.column_types(kind, columns),
                    include_columns=wanted or columns,
                    null_values=list(_MISSING),
                    true_values=list(_TRUE),
                    false_values=list(_FALSE),
                    strings_can_be_null=False,
                ),
            ) as reader,
        ):
            yield from reader
    except pa.ArrowInvalid as error:
        raise _explain(path, kind, columns, error) from None
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error}") from None


def _read_track_names(path: Path, kind: str, columns: list[str]) -> dict[int, str]:
    """Reads the whole file once more when there is such a column: names come before rows."""
    import pyarrow as pa

    names: dict[int, str] = {}
    if "track_name" not in columns:
        return names
    for batch in _batches(path, kind, columns, ["track", "track_name"]):
        pairs = pa.Table.from_batches([batch]).group_by(["track", "track_name"]).aggregate([])
        for pair in pairs.to_pylist():
            track, name = pair["track"], pair["track_name"]
            if not name:
                continue
            if track is None or (kind == "poses" and track == NO_TRACK):
                raise FileFormatError(
                    f"{path}: the track_name {name!r} stands in rows that have no track; give "
                    "them a number"
                )
            if names.setdefault(track, name) != name:
                raise FileFormatError(
                    f"{path}: the track {track} is called {names[track]!r} and {name!r}; a track "
                    "has one name"
                )
    return names


def _explain(path: Path, kind: str, columns: list[str], error: Exception) -> FileFormatError:
    """Finds the row that Arrow stumbled over: its own words are about bytes and types."""
    import pyarrow as pa

    types = tidy.column_types(kind, columns)
    for number, cells in _rows(path):
        if len(cells) != len(columns):
            return FileFormatError(
                f"{path}, row {number}: expected {len(columns)} cells ({', '.join(columns)}), "
                f"found {len(cells)}; a row may be cut short, or hold a comma that is not in quotes"
            )
        for name, cell in zip(columns, cells, strict=True):
            wanted = None if cell in _MISSING else _wrong(cell, types[name], pa)
            if wanted:
                return FileFormatError(
                    f"{path}, row {number}: expected {wanted} in the column {name!r}, found "
                    f"{cell[:80]!r}"
                )
    return FileFormatError(f"{path} is not a tidy CSV table of {kind}: {error}")


def _wrong(cell: str, wanted: Any, pa: Any) -> str:
    """What was expected of a cell, "" when it is right."""
    if pa.types.is_dictionary(wanted):
        return ""
    if pa.types.is_boolean(wanted):
        return "" if cell in (*_TRUE, *_FALSE) else "true or false"
    try:
        if pa.types.is_integer(wanted):
            number = int(cell)
            limit = 2 ** (wanted.bit_width - 1)
            plain = cell.strip().lstrip("+-").isascii() and "_" not in cell
            return "" if plain and -limit <= number < limit else "a whole number"
        float(cell)
    except ValueError:
        return "a whole number" if pa.types.is_integer(wanted) else "a number"
    return ""
