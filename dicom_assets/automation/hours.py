"""When hours are asked for: the job that brings the tables to an hour, its schedule, a sensor."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dagster as dg

from dicom_assets.automation.audit import AUDIT_JOB
from dicom_assets.automation.status import schedule_status
from dicom_assets.partitions import HOUR, key_of
from dicom_assets.pool import OWNER_TAG, is_dead
from dicom_assets.tables.audit import unfollowed
from dicom_assets.tables.store import Store
from dicom_assets.window import floor_hour

REOPENED = "dicom_reopened_hours"
SENSOR_SECONDS = 60
# After a run that failed, so that an hour that cannot be read does not fill the list of runs.
PAUSE = timedelta(hours=1)
# The tags with which Dagster runs a range of partitions as one.
RANGE_TAG = "dagster/asset_partition_range_{}"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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

    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        execution_fn=request,
        default_status=schedule_status(running=running),
        description="Ask for the newest hour that is closed.",
    )


def reopened_sensor(
    job: "dg.UnresolvedAssetJobDefinition",
    partitions: dg.HourlyPartitionsDefinition,
    store: Callable[[], Store],
    *,
    running: bool,
) -> dg.SensorDefinition:
    """Return the sensor that asks for hours that were read and that not all tables show.

    The audit has removed their seal, or a run ended before the last table.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=REOPENED,
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=status,
        description="Ask again for hours that the audit has opened, or that a run has left open.",
    )
    def ask(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        hours = [hour for hour in unfollowed(store()) if _lies_in(hour, partitions)]
        if not hours:
            return dg.SkipReason("all tables show every hour that was read")
        if _is_busy(context.instance):
            return dg.SkipReason(
                f"{len(hours)} hours are open, and a run is not over, or has failed"
            )
        return [_request(first, last) for first, last in spans(hours)]

    return ask


def _lies_in(hour: datetime, partitions: dg.HourlyPartitionsDefinition) -> bool:
    return hour >= partitions.start and (partitions.end is None or hour < partitions.end)


def _is_busy(instance: dg.DagsterInstance) -> bool:
    """Whether a run that may be at these hours is not over, or one for them failed just now."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    alive = (run for run in unfinished if not is_dead(run.tags.get(OWNER_TAG, ""), run.run_id))
    if any(run.job_name != AUDIT_JOB for run in alive):
        return True
    since = datetime.now(UTC) - PAUSE
    ours = {"dagster/sensor_name": REOPENED}
    failed = dg.RunsFilter(tags=ours, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    return bool(instance.get_runs(failed, limit=1))


def spans(hours: list[datetime]) -> list[tuple[datetime, datetime]]:
    """Return the first and the last hour of each gapless span of hours given in order."""
    found: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if found and found[-1][1] + HOUR == hour:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    return found


def _request(first: datetime, last: datetime) -> dg.RunRequest:
    bounds = {"start": key_of(first), "end": key_of(last)}
    return dg.RunRequest(tags={RANGE_TAG.format(name): key for name, key in bounds.items()})
