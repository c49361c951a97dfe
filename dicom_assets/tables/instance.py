"""The `instance` table follows the log: one row per live instance, at its newest sequence.

`plan` decides; here the log and the table are opened, the headers of the difference are read, and
the difference is committed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import Final, Literal

import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed_contract import Feed, Headers, Rejection
from dicom_assets.header.extraction import header_map
from dicom_assets.schema import CHANGE, HEADER_MAP, INSTANCE, TIMESTAMP
from dicom_assets.tables import change as change_log
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables.delta.arrow import (
    Values,
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
from dicom_assets.tables.sync import seals_of
from dicom_assets.window import TICKS_PER_HOUR, Window

# A property of the table: in which form it keeps headers where no setting says so.
HEADER_COLUMNS: Final = "dicom_assets.headerColumns"
BOTH: Final = "both"
LAYOUT: list[tuple[str, Literal["ascending", "descending"]]] = [
    (name, "ascending")
    for name in ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sequence")
]


@dataclass(frozen=True)
class _Look:
    """What one attempt sees: the table, the log's rows in the window, and the plan."""

    target: Snapshot
    inside: pa.Table
    neighbours: pa.Table
    plan: Plan


@dataclass(frozen=True)
class _Read:
    """The pieces of a heavy read, put together."""

    rows: pa.Table
    deleted: frozenset[int]
    awaiting: frozenset[int]
    rejections: tuple[Rejection, ...]
    unparsable: Counter[str]
    pages: int
    bytes: int

    @classmethod
    def of(cls, pieces: Iterable[Headers], *, reads_on: bool) -> "_Read":
        got = list(pieces)
        rows = pa.concat_tables([p.rows for p in got] or [INSTANCE.arrow().empty_table()])
        awaiting = frozenset(s for p in got for s in p.replaced if reads_on)
        return cls(
            filter_out(rows, "sequence", numbers(awaiting)),
            frozenset(s for p in got for s in p.deleted),
            awaiting,
            tuple(r for p in got for r in p.rejections if r.sequence not in awaiting),
            sum((Counter(p.unparsable) for p in got), Counter()),
            sum(p.pages for p in got),
            sum(p.bytes for p in got),
        )


@dataclass(frozen=True)
class FollowLog(TableUpdate):
    """Bring the table to what the log says of every key that a window touched.

    An entry served as Replaced awaits the later hour that replaced it. Where reading stops at an
    end (not `reads_on`), that hour may never come: then the instance is taken as it stands now.
    A table that was taken over with its map filled gets the map too (`keeps_form`), unless a
    setting says in which form headers are kept.
    """

    window: Window
    feed: Feed
    reads_on: bool = True
    keeps_form: bool = True

    def commit(self, store: Store, run: Run) -> Outcome:
        """Read the headers of the difference, commit it, and mark the hours in `sync`.

        Raises NotYetError when an hour of the window is not in the log.
        """
        seals = seals_of(store, self.window)
        change_log.require_archive(store.open(CHANGE), self.feed)
        outcomes = settle(lambda: store.version(CHANGE), lambda: _attempt(store, self, run))
        seals.mark(store, INSTANCE.mark, run)
        return reduce(Outcome.then, outcomes)


def _attempt(store: Store, update: FollowLog, run: Run) -> Outcome:
    window, watch = update.window, Stopwatch()
    with watch.stage("plan"):
        look = _look(store, window, run)
    with watch.stage("read"):
        wanted = ints(look.plan.read["sequence"])
        pieces = update.feed.headers(look.neighbours, wanted) if wanted else ()
        if update.keeps_form and look.target.property(HEADER_COLUMNS) == BOTH:
            pieces = map(_with_map, pieces)
        counted = _counted(pieces, Progress(run.say, f"read {{}} of {len(wanted):,} headers"))
        got = _Read.of(counted, reads_on=update.reads_on)
        _require_answers(got, wanted, window)
    with watch.stage("commit"):
        difference = _difference(look, got, run.now)
        after = look.target.commit(difference, {"run_id": run.run_id, "window": str(window)})
        rejections.note(store, window, got.rejections, run)
        # What was rejected once and is gone now has no Delete entry: nothing else would settle it.
        if got.deleted:
            change_log.bury(store, set(rejections.sequences(store)) & got.deleted, run)
    return Outcome(
        version_before=look.target.version,
        version_after=after,
        rows=store.open(INSTANCE).count(),
        hours=_by_hour(window, look, got),
        totals=Counter({**difference.counts(), "pages": got.pages, "bytes": got.bytes}),
        unparsable=got.unparsable,
        seconds=watch.seconds,
    )


def _with_map(piece: Headers) -> Headers:
    """Return a piece whose rows hold the header as a map too."""
    texts = piece.rows["metadata_string"].to_pylist()
    maps = [None if text is None else header_map(text.encode()) for text in texts]
    at = piece.rows.schema.get_field_index("metadata")
    field = piece.rows.schema.field(at)
    return replace(piece, rows=piece.rows.set_column(at, field, pa.array(maps, HEADER_MAP)))


def _require_answers(got: _Read, wanted: list[int], window: Window) -> None:
    answered = {*ints(got.rows["sequence"]), *got.deleted, *got.awaiting}
    answered |= {r.sequence for r in got.rejections if r.sequence is not None}
    if missing := len(set(wanted) - answered):
        raise ServiceAnswerError(
            f"the two reads of the feed do not agree: of {len(wanted)} entries that the log asks "
            f"for in the window from {window}, {missing} were not served with their headers. "
            "Nothing was written; run the hour again, `change` included"
        )


def _counted(pieces: Iterable[Headers], progress: Progress) -> Iterator[Headers]:
    count = 0
    for piece in pieces:
        count += piece.rows.num_rows
        progress(count)
        yield piece


def _look(store: Store, window: Window, run: Run) -> _Look:
    # The target is opened before the log: what is committed on it was derived from what came later.
    target, log = store.open(INSTANCE), store.open(CHANGE)
    resting, due = rejections.waiting(store, run.now)
    inside = change_log.rows_in(log, window, LOG_COLUMNS)
    again = log.rows_of("sequence", sorted(due), LOG_COLUMNS)
    touched = pa.concat_tables([inside, again])
    studies = distinct(touched["studyinstanceuid"])
    history = log.rows_of("studyinstanceuid", studies, LOG_COLUMNS)
    stored = target.rows_of("studyinstanceuid", studies, STORED_COLUMNS)
    plan = make_plan(history, stored, pc.unique(key_of(touched)), resting)
    return _Look(target, inside, _neighbours(log, inside, plan.read), plan)


def _neighbours(log: Snapshot, inside: pa.Table, wanted: pa.Table) -> pa.Table:
    """Return the log rows among which the wanted ones lie: the window's, and other whole hours."""
    columns = ["sequence", "timestamp_ticks"]
    pieces = [inside.select(columns)]
    for hour in _hours_outside(inside, wanted):
        start = hour * TICKS_PER_HOUR
        pieces.append(change_log.rows_in(log, Window(start, start + TICKS_PER_HOUR), columns))
    rows = pa.concat_tables(pieces)
    return rows.group_by(columns).aggregate([]).select(columns)


def _hours_outside(inside: pa.Table, wanted: pa.Table) -> list[int]:
    outside = filter_out(wanted, "sequence", inside["sequence"])
    return sorted({ticks // TICKS_PER_HOUR for ticks in ints(outside["timestamp_ticks"])})


def _difference(look: _Look, got: _Read, now: datetime) -> Difference:
    plan = look.plan
    at = position(got.rows["sequence"], plan.read["sequence"])
    rows = _stamped(got.rows, plan.read["received_timestamp"].take(at), now)
    exists = plan.read["exists"].take(at)
    gone = filter_in(plan.read, "sequence", numbers(got.deleted))
    gone = gone.filter(gone["exists"]).select(plan.deletes.column_names)
    return Difference(
        look.target.table,
        inserts=rows.filter(pc.invert(exists)).sort_by(LAYOUT),
        updates=rows.filter(exists).sort_by(LAYOUT),
        deletes=pa.concat_tables([plan.deletes, gone]),
        patches=plan.patches,
    )


def _stamped(rows: pa.Table, received: Values, now: datetime) -> pa.Table:
    loaded = pa.array([now] * len(rows), TIMESTAMP)
    for name, values in (("received_timestamp", received), ("created_date", loaded)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(name), values)
    return rows


def _by_hour(window: Window, look: _Look, got: _Read) -> dict[int, Counter[str]]:
    outcome = _outcomes(look.plan, got)
    starts = (hour.start // TICKS_PER_HOUR * TICKS_PER_HOUR for hour in window.hours())
    hours = {start: Counter(dict.fromkeys(FATES, 0)) for start in starts}
    rows = zip(*(ints(look.inside[c]) for c in ("timestamp_ticks", "sequence")), strict=True)
    for ticks, sequence in rows:
        hours[ticks // TICKS_PER_HOUR * TICKS_PER_HOUR][outcome.get(sequence, "superseded")] += 1
    return hours


def _outcomes(plan: Plan, got: _Read) -> dict[int, str]:
    """Return what became of the newest entry of each touched key, by sequence."""
    outcome = dict.fromkeys(ints(plan.newest["sequence"]), "unchanged")
    outcome |= dict.fromkeys(ints(plan.deletes["sequence"]), "deleted")
    outcome |= dict.fromkeys(plan.paused, "rejected")
    outcome |= dict.fromkeys(ints(got.rows["sequence"]), "applied")
    outcome |= dict.fromkeys(got.deleted, "deleted") | dict.fromkeys(got.awaiting, "awaiting")
    return outcome | {r.sequence: "rejected" for r in got.rejections if r.sequence is not None}
