"""The sensor of alerts: it looks once a minute, sends messages, and notes them in its cursor.

In this order: a message that was sent and could not be noted is sent once more, and none is lost.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

import dagster as dg
from dagster._core.remote_origin import RemoteRepositoryOrigin

from dicom_assets.defs.alerts.channels import Channel, channels_of, deliver
from dicom_assets.defs.alerts.failed_checks import check_problems
from dicom_assets.defs.alerts.failed_runs import RunWatch
from dicom_assets.defs.alerts.heartbeat import beat
from dicom_assets.defs.alerts.ledger import Ledger, Problem, messages
from dicom_assets.defs.alerts.silent_ticks import TICK_PATIENCE, TickWatch, lives_of
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.names import Names
from dicom_assets.settings import Settings

ALERTS_SECONDS = 60


def alerts_sensor(
    settings: Settings, definitions: dg.Definitions, names: Names, *, running: bool
) -> dg.SensorDefinition:
    """Return the sensor that sends alerts about problems with definitions.

    Raises SettingsError for an address that Apprise does not understand.
    """
    watched = Watched.of(definitions, names.schedule(names.tables))
    channels = channels_of(settings)
    channel_names = {reader: [one.name for one in own] for reader, own in channels.items()}
    all_channels = list(dict.fromkeys(chain.from_iterable(channels.values())))
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
        ledger, now = Ledger.read(context.cursor), datetime.now(UTC)
        # The origin under which the daemon knows our definitions. None without a daemon.
        location, name, origin = context.code_location_origin, context.repository_name, None
        if location is not None and name is not None:
            origin = RemoteRepositoryOrigin(code_location_origin=location, repository_name=name)
        problems, requests_hours = _problems(context.instance, watched, origin, ledger, now)
        ledger.update(problems, channel_names, now)
        shown = origin.code_location_origin.location_name if origin else "dicom_assets"
        failed = _send(ledger, all_channels, shown, settings.web_url, now)
        ledger.last_look = now
        url = settings.heartbeat_url
        if url and requests_hours and not failed and not beat(url):
            failed = ["DICOM_HEARTBEAT_URL"]
        titles = "; ".join(alert.title for alert in ledger.open)
        sentences = [f"open alerts: {titles}" if titles else "no alert is open"]
        if failed:
            sentences.append(f"Not delivered, retried at the next tick: {', '.join(failed)}")
        if not all_channels:
            sentences.append("Nobody receives alerts, because DICOM_ALERTS is not set")
        return dg.SensorResult(skip_reason=". ".join(sentences), cursor=ledger.dump())

    return send_alerts


def _problems(
    instance: dg.DagsterInstance,
    watched: Watched,
    origin: RemoteRepositoryOrigin | None,
    ledger: Ledger,
    now: datetime,
) -> tuple[list[Problem], bool]:
    """Return the problems of this look, and True when the schedule that requests hours ticks."""
    last = ledger.last_look
    if last is None or ledger.awake_since is None or now - last > TICK_PATIENCE:
        ledger.awake_since = now
    location = origin.code_location_origin.location_name if origin else None
    runs = RunWatch(instance, watched, location).update(ledger, now)
    problems = [*check_problems(instance, watched.checks), *runs]
    if origin is None:
        return problems, False
    ledger.daemons = lives_of(instance, ledger.daemons or {}, now)
    ticks = TickWatch(instance, watched, origin, ledger.daemons)
    silent = ticks.problems(now)
    # A daemon that has just started has to catch up first. An alert that was open before stays
    # open meanwhile: it would be sent as resolved, and then once more.
    has_caught_up = now - ledger.awake_since >= TICK_PATIENCE
    known = {key for key, alert in ledger.alerts.items() if alert.over is None}
    problems += [one for one in silent if has_caught_up or one.key in known]
    return problems, ticks.requests_hours(silent)


def _send(
    ledger: Ledger, channels: Sequence[Channel], location: str, web_url: str, now: datetime
) -> list[str]:
    """Send every channel its messages, and return the names of the channels that failed."""
    due = {}
    for channel in channels:
        if alerts := {key: ledger.alerts[key] for key in ledger.due(channel.name, now)}:
            due[channel] = messages(alerts, location, web_url, bundled=channel.is_bundled)
    delivered = deliver(due)
    keys = {c.name: [k for m in sent for k in m.keys] for c, sent in delivered.items()}
    ledger.mark_sent(keys, now)
    return [channel.name for channel in due if len(delivered[channel]) < len(due[channel])]
