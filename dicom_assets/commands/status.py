"""`dicom-assets status`: are the tables complete, and does anything need a person?

Hours, rows and rejected entries come from the tables alone, checks and the last nightly run from
Dagster's database where that is a file, without Dagster's import, which takes seconds.
"""

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import click
from rich.console import Console

from dicom_assets.commands.lines import count_of, told
from dicom_assets.errors import DicomAssetsError
from dicom_assets.settings import HOME_DIRECTORY, Settings

_DOCS: Final = "→ docs/reference/checks.md"
_COUNTED: Final = ("instance", "series", "study")
_CHECKS: Final = """
SELECT asset_key, check_name, execution_status, evaluation_event_timestamp
FROM asset_check_executions WHERE execution_status IN ('SUCCEEDED', 'FAILED') ORDER BY id
"""
_NIGHT: Final = """
SELECT status, end_time FROM runs WHERE pipeline_name = 'dicom_maintenance' AND end_time IS NOT NULL
ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Hours:
    """The hours that are due, those that a table has not followed, and the end of the others."""

    due: int
    missing: tuple[datetime, ...]
    newest: datetime | None


@click.command()
@click.option("--ask", is_flag=True, help="Ask the service about its newest hours, too.")
@click.option("--home", envvar="DAGSTER_HOME", default=HOME_DIRECTORY, hidden=True)
def status(ask: bool, home: str) -> None:
    """Print whether the tables are complete: exit code 0 yes, 1 no, 2 could not look."""
    console = Console()
    try:
        settings = Settings.from_environment()
        sys.exit(_report(console, settings, Path(home), ask=ask))
    except DicomAssetsError as error:
        told(console, f"COULD NOT LOOK  {error}", style="bold red")
        sys.exit(2)


def _report(console: Console, settings: Settings, home: Path, *, ask: bool) -> int:
    from dicom_assets.commands.find.studies import opened
    from dicom_assets.schema import SYNC
    from dicom_assets.tables.rejected import by_reason

    store, now = opened(settings), datetime.now(UTC)
    if store.absent([store.tables[SYNC.name]]):
        told(console, f"COULD NOT LOOK  no tables in {settings.tables_root}", style="bold red")
        return 2
    hours = hours_due(settings, store, now)
    zone = settings.site_time_zone
    if hours.missing:
        first = hours.missing[0]
        text = (
            f"NOT COMPLETE  {len(hours.missing):,} of {count_of(hours.due, 'hour')} missing: "
            f"{'' if len(hours.missing) == 1 else 'the first '}{first:%Y-%m-%d-%H:%M} UTC"
            f"{_next_try(settings, now)}"
        )
    else:
        end = "" if hours.newest is None else f" up to {_moment(hours.newest, zone)}"
        text = f"COMPLETE  {count_of(hours.due, 'hour')}{end}"
    told(console, text, style="bold red" if hours.missing else "bold green", indent=4)
    rows = "   ".join(f"{name} {store.open(store.tables[name]).count():,}" for name in _COUNTED)
    newest = "" if hours.newest is None else f"   up to {hours.newest:%H:%M}"
    _line(console, "rows", f"{rows}{newest}")
    waiting = by_reason(store)
    if waiting:
        each = ", ".join(f"{one.count:,} {one.reason}" for one in waiting)
        since = min(one.oldest for one in waiting)
        count = sum(one.count for one in waiting)
        _line(
            console,
            "rejected",
            f"{count:,} since {since:%b} {since.day}: {each}",
            "→ dicom-assets find --rejected",
        )
    else:
        _line(console, "rejected", "none")
    for name, line, right in _dagster(home, zone):
        _line(console, name, line, right)
    behind = _ask(console, settings, store, now) if ask else False
    return 1 if hours.missing or behind else 0


def _line(console: Console, name: str, text: str, right: str = "") -> None:
    told(console, f"  {name:<12}{text}", right, indent=14)


def hours_due(settings: Settings, store: Any, now: datetime) -> Hours:  # noqa: ANN401 - a Store, whose import takes half a second
    """Return the hours that the tables should show by now.

    Those of the embedded service are the hours that hold entries: it gets none by itself.
    """
    from dicom_assets.tables.sync import followed
    from dicom_assets.window import HOUR, datetime_of, floor_hour

    bounds = due_bounds(settings, store, now)
    start, end = (datetime_of(bound) for bound in (bounds.window.start, bounds.window.end))
    first, shown = floor_hour(start), followed(store, bounds)
    if settings.is_embedded:
        due = sorted(_rows_of_sync(store))
    else:
        due = [first + n * HOUR for n in range(-((first - end) // HOUR))]
    missing = tuple(hour for hour in due if hour not in shown)
    done = [hour for hour in due if hour in shown and (not missing or hour < missing[0])]
    return Hours(len(due), missing, max(done) + HOUR if done else None)


def due_bounds(settings: Settings, store: Any, now: datetime) -> Any:  # noqa: ANN401 - a Store, and Bounds
    """Return the bounds in which hours are due by now."""
    from dicom_assets.window import HOUR, Bounds, Window, floor_hour

    rows = _rows_of_sync(store)
    first = settings.start_time or floor_hour(min(rows, default=now))
    end = floor_hour(now - timedelta(minutes=settings.delay_minutes))
    if settings.end_time is not None:
        end = min(end, settings.end_time)
    if settings.is_embedded:
        first, end = floor_hour(min(rows, default=now)), max(rows, default=now) + HOUR
    kept = None if settings.data_partitions is None else frozenset(settings.data_partitions)
    return Bounds(Window.between(first, max(first, end)), kept)


def _rows_of_sync(store: Any) -> list[datetime]:  # noqa: ANN401 - a Store
    from dicom_assets.schema import SYNC

    return [h for h in store.open(SYNC).rows(["hour"])["hour"].to_pylist() if h is not None]


def _next_try(settings: Settings, now: datetime) -> str:
    """Return when the schedule asks again, for a schedule that ticks at a minute of each hour."""
    match = re.fullmatch(r"([0-9]|[1-5][0-9]) \* \* \* \*", settings.schedule)
    if match is None or settings.is_embedded:
        return ""
    tick = now.replace(minute=int(match[1]), second=0, microsecond=0)
    tick += timedelta(hours=1) if tick <= now else timedelta()
    return f", tried again {tick:%H:%M}{_local(tick, settings.site_time_zone)}"


def _moment(moment: datetime, zone: str | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC{_local(moment, zone)}"


def _local(moment: datetime, zone: str | None) -> str:
    """Return the time of day of a moment at the site, with the site's name; nothing without one."""
    if not zone:
        return ""
    place = zone.rpartition("/")[2].replace("_", " ")
    return f" ({moment.astimezone(ZoneInfo(zone)):%H:%M} {place})"


def _dagster(home: Path, zone: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield the lines of the checks and of the last nightly run, as far as Dagster tells them."""
    latest, failing = dict[str, str](), dict[str, datetime]()
    for asset, name, result, at in _rows(home / "history" / "runs" / "index.db", _CHECKS):
        # A check that has moved has its earlier results under the service.
        key = f"{asset} {name}".replace('_quality"]', '_service"]')
        latest[key] = result
        if result == "FAILED":
            failing.setdefault(key, datetime.fromisoformat(str(at)).replace(tzinfo=UTC))
        else:
            failing.pop(key, None)
    if latest:
        red = ", ".join(
            f"{key.split(' ')[-1]} (since {since:%b} {since.day})" for key, since in failing.items()
        )
        green = len(latest) - len(failing)
        text = f"{green} of {len(latest)} green" + (f"; red: {red}" if red else "")
        yield "checks", text, _DOCS if red else ""
    else:
        yield "checks", "none has run here", ""
    for result, ended in _rows(home / "history" / "runs.db", _NIGHT):
        at = datetime.fromtimestamp(ended, UTC)
        shown = at.astimezone(ZoneInfo(zone)) if zone else at
        day = "" if datetime.now(UTC) - at < timedelta(days=1) else f" on {at:%b} {at.day}"
        yield "last night", f"{'green' if result == 'SUCCESS' else 'red'} {shown:%H:%M}{day}", ""


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on Dagster's own file, none where there is no such table."""
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            return opened.execute(query).fetchall()
    except sqlite3.Error:
        return []


def _ask(console: Console, settings: Settings, store: Any, now: datetime) -> bool:  # noqa: ANN401 - a Store
    """Print what the service holds beyond the tables; return True if there is anything."""
    from dicom_assets.definitions import dicom_service
    from dicom_assets.tables.questions.lag import measure_lag
    from dicom_assets.window import Bounds, Window, floor_hour

    service = dicom_service(settings)
    start = datetime.fromisoformat(str(service.start_time))
    end = floor_hour(now - timedelta(minutes=settings.delay_minutes))
    feed = service.glance()
    try:
        lag = measure_lag(store, feed, Bounds(Window.between(start, max(start, end)), service.kept))
    finally:
        feed.close()
    late = len(lag.late or ())
    text = (
        "nothing beyond the tables"
        if lag.passed
        else (
            f"{count_of(lag.missing, 'entry', 'entries')} beyond the tables, "
            f"{count_of(late, 'hour')} with late entries"
        )
    )
    _line(console, "service", text)
    return not lag.passed
