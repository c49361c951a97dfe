"""Tables that Data Factory's template wrote are taken over, in place.

`check` looks and changes nothing; `apply` makes of each table one that `Store.open` takes. The
rows keep what they hold until their hours run: one without a sequence is older than anything that
the log says, so each header is read once. What a run would never meet goes at once: rows of
`series` and `study` that no instance backs, and rows whose key another row has too.

Three commits at most, each of which leaves a table that the template and this project can read:
properties, columns (or, for the first two generations, all rows under the names of the third),
stale rows. Whoever is interrupted looks again and does what is left. The version from before is
among the properties, so that a restore needs nobody's memory.
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

from dicom_assets.commands.migrate.template import (
    Commit,
    Layout,
    Part,
    Reader,
    newest_of_others,
    open_reader,
    parts_of,
)
from dicom_assets.errors import ConflictError, ForeignTableError, NotYetError
from dicom_assets.schema import INSTANCE, SERIES, STUDY, SYNC, Column, Table
from dicom_assets.tables import sync as seals
from dicom_assets.tables.delta.arrow import is_in, joined_key, pc
from dicom_assets.tables.delta.retry import Run, silent
from dicom_assets.tables.delta.snapshot import (
    ABSENT,
    Border,
    Delta,
    Difference,
    Store,
    arrow_schema,
    configuration,
    once,
    padded,
    parquet_properties,
    unfilled_field,
)
from dicom_assets.tables.instance import BOTH, HEADER_COLUMNS
from dicom_assets.tables.outcome import Progress
from dicom_assets.window import Window, ticks_of

TAKEN_OVER: Final = (INSTANCE, SERIES, STUDY)
# The version of a table before it was touched, in its own properties.
BEFORE: Final = "dicom_assets.versionBefore"
QUIET: Final = timedelta(hours=2)
# Keys are compared so many rows at a time.
SLICE_ROWS: Final = 2_000_000
# A file that is written lies in memory, several of them at once.
FILE_BYTES: Final = 16 * 2**20
# The rate at which the cost is told: a full page of headers takes so long, and so many are asked.
REQUEST_SECONDS: Final = 0.5
AT_ONCE: Final = 8


@dataclass(frozen=True)
class Finding:
    """What one table is, and what taking it over means.

    `generation` is the template's, None for a table that has our form or does not exist (version
    -1). `added` are the columns it lacks, `others` those of somebody else, which stay.
    `unnumbered` rows have no sequence; `stale` ones no live instance; `doubled` is how many keys
    stand in several rows. `newest` is somebody else's newest commit, `before` the version to go
    back to, if it was taken over already. `obstacles` say what has to be done by hand first.
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
    has_map: bool = False
    newest: Commit | None = None
    before: int | None = None
    obstacles: tuple[str, ...] = ()

    @property
    def is_due(self) -> bool:
        """Whether `apply` has something to do."""
        return self.generation is not None or bool(self.stale or self.doubled)

    def is_written(self, now: datetime) -> bool:
        """Whether somebody else committed within the last two hours."""
        return self.newest is not None and now - self.newest.at < QUIET


@dataclass(frozen=True)
class Cost:
    """What the first run over all hours reads for rows that have no sequence."""

    rows: int
    requests: int
    minutes: float


@dataclass(frozen=True)
class Done:
    """A table that was taken over, and between which versions."""

    name: str
    url: str
    before: int
    after: int
    rewritten: int = 0
    added: int = 0
    removed: int = 0


def check(store: Store) -> list[Finding]:
    """Return what `instance`, `series` and `study` are; nothing is changed.

    Raises ForeignTableError for a table that neither the template nor this project wrote.
    """
    readers = _readers(store)
    return [
        _finding(readers, table.name)
        if table.name in readers
        else Finding(table.name, store.urls[table.name])
        for table in TAKEN_OVER
    ]


def cost(findings: Iterable[Finding], batch_size: int) -> Cost:
    """Return what the rows without a sequence cost, at a stated rate: one header read each."""
    rows = sum(finding.unnumbered for finding in findings if finding.name == INSTANCE.name)
    requests = math.ceil(rows / batch_size)
    return Cost(rows, requests, requests * REQUEST_SECONDS / AT_ONCE / 60)


def apply(store: Store, now: datetime, say: Callable[[str], None] = silent) -> list[Done]:
    """Every table of the template has our form; returns those that were changed.

    Raises NotYetError while somebody else writes, ForeignTableError where something has to be done
    by hand first, and ConflictError when a table moved meanwhile: then look again.
    """
    due = [finding for finding in check(store) if finding.is_due]
    for finding in due:
        _require_ready(finding, now)
    run = Run("migrate", now, say)
    return [_take_over(store, finding, run) for finding in due]


def _require_ready(finding: Finding, now: datetime) -> None:
    if finding.obstacles:
        raise ForeignTableError(
            f"table {finding.name} at {finding.url} cannot be taken over yet: "
            f"{'; '.join(finding.obstacles)}. Nothing was written"
        )
    newest = finding.newest
    if newest is not None and finding.is_written(now):
        raise NotYetError(
            f"table {finding.name} at {finding.url} has another writer: {newest.engine} committed "
            f"version {newest.version} at {newest.at:%Y-%m-%d %H:%M} UTC. Nothing was written. "
            "Stop the trigger in Data Factory, let its last run end, and come back two hours after "
            "the last commit: two writers of two kinds would undo one another's work"
        )


# --- looking --------------------------------------------------------------------------------------


def _readers(store: Store) -> dict[str, Reader]:
    readers = {table.name: open_reader(store, table) for table in TAKEN_OVER}
    return {name: reader for name, reader in readers.items() if reader is not None}


@dataclass(frozen=True)
class _Faults:
    """The keys of a table's rows that have to go: no instance backs them, or they stand twice."""

    stale: pa.Table
    doubled: pa.Table

    def keys(self) -> pa.Table:
        both = pa.concat_tables([self.stale, self.doubled])
        return both.group_by(both.column_names).aggregate([]).select(both.column_names)


def _faults(readers: Mapping[str, Reader], name: str) -> _Faults:
    """Return which keys of a table are stale or doubled, among its rows without a sequence.

    A row that has one is a run's of this project, which keeps its tables in step by itself.
    """
    reader, instance = readers[name], readers.get(INSTANCE.name)
    key = list(reader.layout.table.key)
    none = reader.layout.table.arrow(key).empty_table()
    stale, doubled = [none], [none]
    for part in parts_of(reader.count(), SLICE_ROWS):
        where = f"{reader.within(part)} AND {reader.unnumbered}"
        doubled.append(reader.distinct(key, where, "count(*) > 1"))
        if instance is not None and instance is not reader:
            stale.append(_without_instance(reader.distinct(key, where), instance, part))
    return _Faults(pa.concat_tables(stale), pa.concat_tables(doubled))


def _without_instance(rows: pa.Table, instance: Reader, part: Part) -> pa.Table:
    """Return the keys of series or studies that no row of `instance` has."""
    above = INSTANCE.key[: rows.num_columns]
    live = instance.distinct(above, instance.within(part))
    backed = is_in(joined_key(rows, rows.column_names), joined_key(live, above))
    return rows.filter(pc.invert(backed))


def _finding(readers: Mapping[str, Reader], name: str) -> Finding:
    reader, faults = readers[name], _faults(readers, name)
    layout, snapshot = reader.layout, reader.snapshot
    delta = cast("Delta", snapshot.delta)
    before = delta.metadata().configuration.get(BEFORE)
    return Finding(
        layout.table.name,
        snapshot.url,
        snapshot.version,
        layout.generation,
        layout.is_old,
        reader.count(),
        added=tuple(column.name for column in layout.missing),
        others=layout.others,
        unnumbered=reader.count(reader.unnumbered),
        stale=len(faults.stale),
        doubled=len(faults.doubled),
        has_map="metadata" in layout.expressions and _has_map(reader),
        newest=newest_of_others(snapshot),
        before=None if before is None else int(before),
        obstacles=tuple(_obstacles(reader, delta)),
    )


def _has_map(reader: Reader) -> bool:
    return bool(
        len(reader.query('SELECT true AS found FROM r WHERE "metadata" IS NOT NULL LIMIT 1'))
    )


def _obstacles(reader: Reader, delta: Delta) -> Iterator[str]:
    """Yield what has to be done by hand before the table can be taken over."""
    layout = reader.layout
    for name in layout.wrong:
        yield (
            f"column {name} is not of the type, or not of the case, that this project's column of "
            "that name has: rename or drop it with the engine that added it"
        )
    if delta.protocol().min_reader_version > 1:
        yield (
            "it asks its readers for more than plain Delta (deletion vectors or mapped column "
            "names): drop these features with the engine that added them"
        )
    without = " OR ".join(f'"{layout.held[name]}" IS NULL' for name in layout.table.key)
    if count := reader.count(" OR ".join(f'"{name}" IS NULL' for name in layout.table.key)):
        yield f"{count} rows lack a part of their key: delete them, by DELETE … WHERE {without}"


# --- taking over ----------------------------------------------------------------------------------


def _take_over(store: Store, finding: Finding, run: Run) -> Done:
    table = store.tables.get(finding.name, _table(finding.name))
    added = rewritten = 0
    if finding.generation is not None:
        _open_hours_again(store, run)
        _set_properties(_same(store, table, finding.version), finding)
        added = len(finding.added)
        reader = _same(store, table)
        if finding.is_old:
            rewritten = finding.rows
            _rewrite(reader, rewritten, run)
        else:
            _add_columns(reader)
    removed = _remove_faults(store, table)
    after = store.version(table)
    before = finding.version if finding.before is None else finding.before
    return Done(table.name, finding.url, before, after, rewritten, added, removed)


def _table(name: str) -> Table:
    return next(table for table in TAKEN_OVER if table.name == name)


def _same(store: Store, table: Table, version: int | None = None) -> Reader:
    """Return the table as it stands; raises ConflictError when it is not the version looked at."""
    reader = open_reader(store, table)
    if reader is None or version not in {None, reader.snapshot.version}:
        raise ConflictError(
            f"table {table.name} moved while it was looked at: somebody else writes. Run again"
        )
    return reader


def _open_hours_again(store: Store, run: Run) -> None:
    """No hour counts as followed: what was done before a restore is not in the tables any more."""
    found = store.open(SYNC).rows(["hour"])["hour"]
    if len(found):
        first, last = (ticks_of(cast("datetime", f(found).as_py())) for f in (pc.min, pc.max))
        seals.unmark(store, Window(first, last + 1), run)


def _set_properties(reader: Reader, finding: Finding) -> None:
    """The table says what a table of ours says, and which version it had before.

    What its owner has set stays.
    """
    snapshot, delta = reader.snapshot, cast("Delta", reader.snapshot.delta)
    wanted = configuration(snapshot.table, snapshot.retention_hours)
    wanted |= {BEFORE: str(snapshot.version)}
    if finding.has_map:
        wanted |= {HEADER_COLUMNS: BOTH}
    told = delta.metadata().configuration
    unset = {name: value for name, value in wanted.items() if name not in told}
    if unset:
        with Border(snapshot.table, snapshot.url):
            note = once({"migrate": "properties"})
            delta.alter.set_table_properties(
                unset, raise_if_not_exists=False, commit_properties=note
            )


def _field(column: Column) -> "pa.Field[Any]":
    # What is made of headers is to be filled in old rows; a sequence comes when its hour runs.
    return unfilled_field(column) if column.added else column.field()


def _add_columns(reader: Reader) -> None:
    snapshot, delta = reader.snapshot, cast("Delta", reader.snapshot.delta)
    fields = [Field.from_arrow(_field(column)) for column in reader.layout.missing]
    if fields:
        with Border(snapshot.table, snapshot.url):
            delta.alter.add_columns(fields, commit_properties=once({"migrate": "columns"}))


def _rewrite(reader: Reader, rows: int, run: Run) -> None:
    """All rows lie under our names, in one commit. A few files at a time are in memory."""
    snapshot, delta = reader.snapshot, cast("Delta", reader.snapshot.delta)
    schema = _widened(reader.layout, delta)
    progress = Progress(run.say, f"{reader.layout.table.name}: wrote {{}} of {rows:,} rows")
    pieces = _pieces(reader.layout, delta, schema, progress)
    with Border(snapshot.table, snapshot.url):
        write_deltalake(
            delta,
            pa.RecordBatchReader.from_batches(schema, pieces),
            mode="overwrite",
            schema_mode="overwrite",
            partition_by=snapshot.table.partition_columns,
            target_file_size=FILE_BYTES,
            commit_properties=once({"migrate": "rewritten"}),
            writer_properties=parquet_properties(snapshot.table),
        )


def _pieces(
    layout: Layout, delta: Delta, schema: pa.Schema, progress: Progress
) -> Iterator[pa.RecordBatch]:
    """Yield all rows of a table under our names and in our types."""
    kept = {name: f'"{name}"' for name in layout.others}
    columns = (f'{what} AS "{name}"' for name, what in (layout.expressions | kept).items())
    sql = f"SELECT {', '.join(columns)} FROM t"  # noqa: S608 - names of the table's own columns
    count = 0
    # The writer asks for pieces inside its own runtime, where the reader may not start another.
    with ThreadPoolExecutor(1, thread_name_prefix="dicom-rows") as outside:
        batches = outside.submit(QueryBuilder().register("t", delta).execute, sql).result()
        while (batch := outside.submit(next, batches, None).result()) is not None:
            piece = padded(pa.table(batch), schema)
            count += len(piece)
            progress(count)
            yield from piece.to_batches()


def _widened(layout: Layout, delta: Delta) -> pa.Schema:
    """Return the schema under our names: ours, then what somebody else added."""
    held = arrow_schema(delta)
    missing = {column.name for column in layout.missing}
    ours = [_field(c) if c.name in missing else c.field() for c in layout.table.columns]
    return pa.schema([*ours, *(held.field(name) for name in layout.others)])


def _remove_faults(store: Store, table: Table) -> int:
    """Rows that no instance backs, or whose key stands twice, are gone; returns how many keys."""
    readers = _readers(store)
    snapshot = readers[table.name].snapshot
    keys = _faults(readers, table.name).keys()
    snapshot.commit(Difference(snapshot.table, deletes=keys), {"migrate": "stale"})
    return len(keys)
