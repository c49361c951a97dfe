"""Channels of alerts: addresses of Apprise, checked at start, and delivery in parallel.

Addresses hold secrets. They are kept out of the configuration of resources, which Dagster stores.
A channel is named by the variable that it comes from. Apprise and the library below it write
addresses to their logs, so their loggers are silenced while a channel is in use.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import takewhile

from dicom_assets.defs.alerts.ledger import Message
from dicom_assets.defs.check_words import READERS
from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings

_LOGGERS = ("apprise", "urllib3", "requests", "smtplib")
_SILENCING = threading.Lock()
_PAGERDUTY = "pagerduty"
# Dagster kills a sensor after a minute. The cursor would be lost, and every message sent again.
_TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class Channel:
    """One address; `name` is the variable, the place in it, and the kind of service."""

    name: str
    kind: str
    url: str = field(repr=False)

    @property
    def is_bundled(self) -> bool:
        """True when many alerts may be one message. PagerDuty closes an incident by its own key."""
        return self.kind != _PAGERDUTY


def channels_of(settings: Settings) -> dict[str, tuple[Channel, ...]]:
    """Return the channels of each reader: its own, or those for all readers.

    Raises SettingsError, without the address, for an address that Apprise does not understand.
    """
    for_all = _channels(settings, "alerts")
    return {reader: _channels(settings, f"alerts_{reader}") or for_all for reader in READERS}


def _channels(settings: Settings, name: str) -> tuple[Channel, ...]:
    variable = next(f.metadata["variable"] for f in fields(settings) if f.name == name)
    urls, channels = getattr(settings, name), []
    if not urls:
        return ()
    with _silenced_loggers():
        from apprise import Apprise  # half a second, for those who have channels

        for number, url in enumerate(urls, 1):
            service = Apprise.instantiate(url)
            if service is None:
                raise SettingsError(
                    f"{variable}: address {number} is not understood by Apprise. "
                    "See docs/operate/alerts.md for an address of each kind of channel."
                )
            kind = str(service.url(privacy=True)).partition(":")[0]  # type: ignore[no-untyped-call]  # theirs
            channels.append(Channel(f"{variable} {number} ({kind})", kind, url))
    return tuple(channels)


def deliver(messages: Mapping[Channel, Sequence[Message]]) -> dict[Channel, list[Message]]:
    """Send each channel its messages, up to the first that fails, and return those delivered.

    All channels are served at the same time, so that one without an answer delays no other.
    """
    if not messages:
        return {}
    with _silenced_loggers(), ThreadPoolExecutor(len(messages)) as pool:
        sent = pool.map(lambda c: list(takewhile(partial(_send, c), messages[c])), messages)
        return dict(zip(messages, sent, strict=True))


def _send(channel: Channel, message: Message) -> bool:
    from apprise import Apprise, NotifyFormat, NotifyType

    service = Apprise.instantiate(channel.url)
    if service is None:
        return False
    if channel.kind == _PAGERDUTY:
        # An incident is closed by the message with the key of the one that opened it.
        vars(service).update(action="map", dedup=message.incident)
    is_delivered = Apprise(service).notify(
        body=message.text,
        title=message.title,
        notify_type=NotifyType.SUCCESS if message.is_resolved else NotifyType.FAILURE,
        body_format=NotifyFormat.TEXT,
        timeout=_TIMEOUT_SECONDS,
    )
    return bool(is_delivered)


@contextmanager
def _silenced_loggers() -> Iterator[None]:
    """Silence the loggers that would write addresses."""
    with _SILENCING:
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
