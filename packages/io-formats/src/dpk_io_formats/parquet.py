"""Poses and tracks as Parquet: the tidy table of `dpk_io_formats.tidy`, with nothing lost.

The format is dpk's own, so there is no convention of another program to follow. The skeleton and
the provenance stand as JSON in the file's metadata under ``dpk``::

    {"kind": "poses", "version": 1, "skeleton": [["nose", null, null], ...], "provenance": {...}}

where a row of ``skeleton`` is name, parent, swap partner. pandas, polars, R's arrow, DuckDB and
MATLAB read the table and leave the metadata alone. Tables with the same columns that other programs
wrote are read too: their skeleton has the keypoints of the first individual and no edges, and
numbers that are wider than dpk's are rounded to float32 for poses, which is reported.

Rows are written in groups of about a hundred thousand, with a checksum for each page, so that a
changed byte is found instead of read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError, ValidationError
from dpk_core.interfaces import PoseFormat
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.services.storage.hdf5 import to_json
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PIECE, PoseStream
from dpk_core.tracks import Tracks
from dpk_io_formats import tidy

MAGIC = b"PAR1"
"""First and last bytes of every Parquet file (parquet-format, README, "File format")."""

_KEY = b"dpk"
_VERSION = 1
_GROUP = 2**17
_MOST_KEYPOINTS = 100_000


class ParquetFormat(PoseFormat):
    """Reads and writes tidy Parquet tables."""

    def sniff(self, path: str | PathLike[str]) -> bool:
        try:
            return is_parquet(Path(path)) and bool(self.kinds(path))
        except (FileFormatError, FileMissingError):
            return False

    def kinds(self, path: str | PathLike[str]) -> tuple[str, ...]:
        with opened(Path(path)) as file:
            stored = _stored(file, Path(path))
            kind = stored.get("kind") or tidy.kind_of(file.schema_arrow.names)
        return (kind,) if kind in ("poses", "tracks") else ()

    def read(
        self,
        path: str | PathLike[str],
        kind: str = "poses",
        *,
        report: LossReport | None = None,
        **options: Any,
    ) -> PoseStream | Tracks:
        """Poses as a stream, or tracks.

        Raises
        ------
        FileMissingError
        FileFormatError
            When the columns are others, the file is damaged or from a newer dpk, or a row is bad:
            the message names it, counting from 1.
        SkeletonError
            When the stored skeleton is none.
        ValidationError
            On unknown options.
        """
        if options:
            raise ValidationError(f"parquet: unknown options {', '.join(sorted(options))}")
        path = Path(path)
        with opened(path) as file:
            columns = file.schema_arrow.names
            tidy.check_columns(columns, kind, path)
            stored = _stored(file, path)
            provenance = stored.get("provenance")
            if provenance is None:
                provenance = tidy.with_track_names(_track_names(file, path))
            if kind == "tracks":
                table = _cast(file.read(), kind, path, None)
                return tidy.tracks_of_table(table, path, 1, provenance)
            n_rows = file.metadata.num_rows
            skeleton = _skeleton(stored, path) or _first_skeleton(file, path)
        length, rest = divmod(n_rows, len(skeleton))
        if rest:
            raise FileFormatError(
                f"{path} has {n_rows} rows, which is no multiple of its {len(skeleton)} keypoints "
                f"({', '.join(skeleton.names)}); every individual in a frame needs a row for each"
            )

        def pieces() -> Iterator[Poses]:
            batches = _batches(path, len(skeleton), report)
            return tidy.poses_of_batches(batches, skeleton, path, 1, provenance, report)

        return PoseStream(skeleton, pieces, length, provenance)

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
            For labels, unknown options, and provenance that JSON cannot hold.
        """
        if options:
            raise ValidationError(f"parquet: unknown options {', '.join(sorted(options))}")
        if isinstance(data, AnnotationSet):
            raise ValidationError("parquet holds poses and tracks, no labelled images")
        names = tidy.track_names(data.provenance)
        if isinstance(data, Tracks):
            table = tidy.track_table(data, names)
            _write(Path(path), table.schema, _metadata("tracks", data.provenance), iter([table]))
            return
        tables = (tidy.pose_table(tidy.without_infinite(p, report), names) for p in data)
        metadata = _metadata("poses", data.provenance, data.skeleton)
        _write(Path(path), tidy.pose_schema(names), metadata, tables)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetFile``, whose failures are the file's.

    Raises
    ------
    FileMissingError, FileFormatError
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; expected one Parquet file")
    if not path.is_file():
        raise FileMissingError(f"no file at {path}")
    if not is_parquet(path):
        raise FileFormatError(f"{path} is not a Parquet file, or cut short")
    try:
        # pre_buffer would keep what was read until the file is closed
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, (FileFormatError, FileMissingError)):
            raise
        raise FileFormatError(
            f"{path} is damaged ({error}); expected a whole Parquet file; restore it from a copy"
        ) from error


def is_parquet(path: Path) -> bool:
    """Whether the file begins and ends as Parquet files do; False when it can't be read."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                return False
            file.seek(-4, 2)
            return file.read(4) == MAGIC
    except OSError:
        return False


# -- writing --------------------------------------------------------------------------------------


def _metadata(kind: str, provenance: dict[str, Any], skeleton: Skeleton | None = None) -> str:
    stored = {"kind": kind, "version": _VERSION, "provenance": provenance}
    if skeleton is not None:
        stored["skeleton"] = skeleton.to_rows()
    return to_json(stored)


def _write(path: Path, schema: Any, metadata: str, tables: Iterator[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = schema.with_metadata({_KEY: metadata})
    texts = [name for name in ("track_name", "keypoint") if name in schema.names]
    with pq.ParquetWriter(
        path,
        schema,
        use_dictionary=["frame", "track", *texts],
        write_page_checksum=True,
    ) as writer:
        waiting: list[Any] = []
        for table in tables:
            waiting.append(table.replace_schema_metadata(schema.metadata))
            if sum(map(len, waiting)) >= _GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=2 * _GROUP)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=2 * _GROUP)


# -- reading --------------------------------------------------------------------------------------


def _stored(file: Any, path: Path) -> dict[str, Any]:
    """What dpk noted in the metadata, empty when another program wrote the file."""
    text = (file.schema_arrow.metadata or {}).get(_KEY)
    if text is None:
        return {}
    try:
        stored = json.loads(text)
        version = int(stored.get("version", 0))
        good = isinstance(stored.get("provenance", {}), dict)
    except (AttributeError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: its metadata 'dpk' is damaged ({error})") from None
    if version > _VERSION:
        raise FileFormatError(
            f"{path} was written by a newer dpk (format {version}, this one reads up to "
            f"{_VERSION}); update with: python -m pip install -U dpk-io-formats"
        )
    if not good:
        raise FileFormatError(f"{path}: the provenance in its metadata is no JSON object")
    return stored


def _skeleton(stored: dict[str, Any], path: Path) -> Skeleton | None:
    rows = stored.get("skeleton")
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and all(cell is None or isinstance(cell, str) for cell in row[1:])
        for row in rows
    ):
        raise FileFormatError(f"{path}: the skeleton in its metadata is no list of names")
    try:
        return _skeleton_of_rows(rows)
    except SkeletonError as error:
        raise SkeletonError(f"{path}: {error}") from None


def _skeleton_of_rows(rows: list[list[Any]]) -> Skeleton:
    """As `Skeleton.from_rows`, which strips blanks around names."""
    names = [row[0] for row in rows]
    at = {name: i for i, name in enumerate(names)} | {None: -1}
    for row in rows:
        for cell in row[1:]:
            if cell not in at:
                raise SkeletonError(f"{row[0]!r} refers to {cell!r}, which is not a keypoint")
    return Skeleton(tuple(names), [at[row[1]] for row in rows], [at[row[2]] for row in rows])


def _first_skeleton(file: Any, path: Path) -> Skeleton:
    """The keypoints of the first individual, of a table that another program wrote."""
    names: list[str] = []
    first: tuple[Any, Any] | None = None
    for batch in file.iter_batches(4096, columns=["frame", "track", "keypoint"]):
        for row in batch.to_pylist():
            pair = row["frame"], row["track"]
            name = row["keypoint"]
            first = pair if first is None else first
            if pair != first or name in names or len(names) >= _MOST_KEYPOINTS:
                return Skeleton(tuple(names))
            if not isinstance(name, str) or not name:
                raise FileFormatError(f"{path}, row {len(names) + 1}: the keypoint has no name")
            names.append(name)
    if not names:
        raise FileFormatError(f"{path} has no rows, so it does not say which keypoints there are")
    return Skeleton(tuple(names))


def _batches(path: Path, k: int, report: LossReport | None) -> Iterator[Any]:
    import pyarrow as pa

    rows = max(1, min(PIECE, _GROUP // k)) * k
    with opened(path) as file:
        for batch in file.iter_batches(rows):
            table = _cast(pa.Table.from_batches([batch]), "poses", path, report)
            yield from table.combine_chunks().to_batches()


def _cast(table: Any, kind: str, path: Path, report: LossReport | None) -> Any:
    """The columns in dpk's types; pandas for instance stores track numbers with gaps as floats."""
    import pyarrow as pa

    types = tidy.column_types(kind, table.column_names)
    columns = {}
    for name, wanted in types.items():
        column = table[name]
        if column.type != wanted:
            text = pa.types.is_dictionary(wanted)
            wide = pa.types.is_floating(wanted)
            try:
                cast = column.cast(pa.string() if text else wanted, safe=not wide)
                columns[name] = cast.dictionary_encode() if text else cast
            except pa.ArrowException as error:
                raise FileFormatError(
                    f"{path}: the column {name!r} holds {column.type}, expected {wanted}: {error}"
                ) from None
            if wide and report is not None and pa.types.is_floating(column.type):
                before, after = (_floats(c) for c in (column, columns[name]))
                rounded = int(((before != after) & ~np.isnan(before)).sum())
                report.add("decimals", rounded, "numbers are rounded to float32")
        else:
            columns[name] = column
    return pa.table(columns)


def _floats(column: Any) -> np.ndarray:
    return np.asarray(column.to_numpy(), np.float64)


def _track_names(file: Any, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    if "track_name" not in file.schema_arrow.names:
        return names
    import pyarrow as pa

    for batch in file.iter_batches(2**17, columns=["track", "track_name"]):
        table = pa.Table.from_batches([batch])
        try:
            table = table.set_column(
                1, "track_name", table["track_name"].cast(pa.string())
            ).group_by(["track", "track_name"])
        except pa.ArrowException as error:
            raise FileFormatError(f"{path}: track_name holds no texts: {error}") from None
        for pair in table.aggregate([]).to_pylist():
            track, name = pair["track"], pair["track_name"]
            if not name:
                continue
            if track is None or track != track:
                raise FileFormatError(f"{path}: the track_name {name!r} stands in rows of no track")
            if names.setdefault(int(track), name) != name:
                raise FileFormatError(
                    f"{path}: the track {int(track)} is called {names[int(track)]!r} and {name!r}; "
                    "a track has one name"
                )
    return names
