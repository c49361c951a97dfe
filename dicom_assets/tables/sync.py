"""The `sync` table: the hours that are in the log, and the hours that each table shows.

An hour is sealed with a digest of its sequences, and with the data partitions that it was read
with. No table shows an hour that was read with fewer than are kept now, so it is read again. A
table that has followed the seal marks the hour. A seal that changes (a late entry, another start or
end) removes these marks, because the tables must follow again.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import pyarrow as pa

from dicom_assets.errors import ConflictError, DamagedTableError, NotYetError, SettingsError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import (
    CHANGE,
    INSTANCE,
    REJECTED,
    SERIES,
    STUDY,
    SYNC,
    TIMESTAMP,
    Column,
    Table,
)
from dicom_assets.tables import rejected
from dicom_assets.tables.delta.arrow import flat, ints, numbers, packed, pc
from dicom_assets.tables.delta.commit import Difference, filled_at, unfilled
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Snapshot, Store, literals, mark_filled
from dicom_assets.window import (
    HOUR,
    TICKS_PER_HOUR,
    Bounds,
    Partitions,
    Window,
    datetime_of,
    floor_hour,
    ticks_of,
)

_ACTIONS = {"creates": "Create", "updates": "Update", "deletes": "Delete"}
# A column of `sync` that ends so and that no table here has marks a table that is switched off.
_MARK_ENDS = "At"
# The column with the data partitions that an hour was read with.
PARTITIONS: Final = "dataPartitions"
_ALL: Final = "*"


def with_marks(tables: Iterable[Table]) -> Table:
    """Return `sync` with a mark for each table that follows the feed.

    The marks of the first tables are always there, those of further ones come when these are
    filled. Raises SettingsError for a mark that cannot be one.
    """
    marks: list[Column] = []
    for table in (table for table in tables if table.mark and table.name != CHANGE.name):
        taken = {*SYNC.names, *(mark.name for mark in marks)}
        if not table.mark.endswith(_MARK_ENDS) or table.mark in taken:
            raise SettingsError(
                f"table {table.name}: its mark needs a name that no column of sync has and that "
                f"ends in {_MARK_ENDS}, such as {table.name}{_MARK_ENDS}"
            )
        meaning = f"when {table.name} was brought to this seal"
        added = table.name not in {INSTANCE.name, SERIES.name, STUDY.name}
        marks.append(Column(table.mark, TIMESTAMP, meaning, added=added, mark=True))
    return replace(SYNC, columns=(*SYNC.columns, *marks))


def marks_of(store: Store, sync: Snapshot | None = None) -> dict[str, str]:
    """Return the marks of the tables that owe hours, by the names of the tables.

    A table that was switched on later owes none until it is filled. Then `sync` gets its mark.
    """
    sync = sync or store.open(SYNC)
    marks = {table.name: table.mark for table in store.tables.values() if table.mark}
    return {n: mark for n, mark in marks.items() if sync.delta is None or mark in sync.column_names}


@dataclass(frozen=True)
class Hour:
    """An hour of the feed: its entries by action, its sequences, ascending, and its rejections."""

    window: Window
    actions: Mapping[str, int]
    sequences: "pa.Array[Any]"
    rejected: int

    @property
    def start(self) -> datetime:
        """The start of the full hour, also when the window begins later."""
        return floor_hour(datetime_of(self.window.start))

    def counts(self) -> Counter[str]:
        """Return the number of entries by action, and of those that were rejected."""
        counts = {column: self.actions.get(action, 0) for column, action in _ACTIONS.items()}
        return Counter({**counts, "rejected": self.rejected})

    @property
    def digest(self) -> str:
        """The SHA-256 over the sequences in ascending order, 8 bytes each."""
        return hashlib.sha256(packed(self.sequences)).hexdigest()

    def seal_columns(self) -> dict[str, object]:
        """Return the columns of the hour's seal."""
        return {
            **self.counts(),
            "firstSequence": self.sequences[0].as_py() if len(self.sequences) else None,
            "lastSequence": self.sequences[-1].as_py() if len(self.sequences) else None,
            "digest": self.digest,
            "windowStart": datetime_of(self.window.start),
            "windowEnd": datetime_of(self.window.end),
        }


def hours_of(window: Window, changes: pa.Table, rejections: Iterable[Rejection]) -> list[Hour]:
    """Return every hour of the window with its changes and rejections.

    `changes` has at least timestamp_ticks, sequence and action. Rejections whose sequence or time
    cannot be read count one by one, and are in no digest.
    """
    refused: dict[int, set[int]] = defaultdict(set)
    unreadable = Counter[int]()
    for rejection in rejections:
        if rejection.ticks is not None and rejection.sequence is not None:
            refused[rejection.ticks // TICKS_PER_HOUR].add(rejection.sequence)
        elif rejection.at is not None:
            unreadable[rejection.at // TICKS_PER_HOUR] += 1
    number = pc.divide(changes["timestamp_ticks"], TICKS_PER_HOUR)
    rows = changes.select(["sequence", "action"]).append_column("hour", number)
    rows, start, logged = rows.sort_by([("hour", "ascending"), ("sequence", "ascending")]), 0, {}
    for counted in pc.value_counts(rows["hour"]).to_pylist():
        logged[counted["values"]] = rows.slice(start, counted["counts"])
        start += counted["counts"]

    def hour_of(part: Window) -> Hour:
        hour = part.start // TICKS_PER_HOUR
        own, others = logged.get(hour, rows.slice(0, 0)), refused[hour]
        actions = {c["values"]: c["counts"] for c in pc.value_counts(own["action"]).to_pylist()}
        sequences = flat(pc.unique(own["sequence"]), pa.int64())
        if others:
            sequences = pc.unique(pa.concat_arrays([sequences, numbers(others)]))
            sequences = sequences.take(pc.sort_indices(sequences))
        return Hour(part, actions, sequences, len(others) + unreadable[hour])

    return [hour_of(part) for part in window.hours()]


def partitions_note(partitions: Partitions) -> str:
    """Return data partitions as the column `dataPartitions` has them."""
    return _ALL if partitions is None else ",".join(sorted(partitions))


def covers(note: str | None, kept: Partitions) -> bool:
    """Return True for the note of an hour that was read with all data partitions that are kept.

    An earlier release noted none. Its hours count as read with those kept at the first seal after
    the upgrade, which notes them.
    """
    return note in {None, _ALL} or (kept is not None and kept <= set(str(note).split(",")))


def narrowed_note(note: str | None, kept: frozenset[str]) -> str:
    """Return the note of an hour of which only the kept data partitions are left."""
    return partitions_note(kept if note in {None, _ALL} else kept & set(str(note).split(",")))


def seal(store: Store, hours: list[Hour], partitions: Partitions, run: Run) -> int:
    """Write the seals of hours, read with data partitions; return how many are new or changed.

    Hours that an earlier release has sealed get the note too, and keep their marks.
    """
    note = {PARTITIONS: partitions_note(partitions)}

    def attempt() -> int:
        sync = _with_every_mark(store.recent(SYNC))
        known = {row["hour"]: row for row in _rows(sync, [h.start for h in hours], unnoted=True)}
        bare = {hour for hour, row in known.items() if row[PARTITIONS] is None}
        known |= {hour: known[hour] | note for hour in bare}
        fresh = [hour for hour in hours if hour.start not in known]
        old = [(known[hour.start], hour) for hour in hours if hour.start in known]
        changed = [
            hour
            for row, hour in old
            if row[CHANGE.mark] is None or row | hour.seal_columns() | note != row
        ]
        only_noted = sorted(bare - {hour.start for hour in changed})
        difference = Difference(
            sync.table,
            inserts=_seal_rows(fresh, note, run.now),
            updates=_seal_rows(changed, note, run.now),
            patches=pa.Table.from_pylist(
                [{"hour": hour, **note} for hour in only_noted],
                schema=SYNC.arrow(["hour", PARTITIONS]),
            ),
        )
        sync.commit(difference, {"run_id": run.run_id})
        if sync.delta is not None and PARTITIONS in unfilled(sync.delta):
            mark_filled(store.open(SYNC), [PARTITIONS], run)
        return len(fresh) + len(changed)

    return converge(attempt) if hours else 0


def assumed_hours(sync: Snapshot) -> tuple[int, datetime | None]:
    """Return how many hours have data partitions that were not noted when they were read.

    Also when they were noted, None where that is still to come.
    """
    if sync.delta is None:
        return 0, None
    since = filled_at(sync.delta, PARTITIONS)
    sealed = _sealed(sync.rows(["hour", CHANGE.mark, PARTITIONS]).to_pylist())
    if since is not None:
        return sum(row[CHANGE.mark] < since for row in sealed), since
    return sum(row[PARTITIONS] is None for row in sealed), None


def unfilled_tables(store: Store) -> list[Table]:
    """Return the tables that owe no hour yet, because they were switched on later."""
    owing = marks_of(store)
    return [table for table in store.tables.values() if table.mark and table.name not in owing]


def open_hours(store: Store) -> dict[datetime, frozenset[str]]:
    """Return the hours that were read once, with the tables that do not show them.

    A check has removed their seals, or a run ended before the last table. No table shows an hour
    without a seal.
    """
    sync = store.open(SYNC)
    marks = marks_of(store, sync)
    rows = sync.rows(["hour", *marks.values()]).to_pylist()
    tables = {
        row["hour"]: frozenset(
            name for name, mark in marks.items() if row[mark] is None or row[CHANGE.mark] is None
        )
        for row in rows
        if row["hour"] is not None
    }
    return {hour: names for hour, names in sorted(tables.items()) if names}


def marks_switched_off(sync: Snapshot) -> list[str]:
    """Return the marks in `sync` of tables that are switched off here."""
    unknown = sync.column_names - set(sync.table.names)
    return sorted(name for name in unknown if name.endswith(_MARK_ENDS))


def _with_every_mark(sync: Snapshot) -> Snapshot:
    """Return `sync` with the marks of tables that are switched off, too.

    A seal that changes must remove those marks, because such a table may be switched on again.
    """
    marks = tuple(Column(name, TIMESTAMP, "", mark=True) for name in marks_switched_off(sync))
    return replace(sync, table=replace(sync.table, columns=(*sync.table.columns, *marks)))


def _seal_rows(hours: list[Hour], note: Mapping[str, object], now: datetime) -> pa.Table:
    rows = [{"hour": h.start, **h.seal_columns(), **note, CHANGE.mark: now} for h in hours]
    return pa.Table.from_pylist(rows, schema=SYNC.arrow())


def _rows(
    sync: Snapshot, hours: Collection[datetime], *, unnoted: bool = False
) -> list[dict[str, Any]]:
    """Return the rows from the first of some hours to the last.

    With `unnoted` also those of any hour that lack the data partitions.
    """
    if not hours:
        return []
    rows = sync.rows_between("hour", min(hours), max(hours) + HOUR).to_pylist()
    # An earlier release noted none, and has left the column out or unfilled.
    if unnoted and sync.delta and PARTITIONS not in sync.column_names - {*unfilled(sync.delta)}:
        known = {row["hour"] for row in rows}
        others = (row for row in sync.rows().to_pylist() if row["hour"] not in known)
        rows += [row for row in others if row[PARTITIONS] is None]
    return rows


def forget_switched_off(store: Store, run: Run) -> None:
    """Remove the marks of tables that are switched off.

    `instance` has changed and no seal has, so such a table would not learn of it. When it is
    switched on again, it owes all hours.
    """

    def attempt() -> None:
        known = store.open(SYNC)
        sync, off = _with_every_mark(known), marks_switched_off(known)
        rows = sync.rows(["hour", *off]).to_pylist() if off else []
        marked = [row["hour"] for row in rows if any(row[mark] for mark in off)]
        _set(sync, [{"hour": hour, **dict.fromkeys(off)} for hour in marked], run)

    converge(attempt)


@dataclass(frozen=True)
class Seals:
    """The seals of hours as they were when a run began.

    An hour is unchanged while its digest is. With `same_instance` the mark of `instance` has to be
    the same, too.
    """

    rows: tuple[Mapping[str, Any], ...]
    same_instance: bool = False

    def mark(self, store: Store, column: str, run: Run) -> int:
        """Set the mark of a table in the hours whose seals have not changed; return how many.

        A later step of the run sets it, when there is one in this process (`set_marks`).

        Marks of derived tables come after that of `instance`: an hour that `instance` did not show
        when the run began is not marked, because the run may have derived from older rows.
        """
        known = {
            row["hour"]: _identity(row, self.same_instance)
            for row in self.rows
            if column == INSTANCE.mark or row[INSTANCE.mark] is not None
        }
        if waiting := len(self.rows) - len(known):
            run.say(f"{waiting} hours stay open until instance shows them: materialize it first")

        store.owed.append(_Mark(column, known, self.same_instance))
        return 0 if run.marks_later else set_marks(store, run)


@dataclass(frozen=True)
class _Mark:
    """A mark that is due in the hours whose seals are still those given."""

    column: str
    seals: Mapping[datetime, tuple[object, ...]]
    same_instance: bool

    def is_due(self, row: Mapping[str, Any]) -> bool:
        """Return whether the hour of a row of `sync` gets the mark."""
        identity = _identity(row, self.same_instance)
        return row[self.column] is None and self.seals.get(row["hour"]) == identity


def _identity(row: Mapping[str, Any], same_instance: bool) -> tuple[object, ...]:  # noqa: FBT001 - of `Seals`
    return row["digest"], row[INSTANCE.mark] if same_instance else None


def set_marks(store: Store, run: Run) -> int:
    """Set the marks that the steps of a run owe, in one commit; return in how many hours."""

    def attempt() -> int:
        sync = store.recent(SYNC)
        marks = [mark for mark in store.owed if mark.column in sync.column_names]
        changed = []
        for row in _sealed(_rows(sync, [hour for mark in marks for hour in mark.seals])):
            if due := {mark.column: run.now for mark in marks if mark.is_due(row)}:
                marked = row | due
                changed.append(
                    {name: marked[name] for name in ("hour", *(m.column for m in marks))}
                )
        _set(sync, changed, run)
        return len(changed)

    try:
        return converge(attempt) if store.owed else 0
    finally:
        store.owed.clear()


def unmark(
    store: Store, window: Window | Collection[datetime], run: Run, *, seals: bool = False
) -> int:
    """Remove the marks of all tables from hours, and with `seals` their seals; return how many."""
    starts = _starts(window) if isinstance(window, Window) else window

    def attempt() -> int:
        sync = _with_every_mark(store.recent(SYNC))
        marks = [c.name for c in sync.table.columns if c.mark and c.name in sync.column_names]
        marks += [CHANGE.mark] if seals else []
        rows = [row for row in _rows(sync, starts) if row["hour"] in starts]
        marked = [row["hour"] for row in rows if any(row[mark] for mark in marks)]
        _set(sync, [{"hour": hour, **dict.fromkeys(marks)} for hour in marked], run)
        return len(marked)

    return converge(attempt) if starts else 0


def has_seals(store: Store, hours: Collection[datetime]) -> bool:
    """Return whether one of the hours is sealed, as this step has seen it."""
    return any(row["hour"] in hours for row in _sealed(_rows(store.recent(SYNC), hours)))


def reopen(store: Store, hours: Collection[datetime], run: Run) -> None:
    """Remove the seals of hours, so that the schedule requests them again."""

    def attempt() -> None:
        sync = store.recent(SYNC)
        sealed = {row["hour"] for row in _sealed(_rows(sync, hours))}
        marks: list[dict[str, object]] = [
            {"hour": hour, CHANGE.mark: None} for hour in sorted(sealed.intersection(hours))
        ]
        _set(sync, marks, run)

    if hours:
        converge(attempt)


def gone_tables(store: Store, absent: Sequence[Table] | None = None) -> list[str]:
    """Return those absent tables that had rows, by `sync` or by another table.

    Any other table may be absent: before this release, a table came with its first row.
    """
    absent = store.absent(store.tables.values()) if absent is None else absent
    if store.tables[SYNC.name] in absent:
        return [SYNC.name] if store.open(CHANGE).count() else []
    marks = marks_of(store) | {REJECTED.name: CHANGE.mark} if absent else {}
    seals = _sealed(store.open(SYNC).rows().to_pylist()) if absent else ()
    gone: list[str] = []
    for name in (table.name for table in absent if table.name in marks):
        marked = [row for row in seals if row[marks[name]]]
        if name == CHANGE.name:
            had_rows = any(row[column] for row in marked for column in _ACTIONS)
        elif name == REJECTED.name:
            had_rows = any(row["rejected"] for row in marked)
        elif name == INSTANCE.name:
            had_rows = CHANGE.name in gone or _has_live_entries(store, marked)
        else:
            had_rows = INSTANCE.name in gone or store.open(INSTANCE).count() > 0
        if marked and had_rows:
            gone.append(name)
    return gone


def _has_live_entries(store: Store, marked: Collection[Mapping[str, Any]]) -> bool:
    """Return whether the log has live instances in marked hours that do not wait in `rejected`."""
    log = store.open(CHANGE)
    if log.delta is None or not marked:
        return False
    hours = literals([ticks_of(row["hour"]) // TICKS_PER_HOUR for row in marked])
    waiting = literals([*rejected.sequences(store), -1])
    key = ", ".join(f'"{name}"' for name in INSTANCE.key)
    counted = log.query(f"""
        SELECT count(*) AS n
        FROM t JOIN (SELECT max("sequence") AS newest FROM t GROUP BY {key}) ON "sequence" = newest
        WHERE "action" <> 'Delete' AND coalesce("state", '') <> 'Deleted'
          AND "sequence" NOT IN ({waiting}) AND "timestamp_ticks" / {TICKS_PER_HOUR} IN ({hours})
        """)  # noqa: S608 - names of columns and numbers only
    return ints(counted["n"])[0] > 0


def require_tables(store: Store, run: Run, *tables: Table) -> None:
    """Create the tables that are absent. Raise DamagedTableError when one of them is gone.

    The hours lose the marks of a table that is gone, and of those below it, so that runs fill it
    again. Each step of a run begins with this, for its own table and those above (`tables`).
    """
    if tables and all(store.open(table).delta for table in tables):
        return
    absent = store.absent(store.tables.values())
    gone, unfilled = gone_tables(store, absent), unfilled_tables(store)
    if gone:
        store.owed.clear()
    for name in gone:
        converge(partial(_forget, store, name, run))
    for table in absent:
        if table not in unfilled:
            with suppress(ConflictError):
                store.create(table)
    if gone:
        raise gone_error(store, gone)


def gone_error(store: Store, gone: Collection[str]) -> DamagedTableError:
    """Return the error that names the tables that are gone."""
    places = ", ".join(f"{name} at {store.urls[name]}" for name in gone)
    return DamagedTableError(
        f"these tables are damaged, because their Delta log is gone: {places}. The hours that they "
        "showed are requested again, and the runs fill the tables. Read why, and how to restore "
        "them instead, in docs/operate/repair.md"
    )


def _forget(store: Store, name: str, run: Run) -> None:
    """Remove the marks of a table that is gone, and of the tables below it.

    Entries of `rejected` are in no other table. Their hours lose the seal too, and are read again.
    """
    sync = _with_every_mark(store.open(SYNC))
    marks = {column.name for column in sync.table.columns if column.mark} & sync.column_names
    if name not in {CHANGE.name, INSTANCE.name, REJECTED.name}:
        marks &= {store.tables[name].mark}
    rows = []
    for row in sync.rows().to_pylist():
        is_read_again = name == CHANGE.name or (name == REJECTED.name and row["rejected"])
        seal = None if is_read_again else row[CHANGE.mark]
        if any(row[mark] for mark in marks) or seal != row[CHANGE.mark]:
            rows.append({"hour": row["hour"], **dict.fromkeys(marks), CHANGE.mark: seal})
    _set(sync, rows, run)


def _set(sync: Snapshot, rows: list[dict[str, object]], run: Run) -> None:
    """Set columns of hours that are in `sync`; all rows have the same columns."""
    names = list(rows[0]) if rows else ["hour"]
    patch = pa.Table.from_pylist(rows, schema=sync.table.arrow(names))
    sync.commit(Difference(sync.table, patches=patch), {"run_id": run.run_id})


def digests_of(store: Store, bounds: Bounds) -> dict[datetime, str]:
    """Return the digest of each hour that has a seal, read with all data partitions kept."""
    rows = _sealed(_rows(store.open(SYNC), _starts(bounds.window)))
    return {r["hour"]: r["digest"] for r in rows if covers(r[PARTITIONS], bounds.partitions)}


def marked_hours(store: Store) -> dict[str, list[datetime]]:
    """Return the hours that carry each table's mark, ascending, whatever their bounds."""
    sync = store.open(SYNC)
    marks = marks_of(store, sync)
    rows = sync.rows(["hour", *marks.values()]).sort_by("hour").to_pylist()
    return {table: [row["hour"] for row in rows if row[mark]] for table, mark in marks.items()}


def has_marks(store: Store, table: Table) -> bool | None:
    """Return whether an hour carries a table's mark; None when the table owes no hour."""
    sync = store.recent(SYNC)
    if table.name not in marks_of(store, sync):
        return None
    return sync.has_value(table.mark)


def followed(store: Store, bounds: Bounds) -> set[datetime]:
    """Return the hours that all tables show (`showing`)."""
    return set.intersection(*showing(store, bounds).values())


def showing(store: Store, bounds: Bounds) -> dict[str, set[datetime]]:
    """Return the hours that each table shows, by the name of the table.

    `change` shows the hours that are sealed. `bounds` are where reading begins and ends, and the
    data partitions kept. No table shows an hour that was read with narrower bounds, and a table
    that is gone shows none.
    """
    sync, gone = store.open(SYNC), gone_tables(store)
    marks = marks_of(store, sync)
    columns = ["hour", "windowStart", "windowEnd", PARTITIONS, *marks.values()]
    whole = [row for row in sync.rows(columns).to_pylist() if _is_whole(row, bounds)]
    return {
        name: {row["hour"] for row in whole if row[mark] and name not in gone}
        for name, mark in marks.items()
    }


def sealed_window(row: Mapping[str, Any]) -> Window:
    """Return the part of its hour that a seal is about, from the row of `sync`."""
    return Window.between(row["windowStart"], row["windowEnd"])


def _is_whole(row: Mapping[str, Any], bounds: Bounds) -> bool:
    if row[CHANGE.mark] is None or not covers(row[PARTITIONS], bounds.partitions):
        return False
    start, window = ticks_of(row["hour"]), bounds.window
    wanted = Window(max(start, window.start), min(start + TICKS_PER_HOUR, window.end))
    read = sealed_window(row)
    return read.start <= wanted.start and wanted.end <= read.end


def _sealed(rows: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(row for row in rows if row["hour"] and row[CHANGE.mark])


def _starts(window: Window) -> list[datetime]:
    return [floor_hour(datetime_of(h.start)) for h in window.hours()]


def all_seals(store: Store) -> Seals:
    """Return the seals of every hour."""
    return Seals(_sealed(store.open(SYNC).rows().to_pylist()), same_instance=True)


def seals_of(store: Store, window: Window, run: Run) -> Seals:
    """Return the seals of a window's hours.

    Raises NotYetError when one is not in the log, unless the run has sealed it: then the audit has
    opened it since, and it stays open for the run that reads it again.
    """
    starts = _starts(window)
    sealed = _sealed(_rows(store.recent(SYNC), starts))
    if missing := len(starts) - len(sealed):
        if not run.seals:
            raise NotYetError(
                f"{missing} of the {len(starts)} hours from {window} are not in the change log "
                "yet: materialize `change` for them first"
            )
        run.say(f"{missing} hours were opened again meanwhile: they stay open, and are read again")
    owed = ({mark.column: run.now for mark in store.owed if mark.is_due(row)} for row in sealed)
    return Seals(tuple(row | due for row, due in zip(sealed, owed, strict=True)))
