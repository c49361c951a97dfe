"""When hours are asked for: the job that brings the tables to an hour, its schedule, a sensor.

At each tick every hour is asked for that lacks a seal, or a materialization of one of the assets,
or whose latest attempt failed; hours in flight are left alone. Which of them, and in which slices,
is decided in `due`; what Dagster knows of them is asked in `attempts`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, islice

import dagster as dg

from dicom_assets.defs.partitions import closed, key_of
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.run_tags import ATTEMPT_TAG, tags_of
from dicom_assets.defs.schedules.past_runs import Attempts
from dicom_assets.defs.schedules.slices import Gap, Slice, gaps, slices
from dicom_assets.defs.schedules.status import schedule_status
from dicom_assets.errors import DicomAssetsError
from dicom_assets.feed import ChangeFeed
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.audit import unfollowed
from dicom_assets.tables.sync import followed
from dicom_assets.window import HOUR, Span, Window, datetime_of

REOPENED = "dicom_reopened_hours"
SENSOR_SECONDS = 60
# What one tick asks for at most: more than runs in the hour to the next one.
MOST_RUNS = 100
# Slices of a long gap wait in the queue behind the newest hours and the checks.
_BEHIND = {"dagster/priority": "-1"}


def tables_job(name: str, keys: list[dg.AssetKey]) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that brings all tables to an hour."""
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        description="Bring change, instance, series and study to an hour, or to a range of hours.",
    )


@dataclass(frozen=True)
class Feeding:
    """What hours are asked for: the job and its assets, their hours, the service and the tables."""

    job: "dg.UnresolvedAssetJobDefinition"
    keys: list[dg.AssetKey]
    partitions: dg.HourlyPartitionsDefinition
    service: DicomService
    store: Callable[[], Store]
    newest_first: bool

    @property
    def delay(self) -> timedelta:
        """How long after its end an hour is read."""
        return timedelta(minutes=self.service.delay_minutes)

    def attempts(self, instance: dg.DagsterInstance) -> Attempts:
        """Return what a Dagster instance knows of the hours."""
        return Attempts(instance, self.job.name, self.keys, self.partitions)

    def open(self, instance: dg.DagsterInstance, window: Window) -> list[datetime]:
        """Return the hours of a window that a table or Dagster does not show, in order."""
        expected = [datetime_of(hour.start) for hour in window.hours()]
        shown = followed(self.store(), self.service.clip(window))
        missing = self.attempts(instance).unmaterialized(expected)
        return [hour for hour in expected if hour in missing or hour not in shown]


def tables_schedule(feeding: Feeding, cron: str, *, running: bool) -> dg.ScheduleDefinition:
    """Return the schedule that asks for every hour that is missing at each tick."""

    @dg.schedule(
        name=f"{feeding.job.name}_schedule",
        job=feeding.job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=schedule_status(running=running),
        description=(
            "Ask for every hour that is closed and missing: not sealed, not materialized, or "
            "failed at the latest attempt. Hours in flight are left alone."
        ),
    )
    def ask(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        with feeding.service.glance() as feed:
            slower = min(tick, _clock(feed, context) or tick)
            expected = closed(feeding.partitions, slower, feeding.delay)
            if expected.start == expected.end:
                return dg.SkipReason("no hour since DICOM_START_TIME is closed yet")
            hours = feeding.open(context.instance, expected)
            if not hours:
                return dg.SkipReason("all tables show every hour that is closed")
            asking = _Asking(feeding, context.instance, Density(feed), f"{tick:%Y-%m-%dT%H:%M}")
            return asking.requests(hours, context.log.info)

    return ask


def _clock(feed: ChangeFeed, context: dg.ScheduleEvaluationContext) -> datetime | None:
    """Return the slower of this machine's clock and the service's; None when it does not answer."""
    try:
        return feed.now()
    except DicomAssetsError as error:
        context.log.warning("the service's clock is not known: %s", error)
        return None


@dataclass(frozen=True)
class _Asking:
    """One tick: what it asks for of the hours that are open."""

    feeding: Feeding
    instance: dg.DagsterInstance
    density: "Density"
    tick: str

    def requests(
        self, hours: list[datetime], say: Callable[[str], None]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """Return a run for each slice of the hours, or why there is none."""
        attempts = self.feeding.attempts(self.instance)
        flying = attempts.in_flight()
        landed = [hour for hour in hours if not any(one.holds(hour) for one in flying)]
        now = datetime.now(UTC)
        due, resting = gaps(landed, attempts.failures(now), now)
        asked = list(islice(self._slices(due), MOST_RUNS))
        told = _told(hours, landed, resting, asked)
        if not asked:
            return dg.SkipReason(told)
        say(told)
        return [self._request(one) for one in asked]

    def _slices(self, due: list[Gap]) -> Iterator[Slice]:
        newest_first = self.feeding.newest_first
        ordered = due[::-1] if newest_first else due
        return chain.from_iterable(
            slices(gap, self.density.entries_of, newest_first=newest_first) for gap in ordered
        )

    def _request(self, one: Slice) -> dg.RunRequest:
        name = f"{key_of(one.hours.first)}/{one.hours.count}/{self.tick}"
        tags = {ATTEMPT_TAG: str(one.attempt)}
        if one.hours.count == 1:
            return dg.RunRequest(name, partition_key=key_of(one.hours.first), tags=tags)
        return dg.RunRequest(name, tags={**tags, **_BEHIND, **tags_of(one.hours)})


class Density:
    """About how many entries hours have, as the feed tells it; nought once it does not answer."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._sequence_from = cache(feed.sequence_from)
        self._is_silent = False

    def entries_of(self, hours: Span) -> int:
        """Return how many sequences lie between the hours' start and their end."""
        if self._is_silent:
            return 0
        try:
            bounds = (hours.first, hours.last + HOUR)
            first, end = (self._sequence_from(moment) for moment in bounds)
        except DicomAssetsError:
            self._is_silent = True
            return 0
        return end - first


def _told(hours: list[datetime], landed: list[datetime], resting: int, asked: list[Slice]) -> str:
    counted = sum(one.hours.count for one in asked)
    return (
        f"of {len(hours)} hours that are missing {counted} are asked for in {len(asked)} runs, "
        f"{len(hours) - len(landed)} are in flight, {resting} rest after a failure, "
        f"{len(landed) - resting - counted} are left for the next tick"
    )


def reopened_sensor(feeding: Feeding, *, running: bool) -> dg.SensorDefinition:
    """Return the sensor that asks for hours that were read and that not all tables show.

    The audit has removed their seal, or a run ended before the last table.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=REOPENED,
        job=feeding.job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=status,
        description="Ask again for hours that the audit has opened, or that a run has left open.",
    )
    def ask(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        now = datetime.now(UTC)
        hours = [hour for hour in unfollowed(feeding.store()) if _lies_in(hour, feeding.partitions)]
        if not hours:
            return dg.SkipReason("all tables show every hour that was read")
        with feeding.service.glance() as feed:
            asking = _Asking(feeding, context.instance, Density(feed), f"{now:%Y-%m-%dT%H:%M:%S}")
            return asking.requests(hours, context.log.info)

    return ask


def _lies_in(hour: datetime, partitions: dg.HourlyPartitionsDefinition) -> bool:
    return hour >= partitions.start and (partitions.end is None or hour < partitions.end)
