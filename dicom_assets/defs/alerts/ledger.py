"""Which alerts are open, who was told, and who is to be told what: decided without asking anybody.

The ledger is the cursor of the sensor. It holds our own texts, hours and names of channels, and
neither an address of a channel nor a value of a patient.
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
    """What needs a person: found anew at each look, and named by its key for good."""

    key: str
    reader: ReaderRole
    title: str
    text: str
    page: str
    since: datetime


class Alert(msgspec.Struct):
    """A problem that somebody is told about, or about whose end somebody is still to be told.

    `told` says by channel when it has taken the last message; None: it has to take one yet.
    """

    reader: ReaderRole
    title: str
    text: str
    page: str
    since: datetime
    told: dict[str, datetime | None] = msgspec.field(default_factory=dict)
    over: datetime | None = None

    def is_due(self, channel: str, now: datetime) -> bool:
        """Whether a channel is to be told: for the first time, once more, or that it is over."""
        if channel not in self.told:
            return False
        last = self.told[channel]
        return self.over is not None or last is None or now - last >= REMINDER


class Failure(msgspec.Struct):
    """Runs that failed for the same reason: the job, and the hours that are still open."""

    reader: ReaderRole
    title: str
    text: str
    run_id: str
    since: datetime
    latest: datetime
    job: str
    hours: list[Span] = msgspec.field(default_factory=list)


class Ledger(msgspec.Struct):
    """What one look leaves for the next.

    `looked` is when the last look was, `awake` since when looks have followed one another.
    """

    alerts: dict[str, Alert] = msgspec.field(default_factory=dict)
    failures: dict[str, Failure] = msgspec.field(default_factory=dict)
    looked: datetime | None = None
    awake: datetime | None = None

    @classmethod
    def read(cls, cursor: str | None) -> "Ledger":
        """Return the ledger that a cursor holds; a new one for none, or for another release's."""
        try:
            return msgspec.json.decode(cursor or "{}", type=cls)
        except msgspec.DecodeError:
            return cls()

    def written(self) -> str:
        """Return the ledger as a cursor."""
        return msgspec.json.encode(self).decode()

    def note(
        self, problems: Iterable[Problem], channels: Mapping[str, Iterable[str]], now: datetime
    ) -> None:
        """Every problem is an open alert, for the channels of its reader; other alerts are over."""
        found = {problem.key: problem for problem in problems}
        for key, problem in found.items():
            self.alerts[key] = _renewed(self.alerts.get(key), problem)
        for key, alert in self.alerts.items():
            names = channels[alert.reader]
            if key in found:
                alert.told = {name: alert.told.get(name) for name in names}
            else:
                alert.over = alert.over or now
                alert.told = {name: told for name, told in alert.told.items() if name in names}

    def due(self, channel: str, now: datetime) -> list[str]:
        """Return the keys of the alerts about which a channel is to be told, the oldest first."""
        due = [key for key, alert in self.alerts.items() if alert.is_due(channel, now)]
        return sorted(due, key=lambda key: self.alerts[key].since)

    def settle(self, taken: Mapping[str, Iterable[str]], now: datetime) -> None:
        """What channels have taken, by their name, is noted; alerts that nobody awaits are gone."""
        for channel, keys in taken.items():
            for key in keys:
                told = self.alerts[key].told
                if self.alerts[key].over:
                    del told[channel]
                else:
                    told[channel] = now
        self.alerts = {k: alert for k, alert in self.alerts.items() if alert.told or not alert.over}

    @property
    def open(self) -> list[Alert]:
        """The alerts that are not over."""
        return [alert for alert in self.alerts.values() if alert.over is None]


def _renewed(known: Alert | None, problem: Problem) -> Alert:
    """Return the alert of a problem as it stands now, told to whom it was told before."""
    since = known.since if known and known.over is None else problem.since
    told = known.told if known else {}
    return Alert(problem.reader, problem.title, problem.text, problem.page, since, told)


@dataclass(frozen=True)
class Message:
    """What a channel is told, and which alerts that is about.

    `incident` is the same when an alert is opened and when it is over.
    """

    keys: tuple[str, ...]
    title: str
    text: str
    is_resolved: bool
    incident: str = ""


def messages(
    alerts: Mapping[str, Alert], place: str, web_url: str, *, bundled: bool
) -> list[Message]:
    """Return what one channel is told about alerts: one message each, or one for all of many.

    `place` is the code location, `web_url` where people open Dagster's page.
    """
    made = [_message(key, alert, place, web_url) for key, alert in alerts.items()]
    return [_bundle(made, place)] if bundled and len(made) > MOST_MESSAGES else made


def _message(key: str, alert: Alert, place: str, web_url: str) -> Message:
    span = f"{alert.since:%Y-%m-%d %H:%M} UTC"
    if alert.over:
        title = f"{place}: resolved: {alert.title}"
        lines = [f"It is over. It was open from {span} to {alert.over:%Y-%m-%d %H:%M} UTC."]
    else:
        title, lines = f"{place}: {alert.title}", [alert.text, f"Since: {span}"]
    lines += [f"For: {READERS[alert.reader]}", f"Look: {web_url.rstrip('/')}/{alert.page}"]
    text, is_resolved = "\n".join(lines), alert.over is not None
    return Message((key,), title, text, is_resolved, f"{place} {key}")


def _bundle(made: list[Message], place: str) -> Message:
    still = sum(not message.is_resolved for message in made)
    title = f"{place}: {still} alerts, {len(made) - still} resolved"
    text = "\n\n".join(f"{message.title}\n{message.text}" for message in made)
    keys = tuple(key for message in made for key in message.keys)
    return Message(keys, title, text, is_resolved=not still)
