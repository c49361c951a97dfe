"""The four assets: the whole story.

`change` logs what the feed says each instance should be at; `instance` reads the headers of the
difference and holds one row per live instance; `series` and `study` are derived from it anew for
every study that the hours touched. Each function says what its table follows; how it is followed
is in `tables`, where it is kept in `io_manager`, what it looks like in Dagster in `presentation`.
"""

from functools import partial

import dagster as dg

from dicom_assets.defs.io_manager import Derivation, Hours
from dicom_assets.defs.partitions import window_of
from dicom_assets.defs.resources import DicomService
from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables import change as change_log
from dicom_assets.tables import instance as instance_table
from dicom_assets.tables import rollup as rollups


def change(context: dg.AssetExecutionContext, dicom_service: DicomService) -> Derivation:
    """Every entry of the hour is in the log, and the hour is sealed in `sync`."""
    hours = window_of(context.partition_time_window)
    window = dicom_service.await_closed(dicom_service.clip(hours), context.log.info)
    return Derivation(partial(change_log.add, window=window, feed=dicom_service.feed))


def instance(change: Hours, dicom_service: DicomService) -> Derivation:
    """The table is at least as new as the hour: one row for each instance that is alive."""
    follow = partial(
        instance_table.apply,
        reads_on=dicom_service.end_time is None,
        keeps_form=dicom_service.header_columns is None,
    )
    return Derivation(partial(follow, window=change.window, feed=dicom_service.feed))


def series(instance: Hours) -> Derivation:
    """Every study that the hour touched has one row for each series with live instances."""
    return Derivation(partial(rollups.apply, table=SERIES, window=instance.window))


def study(instance: Hours) -> Derivation:
    """Every study that the hour touched has one row, or none when it has no live instance."""
    return Derivation(partial(rollups.apply, table=STUDY, window=instance.window))
