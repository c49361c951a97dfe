"""Problems: schedules and sensors of ours that do not tick or fail, daemons dead or too many.

The alerts are sent by a sensor. When nothing ticks at all, or the code location does not load, no
alert is sent. The monitor of `heartbeat` notices that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.remote_origin import RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._utils.schedules import schedule_execution_time_iterator

from dicom_assets.defs.alerts.causes import cause_of
from dicom_assets.defs.alerts.ledger import Problem
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.check_words import ReaderRole

if TYPE_CHECKING:
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick

# How late a tick may be. A daemon that has just started gets as much time.
TICK_PATIENCE = timedelta(minutes=5)
_SENSOR_PATIENCE = timedelta(minutes=10)
# As on Dagster's own page, because a daemon may work for long.
_DAEMON_PATIENCE = timedelta(minutes=30)
# Fewer failures in a row pass by themselves: the next tick requests everything that is missing.
FAILED_TICKS = 3
# A daemon that is replaced may live beside the new one for so long.
_TAKEOVER = timedelta(minutes=2)
_MOMENTS = ("start_timestamp", "last_iteration_timestamp", "last_sensor_start_timestamp")


@dataclass(frozen=True)
class TickWatch:
    """The schedules and sensors of a code location, and the daemons of an instance."""

    instance: dg.DagsterInstance
    watched: Watched
    origin: RemoteRepositoryOrigin
    lives: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def problems(self, now: datetime) -> list[Problem]:
        """Return a problem for each schedule, sensor and daemon that is not as it should be."""
        schedules = (self._problem(s, _last_due(s, now), now) for s in self.watched.schedules)
        sensors = (self._problem(s, now - _SENSOR_PATIENCE, now) for s in self.watched.sensors)
        return [*filter(None, (*schedules, *sensors)), *self._daemons(now)]

    def requests_hours(self, problems: list[Problem]) -> bool:
        """Return True when the daemons live, and the schedule that requests hours ticks."""
        vital = ("daemon ", f"schedule {self.watched.schedule}")
        return not any(problem.key.startswith(vital) for problem in problems)

    def _problem(
        self, ticking: dg.ScheduleDefinition | dg.SensorDefinition, due: datetime, now: datetime
    ) -> Problem | None:
        """Return the problem of a schedule or sensor whose last tick was due at a moment."""
        origin = RemoteInstigatorOrigin(repository_origin=self.origin, instigator_name=ticking.name)
        ids = origin.get_id(), origin.get_selector().get_id()
        state = self.instance.get_instigator_state(*ids)
        if ticking.default_status.value != "RUNNING" and (state is None or not state.is_running):
            return None
        ticks = self.instance.get_ticks(*ids, limit=1)
        # A sensor that is new in a release: Dagster has not seen it yet, and is about to.
        if state is None and not ticks and isinstance(ticking, dg.SensorDefinition):
            return None
        fault = _fault(state, ticks[0] if ticks else None, due)
        kind = "schedule" if isinstance(ticking, dg.ScheduleDefinition) else "sensor"
        page = f"locations/{self.origin.get_label()}/{kind}s/{ticking.name}"
        return fault and _problem(f"{kind} {ticking.name}", *fault, page, now)

    def _daemons(self, now: datetime) -> Iterator[Problem]:
        beats = self.instance.get_daemon_heartbeats()
        for name in self.instance.get_required_daemon_types():
            # Errors in a heartbeat are ignored: they may come from a sensor that is not ours.
            if name not in beats or beats[name].timestamp < (now - _DAEMON_PATIENCE).timestamp():
                text = (
                    "This part of dagster-daemon has sent no heartbeat for half an hour. Read the "
                    "log of dagster-daemon, and start it again."
                )
                yield _problem(f"daemon {name}", "does not live", text, "deployment/daemons", now)
        if time_together(self.lives) > _TAKEOVER:
            text = f"Schedules and sensors tick twice, and request runs twice. {STOP_ONE}"
            yield _problem(
                "second daemon", "lives on the same database", text, "deployment/daemons", now
            )


STOP_ONE = (
    "Look for a second `dagster-daemon run`, `dagster dev` or `dicom-assets dev` on this database "
    "(DAGSTER_HOME, or the storage in dagster.yaml), on other machines too, and stop it."
)


def lives_of(
    instance: dg.DagsterInstance, known: Mapping[str, tuple[float, float]], now: datetime
) -> dict[str, tuple[float, float]]:
    """Return the first and last heartbeat of each daemon of the last minutes, by its ID.

    Dagster keeps one heartbeat for each part of a daemon, the last. `known` are those seen before.
    """
    since = (now - TICK_PATIENCE).timestamp()
    lives = {one: span for one, span in known.items() if span[1] > since}
    for beat in instance.get_daemon_heartbeats().values():
        if beat.daemon_id and beat.timestamp > since:
            first, last = lives.get(beat.daemon_id, (beat.timestamp, beat.timestamp))
            lives[beat.daemon_id] = min(first, beat.timestamp), max(last, beat.timestamp)
    return lives


def time_together(lives: Mapping[str, tuple[float, float]]) -> timedelta:
    """Return for how long one daemon has lived on after the first heartbeat of another.

    It is zero after a restart: the old one has sent none since the new one began.
    """
    pairs = permutations(lives.values(), 2)
    spans = (old[1] - new[0] for old, new in pairs if old[0] <= new[0] < old[1])
    return timedelta(seconds=max(spans, default=0.0))


def _problem(key: str, fault: str, text: str, page: str, now: datetime) -> Problem:
    return Problem(key, ReaderRole.PLATFORM, f"{key} {fault}", text, page, now)


def _fault(
    state: "InstigatorState | None", tick: "InstigatorTick | None", due: datetime
) -> tuple[str, str] | None:
    """Return a fault and its remedy; None when the last tick was in time and did not fail."""
    if state is not None and not state.is_running:
        return "is stopped", "A person stopped it. Turn it on under Automation."
    last = tick.timestamp if tick else 0.0
    began = [getattr(state and state.instigator_data, name, None) or 0.0 for name in _MOMENTS]
    if max(last, *began) < due.timestamp():
        return "does not tick", "It did not tick when it was due. Read the log of dagster-daemon."
    if tick is not None and tick.tick_data.consecutive_failure_count >= FAILED_TICKS:
        return "fails", f"{FAILED_TICKS} ticks in a row have failed. {cause_of(tick.error).text}"
    return None


def _last_due(schedule: dg.ScheduleDefinition, now: datetime) -> datetime:
    """Return the latest moment at which a schedule should have ticked by now."""
    cron, zone = schedule.cron_schedule, schedule.execution_timezone or "UTC"
    latest = (now - TICK_PATIENCE).timestamp()
    ticks = schedule_execution_time_iterator(latest, cron, zone, ascending=False)
    return next(ticks).astimezone(UTC)
