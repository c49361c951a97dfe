"""`dicom-assets migrate`: taking over the tables of Data Factory's template, in the terminal.

What is found and done is decided in `tables.migration` and `tables.comparison`; here are the words,
the JSON and the exit codes. UIDs go into a file that somebody asked for, and nowhere else.
"""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.migrate import comparison, migration
from dicom_assets.commands.migrate.comparison import Comparison, Differences
from dicom_assets.commands.migrate.migration import Done, Finding
from dicom_assets.definitions import tables
from dicom_assets.errors import NotYetError
from dicom_assets.schema import INSTANCE
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.snapshot import ABSENT, Store

DAYS_SHOWN: Final = 40
_KEYS_HEADER: Final = ("table", "day", "cause", "columns")
_NEXT: Final = "dagster asset materialize -m dicom_assets.definitions"


def check(settings: Settings, now: datetime, console: Console, *, as_json: bool = False) -> bool:
    """The terminal shows what taking over means; True when nothing stands in its way."""
    found = migration.check(_filled(settings))
    ready = not any(finding.obstacles or _is_waiting(finding, now) for finding in found)
    cost = migration.cost(found, settings.batch_size)
    if as_json:
        plain = [{**asdict(f), "is_due": f.is_due, "is_written": f.is_written(now)} for f in found]
        _print_json(console, {"tables": plain, "cost": asdict(cost), "is_ready": ready})
        return ready
    console.print(_findings_grid(found))
    for finding in found:
        for line in _lines(finding, now):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    for line in _cost_lines(cost):
        console.print(line, soft_wrap=True, highlight=False)
    _say_what_is_next(console, settings, found, ready=ready)
    return ready


def apply(settings: Settings, now: datetime, console: Console, *, as_json: bool = False) -> None:
    """The tables are taken over, and the terminal says how to go back."""
    done = migration.apply(_filled(settings), now, _say)
    if as_json:
        _print_json(
            console, {"tables": [{**asdict(d), "back": _back(d.url, d.before)} for d in done]}
        )
    elif not done:
        console.print("Nothing to do: the tables have the form of this project.")
    else:
        _show_done(console, done)


def compare(  # noqa: PLR0913 - what the command takes
    old: Settings,
    new: Settings,
    until: datetime | None,
    keys: Path | None,
    console: Console,
    *,
    as_json: bool = False,
) -> bool:
    """The terminal shows what differs, by day and cause; True when ours lack nothing unexplained.

    `keys` is a file for the keys of the rows that differ.
    """
    with _key_file(keys) as tell:
        found = comparison.compare(
            tables(old).store(), tables(new).store(), until, new.data_partitions, tell
        )
    if as_json:
        _print_json(console, _plain(found))
    else:
        _show_comparison(console, found)
    return found.is_explained


def _filled(settings: Settings) -> Store:
    """Return the tables; raises NotYetError when there is none of them."""
    store = tables(settings).store()
    if all(store.version(table) == ABSENT for table in migration.TAKEN_OVER):
        urls = ", ".join(store.urls[table.name] for table in migration.TAKEN_OVER)
        raise NotYetError(
            f"there is no table at {urls}: name the root of the template's tables, and their "
            "paths below it with DICOM_INSTANCE_TABLE_PATH, DICOM_SERIES_TABLE_PATH and "
            "DICOM_STUDY_TABLE_PATH"
        )
    return store


def _is_waiting(finding: Finding, now: datetime) -> bool:
    return finding.is_due and finding.is_written(now)


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False)


def _print_json(console: Console, told: Mapping[str, object]) -> None:
    console.print_json(json.dumps(told, default=_text))


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


# --- check ----------------------------------------------------------------------------------------


def _findings_grid(found: Sequence[Finding]) -> Grid:
    grid = Grid("table", title="tables")
    grid.add_column("written by", no_wrap=True)
    for name in ("version", "rows", "without sequence", "stale", "columns to add"):
        grid.add_column(name)
    for f in found:
        if f.version == ABSENT:
            grid.add_row(f.name, "nobody yet", *["-"] * 5)
            continue
        counts = (f.version, f.rows, f.unnumbered, f.stale, len(f.added))
        grid.add_row(f.name, _writer(f), *(f"{count:,}" for count in counts))
    return grid


def _writer(finding: Finding) -> str:
    if finding.generation is None:
        return "taken over" if finding.before is not None else "this project"
    is_instance = finding.name == INSTANCE.name
    return f"template, generation {finding.generation}" if is_instance else "template"


def _lines(f: Finding, now: datetime) -> Iterator[str]:
    """Yield what has to be known of one table, a sentence each."""
    if f.is_old:
        yield (
            f"{f.name}: its columns have the names of generation {f.generation}, and Delta cannot "
            f"have those of generation 3 beside them. All {f.rows:,} rows are written once more "
            "under the new names, in one commit; time travel keeps the old ones."
        )
    if f.others:
        yield f"{f.name}: keeps {len(f.others)} columns of somebody else: {', '.join(f.others)}."
    if f.has_map and f.is_due:
        yield (
            f"{f.name}: the map `metadata` is filled, and is filled on. That makes a merge about "
            "four times as expensive: DICOM_HEADER_COLUMNS=string ends it."
        )
    if f.stale:
        yield f"{f.name}: {f.stale:,} rows have no instance any more, and are removed."
    if f.doubled:
        yield (
            f"{f.name}: {f.doubled:,} keys stand in several rows. These are removed, and come back "
            "once each when their hours run."
        )
    if f.before is not None and not f.is_due:
        back = _back(f.url, f.before)
        yield f"{f.name}: was taken over at version {f.before}. To go back: {back}"
    yield from _obstacles(f, now)


def _obstacles(f: Finding, now: datetime) -> Iterator[str]:
    for obstacle in f.obstacles:
        yield f"{f.name}: in the way: {obstacle}."
    if f.newest is not None and _is_waiting(f, now):
        yield (
            f"{f.name}: in the way: {f.newest.engine} committed version {f.newest.version} at "
            f"{f.newest.at:%Y-%m-%d %H:%M} UTC. Stop the trigger in Data Factory, let its last run "
            "end, and wait two hours."
        )


def _cost_lines(cost: migration.Cost) -> Iterator[str]:
    if cost.rows:
        yield (
            f"{cost.rows:,} rows of instance have no sequence: when their hours run, each header "
            f"is read once. Requests: {cost.requests:,}; at {migration.REQUEST_SECONDS} s each and "
            f"{migration.AT_ONCE} at once about {math.ceil(cost.minutes):,} min."
        )


def _say_what_is_next(
    console: Console, settings: Settings, found: Sequence[Finding], *, ready: bool
) -> None:
    if not any(finding.is_due for finding in found):
        console.print("Nothing to do: the tables have the form of this project.")
    elif ready:
        command = f"dicom-assets migrate apply {settings.tables_url}"
        console.print("Nothing was changed. To take the tables over:")
        console.print(f"  {command}", style="cyan", soft_wrap=True, highlight=False)
    else:
        console.print("Nothing was changed, and nothing can be yet.")


# --- apply ----------------------------------------------------------------------------------------


def _show_done(console: Console, done: Sequence[Done]) -> None:
    grid = Grid("table", "version before", "version now", title="taken over")
    for name in ("columns added", "rows written anew", "rows removed"):
        grid.add_column(name)
    for d in done:
        counts = (d.added, d.rewritten, d.removed)
        grid.add_row(d.name, str(d.before), str(d.after), *(f"{count:,}" for count in counts))
    console.print(grid)
    console.print("To go back, with nobody writing (Python, `from deltalake import DeltaTable`):")
    for d in done:
        console.print(f"  {_back(d.url, d.before)}", style="cyan", soft_wrap=True, highlight=False)
    console.print("Rows get their sequences when their hours run, in ranges as long as you like:")
    select = "--select change,instance,series,study --partition-range FIRST...LAST"
    console.print(f"  {_NEXT} {select}", style="cyan", soft_wrap=True, highlight=False)


def _back(url: str, version: int) -> str:
    """Return the line of Python that makes a table what it was."""
    options = ", storage_options={…}" if "://" in url else ""
    return f'DeltaTable("{url}"{options}).restore({version})'


# --- compare --------------------------------------------------------------------------------------


def _show_comparison(console: Console, found: Comparison) -> None:
    console.print(_sizes_grid(found))
    console.print(f"The template has read up to {found.until:%Y-%m-%d %H:%M} UTC.")
    if not found.counts:
        console.print("The template's columns are the same in all rows.")
        return
    console.print(_causes_grid(found))
    if found.columns:
        console.print(_columns_grid(found))
    if not found.is_explained:
        names = ", ".join(comparison.UNEXPLAINED)
        console.print(f"[bold red]Rows lack here[/] ({names}): run the hours of these days again.")


def _sizes_grid(found: Comparison) -> Grid:
    grid = Grid("table", "template", "here", title="rows")
    for name, counts in found.rows.items():
        grid.add_row(name, *(f"{count:,}" for count in counts))
    return grid


def _causes_grid(found: Comparison) -> Grid:
    rows = sorted(found.counts.items(), key=lambda item: (item[0][1] or date.min, item[0]))
    title = "differences"
    if len(rows) > DAYS_SHOWN:
        title, rows = f"differences by cause ({len(rows)} by day: see --json)", _by_cause(found)
    grid = Grid("day", "table", "cause", "rows", title=title)
    for (table, day, cause), count in rows:
        grid.add_row("-" if day is None else day.isoformat(), table, cause, f"{count:,}")
    return grid


def _by_cause(found: Comparison) -> list[tuple[tuple[str, date | None, str], int]]:
    totals = Counter[tuple[str, date | None, str]]()
    for (table, _, cause), count in found.counts.items():
        totals[table, None, cause] += count
    return sorted(totals.items(), key=lambda item: (item[0][0], item[0][2]))


def _columns_grid(found: Comparison) -> Grid:
    grid = Grid("table", "column", "how", "rows", title="columns of rows that show the same change")
    for (table, column, form), count in sorted(found.columns.items()):
        grid.add_row(table, column, form, f"{count:,}")
    return grid


def _plain(found: Comparison) -> dict[str, object]:
    counts = [
        {"table": table, "day": day, "cause": cause, "rows": count}
        for (table, day, cause), count in sorted(found.counts.items(), key=str)
    ]
    columns = [
        {"table": table, "column": column, "form": form, "rows": count}
        for (table, column, form), count in sorted(found.columns.items())
    ]
    sizes = {name: {"template": a, "here": b} for name, (a, b) in found.rows.items()}
    told = {"until": found.until, "rows": sizes, "is_explained": found.is_explained}
    return {**told, "differences": counts, "columns": columns}


@contextmanager
def _key_file(path: Path | None) -> "Iterator[comparison.Tell | None]":
    """Yield what writes keys into the file, readable by its owner only; None without a file."""
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_KEYS_HEADER, *comparison.KEY])

        def tell(table: str, differences: Differences) -> None:
            names = [*_KEYS_HEADER[1:], *comparison.KEY]
            for row in differences.select(names).to_pylist():
                writer.writerow([table, *("" if row[n] is None else row[n] for n in names)])

        yield tell
