"""`dicom-assets estimate`: what bringing in the hours that are missing will take, before it begins.

The service is asked a dozen light questions, and if wanted for one page with headers. The
arithmetic and its rates are in `effort`; here is who is asked, and what the terminal shows.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.estimate.effort import (
    Curve,
    Effort,
    Load,
    Range,
    Service,
    about,
    duration,
    effort,
    size,
)
from dicom_assets.definitions import dicom_service, tables
from dicom_assets.defs.partitions import hourly, key_of
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.schedules.slices import Gap, gaps, slices
from dicom_assets.feed import ChangeFeed
from dicom_assets.schema import INSTANCE
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import followed
from dicom_assets.window import HOUR, Span, Window, datetime_of, floor_hour

# Between so many moments the entries are taken to come evenly.
MOMENTS: Final = 9
TIMINGS: Final = 3
# What was measured is a quiet moment; a load meets busy ones, too.
BUSY: Final = 3


@dataclass(frozen=True)
class Estimate:
    """What the hours that are missing will take, and what that stands on.

    `end` is when the last closed hour ends; `first_entry` is None when the feed is empty.
    `before_first` of the hours end before it. `shown` hours are in all tables already. `measured`
    tells whether a page with headers was read.
    """

    start: datetime
    end: datetime
    shown: int
    first_entry: datetime | None
    before_first: int
    service: Service
    measured: bool
    takes: Effort


def look(settings: Settings, *, headers: bool = False) -> Estimate:
    """Return what the hours that are closed by now, and that not all tables show, will take."""
    service, store = dicom_service(settings), tables(settings).store()
    start = datetime.fromisoformat(str(service.start_time))
    with service.glance() as feed:
        hours = _closed(service, start, feed.now())
        end = hours[-1] + HOUR if hours else floor_hour(start)
        missing = _missing(service, store, hours)
        ticks = feed.first()
        first = None if ticks is None else datetime_of(ticks)
        is_read = headers and bool(missing) and first is not None
        measured = _measured(feed, service.batch_size, missing[0] if is_read else None)
        curve = _curve(feed, missing)
    due, _ = gaps(dict.fromkeys(missing, frozenset[str]()), [], end)
    expected = load_of(due, curve.entries_of, store.open(INSTANCE).count())
    return Estimate(
        start=floor_hour(start),
        end=end,
        shown=len(hours) - len(missing),
        first_entry=first,
        before_first=sum(first is None or hour + HOUR <= first for hour in missing),
        service=measured,
        measured=is_read,
        takes=effort(expected, measured),
    )


def load_of(due: Sequence[Gap], entries_of: Callable[[Span], int], rows: int = 0) -> Load:
    """Return the load that gaps are, in the runs in which the schedule asks for them."""
    spans = [one.hours for gap in due for one in slices(gap, entries_of, newest_first=False)]
    return Load(sum(gap.hours.count for gap in due), [entries_of(span) for span in spans], rows)


def _closed(service: DicomService, start: datetime, now: datetime) -> list[datetime]:
    """Return the starts of the hours that a tick would ask for now, the oldest first."""
    stop = None if service.end_time is None else datetime.fromisoformat(service.end_time)
    partitions = hourly(start, stop)
    end = floor_hour(now - timedelta(minutes=service.delay_minutes))
    end = end if partitions.end is None else min(end, partitions.end)
    return [partitions.start + n * HOUR for n in range((end - partitions.start) // HOUR)]


def _missing(service: DicomService, store: Store, hours: Sequence[datetime]) -> list[datetime]:
    if not hours:
        return []
    shown = followed(store, service.clip(Window.between(hours[0], hours[-1] + HOUR)))
    return [hour for hour in hours if hour not in shown]


def _curve(feed: ChangeFeed, missing: Sequence[datetime]) -> Curve:
    """Return how many entries came before some moments from the first missing hour to the last."""
    if not missing:
        return Curve([])
    first, whole = missing[0], missing[-1] + HOUR - missing[0]
    parts = min(MOMENTS - 1, whole // HOUR)
    moments = [first + n * whole / parts for n in range(parts + 1)]
    return Curve([(moment, feed.sequence_from(moment)) for moment in moments])


def _measured(feed: ChangeFeed, batch_size: int, moment: datetime | None) -> Service:
    """Return how quickly the service answers, and how large its headers are from a moment on."""
    light = median(_seconds(feed.latest) for _ in range(TIMINGS))
    found = Service(batch_size, Range(light, light * BUSY))
    if moment is None:
        return found
    pages = list[tuple[int, int]]()
    heavy = _seconds(lambda: pages.append(feed.sample(moment, batch_size)))
    (rows, size_), *_ = pages
    header = size_ / max(1, rows)
    return replace(
        found,
        header_page_seconds=Range(heavy, heavy * BUSY),
        header_bytes=Range(header / 2, header * 2),
    )


def _seconds(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    ask()
    return time.monotonic() - began


def show(found: Estimate, console: Console, *, as_json: bool) -> None:
    """The terminal shows the estimate."""
    if as_json:
        console.print_json(json.dumps(asdict(found), default=str))
        return
    grid = Grid("", "", title=f"{key_of(found.start)} … {key_of(found.end)} UTC", show_header=False)
    for what, how_much in _rows(found):
        grid.add_row(what, how_much)
    console.print(grid)
    for remark in remarks(found):
        console.print(remark, soft_wrap=True, highlight=False)


def _rows(found: Estimate) -> Iterator[tuple[str, str]]:
    takes, headers = found.takes, found.service.header_page_seconds
    seconds = found.service.latency_seconds
    yield "hours that are missing", f"{takes.hours:,} ({found.shown:,} are in all tables)"
    yield "entries of the feed", f"about {about(takes.entries)}"
    yield "runs", f"about {about(takes.runs)}"
    yield "requests without headers", f"about {about(takes.light_requests)}"
    yield "pages with headers", f"at most {about(takes.header_pages)}"
    yield "time", duration(takes.seconds)
    yield "tables", size(takes.table_bytes)
    database = size(Range(takes.database_bytes, takes.database_bytes))
    yield "Dagster's database", f"{database} in SQLite, about {about(takes.events)} events"
    yield "credits, if it is Dagster+", f"about {about(takes.credits)}"
    told = "measured" if found.measured else "assumed; --headers measures one"
    yield "a request without headers", f"{seconds.low:.3f} s, measured"
    yield "a page with headers", f"{headers.low:.2f} to {headers.high:.2f} s, {told}"


def remarks(found: Estimate) -> list[str]:
    """Return what is worth a sentence: hours without entries, and which start avoids them."""
    if not found.takes.hours:
        return ["No hour is missing."]
    said = []
    if found.first_entry is None:
        said.append("The feed is empty: every hour is read, and has nothing.")
    elif found.before_first:
        said.append(
            f"{found.before_first:,} of the hours end before the feed's first entry. They are "
            "cheap, and needless: "
            f"DICOM_START_TIME={floor_hour(found.first_entry):%Y-%m-%dT%H:%M:%SZ} avoids them."
        )
    said.append("What these numbers are worth: docs/operate/first-load.md.")
    return said
