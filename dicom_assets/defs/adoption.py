"""Materializations of hours that the tables show already, reported to Dagster without runs.

The table `sync` knows the hours that are done. A new or moved Dagster instance does not, and gets a
materialization for each hour and asset.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import dagster as dg

from dicom_assets.defs.partitions import hour_key, materialized

# Metadata of a materialization without a run.
ADOPTED: Final = "adopted"


def unreported(
    instance: dg.DagsterInstance,
    keys: Mapping[str, dg.AssetKey],
    partitions: dg.HourlyPartitionsDefinition,
    hours: Mapping[str, Sequence[datetime]],
) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialization for each hour of a table that Dagster does not count as done.

    `keys` are assets and `hours` the starts of hours, both by the names of tables. An hour that is
    not a partition is left out.
    """
    for name, asset in keys.items():
        hour_keys = map(hour_key, hours.get(name, ()))
        shown = [key for key in hour_keys if partitions.has_partition_key(key)]
        done = materialized(instance, asset, shown, partitions)
        for key in shown:
            if key not in done:
                yield dg.AssetMaterialization(asset, partition=key, metadata={ADOPTED: "from sync"})
