"""F12 and F13: tokens that are refused and credentials that fail, and where no token ever goes."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.errors import ServiceError, ServiceRefusedError, ServiceUnavailableError
from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import Faults, Rule, Status, breakable, serve
from dicom_assets_tests.adversary.tokens import KnownTokens, Token, guard_of
from dicom_assets_tests.feed.faults.truth import SHOWN, WINDOW, assert_all_is_read
from dicom_assets_tests.support.feed_service import QUICK, SOON, Answer, Running, Service
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.tls import Relay, certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dicom_assets.emulator.archive import Archive
    from dicom_assets.feed import ChangeFeed

SECRET = "secret-token-5f1e"


@dataclass
class Credential:
    """Gives numbered tokens; `give` makes each one good before it is given."""

    give: Callable[[str], object] = lambda _: None
    error: Exception | None = None
    seconds: float = 0.0
    expires_in: float = 3_600.0
    given: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get_token(self, *_: str, **__: object) -> AccessToken:
        """Return the next token."""
        with self.lock:
            self.given += 1
            text = f"{SECRET}-{self.given}"
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.give(text)
        return AccessToken(text, int(time.time() + self.expires_in))


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _trust(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@dataclass
class Guarded:
    """A service behind https that takes the tokens it knows."""

    url: str
    tokens: KnownTokens
    faults: Faults

    def open(self, credential: Credential, **settings: Any) -> ChangeFeed:  # noqa: ANN401
        """Return a feed that asks it."""
        usual: dict[str, Any] = {"timeouts": QUICK, "batch_size": 20, "in_flight": 4}
        usual["retry_seconds"] = 10.0
        return feed_of(self.url, credential=credential, **(usual | settings))


@pytest.fixture
def guarded(resting: Archive, trusted: Path) -> Iterator[Guarded]:
    """A service that asks for a token, over real TLS."""
    tokens, faults = KnownTokens(), Faults()
    application = breakable(resting, faults, tokens=tokens)
    with serve(application) as running, Relay(running.url, trusted) as relay:
        yield Guarded(relay.url, tokens, faults)


@pytest.mark.parametrize("requests", [1, 3, 7])
def test_f12_a_token_that_is_refused_at_any_page_is_renewed(
    guarded: Guarded, resting: Archive, requests: int
) -> None:
    """The reading goes on from that page, as often as it happens."""
    credential = Credential(lambda text: guarded.tokens.add(Token(text, requests=requests)))
    with guarded.open(credential) as feed:
        assert_all_is_read(feed, resting)
    assert guarded.tokens.answered[401] >= 16 // requests - 1
    assert credential.given <= guarded.tokens.answered[401] + 1


def test_f12_a_token_that_is_refused_twice_is_tried_again(
    guarded: Guarded, resting: Archive
) -> None:
    """A token may be valid a moment later by the service's clock."""
    known = threading.Timer(0.3, lambda: guarded.tokens.add(f"{SECRET}-2"))
    known.start()
    with guarded.open(Credential(), timeouts=replace(QUICK, refused_seconds=5.0)) as feed:
        assert_all_is_read(feed, resting)
    known.join()


def test_f12_one_401_makes_one_new_token_for_all_threads(
    guarded: Guarded, resting: Archive
) -> None:
    """However many pages are refused at once."""
    credential = Credential(guarded.tokens.add)
    guarded.faults.replace(Rule(Status(401), "heavy", last=4))
    with guarded.open(credential) as feed:
        assert_all_is_read(feed, resting)
    assert credential.given <= 3


def test_f12_tokens_refused_for_ever_are_red_in_time(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Sooner than the run's own deadline; no token is in the message or in any log."""
    caplog.set_level(logging.DEBUG)
    credential = Credential()
    began = time.monotonic()
    with (
        guarded.open(credential, timeouts=replace(QUICK, refused_seconds=0.4)) as feed,
        pytest.raises(ServiceRefusedError, match="401 Unauthorized") as error,
    ):
        feed.entries(WINDOW)
    assert 0.3 < time.monotonic() - began < SOON
    assert f"{SHOWN}; requested {guarded.tokens.answered[401]} times in 0.4 s:" in str(error.value)
    assert "tenant" in str(error.value)
    assert credential.given == 2
    assert SECRET not in str(error.value) + caplog.text


def test_f12_a_role_that_is_missing_is_named(guarded: Guarded) -> None:
    """403 is the PACS administrator's affair, at once."""
    credential = Credential(lambda text: guarded.tokens.add(Token(text, can_read=False)))
    with (
        guarded.open(credential) as feed,
        pytest.raises(ServiceRefusedError, match='lacks the role "DICOM Data Reader"'),
    ):
        feed.entries(WINDOW)
    assert guarded.tokens.answered == {403: 1}


def test_f13_a_credential_that_is_slow_is_waited_for_once(
    guarded: Guarded, resting: Archive
) -> None:
    """All threads wait for the same token."""
    credential = Credential(guarded.tokens.add, seconds=0.2)
    with guarded.open(credential) as feed:
        assert_all_is_read(feed, resting)
    assert credential.given == 1


def test_f13_a_credential_that_never_answers_is_red_in_time(guarded: Guarded) -> None:
    """It is asked once, and named by its class."""
    credential = Credential(seconds=2.0)
    began = time.monotonic()
    timeouts = replace(QUICK, token_seconds=0.1)
    with (
        guarded.open(credential, retry_seconds=0.4, timeouts=timeouts) as feed,
        pytest.raises(ServiceUnavailableError, match=r"Credential gave no token in 0.1 s"),
    ):
        feed.entries(WINDOW)
    assert time.monotonic() - began < SOON
    assert credential.given == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClientAuthenticationError(f"tenant {SECRET}"), ServiceRefusedError),
        (ServiceRequestError(f"login.example {SECRET}"), ServiceUnavailableError),
        (ValueError(f"a certificate at {SECRET}"), ServiceRefusedError),
        (OSError(f"no such file {SECRET}"), ServiceRefusedError),
    ],
)
def test_f13_a_credential_that_fails_is_red_in_time(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, error: Exception, kind: type[ServiceError]
) -> None:
    """By classes only: Azure's text may name tenants, users and addresses."""
    caplog.set_level(logging.DEBUG)
    credential = Credential(error=error)
    timeouts = replace(QUICK, refused_seconds=0.2)
    with (
        guarded.open(credential, retry_seconds=0.2, timeouts=timeouts) as feed,
        pytest.raises(kind) as raised,
    ):
        feed.entries(WINDOW)
    assert f"Credential gave no token ({type(error).__name__})" in str(raised.value)
    assert SECRET not in str(raised.value) + caplog.text
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert not guarded.tokens.answered


@pytest.mark.parametrize("expires_in", [-3_600.0, 0.0, 299.0])
def test_f13_a_token_that_has_expired_already_is_not_kept(
    guarded: Guarded, resting: Archive, expires_in: float
) -> None:
    """This machine's clock may be wrong, so that it is tried, and requests ask anew."""
    credential = Credential(guarded.tokens.add, expires_in=expires_in)
    with guarded.open(credential) as feed:
        assert_all_is_read(feed, resting)
    assert credential.given >= 8


def test_a_certificate_that_is_not_trusted_names_the_setting(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody gets the token, and waiting would not help."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with guarded.open(Credential()) as feed, pytest.raises(ServiceRefusedError, match="SSL_CERT"):
        feed.entries(WINDOW)
    assert not guarded.tokens.answered


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["https", "http", "host", "path"])
def test_a_redirect_carries_the_token_nowhere(trusted: Path, status: int, where: str) -> None:
    """To another port, scheme, host, or path: none is followed."""
    service, other = Service(), Service()
    with (
        Running(service) as here,
        Running(other) as there,
        Relay(here.url, trusted) as relay,
        Relay(there.url, trusted) as elsewhere,
    ):
        target = {
            "https": elsewhere.url,
            "http": there.url,
            "host": elsewhere.url.replace("127.0.0.1", "localhost"),
            "path": relay.url + "/elsewhere",
        }[where]
        service.before = lambda *_: Answer(status, b"", {"Location": f"{target}/v2/changefeed"})
        with (
            feed_of(relay.url, credential=Credential(), timeouts=QUICK) as feed,
            pytest.raises(ServiceRefusedError, match="redirects are not followed"),
        ):
            feed.entries(WINDOW)
    assert other.requests == []
    assert [request.headers["Authorization"] for request in service.requests] == [
        f"Bearer {SECRET}-1"
    ]


def test_over_http_no_token_is_sent_and_a_401_says_so(
    resting: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    """The credential is not even asked."""
    credential, tokens = Credential(), KnownTokens()
    with (
        server.start(create_application(resting, middleware=[guard_of(tokens)])) as running,
        feed_of(running.url, credential=credential, timeouts=QUICK) as feed,
        pytest.raises(ServiceRefusedError, match="no token is sent"),
    ):
        feed.entries(WINDOW)
    assert (credential.given, tokens.answered) == (0, {401: 1})


def test_no_token_header_or_body_is_in_a_log_at_its_most_talkative(
    guarded: Guarded, resting: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, with retries; httpx and Azure's libraries say nothing."""
    caplog.set_level(logging.DEBUG)
    guarded.faults.replace(Rule(Status(503, body="PHI-77"), "page", first=2, last=3))
    with guarded.open(Credential(guarded.tokens.add)) as feed:
        assert_all_is_read(feed, resting)
    assert SECRET not in caplog.text
    assert "PHI-77" not in caplog.text
    assert "Anony Mous" not in caplog.text
    assert "127.0.0.1" not in caplog.text
    assert {record.name for record in caplog.records} == {"dicom_assets.feed.http.connection"}
