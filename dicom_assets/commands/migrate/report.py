"""Taking over the tables of Data Factory's template, in the terminal.

`migration` and `comparison` decide; here are sentences, grids and JSON. UIDs go only into the file
that the option `--keys` names.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Column as GridColumn
from rich.table import Table as Grid

from dicom_assets.commands.json_output import print_json
from dicom_assets.commands.migrate import comparison, migration
from dicom_assets.commands.migrate.comparison import Comparison
from dicom_assets.commands.migrate.migration import Inspection, Takeover
from dicom_assets.definitions import io_manager
from dicom_assets.errors import NotYetError
from dicom_assets.schema import INSTANCE
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.snapshot import ABSENT, Store

DAYS_SHOWN: Final = 40


def compare_roots(
    old: Settings, new: Settings, until: datetime | None, keys: Path | None
) -> Comparison:
    """Return the differences of two roots; the keys of rows that differ go into a file."""
    with _key_file(keys) as tell:
        return comparison.compare_tables(
            io_manager(old).store(), io_manager(new).store(), until, new.data_partitions, tell
        )


def template_store(settings: Settings) -> Store:
    """Return the template's tables; raises NotYetError when there is none of them."""
    store = io_manager(settings).store()
    if all(store.version(table) == ABSENT for table in migration.TAKEN_OVER):
        urls = ", ".join(store.urls[table.name] for table in migration.TAKEN_OVER)
        raise NotYetError(
            f"there is no table at {urls}: name the root of the template's tables, and their "
            "paths below it with DICOM_INSTANCE_TABLE_PATH, DICOM_SERIES_TABLE_PATH and "
            "DICOM_STUDY_TABLE_PATH"
        )
    return store


def print_inspections(
    settings: Settings, inspections: Sequence[Inspection], now: datetime, *, as_json: bool = False
) -> bool:
    """Print the work of taking over and its obstacles; returns True when there are none."""
    ready = not any(one.obstacles or (one.is_due and one.is_written(now)) for one in inspections)
    cost = migration.cost_of(inspections, settings.batch_size)
    if as_json:
        plain = [
            {**asdict(one), "is_due": one.is_due, "is_written": one.is_written(now)}
            for one in inspections
        ]
        print_json({"tables": plain, "cost": asdict(cost), "is_ready": ready})
        return ready
    console = Console()
    console.print(_inspections_grid(inspections))
    for inspection in inspections:
        for line in _lines(inspection, now):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if cost.rows:
        console.print(
            f"{cost.rows:,} rows of instance have no sequence: when their hours run, each header "
            f"is read once. Requests: {cost.requests:,}; at {migration.PAGE_SECONDS} s each and "
            f"{migration.PAGES_AT_ONCE} at once about {math.ceil(cost.minutes):,} min.",
            soft_wrap=True,
            highlight=False,
        )
    if not any(inspection.is_due for inspection in inspections):
        console.print("Nothing to do: the tables have the form of this project.")
    elif ready:
        console.print("Nothing was changed. To take the tables over:")
        _print_command(console, f"dicom-assets migrate apply {settings.tables_url}")
    else:
        console.print("Nothing was changed, and nothing can be yet.")
    return ready


def _inspections_grid(inspections: Sequence[Inspection]) -> Grid:
    titles = ("version", "rows", "without sequence", "stale", "columns to add")
    grid = Grid("table", GridColumn("written by", no_wrap=True), *titles, title="tables")
    for one in inspections:
        if one.version == ABSENT:
            grid.add_row(one.name, "nobody yet", *["-"] * 5)
            continue
        if one.generation is None:
            writer = "this project" if one.before is None else "taken over"
        else:
            is_instance = one.name == INSTANCE.name
            writer = f"template, generation {one.generation}" if is_instance else "template"
        counts = (one.version, one.rows, one.unnumbered, one.stale, len(one.added))
        grid.add_row(one.name, writer, *(f"{count:,}" for count in counts))
    return grid


def _lines(t: Inspection, now: datetime) -> Iterator[str]:
    if t.is_old:
        yield (
            f"{t.name}: its columns have the names of generation {t.generation}, and Delta cannot "
            f"have those of generation 3 beside them. All {t.rows:,} rows are written once more "
            "under the new names, in one commit; time travel keeps the old ones."
        )
    if t.others:
        yield f"{t.name}: keeps {len(t.others)} columns of somebody else: {', '.join(t.others)}."
    if t.has_map and t.is_due:
        yield (
            f"{t.name}: the map `metadata` is filled, and is filled on. That makes a merge about "
            "four times as expensive: DICOM_HEADER_COLUMNS=string ends it."
        )
    if t.stale:
        yield f"{t.name}: {t.stale:,} rows have no instance any more, and are removed."
    if t.padded:
        yield f"{t.name}: {t.padded:,} rows have UIDs with padding, which is removed."
    if t.doubled:
        yield (
            f"{t.name}: {t.doubled:,} keys stand in several rows. These are removed, and come back "
            "once each when their hours run."
        )
    if t.before is not None and not t.is_due:
        back = _back(t.url, t.before)
        yield f"{t.name}: was taken over at version {t.before}. To go back: {back}"
    for obstacle in t.obstacles:
        yield f"{t.name}: in the way: {obstacle}."
    if t.newest is not None and t.is_due and t.is_written(now):
        yield (
            f"{t.name}: in the way: {t.newest.engine} committed version {t.newest.version} at "
            f"{t.newest.at:%Y-%m-%d %H:%M} UTC. Stop the trigger in Data Factory, let its last run "
            "end, and wait two hours."
        )


def print_takeovers(takeovers: Sequence[Takeover], *, as_json: bool = False) -> None:
    """Print the tables that were taken over, and the lines that restore them."""
    if as_json:
        print_json({"tables": [{**asdict(t), "back": _back(t.url, t.before)} for t in takeovers]})
        return
    console = Console()
    if not takeovers:
        console.print("Nothing to do: the tables have the form of this project.")
        return
    titles = ("version before", "version now", "columns added", "rows written anew", "rows removed")
    grid = Grid("table", *titles, title="taken over")
    for t in takeovers:
        counts = (t.added, t.rewritten, t.removed)
        grid.add_row(t.name, str(t.before), str(t.after), *(f"{count:,}" for count in counts))
    console.print(grid)
    console.print("To go back, with nobody writing (Python, `from deltalake import DeltaTable`):")
    for t in takeovers:
        _print_command(console, _back(t.url, t.before))
    console.print("Rows get their sequences when their hours run, in ranges as long as you like:")
    select = "--select change,instance,series,study --partition-range FIRST...LAST"
    _print_command(console, f"dagster asset materialize -m dicom_assets.definitions {select}")


def _print_command(console: Console, command: str) -> None:
    console.print(f"  {command}", style="cyan", soft_wrap=True, highlight=False)


def _back(url: str, version: int) -> str:
    options = ", storage_options={…}" if "://" in url else ""
    return f'DeltaTable("{url}"{options}).restore({version})'


def print_comparison(result: Comparison, *, as_json: bool = False) -> None:
    """Print the differences by day, table and cause."""
    if as_json:
        print_json(_plain(result))
        return
    console = Console()
    grid = Grid("table", "template", "here", title="rows")
    for name, counts in result.rows.items():
        grid.add_row(name, *(f"{count:,}" for count in counts))
    console.print(grid)
    console.print(f"The template has read up to {result.until:%Y-%m-%d %H:%M} UTC.")
    if not result.counts:
        console.print("The template's columns are the same in all rows.")
        return
    console.print(_causes_grid(result))
    if result.columns:
        titles = ("table", "column", "how", "rows")
        grid = Grid(*titles, title="columns of rows that show the same change")
        for column, count in sorted(result.columns.items()):
            grid.add_row(*column, f"{count:,}")
        console.print(grid)
    if not result.is_explained:
        names = ", ".join(comparison.UNEXPLAINED)
        console.print(f"[bold red]Rows lack here[/] ({names}): run the hours of these days again.")


def _causes_grid(result: Comparison) -> Grid:
    """Return the rows by day, table and cause; over many days by table and cause only."""
    counts, title = result.counts, "differences"
    if len(counts) > DAYS_SHOWN:
        title = f"differences by cause ({len(counts)} by day: see --json)"
        counts = Counter[tuple[str, date | None, str]]()
        for (table, _, cause), count in result.counts.items():
            counts[table, None, cause] += count
    grid = Grid("day", "table", "cause", "rows", title=title)
    for row in sorted(counts, key=lambda row: (row[1] or date.min, row[0], row[2])):
        table, day, cause = row
        grid.add_row("-" if day is None else day.isoformat(), table, cause, f"{counts[row]:,}")
    return grid


def _plain(result: Comparison) -> dict[str, object]:
    counts = [
        {"table": table, "day": day, "cause": cause, "rows": count}
        for (table, day, cause), count in sorted(result.counts.items(), key=str)
    ]
    columns = [
        {"table": table, "column": column, "form": form, "rows": count}
        for (table, column, form), count in sorted(result.columns.items())
    ]
    sizes = {name: {"template": a, "here": b} for name, (a, b) in result.rows.items()}
    facts = {"until": result.until, "rows": sizes, "is_explained": result.is_explained}
    return {**facts, "differences": counts, "columns": columns}


@contextmanager
def _key_file(path: Path | None) -> "Iterator[comparison.Tell | None]":
    """Yield a function that writes keys into the file, readable by its owner; None without one."""
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["table", "day", "cause", "columns", *INSTANCE.key])
        writer.writeheader()
        yield lambda table, rows: writer.writerows({"table": table} | r for r in rows.to_pylist())
