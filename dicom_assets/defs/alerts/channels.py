"""The ways to the readers: addresses of Apprise, checked at start, and told in parallel.

Addresses hold secrets. They are kept out of the configuration of resources, which Dagster stores;
a channel is named by the variable that it comes from. Apprise and the library below it write
addresses to their logs, so nothing of theirs is heard while one is in use.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from dicom_assets.defs.alerts.ledger import Message
from dicom_assets.defs.check_words import READERS
from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings

if TYPE_CHECKING:
    from apprise import NotifyBase

_TALKATIVE = ("apprise", "urllib3", "requests", "smtplib")
_IN_USE = threading.Lock()
_PAGERDUTY = "pagerduty"
# A sensor that takes a minute is ended by Dagster, and would tell everything again.
_TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class Channel:
    """One address: its name says the variable, the place in it, and the kind of service."""

    name: str
    kind: str
    url: str = field(repr=False)

    @property
    def is_bundled(self) -> bool:
        """Whether many alerts may be one message; PagerDuty closes an incident by its own key."""
        return self.kind != _PAGERDUTY


def channels_of(settings: Settings) -> dict[str, tuple[Channel, ...]]:
    """Return the channels of each reader: its own, or those that serve all.

    Raises SettingsError, without the address, for one that Apprise does not understand.
    """
    for_all = _channels(settings, "alerts")
    return {reader: _channels(settings, f"alerts_{reader}") or for_all for reader in READERS}


def _channels(settings: Settings, name: str) -> tuple[Channel, ...]:
    urls: tuple[str, ...] = getattr(settings, name)
    variable = next(f.metadata["variable"] for f in fields(settings) if f.name == name)
    return tuple(_channel(variable, number, url) for number, url in enumerate(urls, 1))


def _channel(variable: str, number: int, url: str) -> Channel:
    with _unheard():
        service = _service(url)
        if service is None:
            raise SettingsError(
                f"{variable}: address {number} is none that Apprise understands; "
                "docs/alerts.md has one for each kind of channel"
            )
        kind = str(service.url(privacy=True)).partition(":")[0]  # type: ignore[no-untyped-call]  # theirs
    return Channel(f"{variable} {number} ({kind})", kind, url)


def _service(url: str) -> "NotifyBase | None":
    from apprise import Apprise  # noqa: PLC0415 - half a second, for those who have channels

    return Apprise.instantiate(url)


def deliver(messages: Mapping[Channel, Sequence[Message]]) -> dict[Channel, list[Message]]:
    """Every channel is told its messages, up to the first that it does not take; returns the taken.

    Channels are told at the same time: one that does not answer holds no other one back.
    """
    if not messages:
        return {}
    with _unheard(), ThreadPoolExecutor(len(messages)) as pool:
        taken = pool.map(_tell, messages.keys(), messages.values())
        return dict(zip(messages, taken, strict=True))


def _tell(channel: Channel, messages: Sequence[Message]) -> list[Message]:
    taken: list[Message] = []
    for message in messages:
        if not _takes(channel, message):
            break
        taken.append(message)
    return taken


def _takes(channel: Channel, message: Message) -> bool:
    from apprise import Apprise, NotifyFormat, NotifyType  # noqa: PLC0415 - as above

    service = _service(channel.url)
    if service is None:
        return False
    if channel.kind == _PAGERDUTY:
        # An incident is closed by the message that has the key of the one which opened it.
        vars(service).update(action="map", dedup=message.incident)
    told = Apprise(service).notify(
        body=message.text,
        title=message.title,
        notify_type=NotifyType.SUCCESS if message.is_resolved else NotifyType.FAILURE,
        body_format=NotifyFormat.TEXT,
        timeout=_TIMEOUT_SECONDS,
    )
    return bool(told)


@contextmanager
def _unheard() -> Iterator[None]:
    """Nothing is logged by those who would log addresses."""
    with _IN_USE:
        loggers = [logging.getLogger(name) for name in _TALKATIVE]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
