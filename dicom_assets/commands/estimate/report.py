"""The estimate of a load: facts from the service and the tables, and their print.

The service gets a dozen requests without headers, and if wanted one for a page with headers.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final, TypeVar

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.estimate import effort
from dicom_assets.commands.json_output import print_json
from dicom_assets.definitions import dicom_service, io_manager
from dicom_assets.defs.partitions import hour_key, hourly
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.schedules.slices import Gap, gaps, slices
from dicom_assets.feed import ChangeFeed
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import followed
from dicom_assets.window import HOUR, Span, Window, datetime_of, floor_hour

T = TypeVar("T")

# The pace is that of the last runs over a day or more, because a load consists of such slices.
PACE_RUNS: Final = 5
_DAY_HOURS: Final = 24


@dataclass(frozen=True)
class HeaderPage:
    """One page with headers as it was measured: its headers, their mean size, its seconds."""

    headers: int
    header_bytes: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """The effort for the missing hours, and the facts on which it stands.

    `end` is the end of the last closed hour; `first_entry` is None when the feed is empty.
    `before_first` of the hours end before it. `shown` hours are in all tables already. `pace` is
    that of the last runs, None where there were none.
    """

    start: datetime
    end: datetime
    shown: int
    first_entry: datetime | None
    before_first: int
    request_seconds: float
    header_page: HeaderPage | None
    pace: effort.Pace | None
    takes: effort.Effort


def estimate_load(settings: Settings, *, headers: bool = False) -> Estimate:
    """Return the effort for closed hours that not all tables show; `headers` measures a page."""
    service, store = dicom_service(settings), io_manager(settings).store()
    start = datetime.fromisoformat(str(service.start_time))
    with service.glance() as feed:
        hours, missing = _hours(service, store, start, feed.now())
        end = hours[-1] + HOUR if hours else floor_hour(start)
        ticks = feed.first()
        first = None if ticks is None else datetime_of(ticks)
        light = median(_timed(feed.latest)[1] for _ in range(3))
        page = None
        if headers and missing and first is not None:
            (rows, size), seconds = _timed(lambda: feed.sample(missing[0], service.batch_size))
            page = HeaderPage(rows, size // max(1, rows), seconds)
        curve = _curve(feed, missing)
    due, _ = gaps(dict.fromkeys(missing, frozenset[str]()), [], end)
    return Estimate(
        start=floor_hour(start),
        end=end,
        shown=len(hours) - len(missing),
        first_entry=first,
        before_first=sum(first is None or hour + HOUR <= first for hour in missing),
        request_seconds=light,
        header_page=page,
        pace=pace_of(store),
        takes=effort.effort_of(load_of(due, curve.entries_of), service.batch_size),
    )


def load_of(due: Sequence[Gap], entries_of: Callable[[Span], int]) -> effort.Load:
    """Return gaps as a load, in the runs that the schedule requests for them."""
    spans = [one.hours for gap in due for one in slices(gap, entries_of, newest_first=False)]
    return effort.Load(sum(gap.hours.count for gap in due), [entries_of(span) for span in spans])


def pace_of(store: Store) -> effort.Pace | None:
    """Return the pace of the last runs over at least a day, from the marks in `sync`.

    The seconds are those from a run's first step to its last; None when there was no such run.
    """
    # The mark of a table that was added and filled later says nothing of the run.
    marks = [str(table.mark) for table in (CHANGE, INSTANCE, SERIES, STUDY)]
    counts = ["creates", "updates", "deletes"]
    runs = defaultdict[datetime, list[int]](list)
    ends = dict[datetime, datetime]()
    for row in store.open(SYNC).rows([*marks, *counts]).to_pylist():
        moments = [row[mark] for mark in marks]
        if all(moments):
            began = row[CHANGE.mark]
            runs[began].append(sum(row[name] for name in counts))
            ends[began] = max(ends.get(began, began), *moments)
    last = [run for run in sorted(runs) if len(runs[run]) >= _DAY_HOURS][-PACE_RUNS:]
    seconds = sum((ends[run] - run).total_seconds() for run in last)
    entries = sum(sum(runs[run]) for run in last)
    hours = sum(len(runs[run]) for run in last)
    return effort.Pace(hours, entries, seconds) if seconds > 0 else None


def _hours(
    service: DicomService, store: Store, start: datetime, now: datetime
) -> tuple[list[datetime], list[datetime]]:
    """Return the starts of the hours that a tick may request now, and of those missing."""
    stop = None if service.end_time is None else datetime.fromisoformat(service.end_time)
    partitions = hourly(start, stop)
    end = floor_hour(now - timedelta(minutes=service.delay_minutes))
    end = end if partitions.end is None else min(end, partitions.end)
    hours = [partitions.start + n * HOUR for n in range((end - partitions.start) // HOUR)]
    if not hours:
        return [], []
    shown = followed(store, service.bounds(Window.between(hours[0], hours[-1] + HOUR)))
    return hours, [hour for hour in hours if hour not in shown]


def _curve(feed: ChangeFeed, missing: Sequence[datetime]) -> effort.Curve:
    """Return the number of entries before some moments from the first missing hour to the last."""
    if not missing:
        return effort.Curve([])
    first, whole = missing[0], missing[-1] + HOUR - missing[0]
    parts = min(8, whole // HOUR)  # within each, entries are taken to come evenly
    moments = [first + n * whole / parts for n in range(parts + 1)]
    return effort.Curve([(moment, feed.sequence_from(moment)) for moment in moments])


def _timed(request: Callable[[], T]) -> tuple[T, float]:
    began = time.monotonic()
    return request(), time.monotonic() - began


def print_estimate(estimate: Estimate, *, as_json: bool) -> None:
    """Print the estimate as a grid and some remarks; or as JSON."""
    if as_json:
        print_json(asdict(estimate))
        return
    console = Console()
    title = f"{hour_key(estimate.start)} … {hour_key(estimate.end)} UTC"
    grid = Grid("", "", title=title, show_header=False)
    for row in _rows(estimate):
        grid.add_row(*row)
    console.print(grid)
    for remark in _remarks(estimate):
        console.print(remark, soft_wrap=True, highlight=False)


def _rows(estimate: Estimate) -> Iterator[tuple[str, str]]:
    takes, page = estimate.takes, estimate.header_page
    yield "hours that are missing", f"{takes.hours:,} ({estimate.shown:,} are in all tables)"
    yield "entries of the feed", f"about {effort.about(takes.entries)}"
    yield "runs", f"about {effort.about(takes.runs)}"
    yield "requests without headers", f"about {effort.about(takes.light_requests)}"
    yield "pages with headers", f"at most {effort.about(takes.header_pages)}"
    yield "events in Dagster's database", f"about {effort.about(takes.events)}"
    yield "credits, if it is Dagster+", f"about {effort.about(takes.credits)}"
    if estimate.pace is not None and takes.hours:
        yield "at the pace of the last runs", effort.duration(*estimate.pace.seconds_for(takes))
    yield "a request without headers", f"{estimate.request_seconds:.3f} s, measured"
    if page is not None:
        size = f"{page.headers} headers of {page.header_bytes:,} bytes"
        yield "a page with headers", f"{page.seconds:.2f} s, {size}, measured"


def _remarks(estimate: Estimate) -> Iterator[str]:
    if not estimate.takes.hours:
        yield "No hour is missing."
        return
    if estimate.first_entry is None:
        yield "The feed is empty: every hour is read, and has nothing."
    elif estimate.before_first:
        start = floor_hour(estimate.first_entry)
        yield (
            f"{estimate.before_first:,} of the hours end before the feed's first entry. They are "
            f"cheap, and needless: DICOM_START_TIME={start:%Y-%m-%dT%H:%M:%SZ} avoids them."
        )
    if estimate.pace is None:
        yield (
            "How long it takes is known after the first run over a day or more: estimate again "
            "then, for the rest."
        )
    yield "What these numbers are worth: docs/operate/first-load.md."
