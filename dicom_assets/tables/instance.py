"""The `instance` table follows the log: one row per live instance, at its newest sequence.

`plan` decides. This module opens the log and the table, reads the headers of the difference, and
commits the difference.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial, reduce
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from dicom_assets.errors import MiscountError, ServiceAnswerError
from dicom_assets.feed_contract import Feed, Headers, Rejection
from dicom_assets.header.extraction import header_map
from dicom_assets.schema import CHANGE, HEADER_MAP, INSTANCE, SYNC, TIMESTAMP
from dicom_assets.tables import change, rejected
from dicom_assets.tables.delta.arrow import (
    distinct,
    filter_in,
    filter_out,
    ints,
    looked_up,
    numbers,
    pc,
    position,
)
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, settle
from dicom_assets.tables.delta.snapshot import Snapshot, Store, one_step
from dicom_assets.tables.outcome import FATES, Outcome, Progress, Stopwatch, TableUpdate
from dicom_assets.tables.plan import LOG_COLUMNS, STORED_COLUMNS, Plan, key_of, make_plan
from dicom_assets.tables.sync import require_tables, seals_of
from dicom_assets.window import TICKS_PER_HOUR, Window

if TYPE_CHECKING:
    from dicom_assets.tables.delta.files import DataFile

# The table's property for the form in which it keeps headers unless a setting says it.
# Rows are written in slices of this size in memory, so an hour is one file, and a backfill several.
SLICE_BYTES: Final = 64 * 2**20
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
        staged = _Staged(self.reads_on)
        attempt = partial(_attempt, store, self, staged, run)
        outcomes = settle(partial(store.version, CHANGE), attempt, log.version)
        seals.mark(store, INSTANCE.mark, run)
        return reduce(Outcome.then, outcomes)


class _Staged:
    """The headers that a run has read, their rows in data files that no commit names yet.

    It outlives an attempt that lost its commit: the next one reads what its plan wants beyond it.
    """

    def __init__(self, reads_on: bool) -> None:  # noqa: FBT001 - as `FollowLog` has it
        self._reads_on = reads_on
        self.clear()

    def clear(self) -> None:
        """Begin anew, after a commit."""
        self.files: list[tuple[DataFile, frozenset[int]]] = []
        self._parts, self._size = list[pa.Table](), 0
        self.deleted, self.awaiting = set[int](), set[int]()
        self.rejections = dict[int | None, Rejection]()
        self.unparsable, self.pages, self.bytes = Counter[str](), 0, 0

    @property
    def sequences(self) -> set[int]:
        """The sequences of the rows."""
        return {sequence for _, sequences in self.files for sequence in sequences}

    @property
    def answered(self) -> set[int | None]:
        """The sequences that the service has answered for."""
        return {*self.sequences, *self.deleted, *self.awaiting, *self.rejections}

    def add(self, piece: Headers, plan: pa.Table, target: Snapshot, now: datetime) -> None:
        """Add a part of the read; write the rows once they are enough for a slice."""
        awaiting = set(piece.replaced) if self._reads_on else set()
        self.deleted |= set(piece.deleted)
        self.awaiting |= awaiting
        self.rejections |= {r.sequence: r for r in piece.rejections if r.sequence not in awaiting}
        self.unparsable.update(piece.unparsable)
        self.pages, self.bytes = self.pages + piece.pages, self.bytes + piece.bytes
        rows = filter_out(piece.rows, "sequence", numbers(awaiting))
        received = looked_up(rows["sequence"], plan["sequence"], plan["received_timestamp"])
        loaded = pa.array([now] * len(rows), TIMESTAMP)
        for name, values in (("received_timestamp", received), ("created_date", loaded)):
            column = rows.schema.get_field_index(name)
            rows = rows.set_column(column, rows.schema.field(name), values)
        self._parts.append(rows)
        self._size += rows.nbytes
        if self._size >= SLICE_BYTES:
            self.write(target)

    def write(self, target: Snapshot) -> None:
        """Write the rows that are not written yet."""
        rows = pa.concat_tables(self._parts) if self._parts else None
        self._parts, self._size = [], 0
        if rows:
            sequences = frozenset(ints(rows["sequence"]))
            self.files += [(file, sequences) for file in target.stage(rows)]

    def keep(self, wanted: set[int]) -> None:
        """Forget what another plan does not want."""
        self.deleted &= wanted
        self.awaiting &= wanted
        self.rejections = {s: r for s, r in self.rejections.items() if s in wanted}
        # A slice with one row too many is read again, which is seldom and safe.
        self.files = [(file, own) for file, own in self.files if own <= wanted]


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
    plan, target = planned.plan.read, planned.target
    wanted = set(ints(plan["sequence"]))
    staged.keep(wanted)
    left = sorted(wanted - staged.answered)
    with_map = update.keeps_form and target.property(HEADER_FORM) == BOTH
    progress = Progress(run.say, f"read {{}} of {len(left):,} headers")
    count = 0
    for piece in update.feed.headers(planned.neighbours, left) if left else ():
        staged.add(_with_map(piece) if with_map else piece, plan, target, run.now)
        count += piece.rows.num_rows
        progress(count)
    staged.write(target)
    if missing := len(wanted - staged.answered):
        raise ServiceAnswerError(
            f"the two reads of the feed do not agree: of {len(wanted)} entries that the log has "
            f"in the window from {update.window}, {missing} were not served with their headers. "
            "Nothing was committed. Run the hour again, `change` included"
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


def _difference(planned: _Planned, staged: _Staged) -> Difference:
    plan = planned.plan
    columns = plan.deletes.column_names
    written = filter_in(plan.read, "sequence", numbers(staged.sequences))
    gone = filter_in(plan.read, "sequence", numbers(staged.deleted))
    return Difference(
        planned.target.table,
        updates=written.filter(written["exists"]).select(columns),
        deletes=pa.concat_tables([plan.deletes, gone.filter(gone["exists"]).select(columns)]),
        patches=plan.patches,
        staged=[file for file, _ in staged.files],
    )


def _by_hour(window: Window, planned: _Planned, staged: _Staged) -> dict[int, Counter[str]]:
    """Count the entries by hour and result. Raises MiscountError for one without a result."""
    plan, inside = planned.plan, planned.inside
    newest = plan.newest["sequence"].take(position(key_of(inside), key_of(plan.newest)))
    older = inside.filter(pc.less(inside["sequence"], newest))
    kept = filter_out(plan.newest, "sequence", plan.read["sequence"])
    fates = dict.fromkeys(ints(older["sequence"]), "superseded")
    fates |= dict.fromkeys(ints(kept["sequence"]), "unchanged")
    fates |= dict.fromkeys(ints(plan.deletes["sequence"]), "deleted")
    fates |= dict.fromkeys(plan.paused, "rejected")
    fates |= dict.fromkeys(staged.sequences, "applied")
    fates |= dict.fromkeys(staged.deleted, "deleted") | dict.fromkeys(staged.awaiting, "awaiting")
    fates |= {sequence: "rejected" for sequence in staged.rejections if sequence is not None}
    hours = {h.start // TICKS_PER_HOUR: Counter(dict.fromkeys(FATES, 0)) for h in window.hours()}
    if lost := len(set(ints(inside["sequence"])) - fates.keys()):
        raise MiscountError(f"{lost} of {len(inside)} entries of {window} have no result")
    rows = zip(*(ints(inside[c]) for c in ("timestamp_ticks", "sequence")), strict=True)
    for ticks, sequence in rows:
        hours[ticks // TICKS_PER_HOUR][fates[sequence]] += 1
    return {hour * TICKS_PER_HOUR: counts for hour, counts in hours.items()}
