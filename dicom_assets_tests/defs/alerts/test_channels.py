"""Every channel is received by a sink on this machine: an alert, and that it is over.

Slack and PagerDuty have fixed hosts: those alone are replaced, the rest is real.
"""

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apprise.plugins import pagerduty
from apprise.plugins.slack import NotifySlack

from dicom_assets.defs.alerts.channels import Channel, channels_of, deliver
from dicom_assets.defs.alerts.heartbeat import beat
from dicom_assets.defs.alerts.ledger import Ledger, Message, Problem, messages
from dicom_assets.defs.check_words import READERS, ReaderRole
from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings
from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.sinks import Sink, http_sink, mail_sink
from dicom_assets_tests.support.tls import certificate

PLATFORM = ReaderRole.PLATFORM
SECRET = "s3cr3t"
START = datetime(2026, 1, 1, 10, tzinfo=UTC)
PLACE = "pacs"
TEXT = "3 hours are <not> in the tables & a role is missing: grant *DICOM_Data_Reader*."
TITLE = "hours that are not in the tables"


@pytest.fixture
def sink() -> Iterator[Sink]:
    """An HTTP service that takes everything."""
    with http_sink() as sink:
        yield sink


def _channel(url: str) -> Channel:
    (channel,) = channels_of(Settings.from_environment({"DICOM_ALERTS": url}))[PLATFORM]
    return channel


def _told(channel: Channel, *, number: int = 1, over: bool = False) -> list[Message]:
    """What of some alerts, or of their end, the channel takes."""
    ledger = Ledger()
    found = [Problem(f"{n}", PLATFORM, TITLE, TEXT, "runs/1", START) for n in range(number)]
    ledger.update(found, {PLATFORM: [channel.name]}, START)
    if over:
        ledger.update([], {PLATFORM: [channel.name]}, START + timedelta(hours=1))
    made = messages(ledger.alerts, PLACE, "http://127.0.0.1:3000", bundled=channel.is_bundled)
    return deliver({channel: made})[channel]


def _both(url: str) -> None:
    """An alert, and that it is over, are taken."""
    channel = _channel(url)
    assert len(_told(channel)) == 1
    assert len(_told(channel, over=True)) == 1


def test_a_webhook_gets_json(sink: Sink) -> None:
    """Title, text and the kind: failure, and success when it is over."""
    _both(f"json://{sink.address}/{SECRET}")
    opened, closed = sink.bodies
    assert (opened["type"], closed["type"]) == ("failure", "success")
    assert opened["title"] == f"{PLACE}: {TITLE}"
    assert closed["title"] == f"{PLACE}: resolved: {TITLE}"
    assert opened["message"].splitlines()[0] == TEXT
    assert "http://127.0.0.1:3000/runs/1" in opened["message"]


def test_mail_is_sent() -> None:
    """To everybody who is named, and readable."""
    with mail_sink() as (address, mails):
        _both(f"mailto://{address}?from=dagster@h.example&to=pacs@h.example,it@h.example")
    assert [mail["Subject"] for mail in mails] == [
        f"{PLACE}: {TITLE}",
        f"{PLACE}: {TITLE}",
        f"{PLACE}: resolved: {TITLE}",
        f"{PLACE}: resolved: {TITLE}",
    ]
    assert {mail["To"] for mail in mails} == {"pacs@h.example", "it@h.example"}
    plain = mails[0].get_body(("plain",))
    assert plain is not None
    assert TEXT in plain.get_content()


def test_slack_gets_a_message(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an incoming webhook, whose address may be given as Slack shows it."""
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{sink.url}/services")
    _both(f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7{SECRET}")
    assert {posted.path for posted in sink.taken} == {
        f"/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7{SECRET}"
    }
    opened, closed = (str(body) for body in sink.bodies)
    assert TITLE in opened
    assert "a role is missing" in opened
    assert f"resolved: {TITLE}" in closed


def test_teams_gets_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a workflow ("post to a channel when a webhook request is received"), over https."""
    path = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with http_sink(path) as sink:
        _both(f"workflow://{sink.address}/643e69f83c8944/{SECRET}")
    opened, closed = sink.taken
    assert opened.path.startswith("/workflows/643e69f83c8944/triggers/manual/paths/invoke?")
    assert opened.body["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert TITLE in str(opened.body)
    assert f"resolved: {TITLE}" in str(closed.body)


def test_pagerduty_opens_an_incident_and_closes_it(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same key, without a setting of the user's; each of many alerts is its own incident."""
    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", sink.url)
    _both(f"pagerduty://{SECRET}@{SECRET}")
    opened, closed = sink.bodies
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == f"{PLACE} 0"
    assert TITLE in opened["payload"]["summary"]
    many = _told(_channel(f"pagerduty://{SECRET}@{SECRET}"), number=5)
    assert len(many) == 5
    assert len({body["dedup_key"] for body in sink.bodies}) == 5


def test_many_alerts_at_once_are_one_message(sink: Sink) -> None:
    """Nobody's telephone rings five times."""
    (bundle,) = _told(_channel(f"json://{sink.address}"), number=5)
    assert len(sink.taken) == 1
    assert set(bundle.keys) == set("01234")


def test_a_channel_that_is_down_holds_no_other_back(sink: Sink) -> None:
    """What each took is said; one that refuses is not asked again for the rest."""
    with http_sink() as dead:
        dead.status = 503
        good, bad = _channel(f"json://{sink.address}"), _channel(f"json://{dead.address}")
        made = [Message((key,), key, "text", is_resolved=False) for key in ("a", "b")]
        taken = deliver({bad: made, good: made})
    assert {channel: [m.title for m in took] for channel, took in taken.items()} == {
        good: ["a", "b"],
        bad: [],
    }
    assert len(dead.refused) == 1


def test_a_channel_where_nobody_listens_has_not_taken_it() -> None:
    """Neither by HTTP nor by mail."""
    channels = [_channel(url) for url in ("json://127.0.0.1:9", "mailto://127.0.0.1:9?from=a@b.io")]
    made = [Message(("a",), "a", "text", is_resolved=False)]
    assert list(deliver(dict.fromkeys(channels, made)).values()) == [[], []]


def test_a_reader_has_channels_of_its_own_or_those_for_all() -> None:
    """DICOM_ALERTS serves who has none."""
    given = {
        "DICOM_ALERTS": "json://a.example, json://b.example",
        "DICOM_ALERTS_SERVICE": "mailto://h.example?from=a@h.example&to=c@h.example,d@h.example",
    }
    found = channels_of(Settings.from_environment(given))
    names = {reader: [channel.name for channel in found[reader]] for reader in READERS}
    both = ["DICOM_ALERTS 1 (json)", "DICOM_ALERTS 2 (json)"]
    assert names == {
        "service": ["DICOM_ALERTS_SERVICE 1 (mailto)"],
        "platform": both,
        "data": both,
    }


def test_the_addresses_of_the_page_are_understood() -> None:
    """Each kind of channel has one in docs/operate/alerts.md. An ellipsis stands for a secret."""
    page = (ROOT / "docs" / "operate" / "alerts.md").read_text(encoding="utf-8")
    table = page.partition("## Addresses")[2].partition("## ")[0]
    addresses = re.findall(r"^\|[^|]+\| `([^`]+)` \|", table, re.MULTILINE)
    found = {_channel(address.replace("…", "a1b2")).kind for address in addresses}
    assert found == {"mailto", "mailtos", "slack", "workflow", "pagerduty", "jsons"}


@pytest.mark.parametrize(
    "value", [f"slack://{SECRET}", f"json://h.example nonsense://{SECRET}", SECRET, "json://"]
)
def test_an_address_that_is_none_is_refused_by_the_name_of_its_variable(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its value holds secrets: neither the error nor a log shows it."""
    with pytest.raises(SettingsError) as caught:
        channels_of(Settings.from_environment({"DICOM_ALERTS_DATA": value}))
    assert str(caught.value).startswith("DICOM_ALERTS_DATA: address")
    assert "docs/operate/alerts.md" in str(caught.value)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
    assert SECRET not in caplog.text


def test_what_a_channel_knows_stays_out_of_logs_and_texts(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken, refused or unheard: Apprise and urllib3 would log the path of a webhook."""
    caplog.set_level(1)
    for name in ("apprise", "urllib3", "urllib3.connectionpool"):
        # The feed lets them log errors only, and Dagster's migrations switch loggers off.
        caplog.set_level(logging.NOTSET if "." in name else 1, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    channels = [
        _channel(f"json://{sink.address}/{SECRET}"),
        _channel(f"json://a:{SECRET}@h.invalid"),
    ]
    for channel in channels:
        _told(channel)
    sink.status = 500
    _told(channels[0])
    beat(f"{sink.url}/{SECRET}")
    settings = Settings.from_environment(
        {"DICOM_ALERTS": f"json://h/{SECRET}", "DICOM_HEARTBEAT_URL": f"https://h/{SECRET}"}
    )
    assert SECRET not in caplog.text
    assert SECRET not in f"{channels} {settings}"
    logging.getLogger("urllib3").debug("heard")
    assert "heard" in caplog.text


def test_the_monitor_is_asked(sink: Sink) -> None:
    """One GET; what it refuses is not taken."""
    assert beat(f"{sink.url}/ping/{SECRET}")
    assert [(posted.path, posted.body) for posted in sink.taken] == [(f"/ping/{SECRET}", None)]
    sink.status = 404
    assert not beat(sink.url)
    assert not beat("http://127.0.0.1:9")
