"""The sensor of alerts: it looks once a minute, sends messages, and notes them in its cursor.

In this order: a message that was sent and could not be noted is sent once more, and none is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import dagster as dg
from dagster._core.remote_origin import RemoteRepositoryOrigin

from dicom_assets.defs.alerts.channels import Channel, channels_of, deliver
from dicom_assets.defs.alerts.failed_checks import check_problems
from dicom_assets.defs.alerts.failed_runs import RunWatch
from dicom_assets.defs.alerts.heartbeat import beat
from dicom_assets.defs.alerts.ledger import Ledger, Problem, messages
from dicom_assets.defs.alerts.silent_ticks import TICK_PATIENCE, TickWatch
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.names import Names
from dicom_assets.settings import Settings

ALERTS_SECONDS = 60
_LOCATION = "dicom_assets"


def alerts_sensor(
    settings: Settings, definitions: dg.Definitions, names: Names, *, running: bool
) -> dg.SensorDefinition:
    """Return the sensor that sends alerts about problems with definitions.

    Raises SettingsError for an address that Apprise does not understand.
    """
    watched = Watched.of(definitions, names.schedule(names.tables))
    alerts = _Alerts(settings, channels_of(settings), watched)
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=names.alerts,
        minimum_interval_seconds=ALERTS_SECONDS,
        default_status=status,
        description=(
            "Alert people about failed checks, runs that stay failed, and schedules and sensors "
            "that do not tick. Channels: DICOM_ALERTS. See docs/operate/alerts.md."
        ),
    )
    def send_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        ledger = Ledger.read(context.cursor)
        sentence = alerts.tick(context, ledger, datetime.now(UTC))
        return dg.SensorResult(skip_reason=sentence, cursor=ledger.dump())

    return send_alerts


@dataclass(frozen=True)
class _Alerts:
    """The definitions that are watched, and the channels of each reader."""

    settings: Settings
    channels: Mapping[str, tuple[Channel, ...]]
    watched: Watched

    def tick(self, context: dg.SensorEvaluationContext, ledger: Ledger, now: datetime) -> str:
        """Send every message that is due, and return the open alerts as the tick's skip reason."""
        last = ledger.last_look
        if last is None or ledger.awake_since is None or now - last > TICK_PATIENCE:
            ledger.awake_since = now
        origin = _origin(context)
        location = origin.code_location_origin.location_name if origin else None
        problems = [
            *check_problems(context.instance, self.watched.checks),
            *RunWatch(context.instance, self.watched, location).update(ledger, now),
        ]
        requests_hours = False
        if origin is not None:
            ticks = TickWatch(context.instance, self.watched, origin)
            silent = ticks.problems(now)
            requests_hours = ticks.requests_hours(silent)
            # A daemon that has just started has to catch up first. An alert that was open before
            # stays open meanwhile: it would be sent as resolved, and then once more.
            has_caught_up = now - ledger.awake_since >= TICK_PATIENCE
            known = {key for key, alert in ledger.alerts.items() if alert.over is None}
            problems += [one for one in silent if has_caught_up or one.key in known]
        failed = self._send(ledger, problems, location or _LOCATION, now)
        ledger.last_look = now
        url = self.settings.heartbeat_url
        if url and requests_hours and not failed and not beat(url):
            failed = ["DICOM_HEARTBEAT_URL"]
        return _skip_reason(ledger, failed, has_channels=any(self.channels.values()))

    def _send(
        self, ledger: Ledger, problems: list[Problem], location: str, now: datetime
    ) -> list[str]:
        """Send every channel its messages, and return the names of the channels that failed."""
        names = {role: [c.name for c in channels] for role, channels in self.channels.items()}
        ledger.update(problems, names, now)
        url, due = self.settings.web_url, {}
        for channel in dict.fromkeys(chain.from_iterable(self.channels.values())):
            if alerts := {key: ledger.alerts[key] for key in ledger.due(channel.name, now)}:
                due[channel] = messages(alerts, location, url, bundled=channel.is_bundled)
        delivered = deliver(due)
        keys = {c.name: [k for m in sent for k in m.keys] for c, sent in delivered.items()}
        ledger.mark_sent(keys, now)
        return [channel.name for channel in due if len(delivered[channel]) < len(due[channel])]


def _origin(context: dg.SensorEvaluationContext) -> RemoteRepositoryOrigin | None:
    """Return the origin under which the daemon knows our definitions; None without a daemon."""
    location, name = context.code_location_origin, context.repository_name
    if location is None or name is None:
        return None
    return RemoteRepositoryOrigin(code_location_origin=location, repository_name=name)


def _skip_reason(ledger: Ledger, failed: list[str], *, has_channels: bool) -> str:
    titles = "; ".join(alert.title for alert in ledger.open)
    sentences = [f"open alerts: {titles}" if titles else "no alert is open"]
    if failed:
        sentences.append(f"Not delivered, retried at the next tick: {', '.join(failed)}")
    if not has_channels:
        sentences.append("Nobody receives alerts, because DICOM_ALERTS is not set")
    return ". ".join(sentences)
