"""How far the tables have followed the hours that are due: behind, a hole, or a first load.

All of it is in `sync`: which hours all tables show, and when each was read. So it is known when
the service, or Dagster's database, does not answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from dicom_assets.schema import CHANGE, SYNC
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import followed, marks_of
from dicom_assets.window import HOUR, Window, datetime_of, floor_hour

# A first load of which nothing was heard for so long has stopped. Its longest silence is the
# reading of headers within one run.
SILENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Freshness:
    """Of `due` hours all tables show so many (`followed`), the `newest` of them is given.

    Open are `behind` hours that are newer than that one, and `holes` that are older; `first_open`
    is the oldest of both. In a `first_load` the hours are being read that had ended before the
    first one was sealed.
    """

    due: int
    followed: int
    newest: datetime | None = None
    first_open: datetime | None = None
    behind: int = 0
    first_load: bool = False

    @property
    def holes(self) -> int:
        """How many open hours have a newer one that all tables show."""
        return self.due - self.followed - self.behind

    @property
    def passed(self) -> bool:
        """Whether all tables show every hour that is due."""
        return self.followed == self.due

    @property
    def share(self) -> float:
        """Which part of the due hours all tables show, from 0 to 1."""
        return self.followed / self.due if self.due else 1.0

    @property
    def percent(self) -> float:
        """The share in per cent, never rounded up: what is not all is not 100."""
        return int(self.share * 1000) / 10


def look(store: Store, bounds: Window, now: datetime) -> Freshness:
    """Return how far the tables have followed the hours of the bounds, which are all due."""
    first = floor_hour(datetime_of(bounds.start))
    due = [first + n * HOUR for n in range(-((first - datetime_of(bounds.end)) // HOUR))]
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
    return bool(latest) and now - max(latest) < SILENCE
