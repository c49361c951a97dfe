"""A Delta table as this project uses it: a snapshot that is read, and one commit on top of it.

A commit succeeds only on the version it was computed from: who comes second gets a
`ConflictError`, looks again and computes again. So no rule in here or elsewhere has to think of
two writers at once. This is the only module that speaks Delta; the rule of what to write is in
`plan` and `rollup`, the loops that look again are in `converge`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import Any, TypeAlias, cast

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    QueryBuilder,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import Field

from dicom_assets.errors import ConflictError, ForeignTableError, TableUnavailableError
from dicom_assets.schema import Column, Table
from dicom_assets.tables.delta.retry import Run, conflicts

# A table itself, for those who go on with it lazily.
Delta: TypeAlias = DeltaTable

ABSENT = -1
VALUES_PER_QUERY = 5_000
ROW_GROUP_ROWS = 20_000
CONFIGURATION = {
    "delta.checkpointInterval": "100",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.enableExpiredLogCleanup": "true",
}
RETENTION = "delta.deletedFileRetentionDuration"
STATISTICS = "delta.dataSkippingStatsColumns"
# Least and greatest of the key and of these are in the log for each file, so that readers skip
# files. Of no other column: the log outlives a deleted row, and would go on naming patients.
_SKIPPED_BY = (
    "sequence",
    "hour",
    "timestamp",
    "timestamp_ticks",
    "lastModifiedTimestamp",
    "received_timestamp",
    "firstReceivedTimestamp",
    "studydate_formatted",
    "studyDate",
    "window_start",
    "next_attempt",
)
# Statistics of long texts cost bytes in every commit and help no reader to skip a file.
WITHOUT_STATISTICS = ("metadata", "metadata_string")
# In the metadata of a column: "false" when it was added to a table with rows, or rows came while it
# was not kept; and since when, for all that, every row has its values.
FILLED = "dicom_assets.filled"
FILLED_AT = "dicom_assets.filled_at"
_PATH = "dicom.path"
# Under this name a commit says that it is ours, and what it came to.
NOTE = "dicom_assets"
# In that note, where it is not nought: how often the commit was derived before, and came too late.
CONFLICTS = "conflicts"
_ACTION = "_action"
# After a commit the engine would list the whole log, to remove what has expired: three pages of a
# list with 10,000 commits. `maintenance` does that once a night.
HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


@dataclass(frozen=True)
class Difference:
    """What has to change in a table, by key; each part may be empty.

    `inserts` and `updates` are whole rows, `deletes` hold the key columns (and `sequence`, where
    the table guards by it), `patches` the key columns and the columns they set.
    """

    table: Table
    inserts: pa.Table | None = None
    updates: pa.Table | None = None
    deletes: pa.Table | None = None
    patches: pa.Table | None = None

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each part."""
        parts = {n: getattr(self, n) for n in ("inserts", "updates", "deletes", "patches")}
        return {name: 0 if part is None else part.num_rows for name, part in parts.items()}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not any(self.counts().values())


@dataclass(frozen=True)
class Snapshot:
    """One version of one table; a table that does not exist yet is version -1 without rows.

    It stays what it was after its own commit, and can be committed on once. A column that the
    table does not have yet is null in every row, and comes to it with the first commit.
    """

    table: Table
    url: str
    options: Mapping[str, str] = field(repr=False)
    delta: DeltaTable | None
    version: int
    retention_hours: int

    def rows(self, columns: Sequence[str] | None = None, where: str = "") -> pa.Table:
        """Return the rows that fulfil a SQL condition made of constants, all when it is empty."""
        if self.delta is None:
            return self._none(columns)
        schema = self._schema(columns)
        # The key is read even when it is not asked for: else a row of added columns only is none.
        held = [n for n in self._schema([*schema.names, *self.table.key]).names if n in self.held]
        names = ", ".join(f'"{name}"' for name in held)
        condition = f" WHERE {where}" if where else ""
        found = self.query(f"SELECT {names} FROM t{condition}")  # noqa: S608 - constants and escaped literals only
        return padded(found, schema)

    def rows_of(
        self, column: str, values: Sequence[str | int], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows whose column holds one of the values."""
        pieces = [
            self.rows(columns, f'"{column}" IN ({literals(values[i : i + VALUES_PER_QUERY])})')
            for i in range(0, len(values), VALUES_PER_QUERY)
        ]
        return pa.concat_tables(pieces) if pieces else self._none(columns)

    def greatest(self, column: str, columns: Sequence[str]) -> pa.Table:
        """Return the row with the greatest value of a column, or no row."""
        if self.delta is None:
            return self.rows(columns)
        top = self.query(f'SELECT max("{column}") AS top FROM t')["top"][0].as_py()  # noqa: S608
        return self._none(columns) if top is None else self.rows(columns, f'"{column}" = {top}')

    def greatest_values(self, column: str, count: int) -> pa.Table:
        """Return so many of the greatest values of a column, in no order; null is none."""
        if self.delta is None:
            return self._none([column])
        sql = f'SELECT "{column}" FROM t WHERE "{column}" IS NOT NULL '  # noqa: S608 - a column
        return self.query(f'{sql} ORDER BY "{column}" DESC LIMIT {count}')

    def counts(self, column: str) -> pa.Table:
        """Return each value of a column, and as `count` how many rows have it."""
        if self.delta is None:
            return self._none([column]).append_column("count", pa.array([], pa.int64()))
        return self.query(f'SELECT "{column}", count(*) AS count FROM t GROUP BY "{column}"')  # noqa: S608 - a column

    def _schema(self, columns: Sequence[str] | None) -> pa.Schema:
        return self.table.arrow(list(columns) if columns is not None else None)

    @cached_property
    def held(self) -> frozenset[str]:
        """The names of the columns that the table has at this version."""
        return frozenset(arrow_schema(self.delta).names)

    def _none(self, columns: Sequence[str] | None) -> pa.Table:
        return self._schema(columns).empty_table()

    def property(self, name: str) -> str | None:
        """Return a property of the table, None when it has none of that name."""
        return None if self.delta is None else self.delta.metadata().configuration.get(name)

    def count(self) -> int:
        """Return the number of rows, from the log's statistics."""
        return 0 if self.delta is None else self.delta.count()

    def commit(self, difference: Difference, note: Mapping[str, object]) -> int:
        """Write the difference on top of this version and return the version that holds it.

        Nothing to do writes nothing. Raises ConflictError when another commit came first, so that
        the caller derives anew; on any error the table is as it was, or holds the whole difference.
        """
        if difference.is_empty:
            return self.version
        with Border(self.table, self.url):
            delta = self.delta or self._create()
            add_missing(delta, self.table)
            _mark_stale(delta, self.table)
            names = arrow_schema(delta).names
            columns = tuple(column for column in self.table.columns if column.name in names)
            shown = replace(difference, table=replace(self.table, columns=columns))
            _write(delta, shown, once({**note, **difference.counts()}))
            return delta.version()

    def _create(self) -> DeltaTable:
        try:
            return DeltaTable.create(
                self.url,
                schema=self.table.arrow(),
                mode="error",
                partition_by=self.table.partition_column,
                configuration=configuration(self.table, self.retention_hours),
                storage_options=dict(self.options),
                # Else who comes second, or gets no answer to his own, creates it once more, over
                # what it was told since.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except DeltaError as error:
            # Another run may have created it in the meantime: then look at that one.
            if DeltaTable.is_deltatable(self.url, storage_options=dict(self.options)):
                raise _conflict(self.table) from None
            raise error from None

    def query(self, sql: str, **others: "Snapshot") -> pa.Table:
        """Return what SQL finds in the table, which is `t` in it; others are under their names.

        Who asks knows that the tables exist, and names columns that they hold.
        """
        with Border(self.table, self.url):
            builder = QueryBuilder()
            for name, snapshot in {"t": self, **others}.items():
                builder.register(name, cast("DeltaTable", snapshot.delta))
            # Read by Arrow, which lets other threads work; the engine's own reader would not, as
            # long as the storage takes to answer.
            return pa.RecordBatchReader.from_stream(builder.execute(sql)).read_all()


@dataclass(frozen=True)
class Store:
    """The tables that are switched on, by name, as a root holds them.

    `tables` have the columns that a user added, and `sync` has a mark for each that follows the
    feed. Files that a commit removed are kept for `retention_hours`, which is written into a table
    when it is created. `service_base` is the address of the service with its version, None when it
    has none that lasts.
    """

    urls: Mapping[str, str]
    tables: Mapping[str, Table]
    retention_hours: int
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    service_base: str | None = None

    def open(self, table: Table) -> Snapshot:
        """Return the newest version of a table; only "not found" means that it is absent.

        The snapshot's table is the store's own of that name.
        Raises ForeignTableError when the columns at the path are not this table's, and
        TableUnavailableError when the storage did not answer.
        """
        url, table, options = self.urls[table.name], self.tables[table.name], self.options_of(table)
        with Border(table, url):
            delta = open_delta(url, options)
        if delta is not None:
            _require_own(table, url, delta)
        version = ABSENT if delta is None else delta.version()
        return Snapshot(table, url, options, delta, version, self.retention_hours)

    def options_of(self, table: Table) -> Mapping[str, str]:
        """Return how the storage of a table is reached: as that of all, where it has no own."""
        own = self.tables[table.name].storage_options
        return {**self.options, **own} if own else self.options

    def version(self, table: Table) -> int:
        """Return the newest version of a table, or -1."""
        url = self.urls[table.name]
        with Border(table, url):
            delta = open_delta(url, self.options_of(table))
            return ABSENT if delta is None else delta.version()

    def delta(self, table: Table) -> DeltaTable:
        """Return the table itself, for readers that go on with it lazily."""
        snapshot = self.open(table)
        if snapshot.delta is None:
            raise TableUnavailableError(
                f"table {table.name} does not exist yet: materialize an hour of it first"
            )
        return snapshot.delta


def configuration(table: Table, retention_hours: int) -> dict[str, str]:
    """Return the properties of a table of this project."""
    told = {*table.key, *_SKIPPED_BY} - set(table.partition_columns)
    return CONFIGURATION | {
        RETENTION: f"interval {retention_hours} hours",
        STATISTICS: ",".join(name for name in table.names if name in told),
    }


def open_delta(url: str, options: Mapping[str, str]) -> DeltaTable | None:
    """Return the newest version of the Delta table at a URL, None when there is none."""
    try:
        return DeltaTable(url, storage_options=dict(options))
    except TableNotFoundError:
        return None


def _write(delta: DeltaTable, difference: Difference, properties: CommitProperties) -> None:
    counts = difference.counts()
    inserts = difference.inserts
    if inserts is not None and counts["inserts"] == sum(counts.values()):
        writer = parquet_properties(difference.table)
        rows = padded(inserts, arrow_schema(delta))
        write_deltalake(
            delta,
            rows,
            mode="append",
            commit_properties=properties,
            post_commithook_properties=HOOKS,
            writer_properties=writer,
        )
    else:
        _merge(delta, difference, properties)


def _merge(delta: DeltaTable, difference: Difference, properties: CommitProperties) -> None:
    table = difference.table
    columns = {name: f"s.`{name}`" for name in table.names}
    guard_less, guard_same, guard_not_greater = _guards(difference)
    merger = delta.merge(
        _source(difference),
        " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key),
        source_alias="s",
        target_alias="t",
        commit_properties=properties,
        post_commithook_properties=HOOKS,
        writer_properties=parquet_properties(table),
    )
    merger = merger.when_matched_delete(f"s.{_ACTION} = 'deletes'{guard_not_greater}")
    merger = merger.when_matched_update(columns, f"s.{_ACTION} = 'updates'{guard_less}")
    if difference.patches is not None and difference.patches.num_rows:
        patched = {n: f"s.`{n}`" for n in difference.patches.column_names if n not in table.key}
        merger = merger.when_matched_update(patched, f"s.{_ACTION} = 'patches'{guard_same}")
    merger.when_not_matched_insert(columns, f"s.{_ACTION} = 'inserts'").execute()


def _guards(difference: Difference) -> tuple[str, str, str]:
    # The version already guards the commit; the stored sequence guards the row as well, so that
    # no future caller can lower it.
    if not difference.table.is_guarded:
        return "", "", ""
    stored, new = "t.`sequence`", "s.`sequence`"
    less = f" AND ({stored} IS NULL OR {stored} < {new})"
    not_greater = f" AND ({stored} IS NULL OR {stored} <= {new})"
    return less, f" AND {stored} = {new}", not_greater


def _source(difference: Difference) -> pa.Table:
    schema = difference.table.arrow()
    parts = [
        padded(part, schema).append_column(_ACTION, pa.array([name] * part.num_rows, pa.string()))
        for name in ("inserts", "updates", "deletes", "patches")
        if (part := getattr(difference, name)) is not None and part.num_rows
    ]
    return pa.concat_tables(parts)


def padded(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema; those that the part lacks are null."""
    columns = [
        part[f.name].cast(f.type) if f.name in part.column_names else pa.nulls(len(part), f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def once(note: Mapping[str, object]) -> CommitProperties:
    """Return how this project commits: on the version it looked at or not at all, with a note."""
    return CommitProperties(custom_metadata=_told(note), max_commit_retries=0)


def noted(note: Mapping[str, object]) -> CommitProperties:
    """Return how a commit that changes no row is made: on whatever version there is by then."""
    return CommitProperties(custom_metadata=_told(note))


def _told(note: Mapping[str, object]) -> dict[str, str]:
    lost = conflicts()
    return {NOTE: json.dumps({**note, CONFLICTS: lost} if lost else dict(note), sort_keys=True)}


def parquet_properties(table: Table) -> WriterProperties:
    """Return how the files of a table are written."""
    # None by default: the columns within a map have names of their own, which cannot be said here.
    told = [name for name in table.names if name not in WITHOUT_STATISTICS]
    return WriterProperties(
        compression="ZSTD",
        max_row_group_size=ROW_GROUP_ROWS,
        default_column_properties=ColumnProperties(statistics_enabled="NONE"),
        column_properties=dict.fromkeys(told, ColumnProperties(statistics_enabled="PAGE")),
    )


def literals(values: Sequence[str | int]) -> str:
    """Return values as SQL takes them in a list; texts are escaped."""
    return ", ".join(
        str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
        for value in values
    )


def arrow_schema(delta: DeltaTable | None) -> pa.Schema:
    """Return the columns that a table has; a table that is not there has none."""
    return pa.schema([] if delta is None else cast("pa.Schema", delta.schema().to_arrow()))


def add_missing(delta: DeltaTable, table: Table) -> None:
    """The table has every column; what is new is marked, because older rows lack its values.

    Marks of `sync` are not added with rows: they come when the table that they are of was filled.
    """
    held = set(arrow_schema(delta).names)
    if missing := [c for c in table.columns if c.name not in held and not c.mark]:
        fields = [Field.from_arrow(unfilled_field(column)) for column in missing]
        properties = once({"columns_added": len(missing)})
        delta.alter.add_columns(fields, commit_properties=properties)


def add_mark(snapshot: Snapshot, column: Column) -> None:
    """Add a mark to `sync`, on the version looked at; every hour is without it.

    Raises ConflictError when another run committed since.
    """
    if snapshot.delta is None or column.name in snapshot.held:
        return
    properties = once({"mark_added": column.name})
    with Border(snapshot.table, snapshot.url):
        field = Field.from_arrow(column.field())
        snapshot.delta.alter.add_columns([field], commit_properties=properties)


def unfilled_field(column: Column) -> "pa.Field[Any]":
    """Return the field of a column that is added to a table with rows."""
    known: dict[str | bytes, str | bytes] = dict(column.known.items())
    return column.field().with_metadata({**known, FILLED: "false"})


def unfilled(delta: DeltaTable) -> list[str]:
    """Return the columns of which some row may lack the value."""
    return [f.name for f in delta.schema().fields if _is_unfilled(f)]


def _is_unfilled(held: Field) -> bool:
    return held.metadata.get(FILLED) == "false" and not held.metadata.get(FILLED_AT)


def _mark_stale(delta: DeltaTable, table: Table) -> None:
    """A column that rows come without, or that is made of another path now, is not filled."""
    wanted = {column.name: column for column in table.columns}
    for held in delta.schema().fields:
        path, column = held.metadata.get(_PATH), wanted.get(held.name)
        if path is None or _is_unfilled(held):
            continue
        if column is None or column.known.get(_PATH) != path:
            told = {} if column is None else column.known
            delta.alter.set_column_metadata(
                held.name,
                {**told, FILLED: "false", FILLED_AT: ""},
                commit_properties=once({"unfilled": held.name}),
            )


def mark_filled(snapshot: Snapshot, columns: Collection[str], run: Run) -> None:
    """Mark columns as filled, on the version looked at.

    Raises ConflictError when another run committed since.
    """
    if snapshot.delta is None:
        return
    left, alter = set(unfilled(snapshot.delta)) & set(columns), snapshot.delta.alter
    since = {FILLED_AT: run.now.isoformat()}
    properties = once({"run_id": run.run_id, "filled": len(left)})
    held = [field for field in snapshot.delta.schema().fields if field.name in left]
    # A column that is there is not added: its metadata is joined with what it had, for all columns
    # in one commit. Metadata that was set before has to be set anew, column by column.
    fresh = [
        Field(f.name, f.type, nullable=f.nullable, metadata=since)
        for f in held
        if FILLED_AT not in f.metadata
    ]
    with Border(snapshot.table, snapshot.url):
        if fresh:
            alter.add_columns(fresh, commit_properties=properties)
        for field in held:
            if FILLED_AT in field.metadata:
                alter.set_column_metadata(field.name, since, commit_properties=properties)


def _require_own(table: Table, url: str, delta: DeltaTable) -> None:
    """What the table must have is there, and what it has is of the type that is wanted."""
    held = {f.name: f.type for f in arrow_schema(delta)}
    must = [column for column in table.columns if not column.added and not column.mark]
    other = [c for c in table.columns if c.name in held and not held[c.name].equals(c.type)]
    missing = [column.name for column in must if column.name not in held]
    if missing:
        raise _foreign(table, url, f"{len(missing)} of {len(must)} columns are missing", missing)
    if wrong := [column.name for column in other if not column.added]:
        raise _foreign(table, url, f"{len(wrong)} columns are of another type", wrong)
    if list(delta.metadata().partition_columns) != table.partition_columns:
        wanted = ", ".join(table.partition_columns) or "nothing"
        raise _foreign(table, url, "its files do not lie by", [wanted])
    if other:
        raise _of_another_type(table, url, other[0], held[other[0].name])


def _of_another_type(table: Table, url: str, column: Column, held: pa.DataType) -> Exception:
    return ForeignTableError(
        f"column {column.name} of the {table.name} table at {url} is {held}, and {column.type} is "
        "asked for. A column does not change its type: give the new one another name in "
        "DICOM_COLUMNS_FILE, or ask for the type that it has"
    )


def _foreign(table: Table, url: str, what: str, names: list[str]) -> ForeignTableError:
    return ForeignTableError(
        f"the Delta table at {url} is not the {table.name} table of this version: {what} "
        f"({', '.join(names[:5])}). Nothing was written. If Data Factory's template wrote it, "
        "`dicom-assets migrate check` tells how it is taken over; else choose another "
        f"DICOM_{table.name.upper()}_TABLE_PATH or DICOM_TABLES_URL"
    )


@dataclass(frozen=True)
class Border:
    """What the engine and the storage raise crosses as our own error, without their text.

    Their texts may quote values of rows. The engine's SQL raises plain `Exception`, so that very
    class counts as an error of the table, and no class below it.
    """

    table: Table
    url: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            return
        if issubclass(kind, CommitFailedError):
            raise _conflict(self.table) from None
        if kind is Exception or issubclass(kind, (DeltaError, OSError, pa.ArrowException)):
            raise TableUnavailableError(
                f"table {self.table.name} at {self.url} could not be read or written "
                f"({kind.__name__}); it is as it was before. Check that the path exists, may be "
                "written and has space, then run again"
            ) from None


def _conflict(table: Table) -> ConflictError:
    return ConflictError(f"another run committed to table {table.name} first")
