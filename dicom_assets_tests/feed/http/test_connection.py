"""Only a whole answer is used. A failure that may pass is retried, and refusals say why."""

import gzip
import json
import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from dicom_assets.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed.light_read import CONFIRMATIONS
from dicom_assets.window import Window
from dicom_assets_tests.support.feed_service import HOUR, QUICK, Answer, Running, Service, made
from dicom_assets_tests.support.feeds import feed_of

pytestmark = pytest.mark.sockets

WINDOW = Window(HOUR, HOUR + 36_000_000_000)
CANARY = "PHI-7f3c"
Opener = Callable[..., ChangeFeed]


@pytest.fixture
def page(service: Service) -> bytes:
    """Return the page of a service with three entries."""
    entries = [made(i, HOUR + i) for i in range(3)]
    service.add(*entries)
    return json.dumps([entry | {"metadata": {}} for entry in entries]).encode()


def count(feed: ChangeFeed) -> int:
    """Return how many entries the window has."""
    return int(feed.entries(WINDOW).changes.num_rows)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(
    service: Service, feed: ChangeFeed, page: bytes, status: int
) -> None:
    """The entries are read, whatever the body was."""
    service.script = [Answer(status, CANARY.encode())] * 3
    assert count(feed) == 3
    assert len(service.requests) == 3 + 1 + CONFIRMATIONS


def test_a_400_that_is_not_about_a_parameter_is_tried_again(
    service: Service, feed: ChangeFeed, page: bytes
) -> None:
    """A storage read that was cancelled inside the service is answered so."""
    service.script = [Answer(400, b"The operation was canceled.", {"Content-Type": "text/plain"})]
    assert count(feed) == 3


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (Answer(400, b"The query parameter 'Limit' is invalid. PHI-7f3c"), "DICOM_API_VERSION"),
        (Answer(401, b"PHI-7f3c"), "no token is sent over http"),
        (Answer(403, b"PHI-7f3c"), 'the identity lacks the role "DICOM Data Reader"'),
        (Answer(404, b"PHI-7f3c"), "DICOM_SERVICE_URL"),
        (Answer(407, b"PHI-7f3c"), "HTTPS_PROXY"),
        (Answer(409, b"PHI-7f3c"), "documentation"),
        (Answer(424, b"PHI-7f3c"), "customer-managed key"),
        (Answer(418, b"PHI-7f3c"), "documentation"),
    ],
)
def test_what_will_not_pass_is_refused_at_once(
    service: Service, feed: ChangeFeed, page: bytes, answer: Answer, remedy: str
) -> None:
    """With the status, the window and the remedy, never the body."""
    service.script = [answer] * 2
    with pytest.raises(ServiceRefusedError) as error:
        count(feed)
    message = str(error.value)
    assert len(service.requests) == 1
    assert f" {answer.status}" in message
    assert "2026-01-05 08:00:00 to 2026-01-05 09:00:00 UTC" in message
    assert remedy in message
    assert CANARY not in message


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(service: Service, feed: ChangeFeed, status: int) -> None:
    """It would carry the token away."""
    other = Service()
    with Running(other) as elsewhere:
        service.script = [Answer(status, b"", {"Location": f"{elsewhere.url}/v2/changefeed"})]
        with pytest.raises(ServiceRefusedError, match="redirects are not followed"):
            count(feed)
    assert other.requests == []


def gzipped(body: bytes) -> bytes:
    """Return the body as gzip."""
    return gzip.compress(body)


HTML = {"Content-Type": "text/html"}
BROKEN: dict[str, Callable[[bytes], Answer]] = {
    "cut by the network": lambda page: Answer(body=page, is_cut=True),
    "shorter than its length": lambda page: Answer(
        body=page[:-2] + b" " * 2, headers={"Content-Length": str(len(page) + 9)}, is_cut=True
    ),
    "cut JSON": lambda page: Answer(body=page[:-30]),
    "trailing text": lambda page: Answer(body=page + b"}"),
    "HTML": lambda _: Answer(body=b"<html></html>", headers=HTML),
    "HTML as JSON": lambda _: Answer(body=b"<html></html>"),
    "another type": lambda page: Answer(body=page, headers=HTML),
    "no type": lambda page: Answer(body=page, headers={"Content-Type": ""}),
    "an object": lambda _: Answer(body=b"{}"),
    "null": lambda _: Answer(body=b"null"),
    "no body": lambda _: Answer(body=b""),
    "204": lambda _: Answer(204, b""),
    "201": lambda page: Answer(201, page),
    "half of a gzip": lambda page: Answer(
        body=gzipped(page)[:-20], headers={"Content-Encoding": "gzip"}
    ),
    "no gzip": lambda page: Answer(body=page, headers={"Content-Encoding": "gzip"}),
    "a chunk without end": lambda page: Answer(
        body=b"%x\r\n%b\r\n" % (len(page), page) * 2,
        headers={"Transfer-Encoding": "chunked", "Content-Length": ""},
        is_cut=True,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_is_not_whole_is_asked_for_again(
    service: Service, feed: ChangeFeed, page: bytes, name: str
) -> None:
    """No part of it is accepted, and it is never taken for the end."""
    service.script = [BROKEN[name](page)] * 3
    assert count(feed) == 3
    assert len(service.requests) == 3 + 1 + CONFIRMATIONS


@pytest.mark.parametrize("name", BROKEN)
def test_answers_that_are_never_whole_are_an_error(
    service: Service, open_feed: Opener, page: bytes, name: str
) -> None:
    """Within the time that is allowed."""
    service.before = lambda *_: BROKEN[name](page)
    with pytest.raises(ServiceError) as error:
        count(open_feed(retry_seconds=0.1))
    is_network = any(word in name for word in ("network", "length", "chunk", "gzip"))
    assert is_network or type(error.value) is ServiceAnswerError
    assert "0.1 s (DICOM_RETRY_SECONDS)" in str(error.value)


def test_gzip_is_taken(service: Service, feed: ChangeFeed, page: bytes) -> None:
    """Pages of headers shrink to a tenth."""
    service.script = [Answer(body=gzipped(page), headers={"Content-Encoding": "gzip"})]
    assert count(feed) == 3
    assert service.requests[0].headers["Accept-Encoding"] == "gzip"
    assert service.requests[0].headers["Accept"] == "application/json"


def test_a_service_that_never_recovers_is_an_error_within_the_time(
    service: Service, open_feed: Opener
) -> None:
    """It says what was answered, and how long that was tried."""
    service.before = lambda *_: Answer(503, CANARY.encode())
    started = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="503 Service Unavailable") as error:
        count(open_feed(retry_seconds=0.5))
    assert 0.45 < time.monotonic() - started < 4
    assert CANARY not in str(error.value)
    assert error.value.__cause__ is error.value.__context__ is None


def test_no_retry_when_none_is_allowed(service: Service, open_feed: Opener) -> None:
    """Zero seconds are one attempt."""
    service.before = lambda *_: Answer(503)
    with pytest.raises(ServiceUnavailableError):
        count(open_feed(retry_seconds=0))
    assert len(service.requests) == 1


def test_retry_after_is_honoured(service: Service, feed: ChangeFeed, page: bytes) -> None:
    """The test really waits. Dates and absurd values have tests that do not."""
    service.script = [Answer(429, headers={"Retry-After": "1"})]
    started = time.monotonic()
    assert count(feed) == 3
    assert 1 <= time.monotonic() - started < 4


@pytest.mark.parametrize("text", ["1000000000", "-1", "soon", "", "1.5", "²", "nan"])
def test_an_absurd_retry_after_is_ignored(
    service: Service, feed: ChangeFeed, page: bytes, text: str
) -> None:
    """The ordinary pause is made instead."""
    answer = Answer(429, headers={"Retry-After": text})
    if text.isascii():
        service.script = [answer]
    started = time.monotonic()
    assert count(feed) == 3
    assert time.monotonic() - started < 4


def test_a_long_retry_after_ends_with_the_time_that_is_allowed(
    service: Service, open_feed: Opener
) -> None:
    """There is one more attempt then."""
    service.before = lambda *_: Answer(429, headers={"Retry-After": "900"})
    started = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="429 Too Many Requests"):
        count(open_feed(retry_seconds=0.3))
    assert 0.25 < time.monotonic() - started < 4
    assert len(service.requests) == 2


def test_a_service_that_does_not_answer_in_time_is_asked_again(
    service: Service, open_feed: Opener, page: bytes
) -> None:
    """One slow answer is no failure of the hour."""
    service.script = [Answer(seconds=0.4)]
    assert count(open_feed(timeouts=replace(QUICK, read_seconds=0.1))) == 3


def test_a_service_that_never_answers_is_an_error(service: Service, open_feed: Opener) -> None:
    """It says so."""
    service.before = lambda *_: Answer(seconds=0.3)
    with pytest.raises(ServiceUnavailableError, match="did not answer in time"):
        count(open_feed(retry_seconds=0.2, timeouts=replace(QUICK, read_seconds=0.1)))


def test_few_seconds_for_retries_bound_the_first_request_too(
    service: Service, open_feed: Opener
) -> None:
    """DICOM_RETRY_SECONDS may be less than what a single answer may take."""
    service.before = lambda *_: Answer(seconds=8)
    started = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="did not answer in time"):
        count(open_feed(retry_seconds=1, timeouts=replace(QUICK, read_seconds=60)))
    assert time.monotonic() - started < 6


def test_without_retries_the_one_request_has_all_its_time(
    service: Service, open_feed: Opener, page: bytes
) -> None:
    """Nothing would be read otherwise."""
    service.script = [Answer(body=page, seconds=1.3)]
    assert open_feed(retry_seconds=0).first() is not None


def test_a_port_where_nobody_listens() -> None:
    """The remedy names the setting."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        feed_of(f"http://127.0.0.1:{port}", retry_seconds=0.1) as feed,
        pytest.raises(ServiceUnavailableError, match="is DICOM_SERVICE_URL right"),
    ):
        count(feed)


@pytest.mark.parametrize(
    ("cause", "kind", "text"),
    [
        (socket.gaierror(-2, "x"), ServiceUnavailableError, "its name cannot be resolved"),
        (OSError("x"), ServiceUnavailableError, "the network open"),
        (
            ssl.SSLCertVerificationError("x"),
            ServiceRefusedError,
            "certificate is not trusted",
        ),
    ],
)
def test_why_the_service_could_not_be_reached(
    cause: OSError, kind: type[ServiceError], text: str
) -> None:
    """A name, a certificate and a network have different remedies."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("x") from cause

    transport = httpx.MockTransport(fail)
    with (
        feed_of("http://127.0.0.1", retry_seconds=0.05, transport=transport) as feed,
        pytest.raises(kind, match=text),
    ):
        feed.latest()


def test_nothing_of_an_address_or_a_body_is_logged(
    service: Service, feed: ChangeFeed, page: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry says what was answered and for which window. A request says nothing."""
    caplog.set_level(logging.INFO)
    service.script = [Answer(503, CANARY.encode())]
    count(feed)
    assert [record.name for record in caplog.records] == ["dicom_assets.feed.http.connection"]
    assert caplog.messages[0].startswith(
        "the DICOM service answered 503 Service Unavailable, for 2026-01-05 08:00:00 to "
    )
    assert "127.0.0.1" not in caplog.text
    assert CANARY not in caplog.text


def test_a_log_level_that_somebody_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level that is set for httpx stays."""
    logger = logging.getLogger("httpx")
    monkeypatch.setattr(logger, "level", logging.INFO)
    feed_of("http://127.0.0.1").close()
    assert logger.level == logging.INFO


def test_a_path_in_the_address_is_kept(service: Service, url: str) -> None:
    """Only relative paths are asked for, below what is configured."""
    with feed_of(f"{url}/dicom/", api_version=3) as feed:
        feed.latest()
        feed.first()
    assert [r.path for r in service.requests] == [
        "/dicom/v3/changefeed/latest",
        "/dicom/v3/changefeed",
    ]


def test_a_proxy_is_not_for_a_service_on_this_machine(
    open_feed: Opener, page: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment may name one that knows nothing of it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert count(open_feed(retry_seconds=0.1)) == 3


NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("local", "now"),
    [
        (NOON + timedelta(minutes=15), NOON),
        (NOON - timedelta(minutes=15), NOON - timedelta(minutes=15)),
        (NOON, NOON),
    ],
)
def test_now_is_the_earlier_of_the_two_clocks(
    service: Service, open_feed: Opener, local: datetime, now: datetime
) -> None:
    """The service's is read once from any answer, and goes on with ours."""
    moment = [local]
    feed = open_feed(clock=lambda: moment[0])
    assert feed.now() == now
    assert service.requests[0].parameters == {"limit": "1", "includeMetadata": "false"}
    moment[0] += timedelta(minutes=1)
    assert feed.now() == now + timedelta(minutes=1)
    assert len(service.requests) == 1


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Jan 2026 12:00:00 GMT"])
def test_without_a_date_the_local_clock_counts(
    service: Service, open_feed: Opener, date: str
) -> None:
    """A date that cannot be read is none."""
    service.before = lambda *_: Answer(headers={"Date": date})
    assert open_feed(clock=lambda: NOON).now() == NOON
