"""Time as the feed counts it: ticks of 100 ns, and half-open windows of them.

Microsecond types lose the seventh digit of a feed timestamp, and with it the exact bound of a
page. So all requests to the feed count in ticks. Dagster's partitions are in `defs.partitions`, the
clock by which a window is closed in `feed.client`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TypeAlias

TICKS_PER_MICROSECOND = 10
TICKS_PER_SECOND = 10_000_000
TICKS_PER_HOUR = 3_600 * TICKS_PER_SECOND
HOUR = timedelta(hours=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIMESTAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,7}))?(Z|[+-]\d{2}:\d{2})", re.ASCII
)


def ticks_of(moment: datetime) -> int:
    """Return the ticks from the Unix epoch to an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND * TICKS_PER_MICROSECOND


def datetime_of(ticks: int) -> datetime:
    """Return the UTC datetime of ticks, cut to the microsecond."""
    return _EPOCH + timedelta(microseconds=ticks // TICKS_PER_MICROSECOND)


def parse_timestamp(text: str) -> int:
    """Return the ticks of a feed timestamp such as `2022-11-25T08:44:12.3524895+00:00`.

    Raises ValueError, without the text, for anything else: no zone, more than seven digits of a
    second, or a day that does not exist.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError("not a timestamp with zone")
    seconds, fraction, zone = match.groups()
    try:
        whole = ticks_of(datetime.fromisoformat(seconds + zone).astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError("not a time that exists") from None
    return whole + int((fraction or "").ljust(7, "0"))


def format_timestamp(ticks: int) -> str:
    """Return ticks as the feed's parameters take them: `2022-11-25T08:44:12.3524895Z`."""
    whole, fraction = divmod(ticks, TICKS_PER_SECOND)
    moment = (_EPOCH + timedelta(seconds=whole)).replace(tzinfo=None)
    return f"{moment.isoformat()}.{fraction:07d}Z"


def floor_hour(moment: datetime) -> datetime:
    """Return the start of the UTC hour that contains the moment."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span of time, `start` ≤ t < `end`, in ticks."""

    start: int
    end: int

    @classmethod
    def between(cls, start: datetime, end: datetime) -> "Window":
        """Return the window from one aware datetime to another."""
        return cls(ticks_of(start), ticks_of(end))

    def __str__(self) -> str:
        """Return both bounds in UTC to the second, for messages."""
        first, last = datetime_of(self.start), datetime_of(self.end)
        return f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"

    def holds(self, ticks: int) -> bool:
        """Return True when a tick lies in the window."""
        return self.start <= ticks < self.end

    def clip(self, start: datetime | None, end: datetime | None) -> "Window":
        """Return the part of the window between two moments. None is no bound."""
        first = self.start if start is None else max(self.start, ticks_of(start))
        last = self.end if end is None else min(self.end, ticks_of(end))
        return Window(first, max(first, last))

    def hours(self) -> Iterator["Window"]:
        """Yield the window in parts, cut at every full hour. The first and last may be shorter."""
        start = self.start
        while start < self.end:
            end = min(self.end, (start // TICKS_PER_HOUR + 1) * TICKS_PER_HOUR)
            yield Window(start, end)
            start = end


# The names of data partitions that are kept. None: all, also those that come later.
Partitions: TypeAlias = frozenset[str] | None


@dataclass(frozen=True)
class Bounds:
    """The part of the feed that is read: a window, and the data partitions that are kept."""

    window: Window
    partitions: Partitions = None


@dataclass(frozen=True)
class Span:
    """Adjacent hours, by the starts of the first and of the last. Both are included."""

    first: datetime
    last: datetime

    @property
    def count(self) -> int:
        """The number of hours."""
        return (self.last - self.first) // HOUR + 1

    def holds(self, hour: datetime) -> bool:
        """Return True when the span contains an hour, given by its start."""
        return self.first <= hour <= self.last

    def hours(self) -> Iterator[datetime]:
        """Yield the start of each of these hours, in order."""
        return (self.first + number * HOUR for number in range(self.count))

    def halves(self) -> tuple["Span", "Span"]:
        """Return the earlier and the later half of a span of at least two hours."""
        later = self.first + (self.count // 2) * HOUR
        return Span(self.first, later - HOUR), Span(later, self.last)


def spans_of(hours: Iterable[datetime]) -> list[Span]:
    """Return the starts of hours, in any order, as the fewest spans, the oldest first."""
    # The start of an hour minus its place in the list is the same for adjacent hours.
    numbered = groupby(enumerate(sorted(set(hours))), lambda item: item[1] - item[0] * HOUR)
    groups = ([hour for _, hour in group] for _, group in numbered)
    return [Span(group[0], group[-1]) for group in groups]
