"""The job that brings the tables to an hour, and what asks for the hours that are missing.

At each tick every hour is asked for that lacks a seal, or a materialization of one of the assets,
or of which the latest attempt failed; hours in flight are left alone. Only the tables that owe the
hour are asked for, with those below them. `slices` decides which hours and in which slices,
`past_runs` asks Dagster what it knows of them.
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
from dicom_assets.defs.run_tags import ATTEMPT_TAG, tags_of
from dicom_assets.defs.schedules.past_runs import Attempts
from dicom_assets.defs.schedules.slices import Gap, Owed, Slice, gaps, slices
from dicom_assets.defs.schedules.status import schedule_status, sensor_status
from dicom_assets.errors import DicomAssetsError
from dicom_assets.feed import ChangeFeed
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import lagging, showing, unfilled_tables
from dicom_assets.window import HOUR, Span, Window, datetime_of

SENSOR_SECONDS = 60
# The most runs that one tick asks for: more than end in the hour to the next one.
MOST_RUNS: Final = 100
# Slices of a long gap wait in the queue behind the newest hours and the checks.
_BEHIND = {"dagster/priority": "-1"}


@dataclass(frozen=True)
class HourlyLoad:
    """The tables that are brought to hours: their assets and hours, the service and the store.

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

    def attempts(self, instance: dg.DagsterInstance) -> Attempts:
        """Return what a Dagster instance knows of the hours."""
        keys = list(self.tables.values())
        return Attempts(instance, self.names.tables, keys, self.partitions)

    def owed(self, instance: dg.DagsterInstance, window: Window) -> Owed:
        """Return the hours of a window that are not shown, with the tables that owe them.

        A table owes an hour that it does not show in `sync`, or that Dagster does not count as
        materialized; so `change` owes none that is sealed.
        """
        hours = [datetime_of(hour.start) for hour in window.hours()]
        shown = showing(self.store(), self.service.clip(window))
        attempts = self.attempts(instance)
        missing = {name: attempts.unmaterialized(self.tables[name], hours) for name in shown}
        owed = {
            hour: [n for n in shown if hour not in shown[n] or hour in missing[n]] for hour in hours
        }
        return {hour: self.with_below(names) for hour, names in owed.items() if names}

    def with_below(self, names: Iterable[str]) -> frozenset[str]:
        """Return tables and those that are derived from them."""
        owing = frozenset(names)
        if CHANGE.name in owing:
            return frozenset(self.tables)
        return frozenset(self.tables) - {CHANGE.name} if INSTANCE.name in owing else owing


def tables_job(load: HourlyLoad) -> "dg.UnresolvedAssetJobDefinition":
    """Return the job that brings all tables to an hour."""
    *others, last = load.tables
    return dg.define_asset_job(
        load.names.tables,
        selection=dg.AssetSelection.assets(*load.tables.values()),
        description=f"Bring {', '.join(others)} and {last} to an hour, or to a range of hours.",
    )


def tables_schedule(
    load: HourlyLoad, job: "dg.UnresolvedAssetJobDefinition", cron: str, *, running: bool
) -> dg.ScheduleDefinition:
    """Return the schedule that asks for every hour that is missing at each tick."""

    @dg.schedule(
        name=load.names.schedule(job.name),
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=schedule_status(running=running),
        description=(
            "Ask for every hour that is closed and missing: not sealed, not materialized, or "
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
            tick_ = _Tick(load, context.instance, Density(feed), f"{tick:%Y-%m-%dT%H:%M}")
            return tick_.requests(owed, context.log.info)

    return request_missing


def _clock(feed: ChangeFeed, context: dg.ScheduleEvaluationContext) -> datetime | None:
    """Return the slower of this machine's clock and the service's; None when it does not answer."""
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
        self, owed: Owed, say: Callable[[str], None]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        """Return a run for each slice of the hours, or why there is none."""
        attempts = self.load.attempts(self.instance)
        flying = attempts.in_flight()
        landed = {
            hour: tables
            for hour, tables in owed.items()
            if not any(span.holds(hour) for span in flying)
        }
        now = datetime.now(UTC)
        due, resting = gaps(landed, attempts.failures(now), now)
        chosen = list(islice(self._slices(due), MOST_RUNS))
        summary = _summary(len(owed), len(landed), resting, chosen)
        if not chosen:
            return dg.SkipReason(summary)
        say(summary)
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
            tags=tags if is_single else {**tags, **_BEHIND, **tags_of(one.hours)},
        )


class Density:
    """The number of entries that hours have, about, by the feed; nought once it does not answer."""

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


def _summary(owed: int, landed: int, resting: int, chosen: list[Slice]) -> str:
    count = sum(one.hours.count for one in chosen)
    return (
        f"of {owed} hours that are missing {count} are asked for in {len(chosen)} runs, "
        f"{owed - landed} are in flight, {resting} rest after a failure, "
        f"{landed - resting - count} are left for the next tick"
    )


def reopened_sensor(
    load: HourlyLoad, job: "dg.UnresolvedAssetJobDefinition", *, running: bool
) -> dg.SensorDefinition:
    """Return the sensor that asks for hours that were read and that not all tables show.

    The audit has removed their seal, or a run ended before the last table.
    """

    @dg.sensor(
        name=load.names.reopened,
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=sensor_status(running=running),
        description="Ask again for hours that the audit has opened, or that a run has left open.",
    )
    def request_reopened(
        context: dg.SensorEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        owed = {
            hour: load.with_below(tables)
            for hour, tables in lagging(load.store()).items()
            if _lies_in(hour, load.partitions)
        }
        if not owed:
            return dg.SkipReason("all tables show every hour that was read")
        now = datetime.now(UTC)
        with load.service.glance() as feed:
            tick = _Tick(load, context.instance, Density(feed), f"{now:%Y-%m-%dT%H:%M:%S}")
            return tick.requests(owed, context.log.info)

    return request_reopened


def unfilled_sensor(
    load: HourlyLoad, job: dg.JobDefinition, *, running: bool
) -> dg.SensorDefinition:
    """Return the sensor that starts the job which fills tables that were switched on later."""

    @dg.sensor(
        name=load.names.unfilled,
        job_name=job.name,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=sensor_status(running=running),
        description="Fill tables that were added after hours were read, from `instance` alone.",
    )
    def request_fill(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        unfilled = [table.name for table in unfilled_tables(load.store())]
        if not unfilled:
            return dg.SkipReason("every table is filled")
        if load.attempts(context.instance).is_running(job.name):
            return dg.SkipReason(f"{', '.join(unfilled)}: being filled")
        # Once an hour: a fill that failed is started again, and goes on where it was.
        return dg.RunRequest(f"{'/'.join(unfilled)}/{datetime.now(UTC):%Y-%m-%dT%H}")

    return request_fill


def _lies_in(hour: datetime, partitions: dg.HourlyPartitionsDefinition) -> bool:
    return hour >= partitions.start and (partitions.end is None or hour < partitions.end)
