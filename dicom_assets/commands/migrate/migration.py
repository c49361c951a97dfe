"""Take over the tables that Data Factory's template wrote, in place.

`inspect_tables` changes nothing; `take_over_tables` gives each table the form that `Store.open`
needs. The rows keep their values until their hours run. A row without a sequence is older than any
entry of the log, so each header is read once. Rows that no run would touch are deleted at once:
rows of `series` and `study` without an instance, and rows with a key that another row has too.

There are three commits at most: properties, columns (or, for the first two generations, all rows
under the names of the third), stale rows. Rows with padded UIDs take some more
(`tables.upkeep.padded_keys`). After each the template and this project can read the
table. After an interruption the next call does the rest. The version from before is one of the
properties, so that a restore needs nobody's memory.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import pyarrow as pa
from deltalake import QueryBuilder, write_deltalake
from deltalake.schema import Field

from dicom_assets.commands.migrate.template import Commit, TableReader, open_reader, study_parts
from dicom_assets.errors import ConflictError, ForeignTableError, NotYetError
from dicom_assets.schema import INSTANCE, SERIES, STUDY, SYNC, Column, Table
from dicom_assets.tables import sync as seals
from dicom_assets.tables.delta import commit
from dicom_assets.tables.delta.arrow import ints, is_in, joined_key, padded, pc
from dicom_assets.tables.delta.foreign import TAKEN_OVER_AT
from dicom_assets.tables.delta.retry import Run, silent
from dicom_assets.tables.delta.snapshot import ABSENT, Store
from dicom_assets.tables.delta.table_errors import raise_table_errors
from dicom_assets.tables.instance import BOTH, HEADER_FORM
from dicom_assets.tables.outcome import Progress
from dicom_assets.tables.upkeep.padded_keys import STRIPPED, is_padded, mark_stripped, strip_keys
from dicom_assets.window import Window, ticks_of

TAKEN_OVER: Final = (INSTANCE, SERIES, STUDY)
QUIET_PERIOD: Final = timedelta(hours=2)
# Keys are compared so many rows at a time.
KEYS_AT_ONCE: Final = 2_000_000
# Several files of this size are in memory while they are written.
FILE_BYTES: Final = 16 * 2**20
# The rate that is assumed, and printed with the cost: seconds of a page of headers, pages at once.
PAGE_SECONDS: Final = 0.5
PAGES_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Inspection:
    """The form of one table, and the work of taking it over.

    `generation` is the template's, None for a table that has our form or does not exist (version
    -1). `added` are the columns it lacks, `others` those of somebody else, which stay.
    `unnumbered` rows have no sequence; `stale` ones no live instance; `padded` ones a UID with
    padding; `doubled` is how many keys stand in several rows. `newest` is somebody else's newest
    commit, `before` the version to go back to, if it was taken over already. `obstacles` say what
    has to be done by hand first.
    """

    name: str
    url: str
    version: int = ABSENT
    generation: int | None = None
    is_old: bool = False
    rows: int = 0
    added: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unnumbered: int = 0
    stale: int = 0
    doubled: int = 0
    padded: int = 0
    has_map: bool = False
    newest: Commit | None = None
    before: int | None = None
    obstacles: tuple[str, ...] = ()

    @property
    def is_due(self) -> bool:
        """True when the table is not in our form yet."""
        return self.generation is not None or bool(self.stale or self.doubled or self.padded)

    def is_written(self, now: datetime) -> bool:
        """True when another writer committed within the last two hours."""
        return self.newest is not None and now - self.newest.at < QUIET_PERIOD


@dataclass(frozen=True)
class Cost:
    """The headers that the first run over all hours reads, for rows without a sequence."""

    rows: int
    requests: int
    minutes: float


@dataclass(frozen=True)
class Takeover:
    """A table that was taken over, its versions before and after, and the counts of changes."""

    name: str
    url: str
    before: int
    after: int
    rewritten: int = 0
    added: int = 0
    removed: int = 0


def inspect_tables(store: Store) -> list[Inspection]:
    """Return the form of `instance`, `series` and `study`; nothing is changed.

    Raises ForeignTableError for a table that neither the template nor this project wrote.
    """
    readers = _readers(store)
    return [
        _inspect(readers, t.name) if t.name in readers else Inspection(t.name, store.urls[t.name])
        for t in TAKEN_OVER
    ]


def cost_of(inspections: Iterable[Inspection], batch_size: int) -> Cost:
    """Return the cost of one header read for each row without a sequence, at the assumed rate."""
    rows = sum(one.unnumbered for one in inspections if one.name == INSTANCE.name)
    requests = math.ceil(rows / batch_size)
    return Cost(rows, requests, requests * PAGE_SECONDS / PAGES_AT_ONCE / 60)


def take_over_tables(
    store: Store, now: datetime, say: Callable[[str], None] = silent
) -> list[Takeover]:
    """Give every table of the template our form; returns those that were changed.

    Raises NotYetError while another writer is at work, ForeignTableError where something has to be
    done by hand first, and ConflictError when a table was changed meanwhile: then call it again.
    """
    due = [inspection for inspection in inspect_tables(store) if inspection.is_due]
    for inspection in due:
        newest, name = inspection.newest, f"table {inspection.name} at {inspection.url}"
        if inspection.obstacles:
            raise ForeignTableError(
                f"{name} cannot be taken over yet: {'; '.join(inspection.obstacles)}. Nothing was "
                "written"
            )
        if newest is not None and inspection.is_written(now):
            raise NotYetError(
                f"{name} has another writer: {newest.engine} committed version {newest.version} at "
                f"{newest.at:%Y-%m-%d %H:%M} UTC. Nothing was written. Stop the trigger in Data "
                "Factory, let its last run end, and come back two hours after the last commit: two "
                "writers of two kinds would undo one another's work"
            )
    run = Run("migrate", now, say)
    return [_take_over(store, inspection, run) for inspection in due]


def _readers(store: Store) -> dict[str, TableReader]:
    readers = {table.name: open_reader(store, table) for table in TAKEN_OVER}
    return {name: reader for name, reader in readers.items() if reader is not None}


def _faults(readers: Mapping[str, TableReader], name: str) -> tuple[pa.Table, pa.Table]:
    """Return the keys, of rows without a sequence, that no instance has, and those in several rows.

    A row with a sequence was written by a run of this project, which keeps it in step.
    """
    reader, instance = readers[name], readers.get(INSTANCE.name)
    key = list(reader.layout.table.key)
    none = reader.layout.table.arrow(key).empty_table()
    stale, doubled = [none], [none]
    for part in study_parts(reader.count(), KEYS_AT_ONCE):
        where = f"{reader.within(part)} AND {reader.unnumbered}"
        doubled.append(reader.distinct(key, where, "count(*) > 1"))
        if instance is not None and instance is not reader:
            rows, above = reader.distinct(key, where), INSTANCE.key[: len(key)]
            live = joined_key(instance.distinct(above, instance.within(part)), above)
            stale.append(rows.filter(pc.invert(is_in(joined_key(rows, key), live))))
    return pa.concat_tables(stale), pa.concat_tables(doubled)


def _inspect(readers: Mapping[str, TableReader], name: str) -> Inspection:
    reader, (stale, doubled) = readers[name], _faults(readers, name)
    layout, snapshot = reader.layout, reader.snapshot
    before = reader.delta.metadata().configuration.get(TAKEN_OVER_AT)
    filled = 'SELECT true AS filled FROM r WHERE "metadata" IS NOT NULL LIMIT 1'
    padded = is_padded(layout.own_names[name] for name in layout.table.key[1:])
    return Inspection(
        layout.table.name,
        snapshot.url,
        snapshot.version,
        layout.generation,
        layout.is_old,
        reader.count(),
        added=tuple(column.name for column in layout.missing),
        others=layout.others,
        unnumbered=reader.count(reader.unnumbered),
        stale=len(stale),
        doubled=len(doubled),
        padded=ints(snapshot.query(f"SELECT count(*) AS n FROM t WHERE {padded}")["n"])[0],  # noqa: S608 - names of columns
        has_map="metadata" in layout.expressions and len(reader.query(filled)) > 0,
        newest=reader.newest_of_others(),
        before=None if before is None else int(before),
        obstacles=tuple(_obstacles(reader)),
    )


def _obstacles(reader: TableReader) -> Iterator[str]:
    layout = reader.layout
    for name in layout.wrong:
        yield (
            f"column {name} is not of the type, or not of the case, that this project's column of "
            "that name has: rename or drop it with the engine that added it"
        )
    if reader.delta.protocol().min_reader_version > 1:
        yield (
            "it asks its readers for more than plain Delta (deletion vectors or mapped column "
            "names): drop these features with the engine that added them"
        )
    without = " OR ".join(f'"{layout.own_names[name]}" IS NULL' for name in layout.table.key)
    if count := reader.count(" OR ".join(f'"{name}" IS NULL' for name in layout.table.key)):
        yield f"{count} rows lack a part of their key: delete them, by DELETE … WHERE {without}"


def _take_over(store: Store, inspection: Inspection, run: Run) -> Takeover:
    default = next(table for table in TAKEN_OVER if table.name == inspection.name)
    table = store.tables.get(inspection.name, default)
    added = rewritten = 0
    if inspection.generation is not None:
        _open_hours_again(store, run)
        _set_properties(_same(store, table, inspection.version), inspection, run)
        added = len(inspection.added)
        reader = _same(store, table)
        if inspection.is_old:
            rewritten = inspection.rows
            _rewrite(reader, rewritten, run)
        else:
            _add_columns(reader)
    if inspection.padded:
        strip_keys(store, table, run)
        if table.name == INSTANCE.name:
            mark_stripped(store, run)
    counts = rewritten, added, _remove_faults(store, table)
    before = inspection.version if inspection.before is None else inspection.before
    return Takeover(table.name, inspection.url, before, store.version(table), *counts)


def _same(store: Store, table: Table, version: int | None = None) -> TableReader:
    """Return the newest version; raises ConflictError when it is not the version that was read."""
    reader = open_reader(store, table)
    if reader is None or version not in {None, reader.snapshot.version}:
        raise ConflictError(
            f"table {table.name} was changed while it was read: it has another writer. Run again"
        )
    return reader


def _open_hours_again(store: Store, run: Run) -> None:
    """Remove all marks in `sync`: after a restore the tables do not show these hours any more."""
    hours = store.open(SYNC).rows(["hour"])["hour"]
    if len(hours):
        first, last = (ticks_of(cast("datetime", f(hours).as_py())) for f in (pc.min, pc.max))
        seals.unmark(store, Window(first, last + 1), run)


def _set_properties(reader: TableReader, inspection: Inspection, run: Run) -> None:
    """Add the properties of our tables, and the version from before. Those that are set stay."""
    snapshot, delta = reader.snapshot, reader.delta
    wanted = commit.table_properties(snapshot.table, snapshot.retention_hours)
    wanted[TAKEN_OVER_AT] = str(snapshot.version)
    if snapshot.table.name == INSTANCE.name and not inspection.padded:
        wanted[STRIPPED] = run.now.isoformat()
    if inspection.has_map:
        wanted[HEADER_FORM] = BOTH
    present = delta.metadata().configuration
    unset = {name: value for name, value in wanted.items() if name not in present}
    if unset:
        with raise_table_errors(snapshot.table, snapshot.url):
            once = commit.once({"migrate": "properties"})
            delta.alter.set_table_properties(
                unset, raise_if_not_exists=False, commit_properties=once
            )


def _field(column: Column) -> "pa.Field[Any]":
    # Columns made from headers are filled in old rows later; a sequence comes when its hour runs.
    return commit.unfilled_field(column) if column.added else column.field()


def _add_columns(reader: TableReader) -> None:
    fields = [Field.from_arrow(_field(column)) for column in reader.layout.missing]
    if fields:
        with raise_table_errors(reader.snapshot.table, reader.snapshot.url):
            once = commit.once({"migrate": "columns"})
            reader.delta.alter.add_columns(fields, commit_properties=once)


def _rewrite(reader: TableReader, rows: int, run: Run) -> None:
    """Write all rows in one commit, a few files at a time: our columns, then somebody else's."""
    snapshot, layout = reader.snapshot, reader.layout
    missing, present = layout.missing, commit.arrow_schema(reader.delta)
    ours = [_field(c) if c in missing else c.field() for c in layout.table.columns]
    schema = pa.schema([*ours, *(present.field(name) for name in layout.others)])
    progress = Progress(run.say, f"{layout.table.name}: wrote {{}} of {rows:,} rows")
    with raise_table_errors(snapshot.table, snapshot.url):
        write_deltalake(
            reader.delta,
            pa.RecordBatchReader.from_batches(schema, _pieces(reader, schema, progress)),
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=snapshot.table.partition_columns,
            target_file_size=FILE_BYTES,
            commit_properties=commit.once({"migrate": "rewritten"}),
            writer_properties=commit.parquet_properties(snapshot.table),
        )


def _pieces(reader: TableReader, schema: pa.Schema, progress: Progress) -> Iterator[pa.RecordBatch]:
    """Yield all rows of a table under our names and in our types."""
    kept = {name: f'"{name}"' for name in reader.layout.others}
    columns = (f'{what} AS "{name}"' for name, what in (reader.layout.expressions | kept).items())
    sql = f"SELECT {', '.join(columns)} FROM t"  # noqa: S608 - names of the table's own columns
    count = 0
    # The writer asks for pieces inside its own runtime, where the reader may not start another.
    with ThreadPoolExecutor(1, thread_name_prefix="dicom-rows") as outside:
        batches = outside.submit(QueryBuilder().register("t", reader.delta).execute, sql).result()
        while (batch := outside.submit(next, batches, None).result()) is not None:
            piece = padded(pa.table(batch), schema)
            count += len(piece)
            progress(count)
            yield from piece.to_batches()


def _remove_faults(store: Store, table: Table) -> int:
    """Delete the stale and doubled rows; returns the number of their keys."""
    readers = _readers(store)
    snapshot = readers[table.name].snapshot
    both = pa.concat_tables(_faults(readers, table.name))
    keys = both.group_by(both.column_names).aggregate([]).select(both.column_names)
    snapshot.commit(commit.Difference(snapshot.table, deletes=keys), {"migrate": "stale"})
    return len(keys)
