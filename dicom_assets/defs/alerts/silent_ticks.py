"""Schedules and sensors of ours that do not do what they should, and daemons that do not live.

Who looks is itself a sensor: when nothing ticks any more, or the code location does not load,
nobody looks. For that there is the heartbeat.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.remote_origin import RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick
from dagster._utils.schedules import schedule_execution_time_iterator

from dicom_assets.defs.alerts.causes import cause_of
from dicom_assets.defs.alerts.ledger import Problem
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.check_words import ReaderRole

# How late a tick may be. A daemon that has just begun is given as much time.
PATIENCE = timedelta(minutes=5)
_SENSOR_PATIENCE = timedelta(minutes=10)
# As on Dagster's own page: a part may be at work for long.
_DAEMON_PATIENCE = timedelta(minutes=30)
# Fewer in a row pass by themselves: the next tick asks for everything that is missing.
FAILED_TICKS = 3
_MOMENTS = ("start_timestamp", "last_iteration_timestamp", "last_sensor_start_timestamp")


@dataclass(frozen=True)
class Look:
    """One look at what ticks in our code location."""

    instance: dg.DagsterInstance
    watched: Watched
    origin: RemoteRepositoryOrigin

    def problems(self, now: datetime) -> list[Problem]:
        """Return a problem for each schedule, sensor and daemon that does not do what it should."""
        schedules = (self._wrong(s, _scheduled(s, now), now) for s in self.watched.schedules)
        sensors = (self._wrong(s, now - _SENSOR_PATIENCE, now) for s in self.watched.sensors)
        return [*filter(None, (*schedules, *sensors)), *self._daemons(now)]

    def is_feeding(self, problems: list[Problem]) -> bool:
        """Whether hours are asked for: the daemons live, and the schedule of the tables ticks."""
        vital = ("daemon ", f"schedule {self.watched.feeding}")
        return not any(problem.key.startswith(vital) for problem in problems)

    def _wrong(
        self, ticking: dg.ScheduleDefinition | dg.SensorDefinition, due: datetime, now: datetime
    ) -> Problem | None:
        """Return what is wrong with a schedule or sensor whose last tick was due at a moment."""
        origin = RemoteInstigatorOrigin(repository_origin=self.origin, instigator_name=ticking.name)
        ids = origin.get_id(), origin.get_selector().get_id()
        state = self.instance.get_instigator_state(*ids)
        if ticking.default_status.value != "RUNNING" and (state is None or not state.is_running):
            return None
        ticks = self.instance.get_ticks(*ids, limit=1)
        told = _told(state, ticks[0] if ticks else None, due)
        kind = "schedule" if isinstance(ticking, dg.ScheduleDefinition) else "sensor"
        page = f"locations/{self.origin.get_label()}/{kind}s/{ticking.name}"
        return told and _problem(f"{kind} {ticking.name}", *told, page, now)

    def _daemons(self, now: datetime) -> Iterator[Problem]:
        beats = self.instance.get_daemon_heartbeats()
        for name in self.instance.get_required_daemon_types():
            # Errors in a heartbeat are left aside: they may be of somebody else's sensor.
            if name not in beats or beats[name].timestamp < (now - _DAEMON_PATIENCE).timestamp():
                text = "A part of dagster-daemon is dead. Look at its log, and start it again."
                yield _problem(f"daemon {name}", "does not live", text, "deployment/daemons", now)


def _problem(name: str, what: str, text: str, page: str, now: datetime) -> Problem:
    return Problem(name, ReaderRole.PLATFORM, f"{name} {what}", text, page, now)


def _told(
    state: InstigatorState | None, tick: InstigatorTick | None, due: datetime
) -> tuple[str, str] | None:
    """Return what is wrong, and what to do; None when all is well."""
    if state is not None and not state.is_running:
        return "is stopped", "Somebody has stopped it: turn it on under Automation."
    last = tick.timestamp if tick else 0.0
    began = [getattr(state and state.instigator_data, name, None) or 0.0 for name in _MOMENTS]
    if max(last, *began) < due.timestamp():
        text = "It has not ticked when it was due, and the daemon lives. Look at the daemon's log."
        return "does not tick", text
    if tick is not None and tick.tick_data.consecutive_failure_count >= FAILED_TICKS:
        return "fails", f"{FAILED_TICKS} ticks in a row have failed. {cause_of(tick.error).text}"
    return None


def _scheduled(schedule: dg.ScheduleDefinition, now: datetime) -> datetime:
    """Return the latest moment at which a schedule should have ticked by now."""
    latest = (now - PATIENCE).timestamp()
    zone = schedule.execution_timezone or "UTC"
    backwards = schedule_execution_time_iterator(
        latest, schedule.cron_schedule, zone, ascending=False
    )
    return next(backwards).astimezone(UTC)
