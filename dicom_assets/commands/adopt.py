"""`dicom-assets adopt`: a Dagster that knows nothing learns which hours the tables show.

Dagster's database is disposable: what is done is known from `sync`. After it was lost, moved or
begun anew, each hour that a table shows is reported as materialized, without a run. The schedule
asks for the others at its next tick.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from rich.console import Console

from dicom_assets.commands.progress import bar
from dicom_assets.definitions import build_definitions, tables
from dicom_assets.defs.partitions import key_of
from dicom_assets.settings import Settings
from dicom_assets.tables.sync import shown

ADOPTED = "adopted"


def run(settings: Settings, home: Path, console: Console) -> int:
    """Dagster counts every hour as materialized that the tables show; returns how many it did not.

    `home` is the DAGSTER_HOME of the instance. Interrupted, it goes on where it was.
    """
    assets = build_definitions(settings).assets or ()
    hours = shown(tables(settings).store())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        unknown = [
            dg.AssetMaterialization(asset.key, partition=partition, metadata={ADOPTED: True})
            for asset in assets
            if isinstance(asset, dg.AssetsDefinition)
            for partition in _unknown(instance, asset, hours[asset.key.path[-1]])
        ]
        with bar(console, "telling Dagster which hours the tables show") as progress:
            for number, materialization in enumerate(unknown, start=1):
                instance.report_runless_asset_event(materialization)
                progress(number, len(unknown))
    return len(unknown)


def _unknown(
    instance: dg.DagsterInstance, asset: dg.AssetsDefinition, hours: list[datetime]
) -> Iterator[str]:
    """Yield the partitions of hours that the table shows and Dagster does not count as done."""
    partitions = asset.partitions_def
    if partitions is None or not hours:
        return
    keys = [key for key in map(key_of, hours) if partitions.has_partition_key(key)]
    found = instance.get_status_by_partition(asset.key, keys, partitions) or {}
    yield from (key for key in keys if found.get(key) is not AssetPartitionStatus.MATERIALIZED)
