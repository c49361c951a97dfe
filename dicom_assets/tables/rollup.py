"""The tables that are derived from `instance`, study by study: `series`, `study`, and further ones.

The log has the studies that a window touched, deletes included. Their rows are derived from the
live rows of `instance`. A series or study without instances is deleted. `schema` names the
aggregate of each column, `aggregates` computes it.

All studies are derived again (`rederive`) after columns were added or filled, for a table that was
added, and for one that lost all its hours. Slices keep memory bounded, however many studies there
are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import islice
from typing import Any, cast

import pyarrow as pa

from dicom_assets.errors import DoubledRowsError
from dicom_assets.schema import CHANGE, INSTANCE, SYNC, Table
from dicom_assets.tables import change, rejected
from dicom_assets.tables.aggregates import PARTS, Groups
from dicom_assets.tables.delta.arrow import distinct, ints, is_in, joined_key, pc, position, texts
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import DataFile
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.slices import SLICE_BYTES
from dicom_assets.tables.delta.snapshot import Snapshot, Store, add_mark, mark_filled, one_step
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch, TableUpdate
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, is_gone, key_of, newest_of
from dicom_assets.tables.readings import converted
from dicom_assets.tables.sync import (
    Seals,
    all_seals,
    forget_switched_off,
    has_marks,
    marked_hours,
    marks_of,
    require_tables,
    seals_of,
    set_marks,
)
from dicom_assets.window import Window

# Instances whose columns are read at once.
SLICE_INSTANCES = 200_000
# Of touched studies the number of instances is not known before.
STUDIES_AT_FIRST, INSTANCES_AT_ONCE = 50, 50_000


@dataclass(frozen=True)
class DeriveStudies(TableUpdate):
    """Derive a table anew for every study that a window touched."""

    table: Table
    window: Window

    @one_step
    def commit(self, store: Store, run: Run) -> Outcome:
        """Derive the rows of these studies, commit the difference, and mark the hours in `sync`.

        A table that no hour shows is filled for all hours at once. Raises NotYetError when an hour
        of the window is not in the log (`seals_of`).
        """
        # In this order: no hour is marked whose entries the log does not show yet, and the rows of
        # the target are never newer than those of `instance`.
        require_tables(store, run, SYNC, self.table, CHANGE, INSTANCE)
        seals = seals_of(store, self.window, run)
        if _owes_everything(store, self.table, seals):
            set_marks(store, run)
            outcomes = [refill(store, self.table, run)]
        else:
            attempt = partial(_attempt, store, self.table, self.window, run)
            live = store.recent(INSTANCE).version
            outcomes = settle(partial(store.version, INSTANCE), attempt, live)
            seals.mark(store, self.table.mark, run)
        touched = change.touched(store.recent(CHANGE), self.window)
        _clear_settled(store, run)
        return replace(reduce(Outcome.then, outcomes), touched=touched)


def _owes_everything(store: Store, table: Table, seals: Seals) -> bool:
    """Return whether no hour shows the table, and `instance` shows other hours than those given."""
    if has_marks(store, table) is not False:
        return False
    given = {row["hour"] for row in seals.rows}
    return not given.issuperset(marked_hours(store)[INSTANCE.name])


def _attempt(store: Store, table: Table, window: Window, run: Run) -> Outcome:
    watch = Stopwatch()
    with watch.stage("plan"):
        target = store.recent(table).prepared()
        studies = touched_studies(store, window)
        difference = difference_of(store, target, studies, stages=True)
    with watch.stage("commit"):
        committed = target.commit(difference, {"run_id": run.run_id, "window": str(window)})
    return Outcome(
        version_before=target.version,
        version_after=committed.version,
        rows=committed.rows,
        totals=Counter({**difference.counts(), "studies": len(studies)}),
        seconds=watch.seconds,
    )


def touched_studies(store: Store, window: Window) -> list[str]:
    """Return the UIDs of the studies that the window touched, and of those with rejections."""
    log = store.recent(CHANGE)
    again = log.rows_of("sequence", rejected.sequences(store), ["studyinstanceuid"])
    touched = change.study_counts(log, window)["study"]
    return list(dict.fromkeys([*texts(touched), *texts(again["studyinstanceuid"])]))


def difference_of(
    store: Store, target: Snapshot, studies: list[str], *, stages: bool = False
) -> Difference:
    """Return the difference between the rows of some studies and their live instances.

    With `stages`, for a target that is `prepared`, many new rows are in data files already. Raises
    DoubledRowsError unless each instance has one row, so that a fault does not spread.
    """
    table, key = target.table, list(target.table.key)
    none = table.arrow().empty_table()
    inserts, updates, deletes, size = [none], [none], [none.select(key)], 0
    staged, replaced = list[DataFile](), [none.select(key)]

    def stage() -> None:
        rows = pa.concat_tables([*inserts, *updates])
        staged.extend(target.stage(rows) if len(rows) else ())
        replaced.extend(part.select(key) for part in updates)
        inserts[:], updates[:] = [none], [none]
        pa.default_memory_pool().release_unused()

    for part in _differences(store, target, studies):
        for parts, more in zip((inserts, updates, deletes), part, strict=True):
            parts.append(more)
        size += sum(rows.nbytes for rows in part)
        if stages and size >= SLICE_BYTES:
            stage()
            size = 0
    gone = pa.concat_tables(deletes)
    if not staged:
        return Difference(table, pa.concat_tables(inserts), pa.concat_tables(updates), gone)
    stage()
    return Difference(table, updates=pa.concat_tables(replaced), deletes=gone, staged=staged)


def _differences(
    store: Store, target: Snapshot, studies: list[str]
) -> Iterator[tuple[pa.Table, ...]]:
    """Yield inserts, updates, deletes of ranges of studies with some INSTANCES_AT_ONCE rows."""
    # The target was opened before `instance`, so the derived rows are never older than its own.
    table, live = target.table, store.recent(INSTANCE)
    at, count, seen = 0, STUDIES_AT_FIRST, 0
    while at < len(studies):
        some = studies[at : at + count]
        rows = live.rows_of("studyinstanceuid", some, columns_read(table))
        if doubled := len(rows) - len(rows.group_by(list(INSTANCE.key)).aggregate([])):
            raise DoubledRowsError(
                f"instance has {doubled} rows too many in the studies that the hours touched: "
                f"{table.name} was not derived from them and is as it was. Most likely somebody "
                "else has written to instance. `dicom-assets repair instance` shows what, and "
                "mends it (docs/operate/repair.md)"
            )
        existing = target.rows_of(table.study_column, some)
        part = compare(existing, roll_up(rows, table, store.service_base), table)
        yield cast("tuple[pa.Table, ...]", (part.inserts, part.updates, part.deletes))
        at, seen = at + len(some), seen + len(rows)
        # As many as have so many instances, by the studies so far.
        count = max(1, INSTANCES_AT_ONCE * at // max(seen, at))


def _clear_settled(store: Store, run: Run) -> None:
    """Remove from `rejected` the entries that `instance` and all derived tables show by now.

    Has an effect only in the last step of a run, because all these tables must be up to date.
    """
    known = rejected.sequences(store)
    settled = _applied(store, known) if known else {}
    # Tables that are not filled yet, too: their step still has to see the study as touched.
    derived = [table for table in store.tables.values() if table.is_derived] if settled else []
    shown = {
        study
        for study in set(settled.values())
        if all(difference_of(store, store.open(table), [study]).is_empty for table in derived)
    }
    if shown:
        forget_switched_off(store, run)
        rejected.clear(store, [s for s, study in settled.items() if study in shown], run)


def rederive(store: Store, table: Table, run: Run) -> Outcome:
    """Derive every row from the live instances, delete all others, mark all columns as filled."""
    sizes = study_sizes(store, table)
    progress = Progress(run.say, f"{table.name}: derived {{}} of {len(sizes):,} studies")
    outcome = derive_studies(store, table, [], run)
    done = 0
    for studies in study_slices(sizes):
        derive = partial(derive_studies, store, table, studies, run)
        attempts = settle(partial(store.version, INSTANCE), derive)
        outcome = reduce(Outcome.then, attempts, outcome)
        done += len(studies)
        progress(done)
    converge(lambda: mark_filled(store.open(table), store.tables[table.name].names, run))
    return outcome


def refill(store: Store, table: Table, run: Run) -> Outcome:
    """Fill an added table from `instance` alone, and mark the hours that it has followed then.

    From then on the table owes hours. An hour that `instance` follows meanwhile is not marked,
    because its studies may have been derived before.
    """
    seals = all_seals(store)
    outcome = rederive(store, table, run)
    converge(lambda: add_mark(store.open(SYNC), store.tables[SYNC.name][table.mark]))
    seals.mark(store, table.mark, run)
    return outcome


def study_sizes(store: Store, table: Table) -> dict[str, int]:
    """Return the number of instances of each study that `instance` or a table has."""
    listed: list[Any] = store.open(table).counts(table.study_column)[table.study_column].to_pylist()
    live = store.open(INSTANCE).counts("studyinstanceuid")
    living: list[Any] = live["studyinstanceuid"].to_pylist()
    # A study that only the table has counts no instance, and loses its rows.
    sizes = dict.fromkeys(listed, 0) | dict(zip(living, ints(live["count"]), strict=True))
    return {study: size for study, size in sizes.items() if study is not None}


def study_slices(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield slices of studies with at most SLICE_INSTANCES together, or of one larger study."""
    taken: list[str] = []
    count = 0
    for study, size in sizes.items():
        count += size
        if taken and count > SLICE_INSTANCES:
            yield taken
            taken, count = [], size
        taken.append(study)
    if taken:
        yield taken


def derive_studies(store: Store, table: Table, studies: list[str], run: Run) -> Outcome:
    """Derive the rows of some studies from their live instances, in one attempt."""
    watch = Stopwatch()
    with watch.stage("derive"):
        target = store.open(table).prepared()
        difference = difference_of(store, target, studies, stages=True)
        after = target.commit(difference, {"run_id": run.run_id, "studies": len(studies)})
    totals = Counter({**difference.counts(), "studies": len(studies)})
    return Outcome(target.version, *after, totals=totals, seconds=watch.seconds)


def filled_derived(store: Store) -> list[Table]:
    """Return the derived tables that owe hours: all except those that are not filled yet."""
    owing = marks_of(store)
    return [table for table in store.tables.values() if table.is_derived and table.name in owing]


def _applied(store: Store, rejected_sequences: list[int]) -> dict[int, str]:
    """Return the sequences that `instance` has reached, each with its study."""
    log = store.open(CHANGE)
    rows = log.rows_of("sequence", rejected_sequences, LOG_COLUMNS)
    studies = distinct(rows["studyinstanceuid"])
    newest = newest_of(log.rows_of("studyinstanceuid", studies, LOG_COLUMNS))
    gone = set(texts(key_of(newest.filter(is_gone(newest)))))
    stored = store.open(INSTANCE).rows_of("studyinstanceuid", studies, STORED_COLUMNS)
    # A row that was taken over from the template has no sequence, and has reached none.
    sequences = ints(pc.fill_null(stored["sequence"], -1))
    reached = dict(zip(texts(key_of(stored)), sequences, strict=True))
    keyed = zip(texts(key_of(rows)), rows.to_pylist(), strict=True)
    return {
        row["sequence"]: row["studyinstanceuid"]
        for key, row in keyed
        if (key in gone and key not in reached) or reached.get(key, -1) >= row["sequence"]
    }


def columns_read(table: Table) -> list[str]:
    """Return the columns of `instance` that a derived table reads, each once."""
    sources = [source for column in table.columns for source in column.sources]
    return list(dict.fromkeys([*INSTANCE.key, "sequence", *sources, *table.reads]))


def roll_up(live: pa.Table, table: Table, service_base: str | None = None) -> pa.Table:
    """Return the rows of a derived table for live rows of `instance`.

    `service_base` is the service's address with its version, None when it has no lasting one.
    """
    if table.derive is not None:
        return table.derive(live, service_base)
    keys = tuple(table[name].sources[0] for name in table.key)
    groups = Groups(live, keys, service_base)
    parts = [PARTS[column.aggregate](groups, column) for column in table.columns]
    measured = iter(groups.measured([measure for part in parts for measure in part.measures]))
    columns = [part.combine(*islice(measured, len(part.measures))) for part in parts]
    types = [column.type for column in table.columns]
    fitted = [converted(values, type_) for values, type_ in zip(columns, types, strict=True)]
    return pa.Table.from_arrays(fitted, schema=table.arrow())


def compare(existing: pa.Table, derived: pa.Table, table: Table) -> Difference:
    """Return the difference that makes the existing rows equal to the derived ones, by key.

    A row that differs only in columns that are not compared stays as it is.
    """
    old_keys, new_keys = joined_key(existing, table.key), joined_key(derived, table.key)
    at = position(new_keys, old_keys)
    is_new, old = pc.is_null(at), existing.take(at)
    same = pc.invert(is_new)
    for name in (column.name for column in table.columns if column.compared):
        equal = pc.fill_null(pc.equal(old[name], derived[name]), False)  # noqa: FBT003 - Arrow's own signature
        both_null = pc.and_(pc.is_null(old[name]), pc.is_null(derived[name]))
        same = pc.and_(same, pc.or_(equal, both_null))
    return Difference(
        table,
        inserts=derived.filter(is_new),
        updates=derived.filter(pc.invert(pc.or_(is_new, same))),
        deletes=existing.filter(pc.invert(is_in(old_keys, new_keys))).select(list(table.key)),
    )
