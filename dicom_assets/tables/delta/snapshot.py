"""The tables of a root, and a snapshot of each: one version, which is read and committed on."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, TypeAlias, TypeVar, cast

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.schema import Field

from dicom_assets.errors import ForeignTableError, TableUnavailableError
from dicom_assets.schema import Column, Table
from dicom_assets.tables.delta.apply import apply, with_columns_of, write_rows
from dicom_assets.tables.delta.arrow import padded, pc
from dicom_assets.tables.delta.commit import (
    FILLED_AT,
    Committed,
    Difference,
    arrow_schema,
    create_table,
    delete_rows,
    once,
    unfilled,
)
from dicom_assets.tables.delta.files import (
    WHOLE_BYTES,
    DataFile,
    column_of,
    data_files,
    files_between,
    files_by_greatest,
    files_with,
    matching_rows,
    read_columns,
)
from dicom_assets.tables.delta.handles import Handles, open_delta
from dicom_assets.tables.delta.retry import Run, conflicts
from dicom_assets.tables.delta.study_files import StudyFiles
from dicom_assets.tables.delta.table_errors import raise_table_errors

# A table itself, for readers that go on with it lazily.
Delta: TypeAlias = DeltaTable

T = TypeVar("T")
U = TypeVar("U")
ABSENT = -1
VALUES_PER_QUERY = 5_000


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
    handles: Handles = field(default_factory=Handles, repr=False, compare=False)

    def rows(self, columns: Sequence[str] | None = None, where: str = "") -> pa.Table:
        """Return the rows that fulfil a SQL condition made of constants, all rows without one."""
        none = self._none(columns)
        if self.delta is None:
            return none
        if not where:
            files = data_files(self)
            if sum(file.size for file in files) <= WHOLE_BYTES:
                return self._read(files, none.schema)
        # The key is always read: rows of which the table has no other column would be lost.
        wanted = self.table.arrow([*none.column_names, *self.table.key]).names
        names = ", ".join(f'"{name}"' for name in wanted if name in self.column_names)
        condition = f" WHERE {where}" if where else ""
        return padded(self.query(f"SELECT {names} FROM t{condition}"), none.schema)  # noqa: S608 - constants and escaped literals only

    def rows_between(
        self, column: str, first: object, end: object, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows whose column holds a value from `first` to before `end`."""
        pieces = self.pieces_between(column, first, end, columns)
        return pa.concat_tables([self._none(columns), *pieces])

    def pieces_between(
        self, column: str, first: object, end: object, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the same rows by data file. Files are chosen by the statistics in the log."""
        names = self._none(columns).column_names
        schema = self.table.arrow([*dict.fromkeys([*names, column])])
        for file in files_between(self, column, first, end):
            rows = self._read([file], schema)
            inside = pc.and_(pc.greater_equal(rows[column], first), pc.less(rows[column], end))
            yield rows.filter(inside).select(names)

    def _read(self, files: Iterable[DataFile], schema: pa.Schema) -> pa.Table:
        """Return all rows of files in the columns of a schema."""
        # The key is read, too: rows of which the table has no other column would be lost.
        wanted = dict.fromkeys([*schema.names, *self.table.key])
        names = [name for name in wanted if name in self.column_names]
        pieces = (padded(read_columns(self, file, names), schema) for file in files)
        return pa.concat_tables([schema.empty_table(), *pieces])

    def rows_of(
        self, column: str, values: Sequence[str | int], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows whose column holds one of the values."""
        none = self._none(columns)
        if self.delta is None or not values:
            return none
        is_study = self.table.has_studies and column == self.table.study_column
        files = (
            self.studies.of(cast("Sequence[str]", values))
            if is_study
            else files_with(self, column, values)
        )
        names = [name for name in none.column_names if name in self.column_names]
        wanted = pa.array(cast("Any", values))
        # The column is always read: rows of which the table has no other column would be lost.
        read = [*names, *(() if column in names else (column,))]
        pieces = [padded(matching_rows(self, f, read, column, wanted), none.schema) for f in files]
        return pa.concat_tables([none, *pieces])

    def has_value(self, column: str) -> bool:
        """Return whether a row has a value in a column. The newest files are read first."""
        files = reversed(data_files(self)) if column in self.column_names else ()
        return any(pc.any(pc.is_valid(column_of(self, file, column))).as_py() for file in files)

    @cached_property
    def studies(self) -> StudyFiles:
        """The files of this version in which a study has rows."""
        return StudyFiles(self)

    def greatest(self, column: str, columns: Sequence[str]) -> pa.Table:
        """Return the row with the greatest value of a column, or no row."""
        none = self._none(columns)
        best, rows = None, self._none([*dict.fromkeys([*none.column_names, column])])
        for file, top in files_by_greatest(self, column):
            if best is not None and top is not None and top <= best:
                break
            read = self._read([file], rows.schema)
            if (there := pc.max(read[column]).as_py()) is not None and (
                best is None or there > best
            ):
                best, rows = there, read.filter(pc.equal(read[column], there))
        return rows.select(none.column_names)

    def greatest_values(self, column: str, count: int) -> pa.Table:
        """Return the `count` greatest values of a column, in any order and without null."""
        if self.delta is None:
            return self._none([column])
        sql = f'SELECT "{column}" FROM t WHERE "{column}" IS NOT NULL '  # noqa: S608 - a column
        return self.query(f'{sql} ORDER BY "{column}" DESC LIMIT {count}')

    def counts(self, column: str) -> pa.Table:
        """Return each value of a column, and the number of its rows as `count`."""
        if self.delta is None:
            return self._none([column]).append_column("count", pa.array([], pa.int64()))
        return self.query(f'SELECT "{column}", count(*) AS count FROM t GROUP BY "{column}"')  # noqa: S608 - a column

    def _none(self, columns: Sequence[str] | None) -> pa.Table:
        return self.table.arrow(list(columns) if columns is not None else None).empty_table()

    @cached_property
    def column_names(self) -> frozenset[str]:
        """The names of the columns that the table has at this version."""
        return frozenset(arrow_schema(self.delta).names)

    def property(self, name: str) -> str | None:
        """Return a property of the table, None when it has none of that name."""
        return None if self.delta is None else self.delta.metadata().configuration.get(name)

    def count(self) -> int:
        """Return the number of rows, from the log's statistics."""
        return 0 if self.delta is None else self.delta.count()

    def prepared(self) -> "Snapshot":
        """Create the table if it is absent, add the columns that it lacks; return that version."""
        with raise_table_errors(self.table, self.url):
            here = self
            if self.delta is None:
                made = create_table(self.url, self.table, self.retention_hours, self.options)
                here = replace(self, delta=made, version=made.version())
            return with_columns_of(here)

    def stage(self, rows: pa.Table) -> list[DataFile]:
        """Write rows to data files of a table that is `prepared`, for a later difference."""
        with raise_table_errors(self.table, self.url):
            return list(write_rows(self, rows))

    def commit(self, difference: Difference, note: Mapping[str, object]) -> Committed:
        """Commit the difference on top of this version, and return the version that has it.

        An empty difference writes nothing. Raises ConflictError when another commit came first, so
        that the caller derives it again. After any error the table has all of it or nothing.
        """
        if difference.is_empty:
            return Committed(self.version, self.count())
        here = self.prepared()
        with self._moving():
            return apply(here, replace(difference, table=self.table), note)

    def delete(self, where: str, note: Mapping[str, object]) -> None:
        """Delete the rows of a SQL condition on top of this version, or raise ConflictError.

        The condition stays in the table's log, so it names no UID.
        """
        if self.delta is not None:
            with self._moving():
                delete_rows(self.own_handle(), self.table, where, note)

    def set_property(self, name: str, value: str, note: Mapping[str, object]) -> None:
        """Set a property on top of this version, or raise ConflictError."""
        if self.delta is not None:
            with self._moving():
                self.delta.alter.set_table_properties(
                    {name: value}, raise_if_not_exists=False, commit_properties=once(note)
                )

    def own_handle(self) -> DeltaTable:
        """Open this version for an operation that changes rows and moves its handle."""
        return cast("DeltaTable", open_delta(self.url, self.options, self.version))

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Expect a newer version when the block ends, with or without an error."""
        try:
            with raise_table_errors(self.table, self.url):
                yield
        finally:
            self.handles.committed(self.table.name, self.url)

    def query(self, sql: str, **others: "Snapshot") -> pa.Table:
        """Return the result of SQL in which this table is `t`, and others have the names given.

        All of these tables must exist, and have the columns that the SQL names.
        """
        with raise_table_errors(self.table, self.url):
            builder = QueryBuilder()
            for name, snapshot in {"t": self, **others}.items():
                builder.register(name, cast("DeltaTable", snapshot.delta))
            # Read by Arrow, which lets other threads work while the storage answers. The engine's
            # own reader does not.
            return pa.RecordBatchReader.from_stream(builder.execute(sql)).read_all()


@dataclass(frozen=True)
class Store:
    """The tables that are switched on, by name, as a root holds them.

    `tables` have the columns that a user added, and `sync` has a mark for each table that follows
    the feed. Files that a commit removed are kept for `retention_hours`, which is written into a
    table when it is created. `service_base` is the address of the service with its version, None
    when it has no lasting one. `owed` are marks of `sync` that are still to be set.
    """

    urls: Mapping[str, str]
    tables: Mapping[str, Table]
    retention_hours: int
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    service_base: str | None = None
    owed: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)
    _handles: Handles = field(default_factory=Handles, init=False, repr=False, compare=False)

    def open(self, table: Table) -> Snapshot:
        """Return the newest version of a table; only "not found" means that it is absent.

        The snapshot's table is the one of that name in `tables`. Raises ForeignTableError when the
        columns at the path are not those of the table, and TableUnavailableError when the storage
        did not answer.
        """
        url, table, options = self.urls[table.name], self.tables[table.name], self.options_of(table)
        # Whatever is in use keeps its handle from being brought up to date.
        self._handles.looks.pop(table.name, None)
        with raise_table_errors(table, url):
            delta = self._handles.newest(url, options)
        if delta is not None:
            _require_own(table, url, delta)
        version = ABSENT if delta is None else delta.version()
        snapshot = Snapshot(
            table, url, options, delta, version, self.retention_hours, self._handles
        )
        if self._handles.is_step:
            self._handles.looks[table.name] = snapshot
        return snapshot

    @contextmanager
    def step(self) -> Iterator[None]:
        """Let a step of a run look at a table once, where it need not be the newest version."""
        self._handles.is_step = True
        try:
            yield
        finally:
            self._handles.is_step = False
            self._handles.looks.clear()

    def recent(self, table: Table) -> Snapshot:
        """Return the version that this step has seen last, or open the table.

        As if the step had come this far at once. Its commit fails when another run came first, and
        then, and after its own commits, this is the newest version.
        """
        seen = None if conflicts() else self._handles.looks.get(table.name)
        return self.open(table) if seen is None else seen

    def options_of(self, table: Table) -> Mapping[str, str]:
        """Return the storage options of a table: its own on top of those of all tables."""
        return {**self.options, **self.tables[table.name].storage_options}

    def version(self, table: Table) -> int:
        """Return the number of a table's newest version, ABSENT when it does not exist."""
        url = self.urls[table.name]
        with raise_table_errors(table, url):
            version = self._handles.version(url)
            if version is None:
                delta = self._handles.newest(url, self.options_of(table))
                version = ABSENT if delta is None else delta.version()
            looks = self._handles.looks
            if table.name in looks and looks[table.name].version != version:
                del looks[table.name]
            return version

    def absent(self, tables: Iterable[Table]) -> list[Table]:
        """Return those tables that have no Delta log, by one small request for each table."""
        missing = []
        for table in tables:
            url = self.urls[table.name]
            with raise_table_errors(table, url):
                if not DeltaTable.is_deltatable(url, dict(self.options_of(table))):
                    missing.append(self.tables[table.name])
        return missing

    def create(self, table: Table) -> None:
        """Create a table without rows, or raise ConflictError when another run has created it."""
        url, table, options = self.urls[table.name], self.tables[table.name], self.options_of(table)
        self._handles.looks.pop(table.name, None)
        with raise_table_errors(table, url):
            create_table(url, table, self.retention_hours, options)

    def delta(self, table: Table) -> DeltaTable:
        """Return the table itself, for readers that go on with it lazily, by a handle of its own.

        Raises TableUnavailableError when it does not exist.
        """
        snapshot = self.open(table)
        if snapshot.delta is None:
            raise TableUnavailableError(
                f"table {table.name} does not exist yet: materialize an hour of it first"
            )
        return snapshot.own_handle()


def one_step(
    commit: Callable[[U, Store, Run], T],
) -> Callable[[U, Store, Run], T]:
    """Let a function of a run look at each table once, where it need not be the newest version."""

    @wraps(commit)
    def step(update: U, store: Store, run: Run) -> T:
        with store.step():
            return commit(update, store, run)

    return step


def literals(values: Sequence[str | int]) -> str:
    """Return values as the inside of an SQL list, texts in quotes and escaped."""
    return ", ".join(
        str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
        for value in values
    )


def add_mark(snapshot: Snapshot, column: Column) -> None:
    """Add a mark to `sync` on top of this version, null in every hour, or raise ConflictError."""
    if snapshot.delta is None or column.name in snapshot.column_names:
        return
    with raise_table_errors(snapshot.table, snapshot.url):
        snapshot.delta.alter.add_columns(
            [Field.from_arrow(column.field())],
            commit_properties=once({"mark_added": column.name}),
        )


def mark_filled(snapshot: Snapshot, columns: Collection[str], run: Run) -> None:
    """Mark columns as filled on top of this version, or raise ConflictError."""
    if snapshot.delta is None:
        return
    names, alter = set(unfilled(snapshot.delta)) & set(columns), snapshot.delta.alter
    since = {FILLED_AT: run.now.isoformat()}
    properties = once({"run_id": run.run_id, "filled": len(names)})
    fields = [field for field in snapshot.delta.schema().fields if field.name in names]
    # "Adding" a column that exists only adds to its metadata, for all columns in one commit. It
    # does not change metadata that is there: this needs a commit for each column.
    never_filled = [
        Field(f.name, f.type, nullable=f.nullable, metadata=since)
        for f in fields
        if FILLED_AT not in f.metadata
    ]
    with raise_table_errors(snapshot.table, snapshot.url):
        if never_filled:
            alter.add_columns(never_filled, commit_properties=properties)
        for field in fields:
            if FILLED_AT in field.metadata:
                alter.set_column_metadata(field.name, since, commit_properties=properties)


def _require_own(table: Table, url: str, delta: DeltaTable) -> None:
    """Raise ForeignTableError unless the table has its columns, in their types and layout."""
    types = {f.name: f.type for f in arrow_schema(delta)}
    required = [column.name for column in table.columns if not column.added]
    differing = [c for c in table.columns if c.name in types and not types[c.name].equals(c.type)]
    reason = ""
    if names := [name for name in required if name not in types]:
        reason = f"{len(names)} of {len(required)} columns are missing"
    elif names := [column.name for column in differing if not column.added]:
        reason = f"{len(names)} columns are of another type"
    elif list(delta.metadata().partition_columns) != table.partition_columns:
        names = [", ".join(table.partition_columns) or "nothing"]
        reason = "its files are not partitioned by"
    if reason:
        raise ForeignTableError(
            f"the Delta table at {url} is not the {table.name} table of this version: {reason} "
            f"({', '.join(names[:5])}). Nothing was written. If Data Factory's template wrote it, "
            "`dicom-assets migrate check` says how to take it over. Otherwise choose another "
            f"DICOM_{table.name.upper()}_TABLE_PATH or DICOM_TABLES_URL"
        )
    for column in differing:
        raise ForeignTableError(
            f"column {column.name} of the {table.name} table at {url} is {types[column.name]}, and "
            f"DICOM_COLUMNS_FILE wants {column.type}. A column does not change its type. In the "
            "file, give the new column another name or the type of the old one"
        )
