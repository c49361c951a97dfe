"""`dicom-assets find`: what is known of a study, series, instance or sequence, in the terminal.

The verdict comes from `tables.questions.find`. UIDs are printed here only, because the reader has
typed one. Nothing else of a header is printed.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.definitions import dicom_service, tables
from dicom_assets.defs.partitions import key_of
from dicom_assets.defs.resources import DicomService
from dicom_assets.feed.search import StudyCounts
from dicom_assets.settings import Settings
from dicom_assets.tables.outcome import PROGRESS_SECONDS
from dicom_assets.tables.questions.find import (
    Facts,
    KnownEntry,
    Limits,
    Verdict,
    gather_facts,
    judge_facts,
)
from dicom_assets.window import HOUR

# Somebody waits for the answer, and the tables' part of it needs no service.
RETRY_SECONDS = 2.0
ENTRIES_SHOWN = 20
COMMANDS_SHOWN = 5
_MATERIALIZE = "dagster asset materialize -m dicom_assets.definitions --select"


def run(
    settings: Settings, asked: str, now: datetime, console: Console, *, as_json: bool = False
) -> bool:
    """The terminal shows what is known of it and the next step; True when it is found and fine."""
    service = dicom_service(settings)
    limits = Limits(
        now,
        None if service.start_time is None else datetime.fromisoformat(service.start_time),
        settings.end_time,
        timedelta(minutes=settings.delay_minutes),
        settings.data_partitions,
    )
    store = tables(settings).store()
    with _counts(service) as counts, _progress() as progress:
        facts = gather_facts(store, asked, counts, limits, progress)
    found = judge_facts(facts, limits)
    if as_json:
        console.print_json(json.dumps(_plain(facts, found), default=_text))
    else:
        _show(console, facts, found)
    return found.is_fine


def _counts(service: DicomService) -> StudyCounts:
    return StudyCounts(
        service.address(),
        api_version=service.api_version,
        batch_size=service.batch_size,
        retry_seconds=RETRY_SECONDS,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Yield what is told how many entries were looked through; shown after two seconds."""
    begun = time.monotonic()
    console = Console(stderr=True)
    with console.status("asking the service") as status:

        def tell(count: int) -> None:
            if time.monotonic() - begun > PROGRESS_SECONDS:
                status.update(f"looked through {count:,} entries of the feed")

        yield tell


def _show(console: Console, facts: Facts, found: Verdict) -> None:
    console.print(f"[bold]{facts.level or 'sequence or UID'}[/] {facts.asked}", highlight=False)
    if facts.entries or facts.fresh:
        console.print(_entries_grid(facts))
    if facts.seals:
        console.print(_seals_grid(facts))
    if facts.rejected:
        console.print(_rejected_grid(facts))
    console.print(_counts_grid(facts))
    if facts.failure:
        console.print(f"The service could not be asked: {facts.failure}", markup=False)
    colour = "green" if found.is_fine else "red"
    console.print(f"[bold {colour}]{found.name}[/]: {found.sentence}.", highlight=False)
    for command in commands(found):
        console.print(f"  {command}", style="cyan", soft_wrap=True, highlight=False)


def _entries_grid(facts: Facts) -> Grid:
    rows = [(e, "yes") for e in facts.entries] + [(e, "no") for e in facts.fresh]
    left = len(rows) - ENTRIES_SHOWN
    title = "entries" if left <= 0 else f"the newest {ENTRIES_SHOWN} of {len(rows)} entries"
    grid = Grid("sequence", "action", "state", title=title)
    grid.add_column("hour", no_wrap=True)
    grid.add_column("data partition", overflow="fold")
    grid.add_column("in the log")
    for entry, is_logged in rows[-ENTRIES_SHOWN:]:
        grid.add_row(*_entry(entry), is_logged)
    return grid


def _entry(entry: KnownEntry) -> tuple[str, ...]:
    return str(entry.sequence), entry.action, entry.state, key_of(entry.hour), entry.partition


def _seals_grid(facts: Facts) -> Grid:
    grid = Grid("hour", "sealed", "not followed by", title="hours")
    for seal in facts.seals[-ENTRIES_SHOWN:]:
        sealed = "yes" if seal.is_sealed else "no"
        grid.add_row(key_of(seal.hour), sealed, ", ".join(seal.lagging) or "-")
    return grid


def _rejected_grid(facts: Facts) -> Grid:
    grid = Grid("sequence", "reason", "attempts", "next attempt (UTC)", title="rejected")
    for one in facts.rejected[:ENTRIES_SHOWN]:
        when = f"{one.next_attempt:%Y-%m-%d %H:%M}"
        grid.add_row(str(one.sequence), one.reason, str(one.attempts), when)
    return grid


def _counts_grid(facts: Facts) -> Grid:
    names = ("instance", "series", "study")
    grid = Grid("by the log", *names, "in the service", title="live instances and rows")
    served = "not asked" if facts.served is None else str(facts.served)
    grid.add_row(str(facts.expected), *(str(facts.rows.get(n, 0)) for n in names), served)
    return grid


def commands(found: Verdict) -> list[str]:
    """Return the commands that run the verdict's hours again, a range as one."""
    spans = list(_spans(found.hours))
    select = ",".join(found.select)
    shown = [f"{_MATERIALIZE} {select} {_option(*span)}" for span in spans[-COMMANDS_SHOWN:]]
    left = len(spans) - len(shown)
    return [*shown, f"# and {left} more, see --json"] if left else shown


def _option(first: datetime, last: datetime) -> str:
    if first == last:
        return f"--partition {key_of(first)}"
    return f"--partition-range {key_of(first)}...{key_of(last)}"


def _spans(hours: Iterable[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and the last hour of each row of hours without a gap."""
    span: tuple[datetime, datetime] | None = None
    for hour in sorted(hours):
        if span is not None and hour - span[1] == HOUR:
            span = (span[0], hour)
            continue
        if span is not None:
            yield span
        span = (hour, hour)
    if span is not None:
        yield span


def _plain(facts: Facts, found: Verdict) -> dict[str, object]:
    told = {**asdict(facts), "verdict": asdict(found), "commands": commands(found)}
    for name in ("entries", "fresh", "behind"):
        told[name] = [{**asdict(e), "hour": e.hour} for e in getattr(facts, name)]
    return told


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
