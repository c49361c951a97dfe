"""The tables of a root, and a snapshot of each: one version, which is read and committed on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import TableNotFoundError
from deltalake.schema import Field

from dicom_assets.errors import ForeignTableError, TableUnavailableError
from dicom_assets.schema import Column, Table
from dicom_assets.tables.delta.apply import apply, with_columns_of, write_rows
from dicom_assets.tables.delta.arrow import padded
from dicom_assets.tables.delta.commit import (
    FILLED_AT,
    Difference,
    arrow_schema,
    create_table,
    delete_rows,
    once,
    unfilled,
)
from dicom_assets.tables.delta.files import DataFile, files_with, matching_rows
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.study_files import StudyFiles
from dicom_assets.tables.delta.table_errors import raise_table_errors

# A table itself, for readers that go on with it lazily.
Delta: TypeAlias = DeltaTable

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

    def rows(self, columns: Sequence[str] | None = None, where: str = "") -> pa.Table:
        """Return the rows that fulfil a SQL condition made of constants, all rows without one."""
        none = self._none(columns)
        if self.delta is None:
            return none
        # The key is always read: rows of which the table has no other column would be lost.
        wanted = self.table.arrow([*none.column_names, *self.table.key]).names
        names = ", ".join(f'"{name}"' for name in wanted if name in self.column_names)
        condition = f" WHERE {where}" if where else ""
        return padded(self.query(f"SELECT {names} FROM t{condition}"), none.schema)  # noqa: S608 - constants and escaped literals only

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

    @cached_property
    def studies(self) -> StudyFiles:
        """The files of this version in which a study has rows."""
        return StudyFiles(self)

    def greatest(self, column: str, columns: Sequence[str]) -> pa.Table:
        """Return the row with the greatest value of a column, or no row."""
        if self.delta is None:
            return self.rows(columns)
        top = self.query(f'SELECT max("{column}") AS top FROM t')["top"][0].as_py()  # noqa: S608
        return self._none(columns) if top is None else self.rows(columns, f'"{column}" = {top}')

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

    def commit(self, difference: Difference, note: Mapping[str, object]) -> int:
        """Commit the difference on top of this version, and return the version that has it.

        An empty difference writes nothing. Raises ConflictError when another commit came first, so
        that the caller derives it again. After any error the table has all of it or nothing.
        """
        if difference.is_empty:
            return self.version
        here = self.prepared()
        with raise_table_errors(self.table, self.url):
            return apply(here, replace(difference, table=self.table), note)

    def delete(self, where: str, note: Mapping[str, object]) -> None:
        """Delete the rows of a SQL condition on top of this version, or raise ConflictError.

        The condition stays in the table's log, so it names no UID.
        """
        if self.delta is not None:
            with raise_table_errors(self.table, self.url):
                delete_rows(self.delta, self.table, where, note)

    def set_property(self, name: str, value: str, note: Mapping[str, object]) -> None:
        """Set a property on top of this version, or raise ConflictError."""
        if self.delta is not None:
            with raise_table_errors(self.table, self.url):
                self.delta.alter.set_table_properties(
                    {name: value}, raise_if_not_exists=False, commit_properties=once(note)
                )

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
    when it has no lasting one.
    """

    urls: Mapping[str, str]
    tables: Mapping[str, Table]
    retention_hours: int
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    service_base: str | None = None

    def open(self, table: Table) -> Snapshot:
        """Return the newest version of a table; only "not found" means that it is absent.

        The snapshot's table is the one of that name in `tables`. Raises ForeignTableError when the
        columns at the path are not those of the table, and TableUnavailableError when the storage
        did not answer.
        """
        url, table, options = self.urls[table.name], self.tables[table.name], self.options_of(table)
        with raise_table_errors(table, url):
            delta = open_delta(url, options)
        if delta is not None:
            _require_own(table, url, delta)
        version = ABSENT if delta is None else delta.version()
        return Snapshot(table, url, options, delta, version, self.retention_hours)

    def options_of(self, table: Table) -> Mapping[str, str]:
        """Return the storage options of a table: its own on top of those of all tables."""
        return {**self.options, **self.tables[table.name].storage_options}

    def version(self, table: Table) -> int:
        """Return the number of a table's newest version, ABSENT when it does not exist."""
        url = self.urls[table.name]
        with raise_table_errors(table, url):
            delta = open_delta(url, self.options_of(table))
            return ABSENT if delta is None else delta.version()

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
        with raise_table_errors(table, url):
            create_table(url, table, self.retention_hours, options)

    def delta(self, table: Table) -> DeltaTable:
        """Return the table itself, for readers that go on with it lazily.

        Raises TableUnavailableError when it does not exist.
        """
        snapshot = self.open(table)
        if snapshot.delta is None:
            raise TableUnavailableError(
                f"table {table.name} does not exist yet: materialize an hour of it first"
            )
        return snapshot.delta


def open_delta(url: str, options: Mapping[str, str]) -> DeltaTable | None:
    """Return the newest version of the Delta table at a URL, None when there is none."""
    try:
        return DeltaTable(url, storage_options=dict(options))
    except TableNotFoundError:
        return None


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
