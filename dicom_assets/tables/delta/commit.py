"""The commit of a difference to a Delta table, with the table's properties and columns.

A commit succeeds only on the version that it was derived from. The second of two writers gets a
`ConflictError`, reads again and derives again (`retry`). So no rule elsewhere has to think of two
writers at once.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    WriterProperties,
)
from deltalake.exceptions import DeltaError
from deltalake.schema import Field

from dicom_assets.feed_contract import READING_EDITION
from dicom_assets.header.extraction import EDITION
from dicom_assets.schema import REJECTED, Column, Table
from dicom_assets.tables.delta.retry import conflicts
from dicom_assets.tables.delta.table_errors import conflict_error

if TYPE_CHECKING:
    from dicom_assets.tables.delta.files import DataFile

ROW_GROUP_ROWS = 20_000
# For writers that are not this project's. Ours make checkpoints more often (`files.commit`).
CHECKPOINT = "delta.checkpointInterval"
FIXED_PROPERTIES = {
    CHECKPOINT: "10",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.enableExpiredLogCleanup": "true",
}
RETENTION = "delta.deletedFileRetentionDuration"
STATISTICS = "delta.dataSkippingStatsColumns"
# The log has the least and greatest value of the key and of these for each file, so that readers
# skip files. No other column: the log outlives a deleted row, and would still name patients.
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
# Metadata of a column. FILLED is "false" when the column was added to a table with rows, or rows
# came while it was not kept. FILLED_AT is the time since which every row has its value again.
FILLED = "dicom_assets.filled"
FILLED_AT = "dicom_assets.filled_at"
_PATH = "dicom.path"
# The property of `rejected` with the newest edition of reading that has tried its entries.
READ_BY = "dicom_assets.readBy"
# The property of a table made of headers: the edition of the code that all its rows come from.
MADE_BY = "dicom_assets.edition"
# The key of a commit's metadata that marks it as ours and holds its numbers as JSON.
NOTE = "dicom_assets"
# In that note, unless zero: how many earlier attempts at this commit came too late.
CONFLICTS = "conflicts"
_ACTION = "_action"
# By default the engine lists the whole log after a commit, to remove expired files: with 10,000
# commits three requests. `maintenance` does that once a night. Checkpoints come before a commit.
HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


@dataclass(frozen=True)
class Difference:
    """Changes to the rows of a table, by key; each part may be empty.

    `inserts` and `updates` are whole rows, `deletes` have the key columns (and `sequence`, where
    the table guards by it), `patches` have the key columns and the columns that they set. With
    `replaced`, a condition in SQL, the inserts stand for all rows that fulfil it, also if there are
    none, and there is no other part. With `staged`, data files that are written already hold the
    rows of inserts and updates: there are no inserts then, and updates have the columns of deletes.
    """

    table: Table
    inserts: pa.Table | None = None
    updates: pa.Table | None = None
    deletes: pa.Table | None = None
    patches: pa.Table | None = None
    replaced: str | None = None
    staged: "Sequence[DataFile]" = ()

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each part."""
        parts = {n: getattr(self, n) for n in ("inserts", "updates", "deletes", "patches")}
        counts = {name: 0 if part is None else part.num_rows for name, part in parts.items()}
        if self.staged:
            counts["inserts"] = sum(file.rows or 0 for file in self.staged) - counts["updates"]
        return counts

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to commit."""
        return self.replaced is None and not any(self.counts().values())


class Committed(NamedTuple):
    """The version of a table that has a difference, and its number of rows by the log."""

    version: int
    rows: int


def create_table(
    url: str, table: Table, retention_hours: int, options: Mapping[str, str]
) -> DeltaTable:
    """Create a table without rows. Raises ConflictError when another run has created it first.

    A root on a disk that is not there yet is made for its owner alone. One that is there keeps its
    mode, which says who else reads.
    """
    if "://" not in url:
        with suppress(OSError):  # the engine meets it again, and its error is explained
            for folder in reversed(Path(url).parents):
                folder.mkdir(0o700, exist_ok=True)
    properties = table_properties(table, retention_hours)
    if table.name == REJECTED.name:
        properties[READ_BY] = READING_EDITION
    if any(column.paths for column in table.columns):
        properties[MADE_BY] = str(EDITION)
    try:
        return DeltaTable.create(
            url,
            schema=table.arrow(),
            mode="error",
            partition_by=table.partition_column,
            configuration=properties,
            raise_if_key_not_exists=False,  # some of ours are none of Delta's
            storage_options=dict(options),
            # Without this, a retry or a second writer would create the table again and discard
            # commits made in between.
            commit_properties=once({"created": len(table.columns)}),
        )
    except DeltaError as error:
        if DeltaTable.is_deltatable(url, storage_options=dict(options)):
            raise conflict_error(table) from None
        raise error from None


def delete_rows(delta: DeltaTable, table: Table, where: str, note: Mapping[str, object]) -> None:
    """Delete the rows that fulfil a SQL condition, on top of the version that was opened."""
    names = arrow_schema(delta).names
    columns = tuple(column for column in table.columns if column.name in names)
    delta.delete(
        where,
        commit_properties=once(note),
        post_commithook_properties=HOOKS,
        writer_properties=parquet_properties(replace(table, columns=columns)),
    )


def once(note: Mapping[str, object]) -> CommitProperties:
    """Return properties of a commit on the version that was read or not at all, with a note."""
    return CommitProperties(custom_metadata=_metadata(note), max_commit_retries=0)


def noted(note: Mapping[str, object]) -> CommitProperties:
    """Return properties of a commit that changes no row, and may be on any version, with a note."""
    return CommitProperties(custom_metadata=_metadata(note))


def _metadata(note: Mapping[str, object]) -> dict[str, str]:
    lost = conflicts()
    return {NOTE: json.dumps({**note, CONFLICTS: lost} if lost else dict(note), sort_keys=True)}


def parquet_properties(table: Table) -> WriterProperties:
    """Return the properties with which the files of a table are written."""
    # No statistics by default: the columns inside a map cannot be named here.
    named = [name for name in table.names if name not in WITHOUT_STATISTICS]
    return WriterProperties(
        compression="ZSTD",
        max_row_group_size=table.file_rows or ROW_GROUP_ROWS,
        default_column_properties=ColumnProperties(statistics_enabled="NONE"),
        column_properties=dict.fromkeys(named, ColumnProperties(statistics_enabled="PAGE")),
    )


def table_properties(table: Table, retention_hours: int) -> dict[str, str]:
    """Return the properties of a table of this project."""
    return FIXED_PROPERTIES | {
        RETENTION: f"interval {retention_hours} hours",
        STATISTICS: ",".join(_skipped_by(table)),
    }


def _skipped_by(table: Table) -> list[str]:
    skipped_by = {*table.key, *_SKIPPED_BY} - set(table.partition_columns)
    return [name for name in table.names if name in skipped_by]


def with_statistics(delta: DeltaTable | None, table: Table) -> list[str]:
    """Return the columns of which the log has the least and greatest value for each file."""
    named = None if delta is None else delta.metadata().configuration.get(STATISTICS)
    return _skipped_by(table) if named is None else named.split(",")


def add_missing(delta: DeltaTable, table: Table) -> None:
    """Add the columns that a table lacks, marked as unfilled because older rows lack their values.

    Marks of `sync` are left out. Each is added when its table was filled (`add_mark`).
    """
    names = set(arrow_schema(delta).names)
    if missing := [c for c in table.columns if c.name not in names and not c.mark]:
        fields = [Field.from_arrow(unfilled_field(column)) for column in missing]
        properties = once({"columns_added": len(missing)})
        delta.alter.add_columns(fields, commit_properties=properties)


def unfilled_field(column: Column) -> "pa.Field[Any]":
    """Return the field of a column that is added to a table with rows."""
    known: dict[str | bytes, str | bytes] = dict(column.known.items())
    return column.field().with_metadata({**known, FILLED: "false"})


def unfilled(delta: DeltaTable) -> list[str]:
    """Return the names of the columns whose value some row may lack."""
    known = {f.name: f.metadata for f in delta.schema().fields}
    return [n for n, m in known.items() if m.get(FILLED) == "false" and not m.get(FILLED_AT)]


def filled_at(delta: DeltaTable, column: str) -> datetime | None:
    """Return when a column was filled that was added to a table with rows."""
    known = {field.name: field.metadata for field in delta.schema().fields}
    since = known.get(column, {}).get(FILLED_AT)
    return datetime.fromisoformat(since) if since else None


def mark_unfilled(delta: DeltaTable, table: Table) -> None:
    """Mark columns as unfilled that rows come without, or that have another path now."""
    columns, marked = {column.name: column.known for column in table.columns}, unfilled(delta)
    for field in delta.schema().fields:
        path, known = field.metadata.get(_PATH), columns.get(field.name, {})
        if path is not None and path != known.get(_PATH) and field.name not in marked:
            delta.alter.set_column_metadata(
                field.name,
                {**known, FILLED: "false", FILLED_AT: ""},
                commit_properties=once({"unfilled": field.name}),
            )


def arrow_schema(delta: DeltaTable | None) -> pa.Schema:
    """Return the columns that a table has; None, a table that does not exist, has none."""
    return pa.schema([] if delta is None else cast("pa.Schema", delta.schema().to_arrow()))
