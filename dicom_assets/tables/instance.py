"""The `instance` table follows the log: one row per live instance, at its newest sequence.

`plan` decides. This module opens the log and the table, reads the headers of the difference, and
commits the difference.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import Final

import pyarrow as pa

from dicom_assets.errors import MiscountError, ServiceAnswerError
from dicom_assets.feed_contract import Feed, Headers, Rejection
from dicom_assets.header.extraction import header_map
from dicom_assets.schema import CHANGE, HEADER_MAP, INSTANCE, TIMESTAMP
from dicom_assets.tables import change, rejected
from dicom_assets.tables.delta.arrow import (
    distinct,
    filter_in,
    filter_out,
    ints,
    numbers,
    pc,
    position,
)
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, settle
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.outcome import FATES, Outcome, Progress, Stopwatch, TableUpdate
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, Plan, key_of, make_plan
from dicom_assets.tables.sync import require_tables, seals_of
from dicom_assets.window import TICKS_PER_HOUR, Window

# The table's property for the form in which it keeps headers unless a setting says it.
HEADER_FORM: Final = "dicom_assets.headerColumns"
BOTH: Final = "both"


@dataclass(frozen=True)
class _Planned:
    """The plan of one attempt, with the table and the rows of the log that it is made from."""

    target: Snapshot
    inside: pa.Table
    neighbours: pa.Table
    plan: Plan


@dataclass(frozen=True)
class _ReadHeaders:
    """The pieces of a heavy read, put together."""

    rows: pa.Table
    deleted: frozenset[int]
    awaiting: frozenset[int]
    rejections: tuple[Rejection, ...]
    unparsable: Counter[str]
    pages: int
    bytes: int

    @classmethod
    def of(cls, parts: Sequence[Headers], *, reads_on: bool) -> "_ReadHeaders":
        rows = pa.concat_tables([p.rows for p in parts] or [INSTANCE.arrow().empty_table()])
        awaiting = frozenset(s for p in parts for s in p.replaced if reads_on)
        return cls(
            filter_out(rows, "sequence", numbers(awaiting)),
            frozenset(s for p in parts for s in p.deleted),
            awaiting,
            tuple(r for p in parts for r in p.rejections if r.sequence not in awaiting),
            sum((Counter(p.unparsable) for p in parts), Counter()),
            sum(p.pages for p in parts),
            sum(p.bytes for p in parts),
        )


@dataclass(frozen=True)
class FollowLog(TableUpdate):
    """Update the rows of every key that a window touched, to the state that the log says.

    An entry served as Replaced waits for the later hour that replaced it. Where reading stops at an
    end (`reads_on` is false), that hour may never be read, so the instance is stored as it is now.
    With `keeps_form`, a table that was taken over with its map filled gets the map too. It is false
    when a setting says the form of headers.
    """

    window: Window
    feed: Feed
    reads_on: bool = True
    keeps_form: bool = True

    def commit(self, store: Store, run: Run) -> Outcome:
        """Read the headers of the difference, commit it, and mark the hours in `sync`.

        Raises NotYetError when an hour of the window is not in the log (`seals_of`).
        """
        log = store.open(CHANGE)
        require_tables(store, run, *([INSTANCE] if log.delta else []))
        seals = seals_of(store, self.window, run)
        change.require_archive(log, self.feed)
        outcomes = settle(lambda: store.version(CHANGE), lambda: _attempt(store, self, run))
        seals.mark(store, INSTANCE.mark, run)
        return reduce(Outcome.then, outcomes)


def _attempt(store: Store, update: FollowLog, run: Run) -> Outcome:
    window, watch = update.window, Stopwatch()
    with watch.stage("plan"):
        planned = _planned(store, window, run)
    with watch.stage("read"):
        read = _read(update, planned, run)
    with watch.stage("commit"):
        hours = _by_hour(window, planned, read)
        difference = _difference(planned, read, run.now)
        after = planned.target.commit(difference, {"run_id": run.run_id, "window": str(window)})
        rejected.note(store, window, read.rejections, run)
        # An instance that was rejected and is gone has no Delete entry. Nothing else settles it.
        if read.deleted:
            change.mark_deleted(store, set(rejected.sequences(store)) & read.deleted, run)
    return Outcome(
        version_before=planned.target.version,
        version_after=after,
        rows=store.open(INSTANCE).count(),
        hours=hours,
        totals=Counter({**difference.counts(), "pages": read.pages, "bytes": read.bytes}),
        unparsable=read.unparsable,
        seconds=watch.seconds,
    )


def _read(update: FollowLog, planned: _Planned, run: Run) -> _ReadHeaders:
    """Raise ServiceAnswerError unless the service answered for every wanted sequence."""
    wanted = ints(planned.plan.read["sequence"])
    with_map = update.keeps_form and planned.target.property(HEADER_FORM) == BOTH
    progress = Progress(run.say, f"read {{}} of {len(wanted):,} headers")
    parts: list[Headers] = []
    count = 0
    for piece in update.feed.headers(planned.neighbours, wanted) if wanted else ():
        parts.append(_with_map(piece) if with_map else piece)
        count += piece.rows.num_rows
        progress(count)
    read = _ReadHeaders.of(parts, reads_on=update.reads_on)
    answered = {*ints(read.rows["sequence"]), *read.deleted, *read.awaiting}
    answered |= {r.sequence for r in read.rejections if r.sequence is not None}
    if missing := len(set(wanted) - answered):
        raise ServiceAnswerError(
            f"the two reads of the feed do not agree: of {len(wanted)} entries that the log has "
            f"in the window from {update.window}, {missing} were not served with their headers. "
            "Nothing was written. Run the hour again, `change` included"
        )
    return read


def _with_map(piece: Headers) -> Headers:
    """Return a piece with the header as a map, too."""
    texts = piece.rows["metadata_string"].to_pylist()
    maps = [None if text is None else header_map(text.encode()) for text in texts]
    at = piece.rows.schema.get_field_index("metadata")
    field = piece.rows.schema.field(at)
    return replace(piece, rows=piece.rows.set_column(at, field, pa.array(maps, HEADER_MAP)))


def _planned(store: Store, window: Window, run: Run) -> _Planned:
    # The target is opened before the log, so that a commit on it never misses newer rows of the
    # log that another commit on the target has used.
    target, log = store.open(INSTANCE), store.open(CHANGE)
    inside = change.rows_in(log, window, LOG_COLUMNS)
    own = set(ints(inside["sequence"])) if run.retries_resting else ()
    resting, due = rejected.waiting(store, run, own)
    again = log.rows_of("sequence", sorted(due), LOG_COLUMNS)
    touched = pa.concat_tables([inside, again])
    studies = distinct(touched["studyinstanceuid"])
    history = log.rows_of("studyinstanceuid", studies, LOG_COLUMNS)
    stored = target.rows_of("studyinstanceuid", studies, STORED_COLUMNS)
    plan = make_plan(history, stored, pc.unique(key_of(touched)), resting)
    if resting:
        run.say(
            f"{len(resting)} rejected entries rest, the last until "
            f"{max(resting.values()):%Y-%m-%d %H:%M} UTC. {len(plan.paused)} of them are of these "
            "hours. A run of an hour that a person starts tries those of the hour at once"
        )
    return _Planned(target, inside, _neighbours(log, inside, plan.read), plan)


def _neighbours(log: Snapshot, inside: pa.Table, wanted: pa.Table) -> pa.Table:
    """Return the rows of the log in the window, and in the other hours of the wanted entries."""
    columns = ["sequence", "timestamp_ticks"]
    outside = filter_out(wanted, "sequence", inside["sequence"])
    pieces = [inside.select(columns)]
    for hour in sorted({ticks // TICKS_PER_HOUR for ticks in ints(outside["timestamp_ticks"])}):
        start = hour * TICKS_PER_HOUR
        pieces.append(change.rows_in(log, Window(start, start + TICKS_PER_HOUR), columns))
    rows = pa.concat_tables(pieces)
    return rows.group_by(columns).aggregate([]).select(columns)


def _difference(planned: _Planned, read: _ReadHeaders, now: datetime) -> Difference:
    plan = planned.plan
    layout = ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sequence")
    rows = read.rows.sort_by([(name, "ascending") for name in layout])
    at = position(rows["sequence"], plan.read["sequence"])
    received = plan.read["received_timestamp"].take(at)
    loaded = pa.array([now] * len(rows), TIMESTAMP)
    for name, values in (("received_timestamp", received), ("created_date", loaded)):
        column = rows.schema.get_field_index(name)
        rows = rows.set_column(column, rows.schema.field(name), values)
    exists = plan.read["exists"].take(at)
    gone = filter_in(plan.read, "sequence", numbers(read.deleted))
    gone = gone.filter(gone["exists"]).select(plan.deletes.column_names)
    return Difference(
        planned.target.table,
        inserts=rows.filter(pc.invert(exists)),
        updates=rows.filter(exists),
        deletes=pa.concat_tables([plan.deletes, gone]),
        patches=plan.patches,
    )


def _by_hour(window: Window, planned: _Planned, read: _ReadHeaders) -> dict[int, Counter[str]]:
    """Count the entries by hour and result. Raises MiscountError for one without a result."""
    plan, inside = planned.plan, planned.inside
    newest = plan.newest["sequence"].take(position(key_of(inside), key_of(plan.newest)))
    older = inside.filter(pc.less(inside["sequence"], newest))
    kept = filter_out(plan.newest, "sequence", plan.read["sequence"])
    fates = dict.fromkeys(ints(older["sequence"]), "superseded")
    fates |= dict.fromkeys(ints(kept["sequence"]), "unchanged")
    fates |= dict.fromkeys(ints(plan.deletes["sequence"]), "deleted")
    fates |= dict.fromkeys(plan.paused, "rejected")
    fates |= dict.fromkeys(ints(read.rows["sequence"]), "applied")
    fates |= dict.fromkeys(read.deleted, "deleted") | dict.fromkeys(read.awaiting, "awaiting")
    fates |= {r.sequence: "rejected" for r in read.rejections if r.sequence is not None}
    hours = {h.start // TICKS_PER_HOUR: Counter(dict.fromkeys(FATES, 0)) for h in window.hours()}
    if lost := len(set(ints(inside["sequence"])) - fates.keys()):
        raise MiscountError(f"{lost} of {len(inside)} entries of {window} have no result")
    rows = zip(*(ints(inside[c]) for c in ("timestamp_ticks", "sequence")), strict=True)
    for ticks, sequence in rows:
        hours[ticks // TICKS_PER_HOUR][fates[sequence]] += 1
    return {hour * TICKS_PER_HOUR: counts for hour, counts in hours.items()}
