"""The data files of a Delta table, and one commit that replaces some of them.

A data file never changes: it is read in pieces, written anew beside itself with other values in a
few columns, and exchanged. The commit holds on the version it was derived from, or not at all, as
every commit of `store`. A written file that no commit names, because the run was killed, is
garbage: no reader sees it, and a full vacuum removes it. Which values change is the caller's;
`backfill` is one.

Memory is bounded by a piece and a row group, whatever the size of the file.
"""

import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from dicom_assets.tables.arrow import numbers
from dicom_assets.tables.store import (
    ROW_GROUP_ROWS,
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


@dataclass(frozen=True)
class DataFile:
    """A data file: its path below the table as the storage knows it, partition values, bytes.

    `rows` is None where the log does not tell it.
    """

    path: str
    partition: Mapping[str, str | None]
    size: int
    rows: int | None


@dataclass(frozen=True)
class Replacement:
    """A data file of a table, and a written one with the same rows and other values in columns."""

    old: DataFile
    new: DataFile
    columns: tuple[str, ...]


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
                new = source.write(chain(same, [_with(piece, values)], rest), name)
                return Replacement(old, new, tuple(columns))
    return None


def commit(
    snapshot: Snapshot, replacements: Sequence[Replacement], note: Mapping[str, object]
) -> int:
    """Exchange the files in one commit on top of this version; return the version that has them.

    Raises ConflictError when another commit came first, or an old file is not in this version: the
    log takes the removal of what is not there without a word, and the rows would be there twice.
    """
    delta = snapshot.delta
    if delta is None or delta.version() != snapshot.version:
        raise _conflict(snapshot.table)
    with Border(snapshot.table, snapshot.url):
        told = _told(delta, {replacement.old.path for replacement in replacements})
        if len(told) < len(replacements):
            raise _conflict(snapshot.table)
        actions = [action for r in replacements for action in _actions(r, told[r.old.path])]
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=snapshot.table.partition_columns,
            commit_properties=_properties(replacements, note),
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
    path = _stored_path(add["path"])
    partition = {n: _value(path, n, v) for n, v in (add.get("partition") or {}).items()}
    return DataFile(path, partition, add["size_bytes"], add["num_records"])


def _stored_path(logged: str) -> str:
    # The log has a path percent-encoded, and the engine hands it out so. The storage knows it
    # decoded, and so do actions: a removal of the encoded path removes nothing, without a word.
    return unquote(logged)


def _value(path: str, column: str, value: str | None) -> str | None:
    # Readers see an empty text as such, and the engine shows it as null among the actions.
    return "" if value is None and f"{column}=" in path.split("/")[:-1] else value


def _told(delta: Delta, paths: set[str]) -> dict[str, dict[str, dict[str, object]]]:
    """Return what the log tells of the columns of the files, by path and kind; only those found."""
    actions = _add_actions(delta)
    logged = [_stored_path(path) for path in actions["path"].to_pylist()]
    found = [at for at, path in enumerate(logged) if path in paths]
    rows = actions.take(numbers(found)).to_pylist()
    return {logged[at]: _statistics(row) for at, row in zip(found, rows, strict=True)}


def _statistics(add: Mapping[str, Any]) -> dict[str, dict[str, object]]:
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


def _actions(
    replacement: Replacement, told: Mapping[str, Mapping[str, object]]
) -> list[AddAction | RemoveAction]:
    now = time.time_ns() // 1_000_000
    old, new = replacement.old, replacement.new
    # The rows are the same: so is what the log tells of the columns that did not change.
    kept = {
        kind: {name: value for name, value in values.items() if name not in replacement.columns}
        for kind, values in told.items()
    }
    add = AddAction(
        path=new.path,
        size=new.size,
        partition_values=new.partition,
        modification_time=now,
        data_change=True,  # other values are other data for whoever follows the commits
        stats=json.dumps({"numRecords": new.rows, **kept}, default=_moment_text),
    )
    remove = RemoveAction(
        old.path,
        data_change=True,
        deletion_timestamp=now,
        size=old.size,
        partition_values=dict(old.partition),
    )
    return [add, remove]


def _moment_text(value: date) -> str:
    text = value.isoformat()
    return text.replace("+00:00", "Z") if isinstance(value, datetime) else text


def _properties(
    replacements: Sequence[Replacement], note: Mapping[str, object]
) -> CommitProperties:
    counts = {"files": len(replacements), "rows": sum(r.new.rows or 0 for r in replacements)}
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

    def write(self, pieces: Iterable[pa.RecordBatch], name: str) -> DataFile:
        """Write the rows into a new file beside this one."""
        folder, slash, _ = self._file.path.rpartition("/")
        path = f"{folder}{slash}{name}{uuid.uuid4()}.zstd.parquet"
        written: list[pq.FileMetaData] = []
        with (
            self._storage.open_output_stream(path) as sink,
            pq.ParquetWriter(sink, self._schema, **self._layout(written)) as writer,
        ):
            for group in _row_groups(pieces):
                writer.write_table(pa.Table.from_batches(group, self._schema))
        self._require_rows(written[0].num_rows)
        size = self._storage.get_file_info(path).size
        return DataFile(path, self._file.partition, size, written[0].num_rows)

    def _require_rows(self, written: int) -> None:
        if self._file.rows not in {written, None}:
            raise TableUnavailableError(
                f"a data file of table {self._table.name} holds {written:,} rows, and the table's "
                f"log says {self._file.rows:,}. Nothing was committed. The file or the log is "
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
