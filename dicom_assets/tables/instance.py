"""The `instance` table follows the log: one row per live instance, at its newest sequence.

`plan` decides. This module opens the log and the table, reads the headers of the difference, and
commits the difference.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial, reduce
from typing import Final, cast

import pyarrow as pa

from dicom_assets.errors import MiscountError, ServiceAnswerError
from dicom_assets.feed_contract import Feed, Headers, Rejection
from dicom_assets.header.extraction import header_map
from dicom_assets.schema import CHANGE, HEADER_MAP, INSTANCE, SYNC, TIMESTAMP
from dicom_assets.tables import change, rejected
from dicom_assets.tables.delta.arrow import (
    Values,
    distinct,
    filter_in,
    filter_out,
    ints,
    is_in,
    looked_up,
    numbers,
    pc,
    position,
    texts,
)
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, settle
from dicom_assets.tables.delta.slices import Slices, joined
from dicom_assets.tables.delta.snapshot import Snapshot, Store, one_step
from dicom_assets.tables.outcome import FATES, Outcome, Progress, Stopwatch, TableUpdate
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, Plan, key_of, make_plan
from dicom_assets.tables.sync import require_tables, seals_of
from dicom_assets.window import TICKS_PER_HOUR, Window

# Entries of the log that are planned at once, and headers that one read is about.
RANGE_ENTRIES: Final = 25_000
READ_AT_ONCE: Final = 50_000
READ_COLUMNS: Final = ["sequence", "timestamp_ticks", "received_timestamp"]
# The table's property for the form in which it keeps headers unless a setting says it.
HEADER_FORM: Final = "dicom_assets.headerColumns"
BOTH: Final = "both"


@dataclass(frozen=True)
class _Planned:
    """The plan of one attempt, in what the rest of it needs of each change.

    `read`: sequence, timestamp_ticks and received_timestamp of the entries whose headers are to be
    read, in the order of the feed. `replaced`: key columns and sequence of those whose instance has
    a row. `deletes` and `patches` are those of `Plan`. `log`: sequence and timestamp_ticks of the
    window's rows, which are `entries`, and of those in the other hours of `read`. `fates`: how many
    entries of each hour need no header, by their result.
    """

    target: Snapshot
    entries: int
    log: pa.Table
    read: pa.Table
    replaced: pa.Table
    deletes: pa.Table
    patches: pa.Table
    fates: Mapping[int, Counter[str]]


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

    @one_step
    def commit(self, store: Store, run: Run) -> Outcome:
        """Read the headers of the difference, commit it, and mark the hours in `sync`.

        Raises NotYetError when an hour of the window is not in the log (`seals_of`).
        """
        # In this order: no hour is marked whose entries the log does not show yet. For the table,
        # see `_planned`.
        require_tables(store, run, SYNC, INSTANCE, CHANGE)
        seals = seals_of(store, self.window, run)
        log = store.recent(CHANGE)
        change.require_archive(log, self.feed)
        staged = _Staged(self.reads_on, run.now)
        attempt = partial(_attempt, store, self, staged, run)
        outcomes = settle(partial(store.version, CHANGE), attempt, log.version)
        seals.mark(store, INSTANCE.mark, run)
        touched = change.touched(store.recent(CHANGE), self.window)
        return replace(reduce(Outcome.then, outcomes), touched=touched)


class _Staged(Slices):
    """The headers that a run has read, their rows in data files that no commit names yet.

    It outlives an attempt that lost its commit: the next one reads what its plan wants beyond it.
    """

    def __init__(self, reads_on: bool, now: datetime) -> None:  # noqa: FBT001 - as `FollowLog` has it
        self._reads_on, self._now = reads_on, now
        self.clear()

    def clear(self) -> None:
        """Begin anew, after a commit."""
        super().__init__()
        self.received: pa.Table | None = None
        self.deleted, self.awaiting = set[int](), set[int]()
        self.rejections = dict[int | None, Rejection]()
        self.unparsable, self.pages, self.bytes = Counter[str](), 0, 0

    @property
    def answered(self) -> Values:
        """The sequences that the service has answered for."""
        return joined([self.sequences, self._others])

    @property
    def _others(self) -> Values:
        answered = {*self.deleted, *self.awaiting, *self.rejections} - {None}
        return numbers(cast("set[int]", answered))

    def take(self, piece: Headers, target: Snapshot) -> None:
        """Add a part of the read."""
        awaiting = set(piece.replaced) if self._reads_on else set()
        self.deleted |= set(piece.deleted)
        self.awaiting |= awaiting
        self.rejections |= {r.sequence: r for r in piece.rejections if r.sequence not in awaiting}
        self.unparsable.update(piece.unparsable)
        self.pages, self.bytes = self.pages + piece.pages, self.bytes + piece.bytes
        self.add(filter_out(piece.rows, "sequence", numbers(awaiting)), target)

    def finished(self, rows: pa.Table) -> pa.Table:
        """Return the rows with the times that the plan and the run give them."""
        # Of the rows only: a look-up in all of a plan takes as much as a slice.
        plan = filter_in(cast("pa.Table", self.received), "sequence", rows["sequence"])
        received = looked_up(rows["sequence"], plan["sequence"], plan["received_timestamp"])
        loaded = pa.array([self._now] * len(rows), TIMESTAMP)
        for name, values in (("received_timestamp", received), ("created_date", loaded)):
            column = rows.schema.get_field_index(name)
            rows = rows.set_column(column, rows.schema.field(name), values)
        return rows

    def follow(self, plan: pa.Table) -> None:
        """Forget what another plan does not want. A slice with one row too many is read again."""
        wanted = set(ints(filter_in(plan, "sequence", self._others)["sequence"]))
        self.received = plan
        self.keep(plan["sequence"])
        self.deleted &= wanted
        self.awaiting &= wanted
        self.rejections = {s: r for s, r in self.rejections.items() if s in wanted}


def _attempt(store: Store, update: FollowLog, staged: _Staged, run: Run) -> Outcome:
    window, watch = update.window, Stopwatch()
    with watch.stage("plan"):
        planned = _planned(store, window, run)
    with watch.stage("read"):
        _read(update, planned, staged, run)
    with watch.stage("commit"):
        hours = _by_hour(window, planned, staged)
        difference = _difference(planned, staged)
        committed = planned.target.commit(difference, {"run_id": run.run_id, "window": str(window)})
        rejected.note(store, window, staged.rejections.values(), run)
        # An instance that was rejected and is gone has no Delete entry. Nothing else settles it.
        if staged.deleted:
            change.mark_deleted(store, set(rejected.sequences(store)) & staged.deleted, run)
    outcome = Outcome(
        version_before=planned.target.version,
        version_after=committed.version,
        rows=committed.rows,
        hours=hours,
        totals=Counter({**difference.counts(), "pages": staged.pages, "bytes": staged.bytes}),
        unparsable=staged.unparsable,
        seconds=watch.seconds,
    )
    staged.clear()
    return outcome


def _read(update: FollowLog, planned: _Planned, staged: _Staged, run: Run) -> None:
    """Stage the rows. Raise ServiceAnswerError unless the service answered for each sequence."""
    target = planned.target
    staged.follow(planned.read)
    left = filter_out(planned.read, "sequence", staged.answered)
    with_map = update.keeps_form and target.property(HEADER_FORM) == BOTH
    progress = Progress(run.say, f"read {{}} of {len(left):,} headers")
    count = 0
    # What the plan had at once, too.
    pa.default_memory_pool().release_unused()
    for at in range(0, len(left), READ_AT_ONCE):
        wanted = left.slice(at, READ_AT_ONCE)
        ticks = wanted["timestamp_ticks"]
        after = pc.greater_equal(planned.log["timestamp_ticks"], ticks[0])
        log = planned.log.filter(after)
        log = log.filter(pc.less_equal(log["timestamp_ticks"], ticks[-1]))
        log = log.group_by(log.column_names).aggregate([]).select(log.column_names)
        for piece in update.feed.headers(log, ints(wanted["sequence"])):
            staged.take(_with_map(piece) if with_map else piece, target)
            count += piece.rows.num_rows
            progress(count)
    staged.write(target)
    if missing := filter_out(planned.read, "sequence", staged.answered).num_rows:
        raise ServiceAnswerError(
            f"the two reads of the feed do not agree: of {len(planned.read)} entries that the log "
            f"has in the window from {update.window}, {missing} were not served with their "
            "headers. Nothing was committed. Run the hour again, `change` included"
        )


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
    target, log = store.recent(INSTANCE).prepared(), store.recent(CHANGE)
    inside = change.rows_in(log, window, ["sequence", "timestamp_ticks"])
    own = inside["sequence"] if run.retries_resting else None
    resting, due = rejected.waiting(store, run, own)
    again = log.rows_of("sequence", sorted(due), ["studyinstanceuid"])["studyinstanceuid"]
    counts, parts, paused = change.study_counts(log, window), list[list[pa.Table]](), 0
    fates = defaultdict[int, Counter[str]](Counter)
    for studies in _ranges(counts, again):
        history = log.rows_of("studyinstanceuid", studies, LOG_COLUMNS)
        stored = target.rows_of("studyinstanceuid", studies, STORED_COLUMNS)
        is_inside = _is_inside(history, window)
        touched = pc.or_(is_inside, is_in(history["sequence"], numbers(due)))
        plan = make_plan(history, stored, pc.unique(key_of(history.filter(touched))), resting)
        _count_settled(history.filter(is_inside), plan, fates)
        exists, columns = plan.read["exists"], plan.deletes.column_names
        replaced = plan.read.filter(exists).select(columns)
        parts.append([plan.read.select(READ_COLUMNS), replaced, plan.deletes, plan.patches])
        paused += len(plan.paused)
        pa.default_memory_pool().release_unused()
    if resting:
        run.say(
            f"{len(resting)} rejected entries rest, the last until "
            f"{max(resting.values()):%Y-%m-%d %H:%M} UTC. {paused} of them are of these hours. "
            "A run of an hour that a person starts tries those of the hour at once"
        )
    read, replaced, deletes, patches = map(pa.concat_tables, zip(*parts, strict=True))
    read = read.sort_by([("timestamp_ticks", "ascending"), ("sequence", "ascending")])
    neighbours = _neighbours(log, inside, read)
    return _Planned(target, len(inside), neighbours, read, replaced, deletes, patches, fates)


def _ranges(counts: pa.Table, others: Values) -> Iterator[list[str]]:
    """Yield ranges of studies with some RANGE_ENTRIES entries, or one larger study in its own.

    The last one has the other studies too. There is always one.
    """
    last = others.filter(pc.invert(is_in(others, counts["study"])))
    number = pc.divide(pc.cumulative_sum(counts["count"]), RANGE_ENTRIES)
    lengths = pc.value_counts(number).field("counts").to_pylist() or [0]
    start = 0
    for length in lengths:
        studies = texts(counts["study"].slice(start, length))
        start += length
        yield [*studies, *distinct(last)] if start == len(counts) else studies


def _is_inside(rows: pa.Table, window: Window) -> Values:
    ticks = rows["timestamp_ticks"]
    mask: Values = pc.and_(pc.greater_equal(ticks, window.start), pc.less(ticks, window.end))
    return mask


def _neighbours(log: Snapshot, inside: pa.Table, read: pa.Table) -> pa.Table:
    """Return the rows of the log in the window, and in the other hours of the wanted entries."""
    outside, pieces = filter_out(read, "sequence", inside["sequence"]), [inside]
    for hour in sorted({ticks // TICKS_PER_HOUR for ticks in ints(outside["timestamp_ticks"])}):
        start = hour * TICKS_PER_HOUR
        rows = change.rows_in(log, Window(start, start + TICKS_PER_HOUR), inside.column_names)
        pieces.append(filter_out(rows, "sequence", inside["sequence"]))
    return pa.concat_tables(pieces)


def _difference(planned: _Planned, staged: _Staged) -> Difference:
    written = filter_in(planned.replaced, "sequence", staged.sequences)
    gone = filter_in(planned.replaced, "sequence", numbers(staged.deleted))
    return Difference(
        planned.target.table,
        updates=written,
        deletes=pa.concat_tables([planned.deletes, gone]),
        patches=planned.patches,
        staged=staged.files,
    )


def _count_settled(inside: pa.Table, plan: Plan, fates: Mapping[int, Counter[str]]) -> None:
    """Count by hour and result the entries whose headers are not read."""
    newest = plan.newest["sequence"].take(position(key_of(inside), key_of(plan.newest)))
    older = inside.filter(pc.less(inside["sequence"], newest))
    settled = dict.fromkeys(ints(older["sequence"]), "superseded")
    kept = filter_out(plan.newest, "sequence", plan.read["sequence"])
    settled |= dict.fromkeys(ints(kept["sequence"]), "unchanged")
    settled |= dict.fromkeys(ints(plan.deletes["sequence"]), "deleted")
    settled |= dict.fromkeys(plan.paused, "rejected")
    rows = zip(*(ints(inside[c]) for c in ("timestamp_ticks", "sequence")), strict=True)
    for ticks, sequence in rows:
        if sequence in settled:
            fates[ticks // TICKS_PER_HOUR][settled[sequence]] += 1


def _by_hour(window: Window, planned: _Planned, staged: _Staged) -> dict[int, Counter[str]]:
    """Count the entries by hour and result. Raises MiscountError for one without a result."""
    hours = {h.start // TICKS_PER_HOUR: Counter(dict.fromkeys(FATES, 0)) for h in window.hours()}
    for hour, counts in planned.fates.items():
        hours[hour].update(counts)
    inside = planned.read.filter(_is_inside(planned.read, window))
    fates = {
        "applied": staged.sequences,
        "deleted": numbers(staged.deleted),
        "awaiting": numbers(staged.awaiting),
        "rejected": numbers(s for s in staged.rejections if s is not None),
    }
    for fate, sequences in fates.items():
        ticks = filter_in(inside, "sequence", sequences)["timestamp_ticks"]
        for counted in pc.value_counts(pc.divide(ticks, TICKS_PER_HOUR)).to_pylist():
            hours[counted["values"]][fate] += counted["counts"]
    if lost := planned.entries - sum(counts.total() for counts in hours.values()):
        raise MiscountError(f"{lost} of {planned.entries} entries of {window} have no result")
    return {hour * TICKS_PER_HOUR: counts for hour, counts in hours.items()}
