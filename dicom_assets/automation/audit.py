"""When the service is compared with the tables: the job that runs the checks, and its schedule."""

from collections.abc import Iterable

import dagster as dg

from dicom_assets.automation.status import schedule_status

AUDIT_JOB = "dicom_audit"
# Outside the minute in which the hours themselves are asked for.
AUDIT_CRON = "45 */6 * * *"


def audit_job(checks: Iterable[dg.AssetChecksDefinition]) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that runs the checks on the service."""
    return dg.define_asset_job(
        AUDIT_JOB,
        selection=dg.AssetSelection.checks(*checks),
        description="Compare what the DICOM service serves now with what the tables hold.",
    )


def audit_schedule(
    job: "dg.UnresolvedAssetJobDefinition", *, running: bool
) -> dg.ScheduleDefinition:
    """Return the schedule that audits every six hours; an audit covers the last two days."""
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=AUDIT_CRON,
        execution_timezone="UTC",
        default_status=schedule_status(running=running),
        description="Read the last closed hours again and compare them with their seals.",
    )
