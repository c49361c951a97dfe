"""The data files of a Delta table, and one commit that replaces some of them.

A data file never changes. It is read in pieces and rewritten beside itself with other values or
fewer rows, or several files are joined in one (`join`), and a commit exchanges them. The commit
succeeds only on the version that it was derived from, like every commit. A file that was written by
a killed run and that no commit names is garbage: no reader sees it, and `upkeep.maintenance`
removes it. The callers choose the rows (`apply`), the values (`upkeep.column_backfill`) and the
files (`upkeep.compaction`).

Memory is bounded by a piece and a row group, whatever the size of the file.
"""

import json
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake.transaction import AddAction, RemoveAction

from dicom_assets.errors import ForeignTableError, TableUnavailableError
from dicom_assets.schema import SYNC
from dicom_assets.tables.delta.arrow import Values, is_in, padded, pc
from dicom_assets.tables.delta.commit import (
    HOOKS,
    ROW_GROUP_ROWS,
    WITHOUT_STATISTICS,
    arrow_schema,
    once,
    with_statistics,
)
from dicom_assets.tables.delta.handles import Output, storage_of
from dicom_assets.tables.delta.table_errors import conflict_error, raise_table_errors

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from dicom_assets.tables.delta.snapshot import Snapshot

PIECE_ROWS: Final = 1_000
# Rows that are read at once, where they are short: each piece costs the same for its columns.
READ_ROWS: Final = 10_000
PIECE_BYTES: Final = 8 * 2**20
ROW_GROUP_BYTES: Final = 32 * 2**20
# A smaller file is read with one request, whatever is wanted of it.
WHOLE_BYTES: Final = 2 * 2**20
# Opening a table reads its checkpoint with a dozen requests, and each commit since with two. A new
# checkpoint costs as much again. By count an hour costs the same on average with one every 3 to 6
# commits, and with 3 the dearest hour costs least. `sync` is small, and has two commits an hour. A
# young table is opened faster without.
CHECKPOINT_COMMITS: Final = {SYNC.name: 2}
CHECKPOINT_COMMITS_OF_OTHERS: Final = 3
CHECKPOINT_FROM: Final = 9
# What a value has in memory beside its own bytes, about: an offset, an entry of a dictionary.
_VALUE_BYTES: Final = 8

_MILLISECOND: Final = timedelta(milliseconds=1)
_NO_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"

# A function from rows of a file (without the partition column) to the same rows of the columns that
# change, in the table's types; None when nothing changes.
Change: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch | None]
# Statistics of a file in the log: by kind (least, greatest, number of nulls) and column.
Statistics: TypeAlias = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class DataFile:
    """A data file: its path below the table as the storage knows it, partition values, bytes.

    `rows` is None where the log has no count. `since` is when the file came into the table, in
    milliseconds since 1970, 0 when that is not known. A file that is not in the log yet has its
    statistics and the UIDs of its studies.
    """

    path: str
    partition: Mapping[str, str | None]
    size: int
    rows: int | None
    since: int = 0
    statistics: Statistics = field(default_factory=dict, repr=False, compare=False)
    studies: frozenset[str] = field(default=frozenset(), repr=False, compare=False)


@dataclass(frozen=True)
class Replacement:
    """Data files of a table, and those in their place: none when no row is left.

    Without old files the rows are new. `is_change` is false for the same rows in other files.
    """

    olds: tuple[DataFile, ...]
    news: tuple[DataFile, ...]
    is_change: bool = True

    @property
    def new(self) -> DataFile:
        """The one new file of a rewritten or joined one."""
        return self.news[0]


def data_files(snapshot: "Snapshot") -> list[DataFile]:
    """Return the data files of a version, the oldest first.

    Raises ForeignTableError for a table with deletion vectors or mapped column names, which this
    project never writes, and in which the files alone do not say the rows.
    """
    if snapshot.delta is None:
        return []
    return sorted(_listed(snapshot, _add_actions(snapshot)), key=lambda f: (f.since, f.path))


def files_with(snapshot: "Snapshot", column: str, values: Sequence[Any]) -> list[DataFile]:
    """Return the data files that may have one of the values, by the statistics in the log."""
    wanted = sorted(values)
    return [
        file
        for file, low, high in (_with_ends(snapshot, column) if wanted else ())
        # A file without statistics, or of nulls only, may have any value.
        if low is None
        or high is None
        or ((at := bisect_left(wanted, low)) < len(wanted) and wanted[at] <= _ceiled(high))
    ]


def files_between(snapshot: "Snapshot", column: str, first: Any, end: Any) -> list[DataFile]:  # noqa: ANN401 - values of any column
    """Return the data files that may have a value from `first` to before `end`, as above."""
    return [
        file
        for file, low, high in _with_ends(snapshot, column)
        if low is None or high is None or (low < end and first <= _ceiled(high))
    ]


def files_by_greatest(snapshot: "Snapshot", column: str) -> list[tuple[DataFile, Any]]:
    """Return the data files, each with a bound of its values, the greatest first.

    None, no bound, comes first.
    """
    ends: list[tuple[DataFile, Any]] = [
        (f, None if high is None else _ceiled(high)) for f, _, high in _with_ends(snapshot, column)
    ]
    bound = [pair for pair in ends if pair[1] is not None]
    return [
        *(pair for pair in ends if pair[1] is None),
        *sorted(bound, key=lambda pair: pair[1], reverse=True),
    ]


def _ceiled(greatest: Any) -> Any:  # noqa: ANN401 - a value of any column
    """Return a greatest value without what other engines cut: a moment ends after a millisecond."""
    return greatest + _MILLISECOND if isinstance(greatest, datetime) else greatest


def pieces_of(
    snapshot: "Snapshot", file: DataFile, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that this version need not have, without the partition column.

    `columns` are those that are read, None for all.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        yield from _Source(snapshot, file).pieces(columns)


def matching_rows(
    snapshot: "Snapshot", file: DataFile, names: Sequence[str], column: str, values: Values
) -> pa.Table:
    """Return the rows of a file whose column holds one of the values, in the columns named.

    The other columns are read where a row group has such a row.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        return _Source(snapshot, file).rows(names, column, values)


def read_columns(snapshot: "Snapshot", file: DataFile, names: Sequence[str]) -> pa.Table:
    """Return columns of all rows of a file, in the order of the rows."""
    with raise_table_errors(snapshot.table, snapshot.url):
        return _Source(snapshot, file).rows(names)


def sort_keys(snapshot: "Snapshot", file: DataFile) -> tuple[pa.Table, int]:
    """Return the columns by which the rows of a file are sorted, and the bytes of all its rows.

    The bytes are those in memory, about: of the values before compression, and of their offsets.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        source = _Source(snapshot, file)
        own = [name for name in snapshot.table.layout if name not in file.partition]
        return source.rows(own), source.decoded_bytes


def column_of(snapshot: "Snapshot", file: DataFile, column: str) -> Values:
    """Return the different values of a column of a file."""
    return cast("Values", pc.unique(read_columns(snapshot, file, [column])[column]))


def is_decodable(snapshot: "Snapshot", file: DataFile) -> bool:
    """Return whether a data file has as many rows as the log says, and each can be decoded.

    Raises TableUnavailableError when its bytes could not be read at all.
    """
    source, rows = _Source(snapshot, file, keeps=False), 0
    try:
        for piece in source.pieces():
            piece.validate(full=True)
            rows += piece.num_rows
    except (pa.ArrowException, OSError):
        with raise_table_errors(snapshot.table, snapshot.url):
            source.read_bytes()
        return False
    return file.rows in {rows, None}


def rewrite(snapshot: "Snapshot", old: DataFile, change: Change, name: str) -> Replacement | None:
    """Rewrite a file with the changes of some columns; return None when nothing changes.

    Rows keep their order and number, every other column its values. Nothing is written before the
    first change. The name of the new file begins with `name`.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        source = _Source(snapshot, old)
        pieces = source.pieces()
        for count, piece in enumerate(pieces):
            if (values := change(piece)) is not None:
                same = islice(source.pieces(), count)
                rest = (with_columns(p, change(p)) for p in pieces)
                rows = chain(same, [with_columns(piece, values)], rest)
                return Replacement((old,), (source.write(rows, name, old.rows),))
    return None


def write(
    snapshot: "Snapshot",
    pieces: Iterable[pa.RecordBatch],
    partition: Mapping[str, str | None],
    expected: int | None = None,
    name: str = "part-",
) -> DataFile:
    """Write rows of one partition, without its column, to a new file that no commit names yet.

    The name of the file begins with `name`.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        folders = (
            f"{column}={_NO_PARTITION if value is None else quote(value, safe='')}/"
            for column, value in partition.items()
        )
        beside = DataFile("".join(folders), partition, 0, None)
        return _Source(snapshot, beside).write(pieces, name, expected)


def commit(
    snapshot: "Snapshot", replacements: Sequence[Replacement], note: Mapping[str, object]
) -> int:
    """Exchange the files in one commit on top of this version; return the version that has them.

    Raises ConflictError when another commit came first, or when an old file is not in this version.
    The log would accept the removal of a missing file without an error, and the rows would be there
    twice. (`DeltaTable.optimize` has this fault, and commits on any version.)
    """
    delta = snapshot.delta
    if delta is None or delta.version() != snapshot.version:
        raise conflict_error(snapshot.table)
    with raise_table_errors(snapshot.table, snapshot.url):
        olds = {old.path: old for replacement in replacements for old in replacement.olds}
        if olds and not olds.keys() <= {file.path for file in data_files(snapshot)}:
            raise conflict_error(snapshot.table)
        news = [new for replacement in replacements for new in replacement.news]
        rows = sum(new.rows or 0 for new in news)
        counts = {"added": len(news), "removed": len(olds), "rows": rows}
        studies = snapshot.studies if snapshot.table.has_studies else None
        between = CHECKPOINT_COMMITS.get(snapshot.table.name, CHECKPOINT_COMMITS_OF_OTHERS)
        if snapshot.version >= CHECKPOINT_FROM and snapshot.version % between == 0:
            # Before the commit: after it, the handle would read the whole checkpoint again.
            delta.create_checkpoint()
        delta.create_write_transaction(
            [action for replacement in replacements for action in _actions(replacement)],
            mode="append",
            schema=delta.schema(),
            partition_by=snapshot.table.partition_columns,
            commit_properties=once({**note, **counts}),
            post_commithook_properties=HOOKS,
        )
    if studies is not None:
        hashes = {(new.path, new.size): studies.hashes(new.studies) for new in news}
        studies.exchange(olds.values(), hashes)
    return snapshot.version + 1


# --- the log --------------------------------------------------------------------------------------


def _add_actions(snapshot: "Snapshot") -> Any:  # noqa: ANN401 - a table whose columns are the engine's
    with raise_table_errors(snapshot.table, snapshot.url):
        delta = cast("DeltaTable", snapshot.delta)
        required = delta.protocol().min_reader_version
        if required > 1:
            raise ForeignTableError(
                f"table {snapshot.table.name} requires more than plain Delta of its readers "
                f"(reader version {required}): deletion vectors or mapped columns. Its files "
                "cannot be rewritten one by one, and nothing was written. Drop these features with "
                "the engine that added them, then run again"
            )
        return pa.table(cast("Any", delta.get_add_actions()))


def _listed(snapshot: "Snapshot", actions: Any) -> list[DataFile]:  # noqa: ANN401 - as above
    names = ["path", "size_bytes", "modification_time", "num_records"]
    names += ["partition"] if snapshot.table.partition_column else []
    return [_data_file(add) for add in actions.select(names).to_pylist()]


def _with_ends(snapshot: "Snapshot", column: str) -> Iterator[tuple[DataFile, Any, Any]]:
    """Yield the data files, each with the least and the greatest value of a column if known."""
    if snapshot.delta is not None:
        actions = _add_actions(snapshot)
        least, greatest = (_extreme(actions, kind, column) for kind in ("min", "max"))
        yield from zip(_listed(snapshot, actions), least, greatest, strict=True)


def _extreme(actions: Any, kind: str, column: str) -> list[Any]:  # noqa: ANN401 - as above
    """Return the least or greatest value of a column in each file, None where it is not known."""
    known = kind in actions.column_names and column in {f.name for f in actions[kind].type}
    return pc.struct_field(actions[kind], column).to_pylist() if known else [None] * len(actions)


def _data_file(add: Mapping[str, Any]) -> DataFile:
    path, since = stored_path(add["path"]), add["modification_time"]
    partition = {
        # The engine shows an empty text as null among the actions; readers see an empty text.
        name: "" if value is None and f"{name}=" in path.split("/")[:-1] else value
        for name, value in (add.get("partition") or {}).items()
    }
    return DataFile(path, partition, add["size_bytes"], add["num_records"], since)


def stored_path(logged: str) -> str:
    """Return the path of a file as the storage knows it.

    The engine returns it percent-encoded, as it is in the log. Actions need it decoded: a removal
    of the encoded path removes nothing, without an error.
    """
    return unquote(logged)


def _actions(replacement: Replacement) -> Iterator[AddAction | RemoveAction]:
    now = time.time_ns() // 1_000_000
    # For readers that follow the commits, other values are other data, fewer files are not.
    is_change = replacement.is_change
    for new in replacement.news:
        yield AddAction(
            path=new.path,
            size=new.size,
            partition_values=new.partition,
            modification_time=now,
            data_change=is_change,
            stats=json.dumps(
                {"numRecords": new.rows, **new.statistics},
                default=lambda moment: moment.isoformat().replace("+00:00", "Z"),
            ),
        )
    for old in replacement.olds:
        yield RemoveAction(
            old.path,
            data_change=is_change,
            deletion_timestamp=now,
            size=old.size,
            partition_values=dict(old.partition),
        )


# --- a file ---------------------------------------------------------------------------------------


class _Source:
    """A data file, read in the table's columns and types, without the partition column."""

    def __init__(self, snapshot: "Snapshot", file: DataFile, *, keeps: bool = True) -> None:
        self._storage = storage_of(snapshot.delta, {file.path: file.size} if file.size else None)
        self._file, self._table = file, snapshot.table
        self._snapshot, self._keeps = snapshot, keeps
        # Of all rows in memory, about, once the file was opened.
        self.decoded_bytes = 0
        whole = arrow_schema(snapshot.delta)
        self._names = set(whole.names)
        # Without the metadata of columns, which the log has.
        self._schema = pa.schema(
            [f.remove_metadata() for f in whole if f.name not in self._table.partition_columns]
        )
        counted = with_statistics(snapshot.delta, self._table)
        self._counted = [name for name in self._schema.names if name in counted]

    def read_bytes(self) -> None:
        """Read the file from its first byte to its last one, and keep nothing."""
        with self._storage.open_input_file(self._file.path) as opened:
            while opened.read(PIECE_BYTES):
                pass

    def _whole(self) -> bytes:
        at, handles = (self._snapshot.url, self._file.path), self._snapshot.handles
        if self._keeps and (kept := handles.kept(*at)) is not None:
            return kept
        with self._storage.open_input_file(self._file.path) as opened:
            return handles.keep(*at, bytes(opened.read()))

    @contextmanager
    def _parquet(self) -> Iterator[pq.ParquetFile]:
        small = self._file.size <= WHOLE_BYTES
        with (
            pa.BufferReader(self._whole())
            if small
            else self._storage.open_input_file(self._file.path)
        ) as opened:
            parquet = pq.ParquetFile(
                opened,
                # Bytes of a column that are read at once. By default it is a whole row group's.
                buffer_size=2**20,
                pre_buffer=False,
                # Files of this project have checksums, those of other engines have none.
                page_checksum_verification=True,
                # Spark's old form of a timestamp; nanoseconds would end in the year 2262.
                coerce_int96_timestamp_unit="us",
            )
            told = parquet.metadata
            groups = map(told.row_group, range(told.num_row_groups))
            self.decoded_bytes = sum(group.total_byte_size for group in groups)
            self.decoded_bytes += told.num_rows * told.num_columns * _VALUE_BYTES
            yield parquet

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, in all columns by default; one that the file lacks is null."""
        schema = self._schema if columns is None else pa.schema(map(self._schema.field, columns))
        with self._parquet() as parquet:
            stored = parquet.schema_arrow.names
            if unknown := [name for name in stored if name not in self._names]:
                raise ForeignTableError(
                    f"a data file of table {self._table.name} has {len(unknown)} columns that the "
                    "table does not have. Rewriting the file would lose them, so nothing was "
                    "written. Rewrite the table with the engine that wrote the file, then run again"
                )
            wanted = [name for name in schema.names if name in stored]
            groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
            longest = max((g.total_byte_size // max(g.num_rows, 1) for g in groups), default=0)
            # A piece has fewer rows when the rows of the file are longer.
            rows = max(1, min(READ_ROWS, PIECE_BYTES // max(longest, 1)))
            for batch in parquet.iter_batches(rows, columns=wanted, use_threads=False):
                yield padded(batch, schema)

    def rows(
        self, names: Sequence[str], column: str | None = None, values: "Values | None" = None
    ) -> pa.Table:
        """Return all rows, or those whose column holds one of the values; with the partition."""
        own = [name for name in names if name in self._schema.names]
        schema = pa.schema([self._schema.field(name) for name in own])
        found = [schema.empty_table()]
        with self._parquet() as parquet:
            stored = [name for name in own if name in parquet.schema_arrow.names]
            is_null = column is not None and column not in parquet.schema_arrow.names
            for group in () if is_null else range(parquet.num_row_groups):
                if column is None:
                    rows = parquet.read_row_group(group, stored, use_threads=False)
                else:
                    keys = parquet.read_row_group(group, [column], use_threads=False)
                    # Files of other engines have texts of other types, which no filter takes.
                    keys = padded(keys, pa.schema([self._schema.field(column)]))
                    mask = is_in(keys[column], cast("Values", values))
                    if not pc.any(mask).as_py():
                        continue
                    others = [name for name in stored if name != column]
                    rows = parquet.read_row_group(group, others, use_threads=False)
                    rows = rows.append_column(column, keys[column])
                    rows = padded(rows, pa.schema(map(self._schema.field, rows.column_names)))
                    rows = rows.filter(mask)
                found.append(padded(rows, schema))
        rows = pa.concat_tables(found)
        for name, value in self._file.partition.items():
            if name in names:
                rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
        return rows.select(list(names))

    def write(self, pieces: Iterable[pa.RecordBatch], name: str, expected: int | None) -> DataFile:
        """Write rows to a new file beside this one. Raise unless there are as many as expected."""
        folder, slash, _ = self._file.path.rpartition("/")
        path = f"{folder}{slash}{name}{uuid.uuid4()}.zstd.parquet"
        short = [column for column in self._schema.names if column not in WITHOUT_STATISTICS]
        written: list[pq.FileMetaData] = []
        layout: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": short,
            "write_statistics": short,
            "write_page_checksum": True,
            "metadata_collector": written,
        }
        statistics, studies = _Statistics(self._counted), set[str]()
        column = self._table.study_column if self._table.has_studies else None
        with (
            Output(self._storage, path, WHOLE_BYTES) as sink,
            pq.ParquetWriter(cast("Any", sink), self._schema, **layout) as writer,
        ):
            for group in _row_groups(pieces, self._table.file_rows or ROW_GROUP_ROWS):
                rows = pa.Table.from_batches(group, self._schema)
                statistics.add(rows)
                studies.update(() if column is None else pc.unique(rows[column]).to_pylist())
                writer.write_table(rows)
        if sink.content is not None:
            self._snapshot.handles.keep(self._snapshot.url, path, sink.content)
        count = written[0].num_rows
        if expected not in {count, None}:
            raise TableUnavailableError(
                f"a data file of table {self._table.name} has {count:,} rows, and the table's log "
                f"says {expected:,}. Nothing was committed. The file or the log is damaged: "
                "restore an earlier version of the table, then run again"
            )
        return DataFile(
            path,
            self._file.partition,
            sink.size,
            count,
            statistics=statistics.of_file(),
            studies=frozenset(studies - {None}),
        )


class _Statistics:
    """The least and the greatest value of columns, and their nulls, over the parts of a file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._least, self._greatest = dict[str, Any](), dict[str, Any]()
        self._nulls = dict.fromkeys(names, 0)

    def add(self, rows: pa.Table) -> None:
        """Count the rows of a part."""
        for name in self._nulls:
            self._nulls[name] += rows[name].null_count
            ends = pc.min_max(rows[name]).as_py()
            if ends["min"] is not None:
                self._least[name] = min(ends["min"], self._least.get(name, ends["min"]))
                self._greatest[name] = max(ends["max"], self._greatest.get(name, ends["max"]))

    def of_file(self) -> Statistics:
        """Return them in the form of Delta's log."""
        return {"minValues": self._least, "maxValues": self._greatest, "nullCount": self._nulls}


def with_columns(piece: pa.RecordBatch, values: pa.RecordBatch | None) -> pa.RecordBatch:
    """Return rows with other values in some columns, in all others as they were."""
    if values is None:
        return piece
    changed = dict(zip(values.schema.names, values.columns, strict=True))
    columns = [changed.get(f.name, piece.column(f.name)) for f in piece.schema]
    return pa.RecordBatch.from_arrays(columns, schema=piece.schema)


def _row_groups(pieces: Iterable[pa.RecordBatch], limit: int) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    # Long rows make a row group shorter.
    longest = ROW_GROUP_BYTES * limit // ROW_GROUP_ROWS
    rows = size = 0
    for piece in pieces:
        rows, size = rows + piece.num_rows, size + piece.nbytes
        if group and (rows > limit or size > longest):
            yield group
            group, rows, size = [], piece.num_rows, piece.nbytes
        group.append(piece)
    if group:
        yield group
