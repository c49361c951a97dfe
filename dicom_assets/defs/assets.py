"""The four assets, top to bottom: the whole story.

`change` logs the state that each instance should have, as the feed says. `instance` reads the
headers of the difference and has one row per live instance. `series` and `study` are derived from
it anew for every study that the hours touched, and so is a further table.

An asset returns the update of its table as a value, and the IO manager commits it
(`defs.io_manager`). The updates are in `tables`, the texts of the asset pages in
`defs.descriptions`.
"""

import dagster as dg

from dicom_assets.defs.io_manager import TouchedHours
from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import window_of
from dicom_assets.defs.resources import service_of
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Table
from dicom_assets.tables.change import AddEntries
from dicom_assets.tables.instance import FollowLog
from dicom_assets.tables.outcome import TableUpdate
from dicom_assets.tables.rollup import DeriveStudies


def story(names: Names) -> list[dg.AssetsDefinition]:
    """Return the four assets under the names of a set of definitions."""

    @dg.asset(
        key=names.key("change"),
        deps=[names.service_key],
        description=CHANGE.description,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=names.tables,
        pool=names.tables,
        required_resource_keys={names.service},
    )
    def change(context: dg.AssetExecutionContext) -> TableUpdate:
        """Add the entries of the hours to the log, and seal the hours in `sync`."""
        service = service_of(context, names)
        hours = service.clip(window_of(context.partition_time_window))
        return AddEntries(service.await_closed(hours, context.log.info), service.feed)

    @dg.asset(
        key=names.key("instance"),
        ins={"change": dg.AssetIn(names.key("change"))},
        deps=[names.service_key],
        description=INSTANCE.description,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=names.tables,
        pool=names.tables,
        required_resource_keys={names.service},
    )
    def instance(context: dg.AssetExecutionContext, change: TouchedHours) -> TableUpdate:
        """Update every instance that the hours touched to the state that the log says."""
        service = service_of(context, names)
        return FollowLog(
            change.window,
            service.feed,
            reads_on=service.end_time is None,
            keeps_form=service.header_columns is None,
        )

    @dg.asset(
        key=names.key("series"),
        ins={"instance": dg.AssetIn(names.key("instance"))},
        description=SERIES.description,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=names.tables,
        pool=names.tables,
    )
    def series(instance: TouchedHours) -> TableUpdate:
        """Derive the series of every study that the hours touched."""
        return DeriveStudies(SERIES, instance.window)

    @dg.asset(
        key=names.key("study"),
        ins={"instance": dg.AssetIn(names.key("instance"))},
        description=STUDY.description,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=names.tables,
        pool=names.tables,
    )
    def study(instance: TouchedHours) -> TableUpdate:
        """Derive every study that the hours touched."""
        return DeriveStudies(STUDY, instance.window)

    return [change, instance, series, study]


def derived_asset(table: Table, names: Names) -> dg.AssetsDefinition:
    """Return the asset of a further table that is derived study by study."""

    @dg.asset(
        key=names.key(table.name),
        ins={"instance": dg.AssetIn(names.key("instance"))},
        description=table.description,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=names.tables,
        pool=names.tables,
    )
    def derive(instance: TouchedHours) -> TableUpdate:
        """Derive the rows of every study that the hours touched."""
        return DeriveStudies(table, instance.window)

    return derive
