"""Lag of the tables behind the service, measured in a few light requests.

Only the newest hours are compared: due hours without a seal, and the last sealed hours, which may
have got entries since. The audit reads whole hours again, six hours later.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from dicom_assets.schema import CHANGE, REJECTED, SYNC
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import PARTITIONS, covers, gone_tables, sealed_window
from dicom_assets.window import HOUR, Bounds, Window, datetime_of

# The newest sealed hours that are compared with the service, one light request for each.
HOURS_ASKED = 3
# Missing entries are counted to here, by a light request for each power of two.
MOST_COUNTED = 1 << 12
_COUNTED = ("creates", "updates", "deletes", "rejected")


class LagFeed(Protocol):
    """Requests to the feed, sent by `feed.ChangeFeed`."""

    def latest(self) -> int | None:
        """Return the ticks of the newest entry, None when the feed is empty."""

    def holds_more(self, window: Window, count: int) -> bool:
        """Return whether the service lists more than `count` entries in a window."""


@dataclass(frozen=True)
class Lag:
    """The time of the service's `newest` entry, and the entries that the tables lack.

    `missing` entries lie in due hours after `read_until`, the end of the newest sealed hour. With
    MOST_COUNTED of them there may be more.
    `late` hours have got entries since they were sealed. They were read `late_minutes` after their
    end, the greatest of them. Both are None when the seals do not count every entry.
    """

    newest: datetime | None
    read_until: datetime
    missing: int
    late: tuple[datetime, ...] | None
    late_minutes: float | None

    @property
    def passed(self) -> bool:
        """True when no entry is missing, and none came late."""
        return not self.missing and not self.late


def measure_lag(store: Store, feed: LagFeed, bounds: Bounds) -> Lag:
    """Return the lag of the tables behind the service in the hours within bounds, which are due.

    Where not all data partitions are kept, seals do not count every entry. Raises ServiceError
    when the service does not answer.
    """
    latest = feed.latest()
    first, until = datetime_of(bounds.window.start), datetime_of(bounds.window.end)
    sealed = _sealed(store, bounds)
    read_until = max([first, *(row["hour"] + HOUR for row in sealed)])
    # Seals of earlier releases do not count entries whose time cannot be read.
    unplaced = store.open(REJECTED).rows(["timestamp_ticks"])["timestamp_ticks"].null_count
    is_counted = not unplaced and bounds.partitions is None
    late = [row for row in sealed if _has_more(feed, row)] if is_counted else None
    minutes = [(row["sealedAt"] - row["windowEnd"]) / timedelta(minutes=1) for row in late or ()]
    return Lag(
        newest=None if latest is None else datetime_of(latest),
        read_until=read_until,
        missing=_count(feed, Window.between(read_until, until)) if read_until < until else 0,
        late=None if late is None else tuple(row["hour"] for row in late),
        late_minutes=max(minutes, default=None),
    )


def _count(feed: LagFeed, window: Window) -> int:
    """Return the number of entries in a window, at most MOST_COUNTED."""
    if not feed.holds_more(window, 0):
        return 0
    return bisect_left(range(MOST_COUNTED), True, key=lambda n: not feed.holds_more(window, n))  # noqa: FBT003 - a value of the key


def _sealed(store: Store, bounds: Bounds) -> list[dict[str, Any]]:
    """Return the rows of `sync` of the newest sealed hours within bounds, in order."""
    if CHANGE.name in gone_tables(store):
        return []
    columns = ["hour", "windowStart", "windowEnd", "sealedAt", PARTITIONS, *_COUNTED]
    rows, due = store.open(SYNC).rows(columns), bounds.window
    first, end = (pa.scalar(datetime_of(bound)) for bound in (due.start, due.end))
    inside = pc.and_(pc.greater(rows["windowEnd"], first), pc.less(rows["windowStart"], end))
    rows = rows.filter(pc.and_(inside, pc.is_valid(rows["sealedAt"]))).sort_by("hour")
    read = [row for row in rows.to_pylist() if covers(row[PARTITIONS], bounds.partitions)]
    return read[-HOURS_ASKED:]


def _has_more(feed: LagFeed, row: Mapping[str, Any]) -> bool:
    return feed.holds_more(sealed_window(row), sum(row[name] for name in _COUNTED))
