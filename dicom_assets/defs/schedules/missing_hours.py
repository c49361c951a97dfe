"""The job that loads hours into the tables, and the schedule and sensors that request it.

Each tick requests every hour that has no seal, or no materialization of one of the assets, or whose
latest attempt failed. Hours in flight are left alone. Only the tables that owe the hour are
requested, with the tables that are derived from them. `slices` decides the hours and slices, and
`past_runs` reads them from Dagster.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

import dagster as dg

from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import closed, hour_key, materialized
from dicom_assets.defs.pool import ensure_limit
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.run_tags import ATTEMPT_TAG, TABLES_ONLY_TAG, UNFINISHED, tags_of
from dicom_assets.defs.schedules.past_runs import PastRuns
from dicom_assets.defs.schedules.slices import Owed, Slice, gaps, slices
from dicom_assets.errors import DicomAssetsError
from dicom_assets.schema import CHANGE, INSTANCE, SYNC
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.sync import open_hours, showing, unfilled_tables
from dicom_assets.tables.upkeep.damage import named_damage
from dicom_assets.tables.upkeep.kept_headers import is_outdated
from dicom_assets.tables.upkeep.padded_keys import is_due
from dicom_assets.window import HOUR, Span, Window, datetime_of

if TYPE_CHECKING:
    from dicom_assets.feed import ChangeFeed

SENSOR_SECONDS = 60
# The most runs that one tick requests. It is more than can end before the next tick in an hour.
MOST_RUNS: Final = 100
# Slices of a load wait in the run queue behind the newest hours and the checks.
_LOW_PRIORITY = {"dagster/priority": "-1"}
# An hour is new for a day, so that a newest one that has failed does not wait behind a load either.
NEW: Final = timedelta(days=1)


@dataclass(frozen=True)
class HourlyLoad:
    """The parts of an hourly load; `tables` are the assets' keys by the names of their tables."""

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

    def owed(
        self, instance: dg.DagsterInstance, window: Window, say: Callable[[str], None]
    ) -> Owed:
        """Return the hours of a window that some tables owe, with these tables.

        A table owes an hour that it does not show in `sync`, or that Dagster does not count as
        materialized.
        """
        starts = [datetime_of(hour.start) for hour in window.hours()]
        keys = {start: hour_key(start) for start in starts}
        store = self.store()
        with named_damage(store):
            shown = showing(store, self.service.bounds(window))
        done = {
            name: materialized(instance, self.tables[name], keys.values(), self.partitions)
            for name in shown
        }
        if store.absent([SYNC]) and (counted := len(set.union(*done.values()))):
            # Everything is read again, so that a root that was moved does not stay empty.
            say(
                f"Dagster counts {counted} hours as materialized, and the root of the tables has "
                "no table sync: is the root still at DICOM_TABLES_URL, and mounted?"
            )
        owed = {h: [n for n in shown if h not in shown[n] or keys[h] not in done[n]] for h in keys}
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
            try:
                slower = min(tick, feed.now())
            except DicomAssetsError as error:
                context.log.warning("the service's clock is not known: %s", error)
                slower = tick
            expected = closed(load.partitions, slower, load.delay)
            if expected.start == expected.end:
                return dg.SkipReason("no hour since DICOM_START_TIME is closed yet")
            owed = load.owed(context.instance, expected, context.log.warning)
            if not owed:
                return dg.SkipReason("all tables show every hour that is closed")
            return _requests(load, context, feed, tick, owed, MOST_RUNS)

    return request_missing


def _requests(  # noqa: PLR0913, PLR0917 - the parts of a tick
    load: HourlyLoad,
    context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext,
    feed: "ChangeFeed",
    moment: datetime,
    owed: Owed,
    most: int,
) -> list[dg.RunRequest] | dg.SkipReason:
    """Return a run for each slice of the owed hours, at most so many, or the reason for none."""
    now, keys = datetime.now(UTC), list(load.tables.values())
    past = PastRuns(context.instance, load.names.tables, keys, load.partitions)
    in_flight = past.in_flight()
    waiting = {h: owing for h, owing in owed.items() if not any(s.holds(h) for s in in_flight)}
    due, resting = gaps(waiting, past.failures(now), now)
    newest_first, entries_of = load.newest_first, _Density(feed).entries_of
    ordered = due[::-1] if newest_first else due
    sliced = (slices(gap, entries_of, newest_first=newest_first) for gap in ordered)
    chosen = list(islice(chain.from_iterable(sliced), most))
    count = sum(one.hours.count for one in chosen)
    summary = (
        f"{len(owed)} hours are missing: {count} requested in {len(chosen)} runs, "
        f"{len(owed) - len(waiting)} in flight, {resting} rest after a failure, "
        f"{len(waiting) - resting - count} left for the next tick"
    )
    if not chosen:
        return dg.SkipReason(summary)
    context.log.info(summary)
    ensure_limit(context.instance, load.names.tables)
    return [_request(load, one, moment) for one in chosen]


def _request(load: HourlyLoad, one: Slice, moment: datetime) -> dg.RunRequest:
    first, tags = hour_key(one.hours.first), {ATTEMPT_TAG: str(one.attempt)}
    is_single, is_new = one.hours.count == 1, moment - one.hours.first <= NEW
    selection = [key for name, key in load.tables.items() if name in one.tables]
    return dg.RunRequest(
        f"{first}/{one.hours.count}/{moment:%Y-%m-%dT%H:%M:%S}",
        partition_key=first if is_single else None,
        asset_selection=None if one.tables == load.tables.keys() else selection,
        tags=tags | ({} if is_new else _LOW_PRIORITY) | ({} if is_single else tags_of(one.hours)),
    )


class _Density:
    """The approximate number of entries of hours, by the feed; 0 after a request that failed."""

    def __init__(self, feed: "ChangeFeed") -> None:
        self._sequence_from = cache(feed.sequence_from)
        self._has_failed = False

    def entries_of(self, hours: Span) -> int:
        """Return the number of sequences between the start of the hours and their end."""
        if self._has_failed:
            return 0
        try:
            first = self._sequence_from(hours.first)
            end = self._sequence_from(hours.last + HOUR)
        except DicomAssetsError:
            self._has_failed = True
            return 0
        return end - first


def reopened_sensor(
    load: HourlyLoad, job: "dg.UnresolvedAssetJobDefinition", status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Return the sensor that requests hours that were read and that not all tables show."""
    by_default = status is dg.DefaultSensorStatus.RUNNING

    @dg.sensor(
        name=load.names.reopened,
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=status,
        description=(
            "Request hours again that a check has opened, or that a run has left open. Request the "
            "first slice of a load, so that nobody waits for the schedule's first tick."
        ),
    )
    def request_reopened(
        context: dg.SensorEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        store, now = load.store(), datetime.now(UTC)
        if store.absent([SYNC]) and not context.instance.get_runs_count(
            dg.RunsFilter(job_name=load.names.tables)
        ):
            return _first_slice(load, context, now, by_default=by_default)
        owed = {
            hour: load.with_below(tables)
            for hour, tables in open_hours(store).items()
            if hour >= load.partitions.start
            and (load.partitions.end is None or hour < load.partitions.end)
        }
        if not owed:
            return dg.SkipReason("all tables show every hour that was read")
        with load.service.glance() as feed:
            return _requests(load, context, feed, now, owed, MOST_RUNS)

    return request_reopened


def _first_slice(
    load: HourlyLoad, context: dg.SensorEvaluationContext, now: datetime, *, by_default: bool
) -> list[dg.RunRequest] | dg.SkipReason:
    """Return the first slice of a load, unless the schedule that requests the rest is off."""
    schedule = load.names.schedule(load.names.tables)
    states = [s for s in context.instance.all_instigator_state() if s.name == schedule]
    if not all(s.is_running for s in states) or not (states or by_default):
        return dg.SkipReason("no hour was read yet, and the schedule is off")
    with load.service.glance() as feed:
        try:
            expected = closed(load.partitions, min(now, feed.now()), load.delay)
        except DicomAssetsError as error:
            return dg.SkipReason(f"no hour was read yet, and the service does not answer: {error}")
        owed = load.owed(context.instance, expected, context.log.warning)
        if not owed:
            return dg.SkipReason("no hour is due yet")
        return _requests(load, context, feed, now, owed, 1)


def unfilled_sensor(
    load: HourlyLoad, job: dg.JobDefinition, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Return the sensor that fills added tables, derives rows anew, and strips keys."""

    @dg.sensor(
        name=load.names.unfilled,
        job_name=job.name,
        minimum_interval_seconds=5 * SENSOR_SECONDS,  # it is seldom needed, and opens tables
        default_status=status,
        description=(
            "Fill tables that were added after hours were read, derive rows anew of which an "
            "earlier release has made other values, and strip keys that were taken over. From "
            "`instance` alone."
        ),
    )
    def request_fill(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        store = load.store()
        due = [table.name for table in unfilled_tables(store)]
        due += ["keys"] if is_due(store) else []
        tags = {TABLES_ONLY_TAG: "true"}
        if is_outdated(store):
            due, tags = [INSTANCE.name, *due], {}
        if not due:
            return dg.SkipReason("every table is filled")
        unfinished = dg.RunsFilter(job_name=job.name, statuses=UNFINISHED)
        if context.instance.get_runs(unfinished, limit=1):
            return dg.SkipReason(f"a run fills {', '.join(due)}")
        # At most one run an hour: after a failure the next one continues the fill.
        return dg.RunRequest(f"{'/'.join(due)}/{datetime.now(UTC):%Y-%m-%dT%H}", tags=tags)

    return request_fill
