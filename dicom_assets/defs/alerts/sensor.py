"""The sensor `dicom_alerts`: it looks once a minute, tells whom it concerns, and notes that.

It first looks, then tells, then notes. What it does not get to note is told once more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import dagster as dg
from dagster._core.remote_origin import RemoteRepositoryOrigin

from dicom_assets.defs.alerts import (
    failed_checks as results,
)
from dicom_assets.defs.alerts import (
    failed_runs as failures,
)
from dicom_assets.defs.alerts import (
    silent_ticks as ticks,
)
from dicom_assets.defs.alerts.channels import Channel, channels_of, deliver
from dicom_assets.defs.alerts.heartbeat import beat
from dicom_assets.defs.alerts.ledger import Ledger, Message, Problem, messages
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.names import Names
from dicom_assets.settings import Settings

SENSOR_SECONDS = 60
_NAME = "dicom_assets"


def alerts_sensor(
    settings: Settings,
    made: dg.Definitions,
    names: Names,
    *,
    running: bool,
) -> dg.SensorDefinition:
    """Return the sensor that tells people what needs them in the definitions that were made.

    Raises SettingsError for an address of a channel that is none.
    """
    alerts = _Alerts(
        settings, channels_of(settings), Watched.of(made, names.schedule(names.tables))
    )
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=names.alerts,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=status,
        description=(
            "Tell people what needs them: failed checks, runs that stay failed, schedules and "
            "sensors that do not tick. Channels: DICOM_ALERTS; docs/alerts.md."
        ),
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        ledger = Ledger.read(context.cursor)
        told = alerts.tick(context, ledger, datetime.now(UTC))
        return dg.SensorResult(skip_reason=told, cursor=ledger.written())

    return tell


@dataclass(frozen=True)
class _Alerts:
    """Who is told of what: the channels of each reader, and what is watched."""

    settings: Settings
    channels: Mapping[str, tuple[Channel, ...]]
    watched: Watched

    def tick(self, context: dg.SensorEvaluationContext, ledger: Ledger, now: datetime) -> str:
        """Everybody is told who has to be; returns what is open, in a sentence for the tick."""
        if ledger.looked is None or ledger.awake is None or now - ledger.looked > ticks.PATIENCE:
            ledger.awake = now
        origin = _origin(context)
        place = origin.code_location_origin.location_name if origin else None
        problems = [
            *results.failed_checks(context.instance, self.watched.checks),
            *failures.Look(context.instance, self.watched, place).update(ledger, now),
        ]
        is_feeding = False
        if origin is not None:
            ticking = ticks.Look(context.instance, self.watched, origin)
            wrong = ticking.problems(now)
            is_feeding = ticking.is_feeding(wrong)
            # A daemon that has just begun catches up first.
            problems += wrong if now - ledger.awake >= ticks.PATIENCE else []
        silent = self._tell(ledger, problems, place or _NAME, now)
        ledger.looked = now
        lost = [*silent, *self._beat(is_feeding=is_feeding and not silent)]
        return _sentence(ledger, lost, has_channels=any(self.channels.values()))

    def _tell(
        self, ledger: Ledger, problems: list[Problem], place: str, now: datetime
    ) -> list[str]:
        """Every channel is told what is due; returns the names of those that did not take it."""
        names = {r: [c.name for c in channels] for r, channels in self.channels.items()}
        ledger.note(problems, names, now)
        due = {
            channel: list(self._messages(ledger, channel, place, now))
            for channel in dict.fromkeys(chain.from_iterable(self.channels.values()))
            if ledger.due(channel.name, now)
        }
        taken = deliver(due)
        ledger.settle({c.name: _keys(made) for c, made in taken.items()}, now)
        return [channel.name for channel, made in due.items() if len(taken[channel]) < len(made)]

    def _messages(
        self, ledger: Ledger, channel: Channel, place: str, now: datetime
    ) -> Iterator[Message]:
        due = {key: ledger.alerts[key] for key in ledger.due(channel.name, now)}
        yield from messages(due, place, self.settings.web_url, bundled=channel.is_bundled)

    def _beat(self, *, is_feeding: bool) -> list[str]:
        """The heartbeat's monitor is asked while hours are asked for; returns its name if lost."""
        url = self.settings.heartbeat_url
        return ["DICOM_HEARTBEAT_URL"] if url and is_feeding and not beat(url) else []


def _keys(taken: list[Message]) -> list[str]:
    return [key for message in taken for key in message.keys]


def _origin(context: dg.SensorEvaluationContext) -> RemoteRepositoryOrigin | None:
    """Return where the daemon has us from; None when no daemon asks."""
    location, name = context.code_location_origin, context.repository_name
    if location is None or name is None:
        return None
    return RemoteRepositoryOrigin(code_location_origin=location, repository_name=name)


def _sentence(ledger: Ledger, lost: list[str], *, has_channels: bool) -> str:
    titles = "; ".join(alert.title for alert in ledger.open) or "nothing needs a person"
    failed = f". Not taken, tried again at the next tick: {', '.join(lost)}" if lost else ""
    unset = "" if has_channels else ". Nobody is told: DICOM_ALERTS is not set"
    return f"{titles}{failed}{unset}"
