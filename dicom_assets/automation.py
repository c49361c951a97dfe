"""When hours are asked for: the job over the four assets, and its schedule."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dicom_assets.partitions import HOUR, key_of
from dicom_assets.window import floor_hour


def tables_job(name: str, keys: list[dg.AssetKey]) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that brings all tables to an hour."""
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        description="Bring change, instance, series and study to an hour, or to a range of hours.",
    )


def newest_closed_hour(tick: datetime, delay: timedelta) -> datetime:
    """Return the start of the newest hour that ended at least the delay before the tick."""
    return floor_hour(tick - delay) - HOUR


def tables_schedule(
    job: "dg.UnresolvedAssetJobDefinition",
    partitions: dg.HourlyPartitionsDefinition,
    cron: str,
    delay: timedelta,
    *,
    running: bool,
) -> dg.ScheduleDefinition:
    """Return the schedule that asks for the newest closed hour at each tick."""

    def request(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        hour = newest_closed_hour(tick, delay)
        key = key_of(hour)
        if hour < partitions.start or (partitions.end is not None and hour >= partitions.end):
            return dg.SkipReason(f"the hour {key} lies outside DICOM_START_TIME and DICOM_END_TIME")
        return dg.RunRequest(run_key=key, partition_key=key)

    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        execution_fn=request,
        default_status=status,
        description="Ask for the newest hour that is closed.",
    )
