"""The job that nobody schedules: it fills columns that were added to tables with rows."""

from datetime import UTC, datetime

import dagster as dg

from dicom_assets.defs.io_manager import TableIOManager
from dicom_assets.defs.pool import POOL
from dicom_assets.defs.resources import DicomService
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep.column_backfill import fill
from dicom_assets.tables.upkeep.kept_headers import extract_of
from dicom_assets.tables.upkeep.rederive import rederive

COLUMNS_JOB = "dicom_columns"


@dg.op(
    pool=POOL,
    description=(
        "Old rows get the values of columns that were added: in `instance` from the headers that "
        "it keeps, in `series` and `study` from `instance`. The feed is not read. A run that ends "
        "early is finished by the next."
    ),
)
def fill_columns(
    context: dg.OpExecutionContext,
    dicom_service: DicomService,
    dicom_tables: dg.ResourceParam[TableIOManager],
) -> None:
    """Every row has the values of every column."""
    store = dicom_tables.store
    run = Run(context.run_id, datetime.now(UTC), context.log.info)
    table = store.tables[INSTANCE.name]
    zone = dicom_service.site_time_zone
    outcomes = {
        INSTANCE.name: fill(store, table, extract_of(table, zone), run),
        SERIES.name: rederive(store, SERIES, run),
        STUDY.name: rederive(store, STUDY, run),
    }
    context.add_output_metadata(
        {
            f"{name}_{what}": count
            for name, outcome in outcomes.items()
            for what, count in outcome.totals.items()
        }
    )


def columns_job() -> dg.JobDefinition:
    """Return the job that fills columns which were added to tables with rows."""

    @dg.job(
        name=COLUMNS_JOB,
        executor_def=dg.in_process_executor,
        description="Fill columns that were added: run it once after DICOM_COLUMNS_FILE changed.",
    )
    def fill_all() -> None:
        fill_columns()

    return fill_all
