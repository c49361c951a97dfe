"""The asset of the report, downstream of the tables, and the job that makes it once a day.

It has no hours: a run over hours does not make it. The page lies in `_report/` below the root of
the tables. Dagster gets its path and five numbers.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from dicom_assets.defs.io_manager import store_of
from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import DueConfig, DueHours
from dicom_assets.defs.resources import service_of
from dicom_assets.tables.upkeep.damage import named_damage
from dicom_assets.window import Window, ticks_of

# After maintenance and the checks of the night, before the day begins in Europe.
REPORT_CRON: Final = "20 4 * * *"
_MEANING: Final = (
    "A page of HTML: complete up to when, what needs a person, the arrivals of 48 hours, devices "
    "by day, columns that got worse, what waits, growth. Counts only, none about fewer than ten "
    "patients. `dicom-assets report` makes it anew and opens it."
)


def report_asset(
    names: Names, tables: Sequence[dg.AssetKey], due: DueHours, *, at_rest: bool
) -> dg.AssetsDefinition:
    """Return the asset, downstream of those of the tables.

    Of an archive `at_rest` the hours that were read are due, else all.
    """

    @dg.asset(
        key=names.key(names.report),
        deps=tables,
        description=_MEANING,
        group_name=names.word,
        owners=[names.owner],
        kinds={"html"},
        required_resource_keys={names.service, names.tables},
    )
    def report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """Write the page anew."""
        from dicom_assets.report.facts import read_facts
        from dicom_assets.report.page import PATH, page
        from dicom_assets.tables.delta.folder import write_file

        op, now = context.op_execution_context, datetime.now(UTC)
        store, service = store_of(op, names), service_of(op, names)
        window = Window(0, ticks_of(now)) if at_rest else due.window(now, DueConfig())
        with named_damage(store):
            facts = read_facts(
                store, service.bounds(window), service.site_time_zone, now, at_rest=at_rest
            )
            root = getattr(context.resources, names.tables).root
            path = write_file(root, store.options, PATH, page(facts).encode())
        return dg.MaterializeResult(
            metadata={"path": dg.MetadataValue.path(path), **facts.numbers()}
        )

    return report


def report_job(names: Names) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that makes the report."""
    return dg.define_asset_job(
        names.job("daily_report"),
        selection=dg.AssetSelection.assets(names.key(names.report)),
        description="Make the report anew.",
    )


def report_schedule(names: Names, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """Return the schedule of the job: every day."""
    job = names.job("daily_report")
    return dg.ScheduleDefinition(
        name=names.schedule(job),
        job_name=job,
        cron_schedule=REPORT_CRON,
        execution_timezone="UTC",
        default_status=status,
        description="Make the report anew, every day.",
    )
