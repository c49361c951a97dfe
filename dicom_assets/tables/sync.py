"""The `sync` table: which hours are in the log, and how far each table has followed.

An hour is sealed with a digest of its sequences. A seal that changes (a late entry, another start
or end) takes the marks of the other tables with it, because they must follow again.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from dicom_assets.errors import NotYetError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Difference, Snapshot, Store
from dicom_assets.window import TICKS_PER_HOUR, Window, datetime_of, ticks_of

_ACTIONS = {"creates": "Create", "updates": "Update", "deletes": "Delete"}
# When the log, and each table after it, was brought to an hour.
MARKS = {
    CHANGE.name: "sealedAt",
    INSTANCE.name: "instanceAt",
    SERIES.name: "seriesAt",
    STUDY.name: "studyAt",
}
_FOLLOWERS = tuple(MARKS.values())[1:]
# What a seal says; the rest of a row says when, and who has followed.
_SAID = [c for c in SYNC.names if c not in {"hour", *MARKS.values()}]


@dataclass(frozen=True)
class Hour:
    """What is known of one hour of the feed."""

    window: Window
    actions: Mapping[str, int]
    sequences: tuple[int, ...]
    rejected: int

    @property
    def start(self) -> datetime:
        """The full hour, also when the window begins later."""
        return datetime_of(self.window.start // TICKS_PER_HOUR * TICKS_PER_HOUR)

    def counts(self) -> Counter[str]:
        """Return the hour's entries by action, and those that were rejected."""
        counts = {column: self.actions.get(action, 0) for column, action in _ACTIONS.items()}
        return Counter({**counts, "rejected": self.rejected})

    @property
    def digest(self) -> str:
        """The SHA-256 over the sequences in ascending order, 8 bytes each."""
        packed = struct.pack(f"<{len(self.sequences)}q", *self.sequences)
        return hashlib.sha256(packed).hexdigest()

    def said(self) -> dict[str, object]:
        """Return what the hour's seal says."""
        return {
            **self.counts(),
            "firstSequence": self.sequences[0] if self.sequences else None,
            "lastSequence": self.sequences[-1] if self.sequences else None,
            "digest": self.digest,
            "windowStart": datetime_of(self.window.start),
            "windowEnd": datetime_of(self.window.end),
        }


def hours_of(window: Window, changes: pa.Table, rejections: Iterable[Rejection]) -> list[Hour]:
    """Return every hour of the window with the changes and rejections that lie in it.

    `changes` holds at least timestamp_ticks, sequence and action. Rejections without a readable
    time belong to no hour.
    """
    rows = zip(
        *(changes[c].to_pylist() for c in ("timestamp_ticks", "sequence", "action")), strict=True
    )
    found = sorted((ticks // TICKS_PER_HOUR, sequence, action) for ticks, sequence, action in rows)
    changed = {hour: list(group) for hour, group in groupby(found, itemgetter(0))}
    refused: dict[int, list[int]] = {}
    for rejection in rejections:
        if rejection.ticks is not None and rejection.sequence is not None:
            refused.setdefault(rejection.ticks // TICKS_PER_HOUR, []).append(rejection.sequence)
    return [
        _hour(part, changed.get(number, []), refused.get(number, []))
        for part in window.hours()
        for number in [part.start // TICKS_PER_HOUR]
    ]


def _hour(window: Window, changed: list[tuple[int, int, str]], refused: list[int]) -> Hour:
    sequences = {sequence for _, sequence, _ in changed}
    actions = Counter(action for _, _, action in changed)
    return Hour(window, actions, tuple(sorted(sequences | set(refused))), len(set(refused)))


def seal(store: Store, hours: list[Hour], run: Run) -> int:
    """Every hour is sealed in `sync` with what it says now; returns how many seals changed."""

    def attempt() -> int:
        sync = store.open(SYNC)
        known = {row["hour"]: row for row in _rows(sync, hours[0].start, hours[-1].start)}
        fresh = [hour for hour in hours if hour.start not in known]
        changed = [h for h in hours if h.start in known and _differs(known[h.start], h)]
        difference = Difference(
            SYNC, inserts=_sealed(fresh, run.now), updates=_sealed(changed, run.now)
        )
        sync.commit(difference, {"run_id": run.run_id})
        return len(fresh) + len(changed)

    return converge(attempt) if hours else 0


def _differs(row: Mapping[str, object], hour: Hour) -> bool:
    said = hour.said()
    return row["sealedAt"] is None or any(row[column] != said[column] for column in _SAID)


def _sealed(hours: list[Hour], now: datetime) -> pa.Table:
    rows = [{"hour": hour.start, **hour.said(), "sealedAt": now} for hour in hours]
    return pa.Table.from_pylist(rows, schema=SYNC.arrow())


def _rows(sync: Snapshot, first: datetime, last: datetime) -> list[dict[str, object]]:
    bounds = [moment.isoformat() for moment in (first, last)]
    where = f"\"hour\" >= TIMESTAMP '{bounds[0]}' AND \"hour\" <= TIMESTAMP '{bounds[1]}'"
    rows: list[dict[str, object]] = sync.rows(where=where).to_pylist()
    return rows


@dataclass(frozen=True)
class Seals:
    """The seals of a window's hours as a run found them when it began."""

    rows: tuple[Mapping[str, object], ...]

    def mark(self, store: Store, column: str, run: Run) -> int:
        """The hours whose seal is still the one found are marked as followed; returns how many.

        `seriesAt` and `studyAt` follow `instanceAt`: an hour that `instance` had not followed when
        the run began is not marked, because the run cannot have seen it.
        """
        ready = {
            row["hour"]: row["digest"]
            for row in self.rows
            if column == "instanceAt" or row["instanceAt"] is not None
        }

        if len(ready) < len(self.rows):
            run.say(f"{len(self.rows) - len(ready)} hours stay open: instance has to follow first")

        def attempt() -> int:
            sync = store.open(SYNC)
            hours = [h for h in ready if isinstance(h, datetime)]
            rows = _rows(sync, min(hours), max(hours)) if hours else []
            due = [r["hour"] for r in rows if r[column] is None and _still(r, ready)]
            marks = [{"hour": hour, column: run.now} for hour in due]
            patch = pa.Table.from_pylist(marks, schema=SYNC.arrow(["hour", column]))
            sync.commit(Difference(SYNC, patches=patch), {"run_id": run.run_id})
            return len(due)

        return converge(attempt)


def _still(row: Mapping[str, object], ready: Mapping[object, object]) -> bool:
    return row["sealedAt"] is not None and ready.get(row["hour"]) == row["digest"]


def unmark(store: Store, window: Window, run: Run) -> None:
    """No table counts as having followed the hours of the window; their seals stay."""
    starts = _starts(window)

    def attempt() -> None:
        sync = store.open(SYNC)
        marked = [
            r["hour"] for r in _rows(sync, starts[0], starts[-1]) if any(r[m] for m in _FOLLOWERS)
        ]
        rows = [{"hour": hour, **dict.fromkeys(_FOLLOWERS)} for hour in marked]
        patch = pa.Table.from_pylist(rows, schema=SYNC.arrow(["hour", *_FOLLOWERS]))
        sync.commit(Difference(SYNC, patches=patch), {"run_id": run.run_id})

    if starts:
        converge(attempt)


def sealed(store: Store, window: Window) -> dict[datetime, str]:
    """Return the digest of each hour of the window that has a seal."""
    starts = _starts(window)
    rows = _rows(store.open(SYNC), starts[0], starts[-1]) if starts else []
    return {
        row["hour"]: str(row["digest"])
        for row in rows
        if row["sealedAt"] is not None and isinstance(row["hour"], datetime)
    }


def shown(store: Store) -> dict[str, list[datetime]]:
    """Return for each table which hours it shows, in order: what it has followed, by its name."""
    rows = store.open(SYNC).rows(["hour", *MARKS.values()]).sort_by("hour").to_pylist()
    return {table: [row["hour"] for row in rows if row[mark]] for table, mark in MARKS.items()}


def followed(store: Store, bounds: Window) -> set[datetime]:
    """Return the hours that all tables show, as far as the bounds, where reading begins and ends.

    An hour at the bounds that was read when they were narrower is not among them.
    """
    rows = store.open(SYNC).rows(["hour", "windowStart", "windowEnd", *MARKS.values()])
    marked = reduce(pc.and_, (pc.is_valid(rows[mark]) for mark in MARKS.values()))
    return {row["hour"] for row in rows.filter(marked).to_pylist() if _is_whole(row, bounds)}


def _is_whole(row: Mapping[str, datetime], bounds: Window) -> bool:
    start = ticks_of(row["hour"])
    wanted = Window(max(start, bounds.start), min(start + TICKS_PER_HOUR, bounds.end))
    read = Window.between(row["windowStart"], row["windowEnd"])
    return read.start <= wanted.start and wanted.end <= read.end


def _starts(window: Window) -> list[datetime]:
    return [datetime_of(h.start // TICKS_PER_HOUR * TICKS_PER_HOUR) for h in window.hours()]


def seals_of(store: Store, window: Window) -> Seals:
    """Return the seals of a window's hours; raises NotYetError when one is not in the log."""
    starts = _starts(window)
    if not starts:
        return Seals(())
    found = _rows(store.open(SYNC), starts[0], starts[-1])
    rows = tuple(row for row in found if row["sealedAt"] is not None)
    if len(rows) < len(starts):
        raise NotYetError(
            f"{len(starts) - len(rows)} of the {len(starts)} hours from {window} are not in the "
            "change log yet: materialize `change` for them first"
        )
    return Seals(rows)
