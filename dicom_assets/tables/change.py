"""The `change` table: the log of the state that each instance should have, one row per sequence.

The light read of a window adds rows to the log. A row changes in one case only: it is marked when
its instance is gone without a Delete entry (expiry). None is ever removed, but for those of data
partitions that are not kept any more (`upkeep.narrowing`).
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from dicom_assets.errors import ConflictError, ForeignArchiveError, MiscountError
from dicom_assets.feed_contract import UNREADABLE, Entries, Feed, Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets.tables import rejected, sync
from dicom_assets.tables.delta.arrow import (
    Values,
    filter_in,
    filter_out,
    ints,
    is_in,
    numbers,
    pc,
    texts,
)
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.slices import Slices, has_all, joined
from dicom_assets.tables.delta.snapshot import Snapshot, Store, one_step
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch, TableUpdate
from dicom_assets.tables.plan import is_gone, key_of, newest_of
from dicom_assets.window import TICKS_PER_HOUR, Window, datetime_of, floor_hour, ticks_of

# Requests for the newest entry before the service counts as another one: a page may now and then
# lack a row, which is no reason to refuse.
READINGS = 3
# The most entries that a run reads again, each with two small requests. The next run reads others.
RETRIED_AT_ONCE = 100
# What `touched` counts, and the rows whose UIDs it has as texts at once.
_KEYS = {"instances": INSTANCE.key, "series": SERIES.key, "studies": STUDY.key}
_HASHED_AT_ONCE = 20_000


def require_archive(log: Snapshot, feed: Feed) -> None:
    """Raise ForeignArchiveError unless the service has the log's newest entry with the same key.

    An empty log fits any archive.
    """
    columns = ["sequence", "timestamp_ticks", *INSTANCE.key]
    newest = log.greatest("sequence", columns).to_pylist()
    if not newest:
        return
    sequence, ticks, *own = (newest[0][column] for column in columns)
    keys = (feed.key_of(sequence, ticks) for _ in range(READINGS))
    served = next((key for key in keys if key is not None), None)
    if served not in {UNREADABLE, tuple(own)}:
        raise ForeignArchiveError(
            f"the tables were filled from another or a re-created DICOM service: its entry with "
            f"sequence {sequence} is not in this one. Nothing was written. Set "
            "DICOM_SERVICE_URL back, or DICOM_TABLES_URL to a new root"
        )


def rows_in(snapshot: Snapshot, window: Window, columns: list[str]) -> pa.Table:
    """Return the log's rows whose time lies in the window."""
    return snapshot.rows_between("timestamp_ticks", window.start, window.end, columns)


def study_counts(log: Snapshot, window: Window) -> pa.Table:
    """Return the studies (`study`) with rows in the window, and how many (`count`).

    They are in the order of their first rows, so that those side by side are in the same files.
    """
    at, study = "timestamp_ticks", "studyinstanceuid"
    counted = [pa.table({study: pa.array([], pa.string()), "count": numbers(()), at: numbers(())})]
    for rows in log.pieces_between(at, window.start, window.end, [study, at]):
        part = rows.group_by(study).aggregate([([], "count_all"), (at, "min")])
        counted.append(part.rename_columns(counted[0].column_names))
    whole = pa.concat_tables(counted).group_by(study).aggregate([("count", "sum"), (at, "min")])
    order = whole.sort_by([(f"{at}_min", "ascending"), (study, "ascending")])
    return order.select([study, "count_sum"]).rename_columns(["study", "count"])


def touched(log: Snapshot, window: Window) -> dict[int, Counter[str]]:
    """Count the entries, and the different instances, series and studies, of each hour of the log.

    The key is the start of the full hour in ticks. A UID counts by a hash of 64 bits, so a window
    takes 24 bytes for each entry, however many it has.
    """
    hours = {part.start // TICKS_PER_HOUR: Counter[str]() for part in window.hours()}
    keys: dict[str, list[pa.Table]] = {name: [] for name in _KEYS}
    columns = ["timestamp_ticks", *INSTANCE.key]
    for piece in log.pieces_between("timestamp_ticks", window.start, window.end, columns):
        for at in range(0, len(piece), _HASHED_AT_ONCE):
            rows = piece.slice(at, _HASHED_AT_ONCE)
            hour = pc.divide(rows["timestamp_ticks"], TICKS_PER_HOUR)
            for counted in pc.value_counts(hour).to_pylist():
                hours[counted["values"]]["entries"] += counted["counts"]
            uids = [rows[name].to_pylist() for name in INSTANCE.key]
            for name, key in _KEYS.items():
                hashes = numbers(map(hash, zip(*uids[: len(key)], strict=True)))
                pairs = pa.table({"hour": hour, "key": hashes})
                keys[name].append(pairs.group_by(pairs.column_names).aggregate([]))
    for name, parts in keys.items():
        pairs = pa.concat_tables(parts) if parts else pa.table({"hour": [], "key": []})
        distinct = pairs.group_by(pairs.column_names).aggregate([])
        for counted in pc.value_counts(distinct["hour"]).to_pylist():
            hours[counted["values"]][name] = counted["counts"]
    return {hour * TICKS_PER_HOUR: counts for hour, counts in hours.items()}


@dataclass(frozen=True)
class AddEntries(TableUpdate):
    """Add every entry that the feed serves for a window to the log, and seal its hours."""

    window: Window
    feed: Feed

    @one_step
    def commit(self, store: Store, run: Run) -> Outcome:
        """Read the entries, add the new ones, and seal the hours by the rows of the log.

        Raises ForeignArchiveError for the log of another service.
        """
        window, watch = self.window, Stopwatch()
        with watch.stage("read"):
            before = store.open(CHANGE)
            sync.require_tables(store, run, *([SYNC, REJECTED] if before.delta else []))
            require_archive(before, self.feed)
            served = _Served(store, before, window)
            progress = Progress(run.say, "read {} entries of the feed")
            entries = served.all_of(self.feed.entries(window, progress, served.take))
        with watch.stage("commit"):
            difference, version, after = _add(store, served, window, entries, run, is_sealed=False)
            rejected.replace_nameless(store, window, entries.rejections, run)
        with watch.stage("retry"):
            _retry_rejected(store, before, window, self.feed, run)
        with watch.stage("seal"):
            # Another run may add rows meanwhile: the seal is that of the log at the end.
            attempt = partial(_seal, store, window, entries, served.all, run)
            del before, served  # a handle that is in use is not brought up to date
            version_read = store.open(CHANGE).version
            attempts = settle(partial(store.version, CHANGE), attempt, version_read)
        hours, sealed = attempts[-1][0], sum(changed for _, changed in attempts)
        if hours is None:
            # Not retried here: the whole run has to read them again.
            raise ConflictError(
                f"entries of the hours from {window} were removed from the change log while this "
                "run was at work. They were not sealed. Run again"
            )
        totals = {"sealed": sealed, "skipped": entries.skipped}
        totals |= {"pages": entries.pages, "bytes": entries.bytes}
        log = store.recent(CHANGE)
        return Outcome(
            version_before=version,
            version_after=after,
            rows=log.count(),
            hours={ticks_of(hour.start): hour.counts() for hour in hours},
            touched=touched(log, window),
            totals=Counter(difference.counts() | totals),
            seconds=watch.seconds,
        )


def _seal(
    store: Store, window: Window, entries: Entries, served: Values, run: Run
) -> tuple[list[sync.Hour] | None, int]:
    """Seal the hours by the rows of the log; return them, or None when rows were removed from it.

    A seal would promise those rows, and the data partitions that this run has read.
    """
    inside = rows_in(store.recent(CHANGE), window, ["sequence", "timestamp_ticks", "action"])
    if not has_all(inside["sequence"], served):
        return None, 0
    logged, unusable = len(pc.unique(served)), len(entries.rejections)
    if entries.listed != logged + entries.skipped + unusable:
        raise MiscountError(
            f"the service listed {entries.listed} entries for {window}, and {logged} of them are "
            f"in the log, {entries.skipped} are of other data partitions, {unusable} cannot be used"
        )
    hours = sync.hours_of(window, inside, entries.rejections)
    return hours, sync.seal(store, hours, entries.partitions, run)


def _retry_rejected(store: Store, before: Snapshot, window: Window, feed: Feed, run: Run) -> None:
    """Read rejected entries outside the window again whose pause has passed.

    Each is requested at its own time. One that can be used now is added to the log, and `instance`
    plans it, because it is still in `rejected`. After an upgrade there may be many, and the hours
    of the rest are opened again.
    """
    passed, is_first = rejected.due(store, run)
    due = {sequence: at for sequence, at in passed.items() if not window.holds(at)}
    known = set(ints(before.rows_of("sequence", sorted(due), ["sequence"])["sequence"]))
    wanted = sorted((at, s) for s, at in due.items() if s not in known)
    if is_first:
        rest = {floor_hour(datetime_of(at)) for at, _ in wanted[RETRIED_AT_ONCE:]}
        sync.reopen(store, rest, run)
    for at, group in groupby(wanted[:RETRIED_AT_ONCE], itemgetter(0)):
        sequences, instant = [sequence for _, sequence in group], Window(at, at + 1)
        read = feed.entries(instant)
        # Others, which came late at the same time, are left to a run for their hour.
        usable = filter_in(read.changes, "sequence", pa.array(sequences))
        refused = tuple(r for r in read.rejections if r.sequence in sequences)
        met: set[int | None] = {*ints(usable["sequence"]), *(r.sequence for r in refused)}
        lost = (Rejection(s, at, "no longer served") for s in sequences if s not in met)
        entries = replace(read, changes=usable, rejections=(*refused, *lost))
        served = _Served(store, before, instant)
        _add(store, served, instant, served.all_of(entries), run, is_sealed=True)


class _Served(Slices):
    """The entries of a window that a feed serves. Those that the log lacks are written in slices.

    `all` are the sequences of all. `silent` are those of rows of the log whose instance is gone
    without a Delete entry.
    """

    def __init__(self, store: Store, before: Snapshot, window: Window) -> None:
        """`before` is the log before the read."""
        super().__init__()
        self._before = before
        self._target = (before if before.delta else store.open(CHANGE)).prepared()
        self._known = rows_in(self._target, window, ["sequence"])["sequence"]
        self.all: Values = numbers(())
        self.silent = list[int]()
        self._hours = set[int]()

    def take(self, changes: pa.Table) -> None:
        """Add entries in the order of the feed."""
        self.add(changes, self._target)

    def all_of(self, entries: Entries) -> Entries:
        """Add the last entries; return the others' numbers."""
        self.take(entries.changes)
        self.write(self._target)
        return replace(entries, changes=entries.changes.slice(0, 0))

    def finished(self, rows: pa.Table) -> pa.Table:
        """Return the rows that the log lacks."""
        self.all = joined([self.all, rows["sequence"]])
        self.silent += _silent(self._before, rows)
        fresh = filter_out(rows, "sequence", self._known)
        self._hours |= set(ints(pc.unique(pc.divide(fresh["timestamp_ticks"], TICKS_PER_HOUR))))
        return fresh

    def fresh_hours(self, log: Snapshot, window: Window) -> list[datetime]:
        """Leave out what a version of the log has; return the hours of the rest."""
        if log.version != self._target.version:
            self.leave_out(rows_in(log, window, ["sequence"])["sequence"], log)
        return [datetime_of(n * TICKS_PER_HOUR) for n in self._hours] if self.files else []


def _add(  # noqa: PLR0913 - the run's parts, and whether seals have the entries
    store: Store, served: _Served, window: Window, entries: Entries, run: Run, *, is_sealed: bool
) -> tuple[Difference, int, int]:
    """Add entries to the log, and those that cannot be used to `rejected`.

    Return the difference, and the versions of the log before and after it. `is_sealed` says that
    the seals of their hours have the entries, as rejected ones.
    """

    def attempt() -> tuple[Difference, int, int]:
        log = store.recent(CHANGE).prepared()
        fresh_hours = served.fresh_hours(log, window)
        tombstones = _tombstones(log, served.silent)
        if tombstones.num_rows:
            # Before the commit: a run that dies between them leaves hours open, never false marks.
            sync.unmark(store, window, run, seals=True)
        elif not is_sealed:
            # Also before: a sealed hour has no row that its seal lacks (`questions.seals`).
            sync.reopen(store, fresh_hours, run)
        difference = Difference(CHANGE, patches=tombstones, staged=served.files)
        note = {"run_id": run.run_id, "window": str(window)}
        return difference, log.version, log.commit(difference, note).version

    added = converge(attempt)
    rejected.note(store, window, entries.rejections, run)
    return added


def mark_deleted(store: Store, sequences: set[int], run: Run) -> None:
    """Mark the rows of entries as Deleted whose headers were served as Deleted."""

    def attempt() -> None:
        log = store.open(CHANGE)
        rows = log.rows_of("sequence", sorted(sequences), ["sequence", "action", "state"])
        log.commit(Difference(CHANGE, patches=_deletion_of(rows)), {"run_id": run.run_id})

    if sequences:
        converge(attempt)


def _deletion_of(rows: pa.Table) -> pa.Table:
    """Return the patch that marks those rows as Deleted that do not say so yet."""
    alive = rows.filter(pc.invert(is_gone(rows))).select(["sequence"])
    return alive.append_column("state", pa.array(["Deleted"] * len(alive), pa.string()))


def _tombstones(log: Snapshot, silent: list[int]) -> pa.Table:
    """Return a patch that marks rows as Deleted whose instance is gone without a Delete entry.

    The mark is never removed, because a re-created instance has a greater sequence.
    """
    return _deletion_of(log.rows_of("sequence", silent, ["sequence", "action", "state"]))


def _silent(before: Snapshot, served: pa.Table) -> list[int]:
    """Return the sequence of the newest row of each key that is gone without a Delete entry.

    An instance that expires, or gets other UIDs, leaves no entry, but from then on all its entries
    are served as Deleted. `before` is the log before the read: its rows of such a key are gone, in
    any hour. Where a later part of the read has a newer entry of the key, the mark is of no effect.
    """
    columns = ["sequence", *INSTANCE.key, "action", "state"]
    is_deleted = pc.equal(served["state"], "Deleted")
    deleted, alive = served.filter(is_deleted), served.filter(pc.invert(is_deleted))
    studies = pc.unique(deleted["studyinstanceuid"])
    known = before.rows_of("studyinstanceuid", sorted(texts(studies)), columns)
    own = filter_in(served, "studyinstanceuid", studies)
    fresh = filter_out(own, "sequence", known["sequence"]).select(columns)
    newest = newest_of(pa.concat_tables([known, fresh]))
    newest = newest.filter(is_in(key_of(newest), key_of(deleted)))
    silent = filter_in(newest, "sequence", known["sequence"])
    return ints(filter_out(silent, "sequence", alive["sequence"])["sequence"])
