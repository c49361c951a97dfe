"""The job that backfills newly added columns and tables, and strips keys that were taken over.

For columns it is started by hand. For tables and keys a sensor of `missing_hours` starts it,
because they owe no hour.
"""

from datetime import UTC, datetime

import dagster as dg

from dicom_assets.defs.adoption import unreported
from dicom_assets.defs.io_manager import store_of
from dicom_assets.defs.resources import service_of
from dicom_assets.defs.run_tags import TABLES_ONLY_TAG
from dicom_assets.defs.schedules.missing_hours import HourlyLoad
from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.rollup import filled_derived, rederive, refill
from dicom_assets.tables.sync import (
    forget_switched_off,
    marked_hours,
    require_tables,
    unfilled_tables,
)
from dicom_assets.tables.upkeep.column_backfill import fill
from dicom_assets.tables.upkeep.kept_headers import extract_of
from dicom_assets.tables.upkeep.padded_keys import is_due, strip_all


def columns_job(load: HourlyLoad) -> dg.JobDefinition:
    """Return the job that backfills columns and tables that were added."""
    names = load.names

    @dg.op(
        name=names.op("fill_columns"),
        pool=names.tables,
        required_resource_keys={names.service, names.tables},
        description=(
            "Fill columns that were added, in old rows too: in `instance` from the headers that it "
            "keeps, in derived tables from `instance`. Fill tables that were added. Strip keys of "
            "Data Factory's template. The feed is not read. The next run continues one that ended "
            "early."
        ),
    )
    def fill_columns(context: dg.OpExecutionContext) -> None:
        store = store_of(context, names)
        run = Run(context.run_id, datetime.now(UTC), context.log.info)
        require_tables(store, run)
        totals: dict[str, dict[str, int]] = {}
        if is_due(store):
            totals["keys"] = strip_all(store, run)
        if TABLES_ONLY_TAG not in context.run.tags:
            table = store.tables[INSTANCE.name]
            extract = extract_of(table, service_of(context, names).site_time_zone)
            totals[table.name] = fill(store, table, extract, run).totals
            forget_switched_off(store, run)
            for derived in filled_derived(store):
                totals[derived.name] = rederive(store, derived, run).totals
        for table in unfilled_tables(store):
            totals[table.name] = refill(store, table, run).totals
        # Those of an earlier run, too, that ended before it had reported all hours.
        marked = marked_hours(store)
        for event in unreported(context.instance, load.tables, load.partitions, marked):
            context.instance.report_runless_asset_event(event)
        context.add_output_metadata(
            {
                f"{name}_{part}": count
                for name, counts in totals.items()
                for part, count in counts.items()
            }
        )

    @dg.job(
        name=names.job("columns"),
        executor_def=dg.in_process_executor,
        description=(
            "Backfill newly added columns and tables. Run it once after DICOM_COLUMNS_FILE changed."
        ),
    )
    def fill_all() -> None:
        fill_columns()

    return fill_all
