"""`dicom-assets migrate`: take over the tables that Data Factory's template wrote.

- `report`: what a person reads; `migration`: taking over, in place.
- `comparison`: the template's tables against ours; `template`: how the template writes.
"""

import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings

_ROOT = click.argument("root", required=False)
_JSON = click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")


@click.group()
def migrate() -> None:
    """Take over the tables that Data Factory's template wrote."""


@migrate.command("check")
@_ROOT
@_JSON
def migrate_check(root: str | None, as_json: bool) -> None:
    """Show what taking over the tables at ROOT (DICOM_TABLES_URL) means; nothing is changed."""
    settings, now = _rooted(root), datetime.now(UTC)
    with working("looking at the tables"):
        from dicom_assets.commands.migrate import migration, report  # Dagster takes seconds

        inspections = migration.inspect_tables(report.template_store(settings))
    sys.exit(0 if report.print_inspections(settings, inspections, now, as_json=as_json) else 1)


@migrate.command("apply")
@_ROOT
@_JSON
def migrate_apply(root: str | None, as_json: bool) -> None:
    """Take over the tables at ROOT (DICOM_TABLES_URL), in place, and print the way back."""
    settings, now = _rooted(root), datetime.now(UTC)
    with working("taking the tables over"):
        from dicom_assets.commands.migrate import migration, report  # Dagster takes seconds

        store, say = report.template_store(settings), partial(click.echo, err=True)
        takeovers = migration.take_over_tables(store, now, say)
    report.print_takeovers(takeovers, as_json=as_json)


@migrate.command("compare")
@click.argument("old")
@click.argument("new")
@click.option(
    "--until",
    type=click.DateTime(),
    help="Up to when the template has read (UTC); else the hour before its newest commit.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the keys of the rows that differ into this file (CSV); UIDs identify.",
)
@_JSON
def migrate_compare(
    old: str, new: str, until: datetime | None, keys: Path | None, as_json: bool
) -> None:
    """Compare the template's tables at OLD with ours of the same service at NEW."""
    sides = _rooted(old), _rooted(new)
    until = None if until is None else until.replace(tzinfo=UTC)
    with working("comparing the tables"):
        from dicom_assets.commands.migrate import report  # Dagster takes seconds

        comparison = report.compare_roots(*sides, until, keys)
    report.print_comparison(comparison, as_json=as_json)
    sys.exit(0 if comparison.is_explained else 1)


def _rooted(root: str | None) -> Settings:
    """Return the settings for the tables below another root than DICOM_TABLES_URL."""
    given = {"DICOM_TABLES_URL": root} if root else {}
    return Settings.from_environment({**os.environ, **given}, complete=False)
