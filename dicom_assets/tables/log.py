"""The `change` table: what each instance should be at, one row per sequence.

The light read of a window is added to the log, nothing is ever taken out of it. The one thing
that a row may learn later is that its instance is gone without a Delete entry (expiry).
"""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from dicom_assets.errors import ForeignArchiveError
from dicom_assets.reads import Entries, Feed, Rejection
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables import rejections, seals
from dicom_assets.tables.arrow import distinct, filter_in, filter_out, ints, is_in, pc
from dicom_assets.tables.converge import Run, converge
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch
from dicom_assets.tables.plan import is_gone, key_of, newest_of
from dicom_assets.tables.store import Difference, Snapshot, Store
from dicom_assets.window import Window

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
    found = feed.key_of(newest[0]["sequence"], newest[0]["timestamp_ticks"])
    if found != tuple(newest[0][column] for column in INSTANCE.key):
        raise ForeignArchiveError(
            f"the tables were filled from another or a re-created DICOM service: its entry with "
            f"sequence {newest[0]['sequence']} is not in this one. Nothing was written. Set "
            "DICOM_SERVICE_URL back, or DICOM_TABLES_URL to a new root"
        )


def rows_in(snapshot: Snapshot, window: Window, columns: list[str]) -> pa.Table:
    """Return the log's rows whose time lies in the window."""
    where = f'"timestamp_ticks" >= {window.start} AND "timestamp_ticks" < {window.end}'
    return snapshot.rows(columns, where)


def add(store: Store, window: Window, feed: Feed, run: Run) -> Outcome:
    """Every entry that the feed serves for the window is in the log, and its hours are sealed."""
    watch = Stopwatch()
    with watch.stage("read"):
        before = store.open(CHANGE)
        require_archive(before, feed)
        entries = feed.entries(window, Progress(run.say, "read {} entries of the feed"))
    with watch.stage("commit"):
        done = converge(lambda: _add(store, before, window, entries, run))
        rejections.note(store, window, entries.rejections, run)
    with watch.stage("retry"):
        _try_again(store, before, window, feed, run)
    with watch.stage("seal"):
        hours = seals.hours_of(window, done.inside, entries.rejections)
        sealed = seals.seal(store, hours, run)
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


def _try_again(store: Store, before: Snapshot, window: Window, feed: Feed, run: Run) -> None:
    """Entries outside the window that could not be used are read again once their pause is over.

    Each is looked for at its own time. One that can be used by now is in the log, and `instance`
    plans it, because it is still in `rejected`.
    """
    due = {s: at for s, at in rejections.due(store, run.now).items() if not window.holds(at)}
    known = ints(before.rows_of("sequence", sorted(due), ["sequence"])["sequence"])
    for sequence, at in sorted(due.items())[:RETRIED_AT_ONCE]:
        if sequence not in known:
            _try(store, before, Rejection(sequence, at, NO_LONGER_SERVED), feed, run)


def _try(store: Store, before: Snapshot, missing: Rejection, feed: Feed, run: Run) -> None:
    instant = Window(missing.ticks or 0, (missing.ticks or 0) + 1)
    entries = feed.entries(instant)
    converge(lambda: _add(store, before, instant, entries, run))
    served = {*ints(entries.changes["sequence"]), *(r.sequence for r in entries.rejections)}
    lost = () if missing.sequence in served else (missing,)
    rejections.note(store, instant, (*entries.rejections, *lost), run)


@dataclass(frozen=True)
class _Added:
    """What one attempt committed, and all that the log holds inside the window after it."""

    inside: pa.Table
    difference: Difference
    version_before: int
    version_after: int


def _add(store: Store, before: Snapshot, window: Window, entries: Entries, run: Run) -> _Added:
    log = store.open(CHANGE)
    known = rows_in(log, window, ["sequence", "timestamp_ticks", "action"])
    fresh = filter_out(entries.changes, "sequence", known["sequence"])
    difference = Difference(
        CHANGE, inserts=fresh, patches=_tombstones(before, log, entries.changes)
    )
    after = log.commit(difference, {"run_id": run.run_id, "window": str(window)})
    inside = pa.concat_tables([known, fresh.select(known.column_names)])
    return _Added(inside, difference, log.version, after)


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
    marked = current.filter(pc.invert(is_gone(current))).select(["sequence"])
    return marked.append_column("state", pa.array(["Deleted"] * len(marked), pa.string()))
