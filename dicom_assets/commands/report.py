"""`dicom-assets report`: the page about the tables, made anew and opened."""

import sys
import webbrowser
from datetime import UTC, datetime
from pathlib import Path

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings


@click.command()
@click.option("--internal", is_flag=True, help="Show numbers about fewer than ten patients, too.")
@click.option("--no-browser", is_flag=True, help="Write the page, and open no browser.")
def report(internal: bool, no_browser: bool) -> None:
    """Make the report anew from the tables, and open it in a browser.

    It is one file for yourself or to be sent: it holds no value of a patient. With --internal it is
    another file, with all numbers, which stays in the house.
    """
    with working("reading the tables"):
        from dicom_assets.commands.find.studies import opened
        from dicom_assets.commands.status import due_bounds
        from dicom_assets.report.facts import read_facts
        from dicom_assets.report.page import INTERNAL_PATH, PATH, page
        from dicom_assets.schema import SYNC
        from dicom_assets.tables.delta.folder import write_file

        settings, now = Settings.from_environment(), datetime.now(UTC)
        store, root = opened(settings), settings.tables_root
        if store.absent([store.tables[SYNC.name]]):
            raise click.ClickException(
                f"there are no tables in {root} yet: materialize an hour first, or run "
                "`dicom-assets demo`"
            )
        facts = read_facts(
            store,
            due_bounds(settings, store, now),
            settings.site_time_zone,
            now,
            at_rest=settings.is_embedded,
        )
        # A browser opens no file of a remote storage.
        folder, options = ("data", {}) if "://" in root else (root, store.options)
        name = INTERNAL_PATH if internal else PATH
        path = Path(write_file(folder, options, name, page(facts, internal=internal).encode()))
    click.echo(path)
    if not no_browser and sys.stdout.isatty():
        webbrowser.open(path.absolute().as_uri())
