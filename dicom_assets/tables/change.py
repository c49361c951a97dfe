"""The `change` table: what each instance should be at, one row per sequence.

The light read of a window is added to the log, nothing is ever taken out of it. The one thing
that a row may learn later is that its instance is gone without a Delete entry (expiry).
"""

from collections import Counter
from dataclasses import dataclass
from itertools import groupby, repeat
from operator import itemgetter

import pyarrow as pa

from dicom_assets.errors import ForeignArchiveError
from dicom_assets.feed_contract import UNREADABLE, Entries, Feed, Rejection
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables import sync as seals
from dicom_assets.tables.delta.arrow import (
    distinct,
    filter_in,
    filter_out,
    ints,
    is_in,
    numbers,
    pc,
)
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch, TableUpdate
from dicom_assets.tables.plan import is_gone, key_of, newest_of
from dicom_assets.window import Window

# How often the newest entry is looked for before the service is said to be another one: a page that
# lacks a row now and then is no reason to refuse.
READINGS = 3
NO_LONGER_SERVED = "no longer served"
# A run reads no more of them than this, each with two small requests; the next run goes on.
RETRIED_AT_ONCE = 100
# What tells where a key stands.
_PLACED = ["sequence", *INSTANCE.key, "action", "state"]


def require_archive(log: Snapshot, feed: Feed) -> None:
    """The log's newest entry stands in the service as it stood: it is the same archive.

    Raises ForeignArchiveError when the entry is absent or has another key. An empty log fits any
    archive.
    """
    columns = ["sequence", "timestamp_ticks", *INSTANCE.key]
    newest = log.greatest("sequence", columns).to_pylist()
    if not newest:
        return
    places = repeat((newest[0]["sequence"], newest[0]["timestamp_ticks"]), READINGS)
    keys = (feed.key_of(*place) for place in places)
    found = next((key for key in keys if key is not None), None)
    if found != UNREADABLE and found != tuple(newest[0][column] for column in INSTANCE.key):
        raise ForeignArchiveError(
            f"the tables were filled from another or a re-created DICOM service: its entry with "
            f"sequence {newest[0]['sequence']} is not in this one. Nothing was written. Set "
            "DICOM_SERVICE_URL back, or DICOM_TABLES_URL to a new root"
        )


def rows_in(snapshot: Snapshot, window: Window, columns: list[str]) -> pa.Table:
    """Return the log's rows whose time lies in the window."""
    where = f'"timestamp_ticks" >= {window.start} AND "timestamp_ticks" < {window.end}'
    return snapshot.rows(columns, where)


@dataclass(frozen=True)
class AddEntries(TableUpdate):
    """Add every entry that the feed serves for a window to the log, and seal its hours."""

    window: Window
    feed: Feed

    def commit(self, store: Store, run: Run) -> Outcome:
        """Read the entries, add those that are new, and seal the hours with what the log holds.

        Raises ForeignArchiveError for another service's log.
        """
        return _read_in(store, self.window, self.feed, run)


def _read_in(store: Store, window: Window, feed: Feed, run: Run) -> Outcome:
    watch = Stopwatch()
    with watch.stage("read"):
        before = store.open(CHANGE)
        require_archive(before, feed)
        entries = feed.entries(window, Progress(run.say, "read {} entries of the feed"))
    with watch.stage("commit"):
        done = _take_in(store, before, window, entries, run)
    with watch.stage("retry"):
        _try_again(store, before, window, feed, run)
    with watch.stage("seal"):
        # Another run may add to the log meanwhile: the seal says what the log holds at the end.
        attempts = settle(lambda: store.version(CHANGE), lambda: _seal(store, window, entries, run))
        hours, sealed = attempts[-1][0], sum(changed for _, changed in attempts)
    totals = Counter(
        {
            **done.difference.counts(),
            "sealed": sealed,
            "skipped": entries.skipped,
            "pages": entries.pages,
            "bytes": entries.bytes,
        }
    )
    return Outcome(
        version_before=done.version_before,
        version_after=done.version_after,
        rows=store.open(CHANGE).count(),
        hours={hour.window.start: hour.counts() for hour in hours},
        totals=totals,
        seconds=watch.seconds,
    )


def _seal(store: Store, window: Window, entries: Entries, run: Run) -> tuple[list[seals.Hour], int]:
    inside = rows_in(store.open(CHANGE), window, ["sequence", "timestamp_ticks", "action"])
    hours = seals.hours_of(window, inside, entries.rejections)
    return hours, seals.seal(store, hours, run)


def _try_again(store: Store, before: Snapshot, window: Window, feed: Feed, run: Run) -> None:
    """Entries outside the window that could not be used are read again once their pause is over.

    Each is looked for at its own time. One that can be used by now is in the log, and `instance`
    plans it, because it is still in `rejected`.
    """
    due = {s: at for s, at in rejections.due(store, run.now).items() if not window.holds(at)}
    known = set(ints(before.rows_of("sequence", sorted(due), ["sequence"])["sequence"]))
    wanted = sorted((at, s) for s, at in due.items() if s not in known)
    for at, group in groupby(wanted[:RETRIED_AT_ONCE], itemgetter(0)):
        instant = Window(at, at + 1)
        wanted_now = {sequence for _, sequence in group}
        entries = _only(feed.entries(instant), wanted_now, at)
        _take_in(store, before, instant, entries, run)


def _take_in(
    store: Store, before: Snapshot, window: Window, entries: Entries, run: Run
) -> "_Added":
    """The entries are in the log, and those that cannot be used in `rejected`."""
    added = converge(lambda: _add(store, before, window, entries, run))
    rejections.note(store, window, entries.rejections, run)
    return added


def _only(read: Entries, wanted: set[int], at: int) -> Entries:
    """Return what a read says of the wanted sequences.

    An entry that came late at the same time is the affair of its own hour.
    """
    usable = filter_in(read.changes, "sequence", numbers(wanted))
    refused = tuple(r for r in read.rejections if r.sequence in wanted)
    served = {*ints(usable["sequence"]), *(r.sequence for r in refused)}
    lost = (Rejection(sequence, at, NO_LONGER_SERVED) for sequence in sorted(wanted - served))
    return Entries(usable, (*refused, *lost))


@dataclass(frozen=True)
class _Added:
    """What one attempt committed, and between which versions."""

    difference: Difference
    version_before: int
    version_after: int


def _add(store: Store, before: Snapshot, window: Window, entries: Entries, run: Run) -> _Added:
    log = store.open(CHANGE)
    known = rows_in(log, window, ["sequence"])
    fresh = filter_out(entries.changes, "sequence", known["sequence"])
    tombstones = _tombstones(before, log, entries.changes)
    if tombstones.num_rows:
        # Before the commit: a run that dies between the two leaves hours open, never false marks.
        seals.unmark(store, window, run)
    difference = Difference(CHANGE, inserts=fresh, patches=tombstones)
    after = log.commit(difference, {"run_id": run.run_id, "window": str(window)})
    return _Added(difference, log.version, after)


def bury(store: Store, sequences: set[int], run: Run) -> None:
    """The rows of entries whose headers were served as Deleted say so."""

    def attempt() -> None:
        log = store.open(CHANGE)
        rows = log.rows_of("sequence", sorted(sequences), ["sequence", "action", "state"])
        patch = _marked(rows.filter(pc.invert(is_gone(rows))))
        log.commit(Difference(CHANGE, patches=patch), {"run_id": run.run_id})

    if sequences:
        converge(attempt)


def _marked(rows: pa.Table) -> pa.Table:
    deleted = pa.array(["Deleted"] * len(rows), pa.string())
    return rows.select(["sequence"]).append_column("state", deleted)


def _tombstones(before: Snapshot, log: Snapshot, served: pa.Table) -> pa.Table:
    """Return a patch that marks the newest row of each key that is gone without a Delete entry.

    An instance expires, or gets other UIDs, and leaves no entry; but all its entries are served as
    Deleted from then on. `before` is the log from before the read: what it held of such a key is
    gone, whichever hour it lies in. The mark is lasting, because a re-created instance comes with
    a greater sequence.
    """
    is_deleted = pc.equal(served["state"], "Deleted")
    deleted, alive = served.filter(is_deleted), served.filter(pc.invert(is_deleted))
    known = before.rows_of("studyinstanceuid", distinct(deleted["studyinstanceuid"]), _PLACED)
    fresh = filter_out(served, "sequence", known["sequence"]).select(_PLACED)
    newest = newest_of(pa.concat_tables([known, fresh]))
    newest = newest.filter(is_in(key_of(newest), key_of(deleted)))
    silent = filter_out(
        filter_in(newest, "sequence", known["sequence"]), "sequence", alive["sequence"]
    )
    current = log.rows_of("sequence", ints(silent["sequence"]), ["sequence", "action", "state"])
    return _marked(current.filter(pc.invert(is_gone(current))))
