"""`dicom-assets narrow`: remove the rows of data partitions that are not kept any more.

`tables.upkeep.narrowing` does the work. Without --yes nothing is changed.
"""

from datetime import UTC, datetime
from functools import partial

import click

from dicom_assets.commands.progress import working
from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep.narrowing import remove_unwanted, unwanted_rows


@click.command()
@click.option("--yes", is_flag=True, help="Remove the rows; without it they are only counted.")
def narrow(yes: bool) -> None:
    """Remove the rows of data partitions that are not kept any more (DICOM_DATA_PARTITIONS)."""
    settings = Settings.from_environment(complete=False)
    if settings.data_partitions is None:
        raise SettingsError(
            "DICOM_DATA_PARTITIONS is unset: all data partitions are kept, and nothing is removed"
        )
    kept = frozenset(settings.data_partitions)
    with working("counting rows"):
        from dicom_assets.definitions import io_manager  # Dagster's import takes seconds

        store = io_manager(settings).store()
        unwanted = unwanted_rows(store, kept)
    for table, counts in unwanted.items():
        for name, count in counts.items():
            click.echo(f"{table}: {count:,} rows of data partition {name}")
    if yes:
        # Also without rows: a removal that was cut short is completed.
        remove_unwanted(
            store, kept, Run("narrow", datetime.now(UTC), partial(click.echo, err=True))
        )
        click.echo(f"Only rows of {', '.join(sorted(kept))} are left.")
    elif unwanted:
        click.echo("Nothing was removed. `dicom-assets narrow --yes` removes these rows.")
    else:
        click.echo("All rows are of data partitions that are kept.")
