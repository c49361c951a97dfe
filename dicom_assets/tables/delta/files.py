"""The data files of a Delta table, and one commit that replaces some of them.

A data file never changes. It is read in pieces and rewritten beside itself with other values in a
few columns, or several files are joined in one, and a commit exchanges them. The commit succeeds
only on the version that it was derived from, like every commit. A file that was written by a killed
run and that no commit names is garbage: no reader sees it, and `upkeep.maintenance` removes it. The
callers choose the values (`upkeep.column_backfill`) and the files (`upkeep.compaction`).

Memory is bounded by a piece and a row group, whatever the size of the file.
"""

import json
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain, islice
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

from dicom_assets.errors import ForeignTableError, TableUnavailableError
from dicom_assets.tables.delta.arrow import numbers, padded
from dicom_assets.tables.delta.commit import (
    HOOKS,
    ROW_GROUP_ROWS,
    STATISTICS,
    WITHOUT_STATISTICS,
    arrow_schema,
    once,
)
from dicom_assets.tables.delta.snapshot import Delta, Snapshot
from dicom_assets.tables.delta.table_errors import conflict_error, raise_table_errors

PIECE_ROWS: Final = 1_000
PIECE_BYTES: Final = 8 * 2**20
ROW_GROUP_BYTES: Final = 32 * 2**20

# A function from rows of a file (without the partition column) to the same rows of the columns that
# change, in the table's types; None when nothing changes.
Change: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch | None]
# Statistics of a file in the log: by kind (least, greatest, number of nulls) and column.
_Statistics: TypeAlias = dict[str, dict[str, object]]


@dataclass(frozen=True)
class DataFile:
    """A data file: its path below the table as the storage knows it, partition values, bytes.

    `rows` is None where the log has no count. `since` is when the file came into the table, in
    milliseconds since 1970, 0 when that is not known.
    """

    path: str
    partition: Mapping[str, str | None]
    size: int
    rows: int | None
    since: int = 0


@dataclass(frozen=True)
class Replacement:
    """Data files of a table, and a new one with the same rows and other values in `columns`."""

    olds: tuple[DataFile, ...]
    new: DataFile
    columns: tuple[str, ...] = ()


def data_files(snapshot: Snapshot) -> list[DataFile]:
    """Return the data files of a version, the oldest first.

    Raises ForeignTableError for a table with deletion vectors or mapped column names, which this
    project never writes, and in which the files alone do not say the rows.
    """
    if snapshot.delta is None:
        return []
    with raise_table_errors(snapshot.table, snapshot.url):
        required = snapshot.delta.protocol().min_reader_version
        if required > 1:
            raise ForeignTableError(
                f"table {snapshot.table.name} requires more than plain Delta of its readers "
                f"(reader version {required}): deletion vectors or mapped columns. Its files "
                "cannot be rewritten one by one, and nothing was written. Drop these features with "
                "the engine that added them, then run again"
            )
        names = ["path", "size_bytes", "modification_time", "num_records"]
        names += ["partition"] if snapshot.table.partition_column else []
        adds = _add_actions(snapshot.delta).select(names).to_pylist()
    adds.sort(key=lambda add: (add["modification_time"], add["path"]))
    return [_data_file(add) for add in adds]


def pieces_of(
    snapshot: Snapshot, file: DataFile, columns: Collection[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that this version need not have, without the partition column.

    `columns` are those that are read, None for all.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        yield from _Source(snapshot, file, columns).pieces()


def is_decodable(snapshot: Snapshot, file: DataFile) -> bool:
    """Return whether a data file has as many rows as the log says, and each can be decoded.

    Raises TableUnavailableError when its bytes could not be read at all.
    """
    source, rows = _Source(snapshot, file), 0
    try:
        for piece in source.pieces():
            piece.validate(full=True)
            rows += piece.num_rows
    except (pa.ArrowException, OSError):
        with raise_table_errors(snapshot.table, snapshot.url):
            source.read_bytes()
        return False
    return file.rows in {rows, None}


def rewrite(
    snapshot: Snapshot, old: DataFile, columns: Sequence[str], change: Change, name: str
) -> Replacement | None:
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
                rest = (_with(p, change(p)) for p in pieces)
                new = source.write(chain(same, [_with(piece, values)], rest), name, old.rows)
                return Replacement((old,), new, tuple(columns))
    return None


def join(
    snapshot: Snapshot, olds: Sequence[DataFile], name: str, progress: Callable[[int], None]
) -> Replacement:
    """Write files of one partition as one file, their rows in the order of the files.

    `progress` is called with the number of rows of each piece. The name of the new file begins with
    `name`.
    """
    with raise_table_errors(snapshot.table, snapshot.url):
        sources = [_Source(snapshot, old) for old in olds]

        def pieces() -> Iterator[pa.RecordBatch]:
            for piece in chain.from_iterable(source.pieces() for source in sources):
                progress(piece.num_rows)
                yield piece

        new = sources[0].write(pieces(), name, sum(old.rows or 0 for old in olds))
        return Replacement(tuple(olds), new)


def commit(
    snapshot: Snapshot, replacements: Sequence[Replacement], note: Mapping[str, object]
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
        olds = {old.path for replacement in replacements for old in replacement.olds}
        statistics = _statistics_of(delta, olds)
        if len(statistics) < len(olds):
            raise conflict_error(snapshot.table)
        named = snapshot.property(STATISTICS)
        wanted = frozenset(snapshot.column_names if named is None else named.split(","))
        actions = [action for r in replacements for action in _actions(r, statistics, wanted)]
        rows = sum(replacement.new.rows or 0 for replacement in replacements)
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=snapshot.table.partition_columns,
            commit_properties=once({**note, "files": len(olds), "rows": rows}),
            post_commithook_properties=HOOKS,
        )
    return snapshot.version + 1


# --- the log --------------------------------------------------------------------------------------


def _add_actions(delta: Delta) -> Any:  # noqa: ANN401 - a table whose columns are the engine's
    return pa.table(cast("Any", delta.get_add_actions()))


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


def _statistics_of(delta: Delta, paths: set[str]) -> dict[str, _Statistics]:
    """Return the statistics of those files that are in the log, by path."""
    actions = _add_actions(delta)
    logged = [stored_path(path) for path in actions["path"].to_pylist()]
    places = [at for at, path in enumerate(logged) if path in paths]
    adds = actions.take(numbers(places)).to_pylist()
    return {logged[at]: _statistics(add) for at, add in zip(places, adds, strict=True)}


def _statistics(add: Mapping[str, Any]) -> _Statistics:
    kinds = {"min": "minValues", "max": "maxValues", "null_count": "nullCount"}
    return {
        kind: {
            name: value
            for name, value in (add.get(shown) or {}).items()
            # JSON cannot hold other values; without them readers only skip fewer files.
            if isinstance(value, str | int | date)
            or (isinstance(value, float) and math.isfinite(value))
        }
        for shown, kind in kinds.items()
    }


def _actions(
    replacement: Replacement, statistics: Mapping[str, _Statistics], wanted: Collection[str]
) -> list[AddAction | RemoveAction]:
    now, new = time.time_ns() // 1_000_000, replacement.new
    # The rows are the same, and so are the statistics of columns that did not change.
    joined = _joined([(statistics[old.path], old.rows) for old in replacement.olds])
    kept = {
        kind: {n: v for n, v in values.items() if n in wanted and n not in replacement.columns}
        for kind, values in joined.items()
    }
    add = AddAction(
        path=new.path,
        size=new.size,
        partition_values=new.partition,
        modification_time=now,
        # For readers that follow the commits, other values are other data, fewer files are not.
        data_change=bool(replacement.columns),
        stats=json.dumps(
            {"numRecords": new.rows, **kept},
            default=lambda moment: moment.isoformat().replace("+00:00", "Z"),
        ),
    )
    removals = [
        RemoveAction(
            old.path,
            data_change=add.data_change,
            deletion_timestamp=now,
            size=old.size,
            partition_values=dict(old.partition),
        )
        for old in replacement.olds
    ]
    return [add, *removals]


def _joined(files: Sequence[tuple[_Statistics, int | None]]) -> _Statistics:
    """Return the statistics of one file with the rows of all."""
    nulls = [cast("dict[str, int]", statistics["nullCount"]) for statistics, _ in files]
    counted = set.intersection(*map(set, nulls))
    return {
        "minValues": _extremes(files, "minValues", min),
        "maxValues": _extremes(files, "maxValues", max),
        "nullCount": {name: sum(count[name] for count in nulls) for name in counted},
    }


def _extremes(
    files: Sequence[tuple[_Statistics, int | None]],
    kind: str,
    choose: Callable[[list[Any]], object],
) -> dict[str, object]:
    """Return the extremes of the columns of which each file has one, or only nulls."""
    names = {name for statistics, _ in files for name in statistics[kind]}
    unknown = {
        name
        for statistics, rows in files
        for name in names - statistics[kind].keys()
        if rows is None or statistics["nullCount"].get(name) != rows
    }
    return {
        name: choose([s[kind][name] for s, _ in files if name in s[kind]])
        for name in names - unknown
    }


# --- a file ---------------------------------------------------------------------------------------


class _Source:
    """A data file, read in the table's columns and types, without the partition column."""

    def __init__(
        self, snapshot: Snapshot, file: DataFile, columns: Collection[str] | None = None
    ) -> None:
        handler = DeltaStorageHandler(snapshot.url, dict(snapshot.options))
        self._storage = pyarrow.fs.PyFileSystem(handler)
        self._file, self._table = file, snapshot.table
        whole = arrow_schema(snapshot.delta)
        self._names = set(whole.names)
        read = (self._names if columns is None else set(columns)) - {*self._table.partition_columns}
        self._schema = pa.schema([field for field in whole if field.name in read])

    def read_bytes(self) -> None:
        """Read the file from its first byte to its last one, and keep nothing."""
        with self._storage.open_input_file(self._file.path) as opened:
            while opened.read(PIECE_BYTES):
                pass

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order; a column that the file lacks is null."""
        with self._storage.open_input_file(self._file.path) as opened:
            parquet = pq.ParquetFile(
                opened,
                # Bytes of a column that are read at once. By default it is a whole row group's.
                buffer_size=2**20,
                pre_buffer=False,
                # Files of compaction have checksums, those of the engine have none.
                page_checksum_verification=True,
                # Spark's old form of a timestamp; nanoseconds would end in the year 2262.
                coerce_int96_timestamp_unit="us",
            )
            stored = parquet.schema_arrow.names
            if unknown := [name for name in stored if name not in self._names]:
                raise ForeignTableError(
                    f"a data file of table {self._table.name} has {len(unknown)} columns that the "
                    "table does not have. Rewriting the file would lose them, so nothing was "
                    "written. Rewrite the table with the engine that wrote the file, then run again"
                )
            wanted = [name for name in self._schema.names if name in stored]
            groups = map(parquet.metadata.row_group, range(parquet.metadata.num_row_groups))
            longest = max((g.total_byte_size // max(g.num_rows, 1) for g in groups), default=0)
            # A piece has fewer rows when the rows of the file are longer.
            rows = max(1, min(PIECE_ROWS, PIECE_BYTES // max(longest, 1)))
            for batch in parquet.iter_batches(rows, columns=wanted, use_threads=False):
                yield padded(batch, self._schema)

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
        with (
            self._storage.open_output_stream(path) as sink,
            pq.ParquetWriter(sink, self._schema, **layout) as writer,
        ):
            for group in _row_groups(pieces):
                writer.write_table(pa.Table.from_batches(group, self._schema))
        rows = written[0].num_rows
        if expected not in {rows, None}:
            raise TableUnavailableError(
                f"a data file of table {self._table.name} has {rows:,} rows, and the table's log "
                f"says {expected:,}. Nothing was committed. The file or the log is damaged: "
                "restore an earlier version of the table, then run again"
            )
        size = self._storage.get_file_info(path).size
        return DataFile(path, self._file.partition, size, rows)


def _with(piece: pa.RecordBatch, values: pa.RecordBatch | None) -> pa.RecordBatch:
    if values is None:
        return piece
    changed = dict(zip(values.schema.names, values.columns, strict=True))
    columns = [changed.get(f.name, piece.column(f.name)) for f in piece.schema]
    return pa.RecordBatch.from_arrays(columns, schema=piece.schema)


def _row_groups(pieces: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in pieces:
        rows, size = rows + piece.num_rows, size + piece.nbytes
        if group and (rows > ROW_GROUP_ROWS or size > ROW_GROUP_BYTES):
            yield group
            group, rows, size = [], piece.num_rows, piece.nbytes
        group.append(piece)
    if group:
        yield group
