"""A trial of every channel: each is told once, and it is said which of them took it."""

from collections.abc import Callable

from dicom_assets.defs.alerts.channels import channels_of, deliver
from dicom_assets.defs.alerts.heartbeat import beat
from dicom_assets.defs.alerts.ledger import Message
from dicom_assets.defs.check_words import READERS
from dicom_assets.settings import Settings


def run(settings: Settings, say: Callable[[str], None]) -> bool:
    """Every channel is told that this is a test; returns whether there is one, and all took it.

    Raises SettingsError, without the address, for one that Apprise does not understand.
    """
    readers = channels_of(settings)
    served = {c: [r for r in READERS if c in readers[r]] for cs in readers.values() for c in cs}
    taken = deliver({channel: [_message(names)] for channel, names in served.items()})
    for channel, names in served.items():
        say(f"{channel.name}, for {_joined(names)}: {_said(took=bool(taken[channel]))}")
    for reader in (reader for reader, channels in readers.items() if not channels):
        say(f"nobody is told as {READERS[reader]}: set DICOM_ALERTS_{reader.upper()}")
    return _beat(settings, say) and bool(served) and all(taken.values())


def _beat(settings: Settings, say: Callable[[str], None]) -> bool:
    """The monitor of the heartbeat is asked, if there is one; returns whether it did not refuse."""
    if settings.heartbeat_url is None:
        say("nobody notices when nothing runs any more: set DICOM_HEARTBEAT_URL")
        return True
    took = beat(settings.heartbeat_url)
    say(f"DICOM_HEARTBEAT_URL: {_said(took=took)}")
    return took


def _said(*, took: bool) -> str:
    return "taken" if took else "NOT TAKEN"


def _joined(readers: list[str]) -> str:
    return ", ".join(READERS[reader] for reader in readers)


def _message(readers: list[str]) -> Message:
    text = f"This is a test, nothing is wrong. Alerts for {_joined(readers)} come here."
    return Message((), "dicom_assets: test of the alerts", text, is_resolved=True)
