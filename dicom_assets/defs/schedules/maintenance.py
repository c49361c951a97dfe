"""What is done to the tables once a night: the job, and its schedule.

Each table is an op of its own, which takes the pool: nothing here needs it, but a commit of ours
makes a run for an hour derive again what it has just derived. So the two do not meet; a table is
done in minutes (`tables.compaction` says how many at most), and between two tables the hours go on.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from dicom_assets.defs.io_manager import TableIOManager
from dicom_assets.defs.pool import POOL
from dicom_assets.defs.schedules.status import schedule_status
from dicom_assets.schema import Table
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep.maintenance import maintain

MAINTENANCE_JOB = "dicom_maintenance"
# At night, and outside the minutes in which hours are asked for and audits begin.
MAINTENANCE_CRON = "30 2 * * *"


def maintenance_job(tables: Sequence[Table]) -> dg.JobDefinition:
    """Return the job that maintains the tables, one after the other; one that fails stops none."""
    ops = [_maintenance_of(table) for table in tables]

    @dg.job(
        name=MAINTENANCE_JOB,
        executor_def=dg.in_process_executor,
        description=(
            "Join small files, remove old ones after DICOM_RETENTION_HOURS, keep the log short. "
            "Rows stay what they are. A run that ends early is finished by the next."
        ),
    )
    def maintain_all() -> None:
        for op in ops:
            op()

    return maintain_all


def _maintenance_of(table: Table) -> dg.OpDefinition:
    @dg.op(
        name=f"maintain_{table.name}",
        pool=POOL,
        description=f"Join small files of {table.name}, remove old ones, keep its log short.",
    )
    def maintain_table(
        context: dg.OpExecutionContext, dicom_tables: dg.ResourceParam[TableIOManager]
    ) -> None:
        """The table is maintained, and its numbers are on the output."""
        run = Run(context.run_id, datetime.now(UTC), context.log.info)
        outcome = maintain(dicom_tables.store, table, run)
        stages = {f"seconds_{name}": round(spent, 3) for name, spent in outcome.seconds.items()}
        seconds = round(sum(outcome.seconds.values()), 3)
        versions = {"version_before": outcome.version_before, "version": outcome.version_after}
        context.add_output_metadata(
            {**outcome.totals, **stages, "seconds": seconds, "rows": outcome.rows, **versions}
        )

    return maintain_table


def maintenance_schedule(job: dg.JobDefinition, *, running: bool) -> dg.ScheduleDefinition:
    """Return the schedule of the job: every night."""
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=MAINTENANCE_CRON,
        execution_timezone="UTC",
        default_status=schedule_status(running=running),
        description="Join small files, remove old ones, and keep the logs short, every night.",
    )
