"""The job that loads hours into the tables, and the schedule and sensors that request it.

Each tick requests every hour that has no seal, or no materialization of one of the assets, or whose
latest attempt failed. Hours in flight are left alone. Only the tables that owe the hour are
requested, with the tables that are derived from them. `slices` decides the hours and slices, and
`past_runs` reads them from Dagster.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, islice
from typing import Final

import dagster as dg

from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import closed, hour_key
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.run_tags import ATTEMPT_TAG, TABLES_ONLY_TAG, tags_of
from dicom_assets.defs.schedules.past_runs import PastRuns
from dicom_assets.defs.schedules.slices import Gap, Owed, Slice, gaps, slices
from dicom_assets.errors import DicomAssetsError
from dicom_assets.feed import ChangeFeed
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import open_hours, showing, unfilled_tables
from dicom_assets.window import HOUR, Span, Window, datetime_of

SENSOR_SECONDS = 60
# The most runs that one tick requests. It is more than can end before the next tick in an hour.
MOST_RUNS: Final = 100
# Slices of a long gap wait in the run queue behind the newest hours and the checks.
_LOW_PRIORITY = {"dagster/priority": "-1"}


@dataclass(frozen=True)
class HourlyLoad:
    """The parts of an hourly load: assets, their hours, the service and the store.

    `tables` are the keys of the assets by the names of their tables.
    """

    names: Names
    tables: Mapping[str, dg.AssetKey]
    partitions: dg.HourlyPartitionsDefinition
    service: DicomService
    store: Callable[[], Store]
    newest_first: bool

    @property
    def delay(self) -> timedelta:
        """The time after its end at which an hour is read."""
        return timedelta(minutes=self.service.delay_minutes)

    def past_runs(self, instance: dg.DagsterInstance) -> PastRuns:
        """Return the runs over the hours in a Dagster instance."""
        keys = list(self.tables.values())
        return PastRuns(instance, self.names.tables, keys, self.partitions)

    def owed(self, instance: dg.DagsterInstance, window: Window) -> Owed:
        """Return the hours of a window that some tables owe, with these tables.

        A table owes an hour that it does not show in `sync`, or that Dagster does not count as
        materialized.
        """
        hours = [datetime_of(hour.start) for hour in window.hours()]
        shown = showing(self.store(), self.service.clip(window))
        past = self.past_runs(instance)
        missing = {name: past.unmaterialized(self.tables[name], hours) for name in shown}
        owed = {
            hour: [n for n in shown if hour not in shown[n] or hour in missing[n]] for hour in hours
        }
        return {hour: self.with_below(names) for hour, names in owed.items() if names}

    def with_below(self, names: Iterable[str]) -> frozenset[str]:
        """Return tables together with all tables that are derived from them."""
        owing = frozenset(names)
        if CHANGE.name in owing:
            return frozenset(self.tables)
        return frozenset(self.tables) - {CHANGE.name} if INSTANCE.name in owing else owing


def tables_job(load: HourlyLoad) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that loads hours into all tables."""
    *others, last = load.tables
    return dg.define_asset_job(
        load.names.tables,
        selection=dg.AssetSelection.assets(*load.tables.values()),
        description=f"Load an hour, or a range of hours, into {', '.join(others)} and {last}.",
    )


def tables_schedule(
    load: HourlyLoad,
    job: "dg.UnresolvedAssetJobDefinition",
    cron: str,
    status: dg.DefaultScheduleStatus,
) -> dg.ScheduleDefinition:
    """Return the schedule that requests every missing hour at each tick."""

    @dg.schedule(
        name=load.names.schedule(job.name),
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description=(
            "Request every hour that is closed and missing: not sealed, not materialized, or "
            "failed at the latest attempt. Hours in flight are left alone."
        ),
    )
    def request_missing(
        context: dg.ScheduleEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        with load.service.glance() as feed:
            slower = min(tick, _clock(feed, context) or tick)
            expected = closed(load.partitions, slower, load.delay)
            if expected.start == expected.end:
                return dg.SkipReason("no hour since DICOM_START_TIME is closed yet")
            owed = load.owed(context.instance, expected)
            if not owed:
                return dg.SkipReason("all tables show every hour that is closed")
            moment = f"{tick:%Y-%m-%dT%H:%M}"
            return _Tick(load, context.instance, Density(feed), moment).requests(context, owed)

    return request_missing


def _clock(feed: ChangeFeed, context: dg.ScheduleEvaluationContext) -> datetime | None:
    """Return the slower of this machine's and the service's clock; None without an answer."""
    try:
        return feed.now()
    except DicomAssetsError as error:
        context.log.warning("the service's clock is not known: %s", error)
        return None


@dataclass(frozen=True)
class _Tick:
    """One tick: the runs that it requests for the hours that are owed."""

    load: HourlyLoad
    instance: dg.DagsterInstance
    density: "Density"
    moment: str

    def requests(
        self, context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext, owed: Owed
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """Return a run for each slice of the hours, or the reason for none."""
        past = self.load.past_runs(self.instance)
        in_flight = past.in_flight()
        waiting = {
            hour: tables
            for hour, tables in owed.items()
            if not any(span.holds(hour) for span in in_flight)
        }
        now = datetime.now(UTC)
        due, resting = gaps(waiting, past.failures(now), now)
        chosen = list(islice(self._slices(due), MOST_RUNS))
        count = sum(one.hours.count for one in chosen)
        summary = (
            f"{len(owed)} hours are missing: {count} requested in {len(chosen)} runs, "
            f"{len(owed) - len(waiting)} in flight, {resting} rest after a failure, "
            f"{len(waiting) - resting - count} left for the next tick"
        )
        if not chosen:
            return dg.SkipReason(summary)
        context.log.info(summary)
        return [self._request(one) for one in chosen]

    def _slices(self, due: list[Gap]) -> Iterator[Slice]:
        newest_first = self.load.newest_first
        ordered = due[::-1] if newest_first else due
        return chain.from_iterable(
            slices(gap, self.density.entries_of, newest_first=newest_first) for gap in ordered
        )

    def _request(self, one: Slice) -> dg.RunRequest:
        tags = {ATTEMPT_TAG: str(one.attempt)}
        is_single = one.hours.count == 1
        every = frozenset(self.load.tables)
        selection = [self.load.tables[n] for n in self.load.tables if n in one.tables]
        return dg.RunRequest(
            f"{hour_key(one.hours.first)}/{one.hours.count}/{self.moment}",
            partition_key=hour_key(one.hours.first) if is_single else None,
            asset_selection=None if one.tables == every else selection,
            tags=tags if is_single else {**tags, **_LOW_PRIORITY, **tags_of(one.hours)},
        )


class Density:
    """The approximate number of entries of hours, by the feed; 0 after a request that failed."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._sequence_from = cache(feed.sequence_from)
        self._has_failed = False

    def entries_of(self, hours: Span) -> int:
        """Return the number of sequences between the start of the hours and their end."""
        if self._has_failed:
            return 0
        try:
            bounds = (hours.first, hours.last + HOUR)
            first, end = (self._sequence_from(moment) for moment in bounds)
        except DicomAssetsError:
            self._has_failed = True
            return 0
        return end - first


def reopened_sensor(
    load: HourlyLoad, job: "dg.UnresolvedAssetJobDefinition", status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Return the sensor that requests hours that were read and that not all tables show.

    The audit has removed their seals, or a run ended before the last table.
    """

    @dg.sensor(
        name=load.names.reopened,
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=status,
        description="Request hours again that the audit has opened, or that a run has left open.",
    )
    def request_reopened(
        context: dg.SensorEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        owed = {
            hour: load.with_below(tables)
            for hour, tables in open_hours(load.store()).items()
            if hour >= load.partitions.start
            and (load.partitions.end is None or hour < load.partitions.end)
        }
        if not owed:
            return dg.SkipReason("all tables show every hour that was read")
        now = datetime.now(UTC)
        with load.service.glance() as feed:
            moment = f"{now:%Y-%m-%dT%H:%M:%S}"
            return _Tick(load, context.instance, Density(feed), moment).requests(context, owed)

    return request_reopened


def unfilled_sensor(
    load: HourlyLoad, job: dg.JobDefinition, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Return the sensor that starts the job that fills tables which were switched on later."""

    @dg.sensor(
        name=load.names.unfilled,
        job_name=job.name,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=status,
        description="Fill tables that were added after hours were read, from `instance` alone.",
    )
    def request_fill(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        unfilled = [table.name for table in unfilled_tables(load.store())]
        if not unfilled:
            return dg.SkipReason("every table is filled")
        if load.past_runs(context.instance).is_running(job.name):
            return dg.SkipReason(f"a run fills {', '.join(unfilled)}")
        # At most one run an hour: after a failure the next one continues the fill.
        key = f"{'/'.join(unfilled)}/{datetime.now(UTC):%Y-%m-%dT%H}"
        return dg.RunRequest(key, tags={TABLES_ONLY_TAG: "true"})

    return request_fill
