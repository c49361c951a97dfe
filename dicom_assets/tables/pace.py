"""How far a load is, and about how long it will yet take: from the marks in `sync` alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.schema import CHANGE, STUDY, SYNC
from dicom_assets.tables.arrow import pc
from dicom_assets.tables.freshness import Freshness, look
from dicom_assets.tables.seals import MARKS
from dicom_assets.tables.store import Store
from dicom_assets.window import TICKS_PER_HOUR, Window

# The pace is that of the last day: what was before may have been a night's standstill.
RECENT = timedelta(days=1)


@dataclass(frozen=True)
class Pace:
    """Of `due` hours all tables show `followed`; how long the others take, None when unknown."""

    due: int
    followed: int
    left: timedelta | None

    def __str__(self) -> str:
        """Return how far the load is, for a log."""
        share = int(1000 * self.followed / self.due) / 10
        so_far = f"so far all tables show {self.followed:,} of {self.due:,} hours ({share} %)"
        if self.left is None:
            return so_far
        minutes = self.left / timedelta(minutes=1)
        took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"  # noqa: PLR2004 - two hours
        return f"{so_far}; at the pace of the last day the others take about {took}"


def said(store: Store, closed: Window, own: Window, now: datetime) -> str | None:
    """Return how far a load is; None when no hour is missing but a run's own, or nothing is there.

    `closed` are all hours that can be read by now, `own` those of the run.
    """
    found = look(store, closed, now)
    others = found.due - found.followed - -(-(own.end - own.start) // TICKS_PER_HOUR)
    if others <= 0:
        return None
    return str(Pace(found.due, found.followed, _left(store, found, now)))


def _left(store: Store, found: Freshness, now: datetime) -> timedelta | None:
    """Return how long the missing hours take, if they take as long as those of the last day."""
    last, first = MARKS[STUDY.name], MARKS[CHANGE.name]
    rows = store.open(SYNC).rows([first, last])
    rows = rows.filter(pc.is_valid(rows[last]))
    recent = rows.filter(pc.greater_equal(rows[last], pa.scalar(now - RECENT)))
    began: datetime | None = pc.min(recent[first]).as_py()
    if began is None:
        return None
    took = now - max(began, now - RECENT)
    return took / len(recent) * (found.due - found.followed)
