"""When it is looked whether all is well: the jobs of checks and their schedules, by what they cost.

What is cheap and must be noticed soon runs each hour: `freshness` reads one small table, `lag` asks
the service a few light questions. It looks late in the hour, when the run of the quarter past is
over. What reads a column of every row, the logs of all tables or a thousand headers runs at night.
What asks the service for two days of entries again runs four times a day. Nobody who looks takes a
slot of the pool: a table is read at one version while others write the next.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import dagster as dg

from dicom_assets.defs.schedules.status import schedule_status


class Look(NamedTuple):
    """A job of checks: its name, when it runs (cron, UTC), and what for."""

    job: str
    cron: str
    description: str


# Outside the minutes in which hours are asked for, and of one another.
HOURLY: Final = Look(
    "dicom_hourly_checks",
    "40 * * * *",
    "Look whether the tables have what they should have by now.",
)
AUDIT: Final = Look(
    "dicom_audit",
    "45 */6 * * *",
    "Compare what the DICOM service serves now with what the tables hold, for the last two days.",
)
DAILY: Final = Look(
    "dicom_daily_checks",
    "50 3 * * *",
    "Look through whole tables: keys, counts, rates, dates, schema, growth.",
)


def checks_job(
    look: Look, checks: Iterable[dg.AssetChecksDefinition]
) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that runs some checks."""
    return dg.define_asset_job(
        look.job, selection=dg.AssetSelection.checks(*checks), description=look.description
    )


def checks_schedule(look: Look, *, running: bool) -> dg.ScheduleDefinition:
    """Return the schedule of a job of checks."""
    return dg.ScheduleDefinition(
        name=f"{look.job}_schedule",
        job_name=look.job,
        cron_schedule=look.cron,
        execution_timezone="UTC",
        default_status=schedule_status(running=running),
        description=look.description,
    )
