"""The jobs of asset checks and their schedules, by the cost of the checks.

A cheap check whose failure must be known soon runs each hour: `freshness` reads one small table,
`lag` sends the service a few light requests. It runs late in the hour, when the run at a quarter
past is over. A check that reads a column of every row, the logs of all tables or a thousand headers
runs at night. The audit, which reads two days of entries again, runs four times a day. No check
takes a slot of the pool, because a table can be read while others write its next version.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from dicom_assets.defs.check_words import RUNS_KEY, Runs
from dicom_assets.defs.names import Names


@dataclass(frozen=True)
class CheckJob:
    """A job of checks: its name, its checks, their schedule (cron, UTC), and its purpose."""

    names: Names
    job: str
    runs: Runs
    cron: str
    description: str

    def job_of(
        self, checks: Iterable[dg.AssetChecksDefinition]
    ) -> "dg.UnresolvedAssetJobDefinition":
        """Return the job that runs those checks that belong to it."""
        own = (c for c in checks for s in c.check_specs if s.metadata[RUNS_KEY] == self.runs)
        selection = dg.AssetSelection.checks(*own)
        return dg.define_asset_job(self.job, selection=selection, description=self.description)

    def schedule(self, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
        """Return the schedule of the job."""
        return dg.ScheduleDefinition(
            name=self.names.schedule(self.job),
            job_name=self.job,
            cron_schedule=self.cron,
            execution_timezone="UTC",
            default_status=status,
            description=self.description,
        )


def check_jobs(names: Names) -> list[CheckJob]:
    """Return the jobs, each at minutes when no other job of ours begins."""
    return [
        CheckJob(
            names,
            names.job("hourly_checks"),
            Runs.HOURLY,
            "40 * * * *",
            "Check that the tables have the hours that they should have by now.",
        ),
        CheckJob(
            names,
            names.job("audit"),
            Runs.AUDIT,
            "45 */6 * * *",
            "Compare the entries of the DICOM service with the tables, for the last two days.",
        ),
        CheckJob(
            names,
            names.job("daily_checks"),
            Runs.DAILY,
            "50 3 * * *",
            "Check whole tables: keys, counts, rates, dates, schema, growth, seals.",
        ),
    ]
