"""`dicom-assets adopt`: tell an empty Dagster which hours the tables show.

Dagster's database is disposable, because `sync` records which hours are done. After the database
was lost, moved or made anew, each hour that a table shows is reported as materialized, without a
run. The schedule asks for the others at its next tick.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import click
import dagster as dg

from dicom_assets.commands.home import dagster_home
from dicom_assets.commands.progress import working
from dicom_assets.definitions import build_definitions, io_manager
from dicom_assets.defs.adoption import unreported
from dicom_assets.settings import Settings
from dicom_assets.tables.sync import marked_hours


@click.command()
def adopt() -> None:
    """Report to an empty or moved Dagster which hours the tables show, without runs."""
    text = "telling Dagster which hours the tables show"
    with working(text, f"{text}: {{:,}} of {{:,}}") as progress:
        home = dagster_home()
        count = report_hours(Settings.from_environment(), home, progress)
    click.echo(f"{count} materializations were reported to the Dagster in {home}")


def report_hours(settings: Settings, home: Path, progress: Callable[[int, int], None]) -> int:
    """Report every hour that the tables show and Dagster does not count as materialized.

    `home` is the DAGSTER_HOME of the instance. Returns the number of materializations. After an
    interruption the next call reports the rest.
    """
    built = build_definitions(settings).assets or ()
    assets = [asset for asset in built if isinstance(asset, dg.AssetsDefinition)]
    keys = {asset.key.path[-1]: asset.key for asset in assets}
    partitions = cast("dg.HourlyPartitionsDefinition", assets[0].partitions_def)
    hours = marked_hours(io_manager(settings).store())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        unknown = list(unreported(instance, keys, partitions, hours))
        for number, materialization in enumerate(unknown, start=1):
            instance.report_runless_asset_event(materialization)
            progress(number, len(unknown))
    return len(unknown)
