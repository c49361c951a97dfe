"""What the service has by now, against what the tables have read: asked in a few light requests.

Only the newest hours are looked at: those that are due and not sealed, and whether the last ones
that were sealed have got entries since. The audit reads whole hours again, six hours later.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from dicom_assets.schema import REJECTED, SYNC
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import HOUR, Window, datetime_of

# Sealed hours that are asked for entries which they did not have, one light request for each.
HOURS_ASKED = 3
_COUNTED = ("creates", "updates", "deletes", "rejected")


class Feed(Protocol):
    """What is asked of the feed; `feed.ChangeFeed` answers over HTTP."""

    def latest(self) -> int | None:
        """Return the ticks of the newest entry; None when the feed is empty."""

    def sequence_from(self, moment: datetime) -> int:
        """Return the first sequence at or after a moment; after the end, the one to come."""

    def holds_more(self, window: Window, count: int) -> bool:
        """Return whether the service lists more than so many entries in a window."""


@dataclass(frozen=True)
class Lag:
    """The service's `newest` entry, and about how many entries are `missing` in the tables.

    Those lie in due hours after `read_until`, where the newest sealed hour ends. `late` are sealed
    hours that have got entries since they were read, and `late_minutes` how long after its end
    such an hour was read, at the least; both None when it cannot be told.
    """

    newest: datetime | None
    read_until: datetime
    missing: int
    late: tuple[datetime, ...] | None
    late_minutes: float | None

    @property
    def passed(self) -> bool:
        """Whether the tables have read what is due, and nothing came late."""
        return not self.missing and not self.late


def look(store: Store, feed: Feed, due: Window, *, whole: bool = True) -> Lag:
    """Return what the service has that the tables have not, in the hours of a window.

    `whole` is false where not all data partitions are kept: then seals do not count all entries.
    Raises ServiceError when the service cannot be asked.
    """
    latest = feed.latest()
    first, until = datetime_of(due.start), datetime_of(due.end)
    sealed = _sealed(store, due)
    read_until = max([first, *(hour + HOUR for hour in _hours(sealed))])
    late = _late(feed, sealed) if whole and not _has_unplaced(store) else None
    behind = read_until < until
    return Lag(
        newest=None if latest is None else datetime_of(latest),
        read_until=read_until,
        missing=feed.sequence_from(until) - feed.sequence_from(read_until) if behind else 0,
        late=None if late is None else tuple(_hours(late)),
        late_minutes=None if late is None else _minutes(late),
    )


def _sealed(store: Store, due: Window) -> pa.Table:
    """Return the seals of the newest hours of a window that have one, in order."""
    names = ["hour", "windowStart", "windowEnd", "sealedAt", *_COUNTED]
    rows = store.open(SYNC).rows(names)
    first, end = (pa.scalar(datetime_of(bound)) for bound in (due.start, due.end))
    inside = pc.and_(pc.greater(rows["windowEnd"], first), pc.less(rows["windowStart"], end))
    rows = rows.filter(pc.and_(inside, pc.is_valid(rows["sealedAt"]))).sort_by("hour")
    return rows.slice(max(0, rows.num_rows - HOURS_ASKED))


def _hours(seals: pa.Table) -> list[datetime]:
    found: list[datetime] = seals["hour"].to_pylist()  # type: ignore[assignment]  # the stubs add None
    return found


def _late(feed: Feed, sealed: pa.Table) -> pa.Table:
    """Return the seals of the hours of which the service lists more entries than were read."""
    more = [
        feed.holds_more(
            Window.between(row["windowStart"], row["windowEnd"]), sum(row[c] for c in _COUNTED)
        )
        for row in sealed.to_pylist()
    ]
    return sealed.filter(pa.array(more, pa.bool_()))


def _minutes(late: pa.Table) -> float | None:
    waits = [row["sealedAt"] - row["windowEnd"] for row in late.to_pylist()]
    return max(wait.total_seconds() for wait in waits) / 60 if waits else None


def _has_unplaced(store: Store) -> bool:
    """Whether entries were met whose time cannot be read: no seal counts them."""
    return bool(store.open(REJECTED).rows(["timestamp_ticks"])["timestamp_ticks"].null_count)
