"""The jobs of asset checks and their schedules, by what the checks cost.

A cheap check that must be noticed soon runs each hour: `freshness` reads one small table, `lag`
asks the service a few light questions. It runs late in the hour, when the run of the quarter past
is over. A check that reads a column of every row, the logs of all tables or a thousand headers runs
at night. One that asks the service for two days of entries again runs four times a day. No check
takes a slot of the pool: a table is read at one version while others write the next.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from dicom_assets.defs.check_words import RUNS_KEY, Runs
from dicom_assets.defs.names import Names
from dicom_assets.defs.schedules.status import schedule_status


@dataclass(frozen=True)
class CheckJob:
    """A job of checks: its name, which checks, when they run (cron, UTC), and what for."""

    names: Names
    job: str
    runs: Runs
    cron: str
    description: str

    def job_of(
        self, checks: Iterable[dg.AssetChecksDefinition]
    ) -> "dg.UnresolvedAssetJobDefinition":
        """Return the job that runs those of the checks that are its own."""
        own = (c for c in checks for s in c.check_specs if s.metadata[RUNS_KEY] == self.runs)
        selection = dg.AssetSelection.checks(*own)
        return dg.define_asset_job(self.job, selection=selection, description=self.description)

    def schedule(self, *, running: bool) -> dg.ScheduleDefinition:
        """Return the schedule of the job."""
        return dg.ScheduleDefinition(
            name=self.names.schedule(self.job),
            job_name=self.job,
            cron_schedule=self.cron,
            execution_timezone="UTC",
            default_status=schedule_status(running=running),
            description=self.description,
        )


def check_jobs(names: Names) -> list[CheckJob]:
    """Return the jobs, outside the minutes in which hours are asked for, and of one another."""
    return [
        CheckJob(
            names,
            names.job("hourly_checks"),
            Runs.HOURLY,
            "40 * * * *",
            "Look whether the tables have what they should have by now.",
        ),
        CheckJob(
            names,
            names.job("audit"),
            Runs.AUDIT,
            "45 */6 * * *",
            "Compare what the DICOM service serves now with what the tables hold, for the last two "
            "days.",
        ),
        CheckJob(
            names,
            names.job("daily_checks"),
            Runs.DAILY,
            "50 3 * * *",
            "Look through whole tables: keys, counts, rates, dates, schema, growth.",
        ),
    ]
