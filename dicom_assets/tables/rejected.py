"""The `rejected` table: entries that could not be used, and when they are tried again.

An entry stays here until the tables show its instance: it is in `instance` with that sequence or a
later one, or gone, and the derived tables agree. Until then its study counts as touched in every
run, so that it does not matter in which run the entry could be used at last. Only headers can heal
by themselves (`feed_contract.can_heal`): other entries have to be corrected in the service.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa

from dicom_assets.feed_contract import READING_EDITION, Rejection
from dicom_assets.schema import REJECTED, TIMESTAMP
from dicom_assets.tables.delta.arrow import Values, filter_in, ints, pc
from dicom_assets.tables.delta.commit import READ_BY, Difference
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import Window, datetime_of, floor_hour

NAMELESS = '"sequence" IS NULL'


def pause_after(attempts: int) -> timedelta:
    """Return the pause after a number of attempts: an hour, doubling up to a day."""
    doublings = min(attempts - 1, 10)
    return min(timedelta(days=1), timedelta(hours=1 << doublings))


def note(store: Store, window: Window, rejections: Iterable[Rejection], run: Run) -> None:
    """Add rejections to the table, and count an attempt for those that were due in this run.

    Those without a sequence are left to `replace_nameless`.
    """
    noted = [rejection for rejection in rejections if rejection.sequence is not None]

    def attempt() -> None:
        rejected, schema = store.recent(REJECTED), REJECTED.arrow()
        known = {row["sequence"]: row for row in rejected.rows().to_pylist()}
        rows = {row["sequence"]: row for row in (_row(r, window, run) for r in noted)}
        fresh = [row for sequence, row in rows.items() if sequence not in known]
        again = []
        for sequence, row in rows.items():
            old = known.get(sequence)
            if old and _is_due(old, run, rows.keys()):
                attempts = old["attempts"] + 1
                newest = {name: row[name] for name in ("reason", "run_id")}
                pause = {"attempts": attempts, "next_attempt": run.now + pause_after(attempts)}
                again.append(old | newest | pause)
        difference = Difference(
            REJECTED,
            inserts=pa.Table.from_pylist(fresh, schema=schema),
            updates=pa.Table.from_pylist(again, schema=schema),
        )
        rejected.commit(difference, {"run_id": run.run_id})

    if noted:
        converge(attempt)


def replace_nameless(
    store: Store, window: Window, rejections: Iterable[Rejection], run: Run
) -> None:
    """Let the rows without a sequence in the hours of a window be those of this reading.

    They cannot be told apart, so they are compared and replaced together. An entry that can be read
    now is no longer among them.
    """
    rows = [_row(r, window, run) for r in rejections if r.sequence is None]
    hours = {floor_hour(datetime_of(hour.start)) for hour in window.hours()}

    def attempt() -> None:
        rejected = store.recent(REJECTED)
        known = [row for row in rejected.rows().to_pylist() if row["sequence"] is None]
        others = [row for row in known if row["window_start"] not in hours]
        if _alike(known) != _alike(others) + _alike(rows):
            fresh = pa.Table.from_pylist([*others, *rows], schema=REJECTED.arrow())
            rejected.commit(Difference(REJECTED, fresh, replaced=NAMELESS), {"run_id": run.run_id})

    converge(attempt)


def _alike(rows: Iterable[Mapping[str, Any]]) -> Counter[tuple[object, ...]]:
    return Counter((r["window_start"], r["timestamp_ticks"], r["reason"]) for r in rows)


def _is_due(row: Mapping[str, Any], run: Run, own: Collection[object]) -> bool:
    """True when a row may be tried in a run, of whose hours the sequences `own` are.

    A run that does not keep the rests tries each of its own entries once.
    """
    is_again = run.retries_resting and row["sequence"] in own and row["run_id"] != run.run_id
    return is_again or bool(row["next_attempt"] <= run.now)


def _row(rejection: Rejection, window: Window, run: Run) -> dict[str, object]:
    at = window.start if rejection.at is None else rejection.at
    return {
        "sequence": rejection.sequence,
        "timestamp_ticks": rejection.ticks,
        "reason": rejection.reason,
        "window_start": floor_hour(datetime_of(at)),
        "run_id": run.run_id,
        "attempts": 1,
        # Without a sequence it is not searched for, and is met again when its hour is read.
        "next_attempt": None if rejection.sequence is None else run.now + pause_after(1),
    }


def waiting(
    store: Store, run: Run, own: "Values | None" = None
) -> tuple[dict[int, datetime], set[int]]:
    """Return the sequences that rest, each with the end of its rest, and those that are due.

    `own` are the sequences of the run's hours.
    """
    rows = store.recent(REJECTED).rows(["sequence", "next_attempt", "run_id"])
    known = {row["sequence"]: row for row in rows.to_pylist() if row["sequence"] is not None}
    mine = () if own is None else ints(filter_in(rows, "sequence", own)["sequence"])
    due = {sequence for sequence, row in known.items() if _is_due(row, run, mine)}
    return {s: row["next_attempt"] for s, row in known.items() if s not in due}, due


@dataclass(frozen=True)
class WaitingReason:
    """The entries that wait for the same reason: their number and the oldest of their hours.

    `next_attempt` is the first of them; None: they are only met when their hours are read.
    """

    reason: str
    count: int
    oldest: datetime
    next_attempt: datetime | None


def by_reason(store: Store) -> list[WaitingReason]:
    """Return what waits, the most frequent reason first."""
    rows = store.open(REJECTED).rows(["reason", "window_start", "sequence", "next_attempt"])
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.to_pylist():
        grouped[row["reason"]].append(row)
    found = [
        WaitingReason(
            reason,
            len(rows),
            min(row["window_start"] for row in rows),
            # Rows of earlier releases have a time although they have no sequence.
            min((r["next_attempt"] for r in rows if r["sequence"] is not None), default=None),
        )
        for reason, rows in grouped.items()
    ]
    return sorted(found, key=lambda one: (-one.count, one.reason))


def due(store: Store, run: Run) -> tuple[dict[int, int], bool]:
    """Return the sequences whose pause has passed, with the ticks of their entries.

    Also whether an earlier edition has read the others: then their pauses end now.
    """
    rejected = store.recent(REJECTED)
    is_first = rejected.property(READ_BY) != READING_EDITION
    if is_first:
        converge(partial(_end_pauses, store, run))
        rejected = store.recent(REJECTED)
    rows = rejected.rows(["sequence", "timestamp_ticks", "next_attempt"]).to_pylist()
    placed = [r for r in rows if r["sequence"] is not None and r["timestamp_ticks"] is not None]
    passed = {r["sequence"]: r["timestamp_ticks"] for r in placed if r["next_attempt"] <= run.now}
    return passed, is_first


def _end_pauses(store: Store, run: Run) -> None:
    """End the pauses of all entries that this run has not met, and note the edition."""
    rejected = store.open(REJECTED)
    rows = rejected.rows(["sequence", "run_id"], f"NOT {NAMELESS}")
    others = rows.filter(pc.not_equal(rows["run_id"], run.run_id)).select(["sequence"])
    ends = others.append_column("next_attempt", pa.array([run.now] * len(others), TIMESTAMP))
    rejected.commit(Difference(REJECTED, patches=ends), {"run_id": run.run_id})
    store.open(REJECTED).set_property(READ_BY, READING_EDITION, {"run_id": run.run_id})


def sequences(store: Store) -> list[int]:
    """Return the sequences in the table, ascending."""
    rows = store.recent(REJECTED).rows(["sequence"])["sequence"].to_pylist()
    return sorted(row for row in rows if row is not None)


def clear(store: Store, settled: Iterable[int], run: Run) -> None:
    """Remove the entries with these sequences from the table."""
    removed = sorted(settled)

    def attempt() -> None:
        rejected = store.open(REJECTED)
        rows = rejected.rows_of("sequence", removed, ["sequence"])
        rejected.commit(Difference(REJECTED, deletes=rows), {"run_id": run.run_id})

    if removed:
        converge(attempt)
