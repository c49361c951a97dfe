"""`dicom-assets demo`: the embedded archive's hours through Dagster, and the tables printed.

The demo is a person's first look. It uses what everybody uses: the definitions, a Dagster
instance, the IO manager's tables.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which

import click
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.home import dagster_home, require_begun
from dicom_assets.commands.materialize import materializer
from dicom_assets.commands.progress import working
from dicom_assets.definitions import io_manager
from dicom_assets.defs.partitions import hour_key
from dicom_assets.emulator import claim, sample
from dicom_assets.schema import SERIES, STUDY, SYNC
from dicom_assets.settings import ARCHIVE_DIRECTORY, Settings
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.snapshot import ABSENT, Store
from dicom_assets.window import HOUR, Span, datetime_of, floor_hour


@click.command()
def demo() -> None:
    """Fill the tables from the embedded archive, and print them, by a run of Dagster."""
    settings = Settings.from_environment(complete=False)
    if not settings.is_embedded:
        raise click.ClickException(
            "the demo shows the embedded archive, but DICOM_SERVICE_URL is set: unset it, or use "
            "`dagster asset materialize` for your own service"
        )
    if settings.archive_directory != ARCHIVE_DIRECTORY:
        raise click.ClickException(
            "the demo needs tables of its own, but DICOM_TABLES_URL is the root of an archive of "
            "your files: unset it"
        )
    require_begun(settings)
    home, console = dagster_home(), Console()
    text = "filling the archive with pydicom's DICOM files"
    with working(text, f"{text}: {{:,}} of {{:,}}") as progress:
        first, last = _hours(settings, progress)
    console.print(
        f"[bold]Hours[/] {hour_key(first)} … {hour_key(last)} UTC, one run through Dagster"
    )
    with working("materializing change → instance → series, study"):
        failures = materializer(settings, home)(Span(first, last))
    if failures is not None:
        console.print(
            "[red]The run failed.[/] `dicom-assets dev` shows more: open Runs in the page."
        )
        console.print("\n".join(failures), markup=False)
        sys.exit(1)
    _print_tables(console, settings, io_manager(settings).store())
    _print_hints(console, settings)


def _hours(settings: Settings, progress: Callable[[int, int], None]) -> tuple[datetime, datetime]:
    """Fill the archive on first use; return its first hour, and the last closed one with entries.

    Hours after the last entry are left out, so that a demo on the next day does nothing again.
    """
    directory, delay = Path(ARCHIVE_DIRECTORY), timedelta(minutes=settings.delay_minutes)
    first = claim.first_hour(directory, now=datetime.now(UTC), delay=delay)
    archive = sample.prepare_archive(directory, first_hour=first, progress=progress)
    newest = archive.latest(header=False)
    filled = first if newest is None else floor_hour(datetime_of(newest.ticks))
    closed = floor_hour(datetime.now(UTC) - delay) - HOUR
    return first, min(closed, max(filled, first + claim.SPAN - HOUR))


def _print_tables(console: Console, settings: Settings, store: Store) -> None:
    hours = store.open(SYNC).rows(["creates", "updates", "deletes", "rejected"])
    feed = Grid("hours sealed", "Create", "Update", "Delete", "rejected", title="change feed")
    sums = [pc.sum(hours[name]).as_py() or 0 for name in hours.column_names]
    feed.add_row(str(hours.num_rows), *map(str, sums))
    tables = Grid("table", "rows", "version", "path", title="tables")
    for table in TABLES:
        snapshot = store.open(table)
        path = settings.table_relative_path(table.name)
        version = "none yet" if snapshot.version == ABSENT else str(snapshot.version)
        tables.add_row(table.name, str(snapshot.count()), version, path)
    console.print(feed, tables, _studies_grid(store))
    filling = sample.fill_report(Path(ARCHIVE_DIRECTORY))
    reasons = Counter(filling.refused)
    if reasons:
        each = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        console.print(
            f"Of pydicom's files the embedded service stored {filling.stored} and refused "
            f"{reasons.total()}, as a real one does: {each}.\n"
        )


def _studies_grid(store: Store) -> Grid:
    # Without descriptions, which may hold names.
    columns = ["studyInstanceUid", "studyDate", "seriesCount", "instanceCount"]
    studies = store.open(STUDY).rows(columns)
    largest = studies.sort_by([("instanceCount", "descending"), ("studyInstanceUid", "ascending")])
    modalities = defaultdict[str, set[str]](set)
    for row in store.open(SERIES).rows(["studyInstanceUid", "modality"]).to_pylist():
        modalities[row["studyInstanceUid"]] |= {row["modality"]} if row["modality"] else set()
    grid = Grid("date", "modalities", "series", "instances", title="largest studies")
    for row in largest.slice(0, 8).to_pylist():
        kinds = ", ".join(sorted(modalities[row["studyInstanceUid"]]))
        counts = (str(row["seriesCount"]), str(row["instanceCount"]))
        grid.add_row(str(row["studyDate"] or ""), kinds, *counts)
    return grid


def _print_hints(console: Console, settings: Settings) -> None:
    """Print where the tables lie, and the commands that ask them and open Dagster's page."""
    root, here = Path(settings.tables_root), Path.cwd()
    beside = which("dicom-assets", path=str(Path(sys.executable).parent))
    ours = Path(beside or "dicom-assets")
    if which("dicom-assets") == beside:
        ours = Path("dicom-assets")
    elif ours.is_relative_to(here):
        ours = ours.relative_to(here)
    shown = root.relative_to(here) if root.is_relative_to(here) else root
    query = "SELECT studyDate, studyDescription, instanceCount FROM study ORDER BY ALL DESC LIMIT 5"
    console.print(f"The tables lie in [bold]{shown}[/]. Ask them in SQL:\n")
    console.print(f'{ours} sql "{query}"', style="cyan", soft_wrap=True)
    console.print("\nLook at the run in Dagster's page, http://127.0.0.1:3000:\n")
    console.print(f"{ours} dev", style="cyan", soft_wrap=True)
