"""What a load takes: requests, time, bytes, credits. Pure arithmetic, and the home of its rates.

Nobody is asked here: `estimate` asks the service and the tables, and each tick of the schedule has
asked already. Ranges hold what differs from site to site; what is counted is a plain number.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dicom_assets.feed.light_read import STRETCH_ROWS
from dicom_assets.window import HOUR, Span


@dataclass(frozen=True)
class Range:
    """Something between two numbers."""

    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        """Return the sum, bound by bound."""
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Range":
        """Return so many of it."""
        return Range(self.low * factor, self.high * factor)


NOTHING: Final = Range(0, 0)

# Rates, measured by `make bench` (`first_load.py`: 720 hours, 21,789 entries) on 2026-11-22: two
# cores, shared with other work, 24 GB; Python 3.11.7, Dagster 1.13 with SQLite, deltalake 1.6.6.
# Low: the processor's seconds; high: those of the clock, with the machine many times overcommitted.
HOUR_SECONDS: Final = Range(0.05, 0.35)
ENTRY_SECONDS: Final = Range(0.0001, 0.0005)
# A run of one hour, and until the daemon has taken it from the queue and started its process.
RUN_SECONDS: Final = Range(5, 30)
# What a run takes longer for each million rows of `instance`. Low: measured, on a local disk. High:
# a merge of `series` that reads the whole table, which a study in two slices leads to.
GROWTH_SECONDS: Final = Range(0.1, 3)

# Bytes of Dagster's SQLite files, which hold every event of an asset twice, and the events.
DATABASE_BYTES_PER_HOUR: Final = 40_000
DATABASE_BYTES_PER_RUN: Final = 220_000
EVENTS_PER_HOUR: Final = 8
EVENTS_PER_RUN: Final = 38

# Low: rows of a month in one file; high: of a day, where the file's own description counts.
CHANGE_BYTES: Final = Range(20, 30)
HOUR_BYTES: Final = Range(60, 280)
SERIES_BYTES: Final = Range(40, 600)
STUDY_BYTES: Final = Range(80, 1_700)
# What zstd leaves of headers. Low: of pydicom's files again and again, as slices of one series are
# alike; high: of files that have nothing in common.
HEADER_SHARE: Final = Range(0.016, 0.075)

# Of archives, not of a run: NCI Imaging Data Commons has 56 instances in a series, 349 in a study,
# and headers of 2.6 kB (median) to 10.4 kB (95th percentile). Departments with plain X-rays have
# fewer in each.
INSTANCES_PER_SERIES: Final = Range(5, 60)
INSTANCES_PER_STUDY: Final = Range(20, 350)
HEADER_BYTES: Final = Range(2_600, 10_400)

# Where nobody has measured the service.
LATENCY_SECONDS: Final = Range(0.05, 0.5)
HEADER_PAGE_SECONDS: Final = Range(0.3, 3)
PAGES_IN_FLIGHT: Final = 8
# What each run asks beside the entries: the clock once, and for the newest entry that the log has
# twice, with a page and a count.
BESIDE: Final = 5

# As Dagster+ counts (docs/operate/first-load.md): a credit for each step, and each materialization.
STEPS: Final = 4


@dataclass(frozen=True)
class Curve:
    """How many entries came before each of some moments, at least two, the earliest first.

    Between two of them they are taken to come evenly.
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
    """Hours that are missing, how many entries each run over them has, and rows there already."""

    hours: int
    runs: Sequence[int]
    rows: int = 0


@dataclass(frozen=True)
class Service:
    """What is known of a service: seconds of a light request and of a page with headers, headers.

    `header_bytes` is the size of one header.
    """

    batch_size: int = 200
    latency_seconds: Range = LATENCY_SECONDS
    header_page_seconds: Range = HEADER_PAGE_SECONDS
    header_bytes: Range = HEADER_BYTES


@dataclass(frozen=True)
class Effort:
    """What a load takes.

    `header_pages` is how many there are at most: what was deleted, or changed again, needs none.
    """

    hours: int
    entries: int
    runs: int
    light_requests: int
    header_pages: int
    seconds: Range
    table_bytes: Range
    database_bytes: int
    events: int
    credits: int


def effort(load: Load, service: Service) -> Effort:
    """Return what a load takes from a service."""
    entries, runs = sum(load.runs), len(load.runs)
    light = sum(light_requests(of_run, service.batch_size) for of_run in load.runs)
    pages = sum(-(-of_run // service.batch_size) for of_run in load.runs)
    return Effort(
        hours=load.hours,
        entries=entries,
        runs=runs,
        light_requests=light,
        header_pages=pages,
        seconds=_own_seconds(load)
        + service.latency_seconds.times(light)
        + service.header_page_seconds.times(pages / PAGES_IN_FLIGHT),
        table_bytes=_table_bytes(load.hours, entries, service.header_bytes),
        database_bytes=load.hours * DATABASE_BYTES_PER_HOUR + runs * DATABASE_BYTES_PER_RUN,
        events=load.hours * EVENTS_PER_HOUR + runs * EVENTS_PER_RUN,
        credits=STEPS * (load.hours + runs),
    )


def light_requests(entries: int, batch_size: int) -> int:
    """Return how many pages without headers a run over so many entries asks for.

    The page that is not full is one more, and each stretch is counted once; hours without entries
    are asked for twice.
    """
    if not entries:
        return BESIDE + 2
    return BESIDE + entries // batch_size + 1 + entries // STRETCH_ROWS + 1


def _own_seconds(load: Load) -> Range:
    """Return the seconds of this machine: hours, entries, runs, and the rows that are there."""
    rows, before = 0.0, float(load.rows)
    for of_run in load.runs:
        rows += before
        before += of_run
    return (
        HOUR_SECONDS.times(load.hours)
        + ENTRY_SECONDS.times(sum(load.runs))
        + RUN_SECONDS.times(len(load.runs))
        + GROWTH_SECONDS.times(rows / 1_000_000)
    )


def _table_bytes(hours: int, entries: int, header_bytes: Range) -> Range:
    headers = Range(header_bytes.low * HEADER_SHARE.low, header_bytes.high * HEADER_SHARE.high)
    rolled_up = Range(
        SERIES_BYTES.low / INSTANCES_PER_SERIES.high + STUDY_BYTES.low / INSTANCES_PER_STUDY.high,
        SERIES_BYTES.high / INSTANCES_PER_SERIES.low + STUDY_BYTES.high / INSTANCES_PER_STUDY.low,
    )
    return (CHANGE_BYTES + headers + rolled_up).times(entries) + HOUR_BYTES.times(hours)


def sentence(found: Effort) -> str:
    """Return what a load takes in one line."""
    return (
        f"about {about(found.entries)} entries in {found.hours:,} hours: {about(found.runs)} runs, "
        f"{about(found.light_requests)} light requests, at most {about(found.header_pages)} pages "
        f"of headers, {duration(found.seconds)}, {size(found.table_bytes)} in the tables, "
        f"{size(Range(found.database_bytes, found.database_bytes))} in Dagster's database"
    )


def about(number: float) -> str:
    """Return a number with two digits that count; below a hundred as it is."""
    whole = round(number)
    digits = max(0, len(str(whole)) - 2)
    return f"{round(whole, -digits):,}"


def duration(seconds: Range) -> str:
    """Return a range of seconds in the unit in which a person thinks."""
    units = ((2 * 86_400, 86_400, "days"), (2 * 3_600, 3_600, "hours"), (120, 60, "minutes"))
    _, unit, name = next((u for u in units if seconds.high >= u[0]), (0, 1, "seconds"))
    return _ranged(Range(seconds.low / unit, seconds.high / unit), name)


def size(found: Range) -> str:
    """Return a range of bytes in the unit in which a person thinks."""
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
    unit, name = next((u for u in units if found.high >= u[0]), (1e3, "kB"))
    return _ranged(Range(found.low / unit, found.high / unit), name)


def _ranged(found: Range, unit: str) -> str:
    low, high = (about(n) if n >= 10 else f"{n:.1f}".removesuffix(".0") for n in _bounds(found))  # noqa: PLR2004 - two digits count
    return f"about {high} {unit}" if low == high else f"{low} to {high} {unit}"


def _bounds(found: Range) -> tuple[float, float]:
    return found.low, found.high
