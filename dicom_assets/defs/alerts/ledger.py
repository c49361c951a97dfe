"""The ledger of alerts: open alerts, and the messages that each channel is due (pure).

It is the cursor of the sensor. It holds our own texts, hours and names of channels, and neither an
address of a channel nor a patient value. The names in its JSON and the keys of alerts never
change: an open alert survives an upgrade and is not sent again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from dicom_assets.defs.check_words import READERS, ReaderRole
from dicom_assets.window import Span

REMINDER = timedelta(days=1)
# More than these at once come as one message.
MOST_MESSAGES = 3


@dataclass(frozen=True)
class Problem:
    """A fault that needs a person, seen at one look. Its key is the same at every look.

    With a `size` it is sent again when that grows, and no reminder is sent.
    """

    key: str
    reader: ReaderRole
    title: str
    text: str
    page: str
    since: datetime
    size: int | msgspec.UnsetType = msgspec.UNSET


class Alert(msgspec.Struct):
    """A problem that is open, or whose end is still to be sent to a channel.

    `sent` holds, for each channel, when it accepted the last message; None: no message yet.
    `location` is the code location that opened it, where that had another name than today.
    """

    reader: ReaderRole
    title: str
    text: str
    page: str
    since: datetime
    sent: dict[str, datetime | None] = msgspec.field(name="told", default_factory=dict)
    over: datetime | None = None
    size: int | msgspec.UnsetType = msgspec.UNSET
    location: str | msgspec.UnsetType = msgspec.UNSET

    def is_due(self, channel: str, now: datetime) -> bool:
        """Return True when a channel is due a message: the first, a reminder, or the end."""
        last = self.sent.get(channel)
        is_reminded = self.size is msgspec.UNSET and last is not None and now - last >= REMINDER
        is_time = self.over is not None or last is None or is_reminded
        return channel in self.sent and is_time


class RunFailure(msgspec.Struct):
    """Failed runs with the same cause: the job, and the hours that are still open."""

    reader: ReaderRole
    title: str
    text: str
    run_id: str
    since: datetime
    latest: datetime
    job: str
    hours: list[Span] = msgspec.field(default_factory=list)


class Ledger(msgspec.Struct):
    """The state that one look leaves for the next.

    `awake_since` is the first of the looks that have followed one another without a pause.
    `daemons` has the first and the last heartbeat of each daemon of late, by its ID, as timestamps.
    """

    alerts: dict[str, Alert] = msgspec.field(default_factory=dict)
    failures: dict[str, RunFailure] = msgspec.field(default_factory=dict)
    last_look: datetime | None = msgspec.field(name="looked", default=None)
    awake_since: datetime | None = msgspec.field(name="awake", default=None)
    daemons: dict[str, tuple[float, float]] | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def read(cls, cursor: str | None) -> "Ledger":
        """Return the ledger in a cursor; an empty one for no cursor or one that does not decode."""
        try:
            return msgspec.json.decode(cursor or "{}", type=cls)
        except msgspec.DecodeError:
            return cls()

    def dump(self) -> str:
        """Return the ledger as a cursor."""
        return msgspec.json.encode(self).decode()

    def renamed(self, former: str) -> "Ledger":
        """Note the former name of the code location on the alerts that it has opened."""
        for alert in self.alerts.values():
            alert.location = alert.location or former
        return self

    @property
    def open(self) -> list[Alert]:
        """The alerts that are not over."""
        return [alert for alert in self.alerts.values() if alert.over is None]

    def update(
        self, problems: Iterable[Problem], channels: Mapping[str, Iterable[str]], now: datetime
    ) -> None:
        """Open or renew each problem's alert, and end all others; `channels` is by reader."""
        current = {problem.key: problem for problem in problems}
        for key, new in current.items():
            known = self.alerts.get(key)
            # An open alert keeps its beginning, its channels and its incident.
            since = known.since if known and known.over is None else new.since
            location = known.location if known and known.over is None else msgspec.UNSET
            has_grown = known is not None and (new.size or 0) > (known.size or 0)
            sent = known.sent if known and not has_grown else {}
            alert = Alert(new.reader, new.title, new.text, new.page, since, sent, size=new.size)
            alert.location, self.alerts[key] = location, alert
        for key, alert in self.alerts.items():
            names = channels[alert.reader]
            if key in current:
                alert.sent = {name: alert.sent.get(name) for name in names}
            else:
                alert.over = alert.over or now
                alert.sent = {name: sent for name, sent in alert.sent.items() if name in names}

    def due(self, channel: str, now: datetime) -> list[str]:
        """Return the keys of the alerts of which a channel is due a message, the oldest first."""
        due = [key for key, alert in self.alerts.items() if alert.is_due(channel, now)]
        return sorted(due, key=lambda key: self.alerts[key].since)

    def mark_sent(self, delivered: Mapping[str, Iterable[str]], now: datetime) -> None:
        """Note the keys delivered by channel, and drop alerts whose end every channel has."""
        for channel, keys in delivered.items():
            for key in keys:
                sent = self.alerts[key].sent
                if self.alerts[key].over:
                    del sent[channel]
                else:
                    sent[channel] = now
        self.alerts = {k: alert for k, alert in self.alerts.items() if alert.sent or not alert.over}


@dataclass(frozen=True)
class Message:
    """A message about alerts; `incident` is the same for the opening and the end of an alert."""

    keys: tuple[str, ...]
    title: str
    text: str
    is_resolved: bool
    incident: str = ""


def messages(
    alerts: Mapping[str, Alert], location: str, web_url: str, *, bundled: bool
) -> list[Message]:
    """Return the messages about alerts for one channel: one for each, or one for all of many.

    `location` is the code location, `web_url` the address at which people open Dagster's pages.
    """
    single = [_message(key, alert, location, web_url) for key, alert in alerts.items()]
    if not bundled or len(single) <= MOST_MESSAGES:
        return single
    still_open = sum(not message.is_resolved for message in single)
    title = f"{location}: {still_open} alerts, {len(single) - still_open} resolved"
    text = "\n\n".join(f"{message.title}\n{message.text}" for message in single)
    keys = tuple(key for message in single for key in message.keys)
    return [Message(keys, title, text, is_resolved=not still_open)]


def _message(key: str, alert: Alert, location: str, web_url: str) -> Message:
    since = f"{alert.since:%Y-%m-%d %H:%M} UTC"
    if alert.over:
        title = f"{location}: resolved: {alert.title}"
        lines = [f"It is over. It was open from {since} to {alert.over:%Y-%m-%d %H:%M} UTC."]
    else:
        title, lines = f"{location}: {alert.title}", [alert.text, f"Since: {since}"]
    lines += [f"For: {READERS[alert.reader]}", f"Look: {web_url.rstrip('/')}/{alert.page}"]
    text, is_resolved = "\n".join(lines), alert.over is not None
    return Message((key,), title, text, is_resolved, f"{alert.location or location} {key}")
