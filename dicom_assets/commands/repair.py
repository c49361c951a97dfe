"""`dicom-assets repair`: what other programs wrote to the tables is derived anew.

The work is that of `tables.upkeep.repair`. Shown are versions, times and counts.
"""

import sys
from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings


@click.command()
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All rows: newest commits were lost.")
@click.option("--yes", is_flag=True, help="Repair. Otherwise nothing is changed.")
def repair(tables: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Show what other programs wrote to the tables, and mend it with --yes.

    All tables by default. Counted are the studies or hours that other programs touched. Stop the
    schedules first, and let runs end.
    """
    settings, now = Settings.from_environment(complete=False), datetime.now(UTC)
    with working("reading what other programs wrote"):
        from dicom_assets.definitions import io_manager  # Dagster's import takes seconds
        from dicom_assets.tables.delta.retry import Run
        from dicom_assets.tables.upkeep import repair as upkeep

        store = io_manager(settings).store()
        if unknown := sorted({*tables} - {*store.tables}):
            raise click.BadParameter(f"{', '.join(unknown)} is none of {', '.join(store.tables)}")
        if everything and not tables:
            raise click.UsageError("--all needs the name of a TABLE")
        chosen = [table for name, table in store.tables.items() if name in (tables or store.tables)]
        found = [upkeep.find_foreign_rows(store, t, everything=everything) for t in chosen]
    run = Run("repair", now, partial(click.echo, err=True))
    left = 0
    for rows in found:
        for commit in rows.commits:
            click.echo(f"{rows.table.name}: {commit}")
        if rows.is_empty and not (tables and yes):
            click.echo(f"{rows.table.name}: nothing of another program")
            continue
        touched, written = _count(rows.touched), _count(rows.written)
        click.echo(f"{rows.table.name}: touched {touched}, of which {written} to be made anew")
        if yes:
            counts = upkeep.repair_table(store, rows, run)
            done = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
            click.echo(f"{rows.table.name}: repaired ({done or 'nothing to change'})")
        left += not yes
    if yes:
        click.echo(
            "Turn the schedules on: dicom_reopened_hours asks for opened hours within a minute, "
            "dicom_tables_schedule for missing ones at its next tick."
        )
    elif left:
        click.echo("Nothing was changed. Stop the schedules, then run this again with --yes.")
    sys.exit(1 if left else 0)


def _count(groups: Collection[Any] | None) -> str:
    return "everything" if groups is None else f"{len(groups):,}"
