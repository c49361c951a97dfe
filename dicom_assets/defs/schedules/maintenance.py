"""The job that maintains the tables once a night, and its schedule.

Each table is an op of its own, and the run takes the pool. Correctness does not need it, but a
commit of maintenance would make a run for hours derive its difference again. A table is done in
minutes (`tables.upkeep.compaction` has the limit).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from dicom_assets.defs.io_manager import numbers_of, store_of
from dicom_assets.defs.names import Names
from dicom_assets.schema import Table
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep.maintenance import maintain

# At night, at a minute when neither runs for hours nor audits begin.
MAINTENANCE_CRON: Final = "30 2 * * *"


def maintenance_job(tables: Sequence[Table], names: Names) -> dg.JobDefinition:
    """Return the job that maintains the tables in turn; a failure does not stop the others."""
    ops = [_maintenance_of(table, names) for table in tables]

    @dg.job(
        name=names.job("maintenance"),
        executor_def=dg.in_process_executor,
        description=(
            "Join small files, remove old ones after DICOM_RETENTION_HOURS, keep the log short. "
            "No row changes. The next run continues one that ended early."
        ),
    )
    def maintain_all() -> None:
        for op in ops:
            op()

    return maintain_all


def _maintenance_of(table: Table, names: Names) -> dg.OpDefinition:
    @dg.op(
        name=names.op(f"maintain_{table.name}"),
        pool=names.tables,
        required_resource_keys={names.tables},
        description=f"Join small files of {table.name}, remove old ones, keep its log short.",
    )
    def maintain_table(context: dg.OpExecutionContext) -> None:
        run = Run(context.run_id, datetime.now(UTC), context.log.info)
        outcome = maintain(store_of(context, names), table, run)
        context.add_output_metadata(numbers_of(outcome, sum(outcome.seconds.values())))

    return maintain_table


def maintenance_schedule(
    job: dg.JobDefinition, names: Names, status: dg.DefaultScheduleStatus
) -> dg.ScheduleDefinition:
    """Return the schedule of the job: every night."""
    return dg.ScheduleDefinition(
        name=names.schedule(job.name),
        job=job,
        cron_schedule=MAINTENANCE_CRON,
        execution_timezone="UTC",
        default_status=status,
        description="Join small files, remove old ones, and keep the logs short, every night.",
    )
