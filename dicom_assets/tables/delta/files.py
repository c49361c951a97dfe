"""The data files of a Delta table, and one commit that replaces some of them.

A data file never changes: it is read in pieces, written anew beside itself with other values in a
few columns, or several become one, and they are exchanged. The commit holds on the version it was
derived from, or not at all, as every commit of `store`. A written file that no commit names,
because the run was killed, is garbage: no reader sees it, and `maintenance` removes it. Which
values change is the caller's, as `backfill`, and which files become one, as `compaction`.

Memory is bounded by a piece and a row group, whatever the size of the file.
"""

import json
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, islice
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

from dicom_assets.errors import ForeignTableError, TableUnavailableError
from dicom_assets.schema import Table
from dicom_assets.tables.delta.arrow import numbers
from dicom_assets.tables.delta.snapshot import (
    HOOKS,
    ROW_GROUP_ROWS,
    STATISTICS,
    WITHOUT_STATISTICS,
    Border,
    Delta,
    Snapshot,
    _conflict,
    arrow_schema,
    once,
)

PIECE_ROWS: Final = 1_000
PIECE_BYTES: Final = 8 * 2**20
ROW_GROUP_BYTES: Final = 32 * 2**20
# How much of a column is read at once; else it is all that a row group has of it.
_READ_BYTES: Final = 2**20
_PLAIN_READER: Final = 1

# Some rows of a file to the same rows of the columns that change, in the table's types; None when
# nothing changes. The partition column is not among what it gets.
Change: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch | None]
# What the log tells of a file: by kind (least, greatest, how many nulls) and column.
_Told: TypeAlias = dict[str, dict[str, object]]


@dataclass(frozen=True)
class DataFile:
    """A data file: its path below the table as the storage knows it, partition values, bytes.

    `rows` is None where the log does not tell it; `since` is when it came into the table, in
    milliseconds since 1970, as far as the log knows it.
    """

    path: str
    partition: Mapping[str, str | None]
    size: int
    rows: int | None
    since: int = 0


@dataclass(frozen=True)
class Replacement:
    """Data files of a table, and a written one with the same rows.

    In `columns` it has other values.
    """

    olds: tuple[DataFile, ...]
    new: DataFile
    columns: tuple[str, ...] = ()


def data_files(snapshot: Snapshot) -> list[DataFile]:
    """Return the data files of a version, the oldest first.

    Raises ForeignTableError when rows are not what lies in the files: a table with deletion
    vectors or mapped column names is not one that this project writes.
    """
    if snapshot.delta is None:
        return []
    with Border(snapshot.table, snapshot.url):
        _require_plain(snapshot.table, snapshot.delta)
        names = ["path", "size_bytes", "modification_time", "num_records"]
        names += ["partition"] if snapshot.table.partition_column else []
        found = _add_actions(snapshot.delta).select(names).to_pylist()
    found.sort(key=lambda add: (add["modification_time"], add["path"]))
    return [_data_file(add) for add in found]


def rewrite(
    snapshot: Snapshot, old: DataFile, columns: Sequence[str], change: Change, name: str
) -> Replacement | None:
    """Return the file written anew with what changes in the columns; None when nothing does.

    Rows keep their order and number, every other column its values. Nothing is written before the
    first change. The name of the written file begins with `name`.
    """
    with Border(snapshot.table, snapshot.url):
        source = _Source(snapshot, old)
        pieces = source.pieces()
        for count, piece in enumerate(pieces):
            values = change(piece)
            if values is not None:
                same = islice(source.pieces(), count)
                rest = (_with(p, change(p)) for p in pieces)
                new = source.write(chain(same, [_with(piece, values)], rest), name, old.rows)
                return Replacement((old,), new, tuple(columns))
    return None


def join(
    snapshot: Snapshot, olds: Sequence[DataFile], name: str, progress: Callable[[int], None]
) -> Replacement:
    """Return files of one partition written as one, row after row in the order they are given.

    `progress` is told the rows of each piece. The name of the written file begins with `name`.
    """
    with Border(snapshot.table, snapshot.url):
        sources = [_Source(snapshot, old) for old in olds]
        pieces = chain.from_iterable(source.pieces() for source in sources)
        rows = sum(old.rows or 0 for old in olds)
        new = sources[0].write(_told_of(pieces, progress), name, rows)
        return Replacement(tuple(olds), new)


def commit(
    snapshot: Snapshot, replacements: Sequence[Replacement], note: Mapping[str, object]
) -> int:
    """Exchange the files in one commit on top of this version; return the version that has them.

    Raises ConflictError when another commit came first, or an old file is not in this version: the
    log takes the removal of what is not there without a word, and the rows would be there twice.
    (So does it after `DeltaTable.optimize`, which moreover commits on whatever version is there.)
    """
    delta = snapshot.delta
    if delta is None or delta.version() != snapshot.version:
        raise _conflict(snapshot.table)
    with Border(snapshot.table, snapshot.url):
        olds = {old.path for replacement in replacements for old in replacement.olds}
        told = _told(delta, olds)
        if len(told) < len(olds):
            raise _conflict(snapshot.table)
        kept = _kept_statistics(snapshot)
        actions = [action for r in replacements for action in _actions(r, told, kept)]
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=snapshot.table.partition_columns,
            commit_properties=_properties(replacements, note),
            post_commithook_properties=HOOKS,
        )
    return snapshot.version + 1


# --- the log --------------------------------------------------------------------------------------


def _require_plain(table: Table, delta: Delta) -> None:
    asked = delta.protocol().min_reader_version
    if asked > _PLAIN_READER:
        raise ForeignTableError(
            f"table {table.name} asks its readers for more than plain Delta (reader version "
            f"{asked}): deletion vectors or mapped columns. Its files cannot be rewritten one by "
            "one, and nothing was written. Drop these features with the engine that added them, "
            "then run again"
        )


def _add_actions(delta: Delta) -> Any:  # noqa: ANN401 - a table whose columns are the engine's
    return pa.table(cast("Any", delta.get_add_actions()))


def _data_file(add: Mapping[str, Any]) -> DataFile:
    path = stored_path(add["path"])
    partition = {n: _value(path, n, v) for n, v in (add.get("partition") or {}).items()}
    since = add["modification_time"]
    return DataFile(path, partition, add["size_bytes"], add["num_records"], since)


def stored_path(logged: str) -> str:
    """Return the path of a file as the storage knows it.

    The log has it percent-encoded, and the engine hands it out so. Actions have it decoded: a
    removal of the encoded path removes nothing, without a word.
    """
    return unquote(logged)


def _value(path: str, column: str, value: str | None) -> str | None:
    # Readers see an empty text as such, and the engine shows it as null among the actions.
    return "" if value is None and f"{column}=" in path.split("/")[:-1] else value


def _told(delta: Delta, paths: set[str]) -> dict[str, _Told]:
    """Return what the log tells of the columns of the files, by path and kind; only those found."""
    actions = _add_actions(delta)
    logged = [stored_path(path) for path in actions["path"].to_pylist()]
    found = [at for at, path in enumerate(logged) if path in paths]
    rows = actions.take(numbers(found)).to_pylist()
    return {logged[at]: _statistics(row) for at, row in zip(found, rows, strict=True)}


def _statistics(add: Mapping[str, Any]) -> _Told:
    kinds = {"min": "minValues", "max": "maxValues", "null_count": "nullCount"}
    return {
        told: {name: value for name, value in (add.get(kind) or {}).items() if _is_plain(value)}
        for kind, told in kinds.items()
    }


def _is_plain(value: object) -> bool:
    """Whether JSON has it as it is; what is left out of statistics only skips less."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | date)


def _kept_statistics(snapshot: Snapshot) -> frozenset[str]:
    """Return the columns of which the table wants the log to tell something."""
    named = snapshot.property(STATISTICS)
    return frozenset(arrow_schema(snapshot.delta).names if named is None else named.split(","))


def _actions(
    replacement: Replacement, told: Mapping[str, _Told], wanted: Collection[str]
) -> list[AddAction | RemoveAction]:
    now, new = time.time_ns() // 1_000_000, replacement.new
    # The rows are the same: so is what the log tells of the columns that did not change.
    joined = _joined([(told[old.path], old.rows) for old in replacement.olds])
    kept = {
        kind: {n: v for n, v in values.items() if n in wanted and n not in replacement.columns}
        for kind, values in joined.items()
    }
    add = AddAction(
        path=new.path,
        size=new.size,
        partition_values=new.partition,
        modification_time=now,
        # Other values are other data for whoever follows the commits; fewer files are not.
        data_change=bool(replacement.columns),
        stats=json.dumps({"numRecords": new.rows, **kept}, default=_moment_text),
    )
    return [add, *(_removal(old, now, add.data_change) for old in replacement.olds)]


def _removal(old: DataFile, now: int, data_change: bool) -> RemoveAction:  # noqa: FBT001 - Delta's own word
    return RemoveAction(
        old.path,
        data_change=data_change,
        deletion_timestamp=now,
        size=old.size,
        partition_values=dict(old.partition),
    )


def _joined(files: Sequence[tuple[_Told, int | None]]) -> _Told:
    """Return what the log would tell of one file with the rows of all."""
    return {
        "minValues": _extremes(files, "minValues", min),
        "maxValues": _extremes(files, "maxValues", max),
        "nullCount": _null_counts([told for told, _ in files]),
    }


def _extremes(
    files: Sequence[tuple[_Told, int | None]], kind: str, choose: Callable[[list[Any]], object]
) -> dict[str, object]:
    """Return the columns of which every file tells it, or has no value at all."""
    names = {name for told, _ in files for name in told[kind]}
    silent = {
        name
        for told, rows in files
        for name in names - told[kind].keys()
        if rows is None or told["nullCount"].get(name) != rows
    }
    return {
        name: choose([told[kind][name] for told, _ in files if name in told[kind]])
        for name in names - silent
    }


def _null_counts(tolds: Sequence[_Told]) -> dict[str, object]:
    counts = [cast("dict[str, int]", told["nullCount"]) for told in tolds]
    names = set.intersection(*(set(count) for count in counts))
    return {name: sum(count[name] for count in counts) for name in names}


def _moment_text(value: date) -> str:
    text = value.isoformat()
    return text.replace("+00:00", "Z") if isinstance(value, datetime) else text


def _properties(
    replacements: Sequence[Replacement], note: Mapping[str, object]
) -> CommitProperties:
    files = sum(len(replacement.olds) for replacement in replacements)
    counts = {"files": files, "rows": sum(r.new.rows or 0 for r in replacements)}
    return once({**note, **counts})


# --- a file ---------------------------------------------------------------------------------------


class _Source:
    """A data file as it is read: in the table's columns and types, without the partition column."""

    def __init__(self, snapshot: Snapshot, file: DataFile) -> None:
        """The file of a version of a table."""
        handler = DeltaStorageHandler(snapshot.url, dict(snapshot.options))
        self._storage = pyarrow.fs.PyFileSystem(handler)
        self._file = file
        self._table = snapshot.table
        whole = arrow_schema(snapshot.delta)
        self._held = set(whole.names)
        self._schema = pa.schema([f for f in whole if f.name not in self._table.partition_columns])

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order; a column that the file lacks is null."""
        with self._storage.open_input_file(self._file.path) as opened:
            parquet = pq.ParquetFile(
                opened,
                buffer_size=_READ_BYTES,
                pre_buffer=False,
                # Spark's old form of a moment; as nanoseconds it would end in the year 2262.
                coerce_int96_timestamp_unit="us",
            )
            stored = parquet.schema_arrow.names
            self._require_held(stored)
            wanted = [name for name in self._schema.names if name in stored]
            rows = _piece_rows(parquet.metadata)
            for batch in parquet.iter_batches(rows, columns=wanted, use_threads=False):
                yield self._conformed(batch)

    def _require_held(self, stored: Sequence[str]) -> None:
        if unknown := [name for name in stored if name not in self._held]:
            raise ForeignTableError(
                f"a data file of table {self._table.name} holds {len(unknown)} columns that the "
                "table does not have, and that writing it anew would lose. Nothing was written. "
                "Rewrite the table with the engine that wrote the file, then run again"
            )

    def _conformed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            batch.column(f.name).cast(f.type)
            if f.name in batch.schema.names
            else pa.nulls(batch.num_rows, f.type)
            for f in self._schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def write(self, pieces: Iterable[pa.RecordBatch], name: str, expected: int | None) -> DataFile:
        """Write the rows into a new file beside this one; so many are expected, if it is known."""
        folder, slash, _ = self._file.path.rpartition("/")
        path = f"{folder}{slash}{name}{uuid.uuid4()}.zstd.parquet"
        written: list[pq.FileMetaData] = []
        with (
            self._storage.open_output_stream(path) as sink,
            pq.ParquetWriter(sink, self._schema, **self._layout(written)) as writer,
        ):
            for group in _row_groups(pieces):
                writer.write_table(pa.Table.from_batches(group, self._schema))
        self._require_rows(written[0].num_rows, expected)
        size = self._storage.get_file_info(path).size
        return DataFile(path, self._file.partition, size, written[0].num_rows)

    def _require_rows(self, written: int, expected: int | None) -> None:
        if expected not in {written, None}:
            raise TableUnavailableError(
                f"a data file of table {self._table.name} holds {written:,} rows, and the table's "
                f"log says {expected:,}. Nothing was committed. The file or the log is "
                "damaged: restore an earlier version of the table, then run again"
            )

    def _layout(self, written: list[pq.FileMetaData]) -> dict[str, Any]:
        short = [name for name in self._schema.names if name not in WITHOUT_STATISTICS]
        return {
            "compression": "zstd",
            "use_dictionary": short,
            "write_statistics": short,
            "metadata_collector": written,
        }


def _told_of(
    pieces: Iterable[pa.RecordBatch], progress: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        progress(piece.num_rows)
        yield piece


def _with(piece: pa.RecordBatch, values: pa.RecordBatch | None) -> pa.RecordBatch:
    if values is None:
        return piece
    changed = dict(zip(values.schema.names, values.columns, strict=True))
    columns = [changed.get(f.name, piece.column(f.name)) for f in piece.schema]
    return pa.RecordBatch.from_arrays(columns, schema=piece.schema)


def _piece_rows(metadata: pq.FileMetaData) -> int:
    """Return how many rows make a piece: fewer, the longer the rows of the file are."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    longest = max((g.total_byte_size // max(g.num_rows, 1) for g in groups), default=0)
    return max(1, min(PIECE_ROWS, PIECE_BYTES // max(longest, 1)))


def _row_groups(pieces: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in pieces:
        if group and (
            rows + piece.num_rows > ROW_GROUP_ROWS or size + piece.nbytes > ROW_GROUP_BYTES
        ):
            yield group
            group, rows, size = [], 0, 0
        group.append(piece)
        rows, size = rows + piece.num_rows, size + piece.nbytes
    if group:
        yield group
