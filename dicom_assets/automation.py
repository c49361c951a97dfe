"""When hours are asked for, and when they are checked: jobs, schedules, and a sensor.

And the job that nobody schedules: it fills columns that were added.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg

from dicom_assets.io_manager import TableIOManager
from dicom_assets.partitions import HOUR, key_of
from dicom_assets.pool import OWNER_TAG, POOL, is_dead
from dicom_assets.resources import DicomService
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.audit import unfollowed
from dicom_assets.tables.backfill import fill
from dicom_assets.tables.converge import Run
from dicom_assets.tables.rederive import rederive
from dicom_assets.tables.store import Store
from dicom_assets.tables.stored import extract_of
from dicom_assets.window import floor_hour

AUDIT_JOB = "dicom_audit"
REOPENED = "dicom_reopened_hours"
COLUMNS_JOB = "dicom_columns"
# Outside the minute in which the hours themselves are asked for.
AUDIT_CRON = "45 */6 * * *"
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
        default_status=_status(running=running),
        description="Ask for the newest hour that is closed.",
    )


def _status(*, running: bool) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED


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
        default_status=_status(running=running),
        description="Read the last closed hours again and compare them with their seals.",
    )


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
