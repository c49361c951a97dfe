"""The job that backfills added columns and tables, rows of an earlier edition, and padded keys.

For columns it is started by hand. A sensor of `missing_hours` starts it for tables and keys, which
owe no hour, and after an upgrade that makes other values of the same headers.
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
from dicom_assets.tables.upkeep.kept_headers import extract_of, is_outdated, mark_up_to_date
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
            "keeps, in derived tables from `instance`. Fill tables that were added. Derive rows "
            "anew of which an earlier release has made other values, and strip keys of Data "
            "Factory's template. The feed is not read. The next run continues one that ended early."
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
            table, anew = store.tables[INSTANCE.name], is_outdated(store)
            extract = extract_of(table, service_of(context, names).site_time_zone, anew=anew)
            totals[table.name] = fill(store, table, extract, run).totals
            forget_switched_off(store, run)
            for derived in filled_derived(store):
                totals[derived.name] = rederive(store, derived, run).totals
            if anew:
                mark_up_to_date(store, run)
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
