"""The arithmetic of a load: hours, runs, requests, events, credits. Pure, nothing is measured here.

Minutes and gigabytes differ from site to site, so none are guessed: `report` adds the pace of the
last runs where there were some.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dicom_assets.feed.light_read import STRETCH_ROWS
from dicom_assets.window import HOUR, Span

# Events that Dagster 1.13 writes, counted in real runs: for each hour, and for each run beside.
EVENTS_PER_HOUR: Final = 8
EVENTS_PER_RUN: Final = 38
# Requests of each run beside those for entries: the clock once, and for the newest entry of the
# log twice a page and a count.
REQUESTS_BESIDE: Final = 5
# Dagster+ counts a credit for each step and each materialization (docs/operate/first-load.md).
STEPS: Final = 4


@dataclass(frozen=True)
class Curve:
    """The number of entries before each of at least two moments, the earliest first.

    Between two of them entries are taken to come evenly.
    """

    points: Sequence[tuple[datetime, int]]

    def entries_of(self, hours: Span) -> int:
        """Return about how many entries the hours have."""
        return max(0, self._before(hours.last + HOUR) - self._before(hours.first))

    def _before(self, moment: datetime) -> int:
        at = bisect_right(self.points, moment, key=lambda point: point[0])
        if at in {0, len(self.points)}:
            return self.points[0 if at == 0 else -1][1]
        (start, low), (end, high) = self.points[at - 1 : at + 1]
        return low + round((high - low) * ((moment - start) / (end - start)))


@dataclass(frozen=True)
class Load:
    """The number of missing hours, and the number of entries of each run over them."""

    hours: int
    runs: Sequence[int]


@dataclass(frozen=True)
class Effort:
    """The numbers of a load; `header_pages` at most: deleted or changed instances need none."""

    hours: int
    entries: int
    runs: int
    light_requests: int
    header_pages: int
    events: int
    credits: int


@dataclass(frozen=True)
class Pace:
    """The hours, entries and seconds of some runs together."""

    hours: int
    entries: int
    seconds: float

    def seconds_for(self, effort: Effort) -> tuple[float, float]:
        """Return the seconds of a load at this pace: by hours and by entries, the lower first."""
        shares = [effort.hours / self.hours, effort.entries / max(self.entries, 1)]
        return self.seconds * min(shares), self.seconds * max(shares)


def effort_of(load: Load, batch_size: int) -> Effort:
    """Return the numbers of a load, with pages of `batch_size` entries."""
    return Effort(
        hours=load.hours,
        entries=sum(load.runs),
        runs=len(load.runs),
        light_requests=sum(light_requests(entries, batch_size) for entries in load.runs),
        header_pages=sum(-(-entries // batch_size) for entries in load.runs),
        events=load.hours * EVENTS_PER_HOUR + len(load.runs) * EVENTS_PER_RUN,
        credits=STEPS * (load.hours + len(load.runs)),
    )


def light_requests(entries: int, batch_size: int) -> int:
    """Return the number of requests without headers of one run over so many entries.

    The page that is not full is one more, and each stretch is counted once. Hours without entries
    are requested twice. Stretches that are read side by side take some more.
    """
    if not entries:
        return REQUESTS_BESIDE + 2
    return REQUESTS_BESIDE + entries // batch_size + 1 + entries // STRETCH_ROWS + 1


def about(number: float) -> str:
    """Return a number with two significant digits; below a hundred as it is."""
    whole = round(number)
    digits = max(0, len(str(whole)) - 2)
    return f"{round(whole, -digits):,}"


def duration(low: float, high: float) -> str:
    """Return a range of seconds in the largest unit of which it has about two."""
    units = ((2 * 86_400, 86_400, "days"), (2 * 3_600, 3_600, "hours"), (120, 60, "minutes"))
    _, unit, name = next((u for u in units if high >= u[0]), (0, 1, "seconds"))
    bounds = (low / unit, high / unit)
    first, last = (about(n) if n >= 10 else f"{n:.1f}".removesuffix(".0") for n in bounds)  # noqa: PLR2004 - two digits count
    return f"about {last} {name}" if first == last else f"{first} to {last} {name}"
