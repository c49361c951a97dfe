"""Repair of a table that another program has written to.

The commits of others name the files that they added and removed. The rows of both are compared, by
study, or by hour where a row is of an hour. Where they differ the table is derived anew:

| table | rows of another program | rows that it removed |
|---|---|---|
| `change`, `rejected` | are deleted with their hours, which lose the seal | the same |
| `sync` | are deleted, so that these hours are missing | these hours are missing already |
| `instance` | lose their sequence, so that their headers are read | the hours of the study open |
| derived | their studies are derived from `instance` | the same |

A row of `instance` that has no live entry in the log, or another row of its key, is deleted.
Rows that a RESTORE brought back in `instance` and `change` are ours and stay: opening the hours is
enough. A file that is no longer there makes all rows count as touched. The property REPAIRED is
set last: a repair that ends anywhere before is begun again by the next one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import pyarrow as pa

from dicom_assets.errors import ForeignTableError, NotYetError, TableUnavailableError
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SYNC, Table
from dicom_assets.tables.delta.arrow import distinct, is_in, pc
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import DataFile, pieces_of
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.foreign import (
    REPAIRED,
    ForeignCommit,
    foreign_commits,
    known_until,
    repaired_at,
)
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.snapshot import VALUES_PER_QUERY, Snapshot, Store, literals
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, key_of, newest_of
from dicom_assets.tables.rollup import (
    derive_studies,
    difference_of,
    filled_derived,
    study_sizes,
    study_slices,
)
from dicom_assets.tables.sync import unmark
from dicom_assets.window import TICKS_PER_HOUR, ticks_of

# The columns that say of which hour a row is. A row of another table is of a study.
_HOUR: Final = {CHANGE.name: "timestamp_ticks", SYNC.name: "hour", REJECTED.name: "window_start"}


@dataclass(frozen=True)
class ForeignRows:
    """The commits of other programs in a table, and the studies or hours that they touched.

    An hour is its number since 1970. `written` have rows of another program, `touched` have these
    or lack rows. None stands for all.
    """

    table: Table
    version: int
    commits: tuple[ForeignCommit, ...]
    written: frozenset[Any] | None
    touched: frozenset[Any] | None

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to repair."""
        return not self.commits and self.touched is not None


def find_foreign_rows(store: Store, table: Table, *, everything: bool = False) -> ForeignRows:
    """Return what other programs touched since the last repair, as far as the log goes back.

    With `everything` all rows count as touched: the log has lost commits that nobody knows.
    """
    snapshot, folder = store.open(table), Folder.of(store, table)
    commits = tuple(foreign_commits(folder, folder.log(), known_until(snapshot)))
    written, touched, unread = set[Any](), set[Any](), set[str]()
    for commit in commits:
        changed, unread_here = _changed(snapshot, commit)
        touched |= changed
        unread |= unread_here
        if not (commit.operation == "RESTORE" and table.name in {CHANGE.name, INSTANCE.name}):
            written |= changed
            unread |= {f"{kind} and written" for kind in unread_here}
    # A longer list of hours is too long for one condition.
    most = VALUES_PER_QUERY if table.name in _HOUR else len(written)
    all_written = "added and written" in unread or len(written) > most
    return ForeignRows(
        table,
        snapshot.version,
        commits,
        None if all_written else frozenset(written),
        None if everything or unread or all_written else frozenset(touched),
    )


def _changed(snapshot: Snapshot, commit: ForeignCommit) -> tuple[set[Any], set[str]]:
    """Return the groups of which a commit changed rows, and the kinds of files not read.

    Where a file could not be read, these are all groups of the others.
    """
    sums, unread = defaultdict[Any, int](int), set[str]()
    for kind, sign in (("added", 1), ("removed", -1)):
        for file in getattr(commit, kind):
            try:
                for group, number in _digests(snapshot, file):
                    sums[group] += sign * number
            except (ForeignTableError, TableUnavailableError):
                unread.add(kind)
    return {group for group, total in sums.items() if total or unread}, unread


def _digests(snapshot: Snapshot, file: DataFile) -> Iterator[tuple[Any, int]]:
    """Yield the group of each row of a file, and a number made from all values of the row."""
    column = _HOUR.get(snapshot.table.name) or snapshot.table.study_column
    for piece in pieces_of(snapshot, file):
        for row in piece.to_pylist():
            yield _group(row[column]), hash(repr((sorted(file.partition.items()), row)))


def _group(value: str | int | datetime | None) -> str | int | None:
    ticks = ticks_of(value) if isinstance(value, datetime) else value
    return ticks // TICKS_PER_HOUR if isinstance(ticks, int) else ticks


def repair_table(store: Store, found: ForeignRows, run: Run) -> Counter[str]:
    """Derive anew what other programs touched; return the numbers of rows and of opened hours.

    Raises NotYetError when `instance` needs hours that are not in the log, and ConflictError when
    other runs keep committing.
    """
    table, counts = found.table, Counter[str]()
    if found.version >= 0:
        steps = {CHANGE.name: _repair_hours, REJECTED.name: _repair_hours, SYNC.name: _repair_sync}
        steps |= {INSTANCE.name: _repair_instance}
        counts = steps.get(table.name, _repair_derived)(store, found, run)
        if table.name != REJECTED.name:
            counts += _delete(store, table, " OR ".join(f'"{n}" IS NULL' for n in table.key), run)
        value = repaired_at(run.now, found.version)
        note = {"run_id": run.run_id, "repaired": found.version}
        converge(lambda: store.open(table).set_property(REPAIRED, value, note))
    return counts


# --- hours ----------------------------------------------------------------------------------------


def _repair_hours(store: Store, found: ForeignRows, run: Run) -> Counter[str]:
    """Delete the rows of the hours in which another program wrote, and remove the seals."""
    table, where, counts = (
        found.table,
        _condition(found.table, found.written),
        Counter[str](),
    )
    hours, others = _hours(store, found.touched), list[datetime]()
    if table.name == CHANGE.name:
        rows = store.open(table).rows(["sequence", "studyinstanceuid"], where)
        others = _hours_of_studies(store, distinct(pc.drop_null(rows["studyinstanceuid"])))
    # Before the rows go, so that no hour stays sealed without them, and after: a run that seals the
    # hour in between has seen them.
    for step in (None, _delete, None):
        if step:
            counts += step(store, table, where, run)
        else:
            counts["hours"] += unmark(store, hours, run, seals=True) + unmark(store, others, run)
    return counts


def _repair_sync(store: Store, found: ForeignRows, run: Run) -> Counter[str]:
    """Delete the hours that another program wrote, so that they are missing."""
    return _delete(store, SYNC, _condition(SYNC, found.touched), run)


def _condition(table: Table, groups: frozenset[Any] | None) -> str:
    """Return the condition that a row is of some hours, or of none."""
    if groups is None:
        return "true"
    column = f'"{_HOUR[table.name]}"'
    # The engine compares no literal of a time in a deletion. A time is a number of microseconds.
    ticks = column if table.name == CHANGE.name else f"CAST({column} AS BIGINT) * 10"
    hours = literals(sorted(groups - {None}) or [-1])
    return f"{ticks} / {TICKS_PER_HOUR} IN ({hours}) OR {column} IS NULL"


def _hours(store: Store, groups: frozenset[Any] | None) -> list[datetime]:
    """Return those of some hours that `sync` has."""
    rows: list[Any] = store.open(SYNC).rows(["hour"])["hour"].to_pylist()
    known = {hour for hour in rows if hour is not None}
    return sorted(hour for hour in known if groups is None or _group(hour) in groups)


def _hours_of_studies(store: Store, studies: list[str] | None) -> list[datetime]:
    """Return the hours of `sync` in which the log has entries of some studies."""
    if studies is None:
        return _hours(store, None)
    rows = store.open(CHANGE).rows_of("studyinstanceuid", studies, ["timestamp_ticks"])
    return _hours(store, frozenset(map(_group, rows["timestamp_ticks"].to_pylist())))


def _delete(store: Store, table: Table, where: str, run: Run) -> Counter[str]:
    before = store.open(table).count()
    converge(lambda: store.open(table).delete(where, {"run_id": run.run_id}))
    return Counter(deleted=before - store.open(table).count())


# --- studies --------------------------------------------------------------------------------------


def _repair_instance(store: Store, found: ForeignRows, run: Run) -> Counter[str]:
    """Let the rows that another program wrote be read anew, and open the hours of their studies."""
    seals = store.open(SYNC).rows(["hour", CHANGE.mark])[CHANGE.mark]
    if seals.null_count or store.version(CHANGE) < 0:
        raise NotYetError(
            f"instance cannot be repaired yet, because {seals.null_count or 'all'} hours are not "
            "in the change log. Nothing of it was changed. Let the schedule or a run materialize "
            "them, then run this again"
        )
    counts, sizes = Counter[str](), study_sizes(store, INSTANCE)
    chosen = {s: n for s, n in sizes.items() if found.written is None or s in found.written}
    for part in study_slices(chosen):
        counts += converge(partial(_forget, store, part, run))
    touched = None if found.touched is None else sorted(found.touched - {None})
    counts["hours"] = unmark(store, _hours_of_studies(store, touched), run)
    return counts


def _forget(store: Store, studies: list[str], run: Run) -> Counter[str]:
    """Remove the sequences of the rows of some studies, and rows that cannot be right.

    Derived rows of studies without an entry in the log go too, because no hour is theirs.
    """
    instance, log, key = store.open(INSTANCE), store.open(CHANGE), list(INSTANCE.key)
    rows = instance.rows_of("studyinstanceuid", studies, [*key, "sequence"])
    history = log.rows_of("studyinstanceuid", studies, LOG_COLUMNS)
    newest = newest_of(history)
    live = key_of(newest.filter(pc.invert(is_gone(newest))))
    keys = rows.group_by(key).aggregate([([], "count_all"), ("sequence", "count")])
    right = pc.and_(is_in(key_of(keys), live), pc.equal(keys["count_all"], 1))
    known = keys.filter(pc.and_(right, pc.greater(keys["sequence_count"], 0))).select(key)
    difference = Difference(
        INSTANCE,
        deletes=keys.filter(pc.invert(right)).select(key),
        patches=known.append_column("sequence", pa.nulls(len(known), pa.int64())),
    )
    # The guard lets no sequence become smaller.
    unguarded = replace(instance, table=replace(instance.table, is_guarded=False))
    unguarded.commit(difference, {"run_id": run.run_id, "studies": len(studies)})
    if ghosts := sorted({*studies} - {*distinct(history["studyinstanceuid"])}):
        for table in filled_derived(store):
            derive_studies(store, table, ghosts, run)
    return Counter(deleted=difference.counts()["deletes"], read_again=len(known))


def _repair_derived(store: Store, found: ForeignRows, run: Run) -> Counter[str]:
    """Derive the studies anew, of which every row goes first: it may be there twice."""
    table, counts, sizes = found.table, Counter[str](), study_sizes(store, found.table)
    touched = sizes.keys() if found.touched is None else found.touched - {None}
    chosen = {study: sizes.get(study, 0) for study in touched}

    def drop(studies: list[str]) -> None:
        target = store.open(table)
        # Raises while rows of `instance` are doubled, before anything is deleted.
        difference_of(store, target, studies)
        rows = target.rows_of(table.study_column, studies, list(table.key))
        keys = rows.group_by(list(table.key)).aggregate([])
        target.commit(Difference(table, deletes=keys), {"run_id": run.run_id})

    for part in study_slices(chosen):
        converge(partial(drop, part))
        settle(partial(store.version, INSTANCE), partial(derive_studies, store, table, part, run))
        counts["studies"] += len(part)
    return counts
