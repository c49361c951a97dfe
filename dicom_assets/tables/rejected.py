"""The `rejected` table: entries that could not be used, and when they are tried again.

An entry stays here until the tables show its instance: it is in `instance` with that sequence or a
later one, or gone, and the derived tables agree. Until then its study counts as touched in every
run, so that it does not matter in which run the entry could be used at last. Only headers can heal
by themselves (`feed_contract.can_heal`): other entries have to be corrected in the service.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import REJECTED
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import Window, datetime_of, floor_hour


def pause_after(attempts: int) -> timedelta:
    """Return the pause after a number of attempts: an hour, doubling up to a day."""
    doublings = min(attempts - 1, 10)
    return min(timedelta(days=1), timedelta(hours=1 << doublings))


def note(store: Store, window: Window, rejections: Iterable[Rejection], run: Run) -> None:
    """Add rejections to the table, and count an attempt for those whose pause has passed."""
    noted = list(rejections)

    def attempt() -> None:
        rejected, schema = store.open(REJECTED), REJECTED.arrow()
        known = {_identity(row): row for row in rejected.rows().to_pylist()}
        rows = {_identity(row): row for row in (_row(r, window, run) for r in noted)}
        fresh = [row for identity, row in rows.items() if identity not in known]
        again = []
        for identity, row in rows.items():
            old = known.get(identity)
            if old and old["sequence"] is not None and old["next_attempt"] <= run.now:
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


def _identity(row: dict[str, object]) -> tuple[object, ...]:
    # An entry without a sequence is identified by its hour and reason.
    if row["sequence"] is not None:
        return (row["sequence"],)
    return (None, row["window_start"], row["reason"])


def _row(rejection: Rejection, window: Window, run: Run) -> dict[str, object]:
    at = window.start if rejection.ticks is None else rejection.ticks
    return {
        "sequence": rejection.sequence,
        "timestamp_ticks": rejection.ticks,
        "reason": rejection.reason,
        "window_start": floor_hour(datetime_of(at)),
        "run_id": run.run_id,
        "attempts": 1,
        "next_attempt": run.now + pause_after(1),
    }


def waiting(store: Store, now: datetime) -> tuple[set[int], set[int]]:
    """Return the sequences whose pause goes on, and those whose pause has passed."""
    rows = store.open(REJECTED).rows(["sequence", "next_attempt"]).to_pylist()
    known = [row for row in rows if row["sequence"] is not None]
    resting = {row["sequence"] for row in known if row["next_attempt"] > now}
    return resting, {row["sequence"] for row in known} - resting


def due(store: Store, now: datetime) -> dict[int, int]:
    """Return the sequences whose pause has passed, with the ticks of their entries."""
    columns = ["sequence", "timestamp_ticks", "next_attempt"]
    rows = store.open(REJECTED).rows(columns).to_pylist()
    placed = [r for r in rows if r["sequence"] is not None and r["timestamp_ticks"] is not None]
    return {r["sequence"]: r["timestamp_ticks"] for r in placed if r["next_attempt"] <= now}


def sequences(store: Store) -> list[int]:
    """Return the sequences in the table, ascending."""
    rows = store.open(REJECTED).rows(["sequence"])["sequence"].to_pylist()
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
