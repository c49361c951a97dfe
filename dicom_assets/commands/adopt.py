"""`dicom-assets adopt`: a Dagster that knows nothing learns which hours the tables show.

Dagster's database is disposable: what is done is known from `sync`. After it was lost, moved or
begun anew, each hour that a table shows is reported as materialized, without a run. The schedule
asks for the others at its next tick.
"""

from pathlib import Path
from typing import cast

import dagster as dg
from rich.console import Console

from dicom_assets.commands.progress import bar
from dicom_assets.definitions import build_definitions, tables
from dicom_assets.defs.adoption import unreported
from dicom_assets.settings import Settings
from dicom_assets.tables.sync import shown_hours


def run(settings: Settings, home: Path, console: Console) -> int:
    """Report every hour that the tables show to Dagster; return how many it did not know.

    `home` is the DAGSTER_HOME of the instance. Interrupted, it goes on where it was.
    """
    built = build_definitions(settings).assets or ()
    assets = [asset for asset in built if isinstance(asset, dg.AssetsDefinition)]
    keys = {asset.key.path[-1]: asset.key for asset in assets}
    partitions = cast("dg.HourlyPartitionsDefinition", assets[0].partitions_def)
    hours = shown_hours(tables(settings).store())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        unknown = list(unreported(instance, keys, partitions, hours))
        with bar(console, "telling Dagster which hours the tables show") as progress:
            for number, materialization in enumerate(unknown, start=1):
                instance.report_runless_asset_event(materialization)
                progress(number, len(unknown))
    return len(unknown)
