"""Telling Dagster which hours the tables show, without runs.

What is done is known from `sync`. A Dagster that does not know it is told by materializations that
are reported, an hour and asset at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from dicom_assets.defs.partitions import hour_key

# On a materialization that no run has made.
ADOPTED: Final = "adopted"


def unreported(
    instance: dg.DagsterInstance,
    keys: Mapping[str, dg.AssetKey],
    partitions: dg.HourlyPartitionsDefinition,
    hours: Mapping[str, Sequence[datetime]],
) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialization for each hour of a table that Dagster does not count as done.

    `keys` are assets and `hours` the starts of hours, both by the names of tables. An hour that is
    no partition is left out.
    """
    for name, asset in keys.items():
        named = map(hour_key, hours.get(name, ()))
        shown = [key for key in named if partitions.has_partition_key(key)]
        known = instance.get_status_by_partition(asset, shown, partitions) or {} if shown else {}
        for key in shown:
            if known.get(key) is not AssetPartitionStatus.MATERIALIZED:
                yield dg.AssetMaterialization(asset, partition=key, metadata={ADOPTED: True})
