"""Freshness of the tables: the due hours that all tables have followed, and the open ones.

It comes from `sync` alone, so that neither the service nor Dagster's database has to answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.schema import CHANGE, SYNC
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import followed, marks_of
from dicom_assets.window import HOUR, Bounds, datetime_of, floor_hour

# A first load without a mark for this long has stopped. Its longest pause between marks is the
# reading of headers in one run.
STALLED_AFTER = timedelta(hours=6)


@dataclass(frozen=True)
class Freshness:
    """Numbers of hours: `due`, and `followed` by all tables, with the `newest` of these.

    The others are open: `behind` hours are newer than `newest`, `holes` older, and `first_open` is
    the oldest. In a `first_load` hours are read that had ended before the first seal.
    """

    due: int
    followed: int
    newest: datetime | None = None
    first_open: datetime | None = None
    behind: int = 0
    first_load: bool = False

    @property
    def holes(self) -> int:
        """The number of open hours that are older than the newest followed hour."""
        return self.due - self.followed - self.behind

    @property
    def passed(self) -> bool:
        """True when all tables have followed every due hour."""
        return self.followed == self.due

    @property
    def share(self) -> float:
        """The part of the due hours that all tables have followed, from 0 to 1."""
        return self.followed / self.due if self.due else 1.0

    @property
    def percent(self) -> float:
        """The share in per cent, rounded down, so that only all hours are 100."""
        return int(self.share * 1000) / 10


def freshness_of(
    store: Store, bounds: Bounds, now: datetime, *, at_rest: bool = False
) -> Freshness:
    """Return the freshness of the tables over the hours within bounds, which are all due.

    Of an archive `at_rest`, which gets no hour by itself, those are due that were read.
    """
    first, end = (datetime_of(tick) for tick in (bounds.window.start, bounds.window.end))
    first = floor_hour(first)
    due = [
        hour
        for hour in (
            store.open(SYNC).rows(["hour"])["hour"].to_pylist()
            if at_rest
            else (first + n * HOUR for n in range(-((first - end) // HOUR)))
        )
        if hour is not None
    ]
    shown = followed(store, bounds).intersection(due)
    missing = [hour for hour in due if hour not in shown]
    newest = max(shown, default=None)
    return Freshness(
        due=len(due),
        followed=len(shown),
        newest=newest,
        first_open=min(missing, default=None),
        behind=sum(newest is None or hour > newest for hour in missing),
        first_load=_is_first_load(store, missing, now),
    )


def _is_first_load(store: Store, missing: Sequence[datetime], now: datetime) -> bool:
    marks = marks_of(store)
    rows = store.open(SYNC).rows(["hour", *marks.values()])
    began = pc.min(rows[CHANGE.mark]).as_py()
    if began is None or not any(hour + HOUR <= began for hour in missing):
        return False
    backlog = rows.filter(pc.less_equal(rows["hour"], pa.scalar(began - HOUR)))
    latest = [moment for mark in marks.values() if (moment := pc.max(backlog[mark]).as_py())]
    return bool(latest) and now - max(latest) < STALLED_AFTER
