"""`dicom-assets alerts test`: one test message to every channel, and the result for each."""

import sys

import click

from dicom_assets.commands.progress import working
from dicom_assets.defs.alerts.channels import channels_of, deliver
from dicom_assets.defs.alerts.heartbeat import beat
from dicom_assets.defs.alerts.ledger import Message
from dicom_assets.defs.check_words import READERS
from dicom_assets.settings import Settings


@click.group()
def alerts() -> None:
    """Alerts: mail, Slack, Teams, PagerDuty, webhooks; docs/decisions/alerts.md."""


@alerts.command("test")
def alerts_test() -> None:
    """Send a test message to every channel, and print which of them took it."""
    settings = Settings.from_environment(complete=False)
    readers = channels_of(settings)
    served = {
        channel: ", ".join(title for name, title in READERS.items() if channel in readers[name])
        for channels in readers.values()
        for channel in channels
    }
    title = "dicom_assets: test of the alerts"
    text = "This is a test, nothing is wrong. Alerts for {} come here."
    with working("sending the test messages"):
        tests = {
            channel: [Message((), title, text.format(names), is_resolved=True)]
            for channel, names in served.items()
        }
        sent = deliver(tests)
        heard = settings.heartbeat_url is None or beat(settings.heartbeat_url)
    for channel, names in served.items():
        click.echo(f"{channel.name}, for {names}: {'taken' if sent[channel] else 'NOT TAKEN'}")
    for reader in (reader for reader, channels in readers.items() if not channels):
        click.echo(f"nobody is told as {READERS[reader]}: set DICOM_ALERTS_{reader.upper()}")
    if settings.heartbeat_url is None:
        click.echo("nobody notices when nothing runs any more: set DICOM_HEARTBEAT_URL")
    else:
        click.echo(f"DICOM_HEARTBEAT_URL: {'taken' if heard else 'NOT TAKEN'}")
    sys.exit(0 if heard and served and all(sent.values()) else 1)
