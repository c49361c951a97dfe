"""How far a load is, and about how long it will yet take: from the marks in `sync` alone."""

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


def said(store: Store, closed: Window, own: Window, now: datetime) -> str | None:
    """Return how far a load is; None when no hour is missing but a run's own, or nothing is there.

    `closed` are all hours that can be read by now, `own` those of the run.
    """
    found = look(store, closed, now)
    others = found.due - found.followed - -(-(own.end - own.start) // TICKS_PER_HOUR)
    if others <= 0:
        return None
    so_far = f"so far all tables show {found.followed:,} of {found.due:,} hours ({found.percent} %)"
    left = _left(store, found, now)
    return so_far if left is None else f"{so_far}; {_at_this_pace(left)}"


def _at_this_pace(left: timedelta) -> str:
    minutes = left / timedelta(minutes=1)
    took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"  # noqa: PLR2004 - two hours
    return f"at the pace of the last day the others take about {took}"


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
