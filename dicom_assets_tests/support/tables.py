"""Parts of the tests of the tables: windows, rows, a small archive and its feed.

`Archive` behaves as the service does: it appends entries, and serves each with the state and the
values of its instance as they stand now. Nothing here is HTTP.
"""

import copy
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from dicom_assets.feed_contract import Entries, Headers, Key, Rejection
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.outcome import Outcome
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS
from dicom_assets.window import Bounds, Partitions, Window, datetime_of, ticks_of
from dicom_assets_tests.support import steps

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
DEFAULT = "Microsoft.Default"
Row = dict[str, object]


def at(minutes: float) -> datetime:
    """The moment so many minutes after the start of the first hour."""
    return START + timedelta(minutes=minutes)


def ticks(minutes: float) -> int:
    """The same, in ticks."""
    return ticks_of(at(minutes))


def hours(first: float, last: float | None = None) -> Window:
    """The window from the start of one hour to the end of another; halves are half hours."""
    end = first + 1 if last is None else last
    return Window(ticks(first * 60), ticks(end * 60))


def bounds(first: float, last: float | None = None, *kept: str) -> Bounds:
    """The same window with the data partitions that are kept, all when none is given."""
    return Bounds(hours(first, last), frozenset(kept) or None)


def run(run_id: str = "run", now: datetime = NOW) -> Run:
    """A run, by default of the same name and moment."""
    return Run(run_id, now)


def key(sop: str = "1", study: str = "1", series: str = "1", partition: str = DEFAULT) -> Key:
    """The key of an instance, from the last parts of its UIDs."""
    return partition, f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{sop}"


def instances(*rows: Row, of: Key | None = None) -> pa.Table:
    """Rows of `instance`: each with its key, and null in every column that is not given."""
    named = dict(zip(INSTANCE.key, of or key(), strict=True))
    return pa.Table.from_pylist([named | row for row in rows], schema=INSTANCE.arrow())


def row(sequence: int | None, sop: str = "1", **columns: object) -> Row:
    """One row of `instance`, of the default study and series."""
    return dict(zip(INSTANCE.key, key(sop), strict=True)) | {"sequence": sequence} | columns


def logged(
    sequence: int,
    action: str = "Create",
    state: str = "Current",
    *,
    of: Key | None = None,
    minutes: float | None = None,
) -> Row:
    """One row of the log; its minute is its sequence unless another is given."""
    moment = sequence if minutes is None else minutes
    named = dict(zip(INSTANCE.key, of or key(), strict=True))
    said = {"sequence": sequence, "action": action, "state": state}
    return named | said | {"timestamp": at(moment), "timestamp_ticks": ticks(moment)}


def log_of(*rows: Row) -> pa.Table:
    """Log rows with the columns that a plan reads."""
    return pa.Table.from_pylist(list(rows), schema=CHANGE.arrow()).select(LOG_COLUMNS)


def stored_of(*rows: Row) -> pa.Table:
    """Rows of `instance` with the columns that a plan reads."""
    return instances(*rows).select(STORED_COLUMNS)


def insert(store: Store, table: Table, rows: Iterable[Mapping[str, object]]) -> int:
    """The rows are in the table; returns its version."""
    given = pa.Table.from_pylist([dict(r) for r in rows], schema=table.arrow())
    return store.open(table).commit(Difference(table, inserts=given), {"run_id": "given"}).version


def contents(store: Store, table: Table, *columns: str) -> list[tuple[object, ...]]:
    """The rows of a table, as sorted tuples of the columns."""
    rows = store.open(table).rows(list(columns)).to_pylist()
    return sorted((tuple(r[c] for c in columns) for r in rows), key=repr)


def versions(store: Store) -> dict[str, int]:
    """The version of every table."""
    return {table.name: store.version(table) for table in TABLES}


@dataclass
class Archive:
    """A DICOM service of a few instances, and the fake of its feed.

    `unreadable` gives reasons by sequence for headers that cannot be used, `unusable` the
    rejections of the light read; `meanwhile` is called once, in the middle of the next heavy read.
    `kept` are the data partitions that the feed's reads are limited to.
    """

    entries_: list[Row] = field(default_factory=list)
    live: dict[Key, Row] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    unusable: list[Rejection] = field(default_factory=list)
    meanwhile: Callable[[], object] | None = None
    asked: list[list[int]] = field(default_factory=list)
    next_sequence: int = 1
    kept: Partitions = None

    def create(self, minutes: float, *, of: Key | None = None, **values: object) -> int:
        """An instance is stored, for the first time or again."""
        return self._change("Create", minutes, of or key(), values)

    def update(self, minutes: float, *, of: Key | None = None, **values: object) -> int:
        """A live instance has other values."""
        return self._change("Update", minutes, of or key(), values)

    def delete(self, minutes: float, *, of: Key | None = None) -> int:
        """An instance is gone, with a Delete entry."""
        sequence = self._append("Delete", minutes, of or key())
        self.expire(of=of)
        return sequence

    def expire(self, *, of: Key | None = None) -> None:
        """An instance is gone, and no entry says so."""
        del self.live[of or key()]
        self._restate(of or key(), "Deleted")

    def _change(self, action: str, minutes: float, of: Key, values: Row) -> int:
        self._restate(of, "Replaced")
        self.live[of] = values
        return self._append(action, minutes, of)

    def _append(self, action: str, minutes: float, of: Key) -> int:
        sequence = self.next_sequence
        self.next_sequence += 1
        self.entries_.append(logged(sequence, action, "Current", of=of, minutes=minutes))
        return sequence

    def _restate(self, of: Key, state: str) -> None:
        for entry in self.entries_:
            if _key_in(entry) == of:
                entry["state"] = state

    def entries(
        self,
        window: Window,
        progress: Callable[[int], None] | None = None,
        take: Callable[[pa.Table], None] | None = None,
    ) -> Entries:
        """The light read: every entry of the window, with its state as it is now, one by one."""
        met = [e for e in self.entries_ if window.start <= _number(e, "timestamp_ticks")]
        met = [e for e in met if _number(e, "timestamp_ticks") < window.end]
        met = [e for e in met if self.kept is None or e["partitionName"] in self.kept]
        met.sort(key=lambda e: (_number(e, "timestamp_ticks"), _number(e, "sequence")))
        inside = [r for r in self.unusable if r.ticks is None or _holds(window, r.ticks)]
        rows, listed = pa.Table.from_pylist(met, schema=CHANGE.arrow()), len(met) + len(inside)
        if take is not None:
            for at in range(len(met)):
                take(rows.slice(at, 1))
            rows = rows.slice(0, 0)
        return Entries(rows, listed, tuple(inside), pages=1, partitions=self.kept)

    def headers(self, log: pa.Table, wanted: Collection[int]) -> Iterable[Headers]:
        """The heavy read: one piece for each wanted entry."""
        assert set(wanted) <= set(log["sequence"].to_pylist())
        self.asked.append(sorted(wanted))
        found = [self._header(e) for e in self.entries_ if e["sequence"] in wanted]
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return found

    def _header(self, entry: Row) -> Headers:
        sequence, none = _number(entry, "sequence"), INSTANCE.arrow().empty_table()
        if sequence in self.unreadable:
            moment, reason = _number(entry, "timestamp_ticks"), self.unreadable[sequence]
            return Headers(none, rejections=(Rejection(sequence, moment, reason),), pages=1)
        if entry["state"] == "Deleted":
            return Headers(none, deleted=(sequence,), pages=1)
        seen = {"sequence": sequence, "lastModifiedTimestamp": entry["timestamp"]}
        of = _key_in(entry)
        replaced = (sequence,) if entry["state"] == "Replaced" else ()
        return Headers(instances(seen | self.live[of], of=of), replaced=replaced, pages=1)

    def key_of(self, sequence: int, ticks: int) -> Key | None:
        """The key of the entry with that sequence and time."""
        for entry in self.entries_:
            if (entry["sequence"], entry["timestamp_ticks"]) == (sequence, ticks):
                return _key_in(entry)
        return None


def _holds(window: Window, moment: int) -> bool:
    return window.start <= moment < window.end


def _number(row: Row, column: str) -> int:
    value = row[column]
    assert isinstance(value, int)
    return value


def _key_in(entry: Row) -> Key:
    partition, study, series, sop = (str(entry[name]) for name in INSTANCE.key)
    return partition, study, series, sop


@dataclass
class Bench:
    """An archive and the tables that follow it, step by step as a run would."""

    store: Store
    archive: Archive = field(default_factory=Archive)

    def copied(self, folder: Path) -> "Bench":
        """The same in a folder of its own, for one test to spoil."""
        root = Path(self.store.urls[SYNC.name]).parent
        tables = Path(shutil.copytree(root, folder / "tables"))
        return Bench(steps.store_in(tables), copy.deepcopy(self.archive))

    def change(self, window: Window, by: Run | None = None) -> Outcome:
        """The window is in the log."""
        return steps.add_entries(self.store, window, self.archive, by or run())

    def instance(self, window: Window, by: Run | None = None, *, reads_on: bool = True) -> Outcome:
        """`instance` follows the log for the window."""
        return steps.follow_log(self.store, window, self.archive, by or run(), reads_on=reads_on)

    def rollup(self, table: Table, window: Window, by: Run | None = None) -> Outcome:
        """`series` or `study` follows `instance` for the window."""
        return steps.derive(self.store, table, window, by or run())

    def sync(self, window: Window, by: Run | None = None) -> Outcome:
        """All four steps of a run are done; returns what the one of `instance` came to."""
        self.change(window, by)
        outcome = self.instance(window, by)
        self.rollup(SERIES, window, by)
        self.rollup(STUDY, window, by)
        return outcome


def total(outcome: Outcome, minutes: float = 0) -> Row:
    """Return the results of the entries of one hour, without zeros."""
    return {name: count for name, count in outcome.hours[ticks(minutes)].items() if count}


def moment(value: int) -> datetime:
    """The datetime of ticks, for expectations."""
    return datetime_of(value)
