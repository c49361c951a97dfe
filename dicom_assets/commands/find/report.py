"""The facts about a study, series, instance or sequence, and the verdict, in the terminal.

The verdict comes from `tables.questions.find`. UIDs are printed here only, because the reader has
typed one. No other value of a header is printed.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.json_output import print_json
from dicom_assets.definitions import dicom_service, io_manager
from dicom_assets.defs.partitions import hour_key
from dicom_assets.feed.search import StudyCounts
from dicom_assets.feed_contract import can_heal
from dicom_assets.settings import Settings
from dicom_assets.tables.questions.find import (
    SERVICE_SECONDS,
    Facts,
    Limits,
    Verdict,
    gather_facts,
    judge_facts,
)
from dicom_assets.window import spans_of

ENTRIES_SHOWN = 20
_MATERIALIZE = "dagster asset materialize -m dicom_assets.definitions --select"


def find_out(
    settings: Settings, sought: str, now: datetime, progress: Callable[[int], None]
) -> tuple[Facts, Verdict]:
    """Return what tables and service know of a UID or sequence, and the verdict.

    `progress` takes the number of entries of the feed that were looked through.
    """
    service = dicom_service(settings)
    limits = Limits(
        now,
        None if service.start_time is None else datetime.fromisoformat(service.start_time),
        settings.end_time,
        timedelta(minutes=settings.delay_minutes),
        settings.data_partitions,
    )
    counts = StudyCounts(
        service.address(),
        api_version=service.api_version,
        batch_size=service.batch_size,
        retry_seconds=SERVICE_SECONDS,
        in_flight=service.requests_in_flight,
    )
    with counts:
        facts = gather_facts(io_manager(settings).store(), sought, counts, limits, progress)
    return facts, judge_facts(facts, limits)


def print_verdict(
    facts: Facts, verdict: Verdict, *, as_json: bool = False, entries: bool = False
) -> None:
    """Print the verdict and the next commands, with `entries` the facts too; or JSON."""
    if as_json:
        told = {**asdict(verdict), "word": verdict.word}
        plain = {"verdict": told, "commands": commands_for(verdict), **asdict(facts)}
        for name in ("entries", "fresh", "behind"):
            plain[name] = [{**asdict(e), "hour": e.hour} for e in getattr(facts, name)]
        print_json(plain)
        return
    console = Console()
    colour = "green" if verdict.is_fine else "red"
    first = f"[bold {colour}]{verdict.word}[/]  {verdict.name}: {verdict.sentence}."
    console.print(first, highlight=False)
    console.print(f"[bold]{facts.level or 'sequence or UID'}[/] {facts.asked}", highlight=False)
    if facts.failure:
        console.print(f"The service could not be asked: {facts.failure}", markup=False)
    for grid in _grids(facts) if entries else ():
        console.print(grid)
    for command in commands_for(verdict):
        console.print(f"  {command}", style="cyan", soft_wrap=True, highlight=False)


def _grids(facts: Facts) -> Iterator[Grid]:
    if facts.entries or facts.fresh:
        yield _entries_grid(facts)
    if facts.seals:
        grid = Grid("hour", "sealed", "not followed by", title="hours")
        for seal in facts.seals[-ENTRIES_SHOWN:]:
            sealed = "yes" if seal.is_sealed else "no"
            grid.add_row(hour_key(seal.hour), sealed, ", ".join(seal.lagging) or "-")
        yield grid
    if facts.rejected:
        grid = Grid("sequence", "reason", "attempts", "next attempt (UTC)", title="rejected")
        for one in facts.rejected[:ENTRIES_SHOWN]:
            when = f"{one.next_attempt:%Y-%m-%d %H:%M}" if can_heal(one.reason) else "-"
            grid.add_row(str(one.sequence), one.reason, str(one.attempts), when)
        yield grid
    names = ("instance", "series", "study")
    grid = Grid("by the log", *names, "in the service", title="live instances and rows")
    served = "not asked" if facts.served is None else str(facts.served)
    grid.add_row(str(facts.expected), *(str(facts.rows.get(n, 0)) for n in names), served)
    yield grid


def _entries_grid(facts: Facts) -> Grid:
    rows = [(e, "yes") for e in facts.entries] + [(e, "no") for e in facts.fresh]
    left = len(rows) - ENTRIES_SHOWN
    title = "entries" if left <= 0 else f"the newest {ENTRIES_SHOWN} of {len(rows)} entries"
    grid = Grid("sequence", "action", "state", title=title)
    grid.add_column("hour", no_wrap=True)
    grid.add_column("data partition", overflow="fold")
    grid.add_column("in the log")
    for e, is_logged in rows[-ENTRIES_SHOWN:]:
        grid.add_row(str(e.sequence), e.action, e.state, hour_key(e.hour), e.partition, is_logged)
    return grid


def commands_for(verdict: Verdict) -> list[str]:
    """Return the commands that run the verdict's hours again, adjacent hours as one range."""
    spans, select = spans_of(verdict.hours), ",".join(verdict.select)
    shown = []
    for span in spans[-5:]:
        first, last = hour_key(span.first), hour_key(span.last)
        option = f"--partition {first}" if first == last else f"--partition-range {first}...{last}"
        shown.append(f"{_MATERIALIZE} {select} {option}")
    left = len(spans) - len(shown)
    return [*shown, f"# and {left} more, see --json"] if left else shown
