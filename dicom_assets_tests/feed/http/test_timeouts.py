"""The deadlines and pauses of production, under a clock that does not wait."""

from itertools import pairwise

import httpx
import pytest

from dicom_assets.errors import ServiceRefusedError, ServiceUnavailableError
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed.http.timeouts import DEFAULT_TIMEOUTS
from dicom_assets_tests.feed.http.test_auth import Credential
from dicom_assets_tests.feed.http.test_throttle import Clock
from dicom_assets_tests.support.feeds import feed_of

URL = "https://service.example"
MOST = 600.0


class Service:
    """Answers what it is given, then for ever the last of it. Says when it was asked."""

    def __init__(self, clock: Clock, *answers: httpx.Response) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.asked: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Return the next answer."""
        self.asked.append(self._clock.time)
        given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return httpx.Response(given.status_code, headers=given.headers, content=given.content)


def open_feed(clock: Clock, service: Service) -> ChangeFeed:
    """Return a feed with the defaults of production, and this clock."""
    transport = httpx.MockTransport(service)
    return feed_of(URL, credential=Credential(), transport=transport, timeouts=clock.timeouts())


def refused(status: int, **headers: str) -> httpx.Response:
    """Return an answer that is none."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named)


FINE = httpx.Response(200, json=[])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_is_down_is_red_after_ten_minutes(status: int) -> None:
    """It had some thirty requests by then, and the message has their number."""
    clock = Clock()
    service = Service(clock, refused(status))
    with open_feed(clock, service) as feed, pytest.raises(ServiceUnavailableError) as error:
        feed.first()
    assert MOST <= clock.time < MOST + 2
    assert 20 <= len(service.asked) <= 80
    assert f"requested {len(service.asked)} times in 600 s (DICOM_RETRY_SECONDS)" in str(
        error.value
    )


def test_pauses_double_at_random_up_to_half_a_minute() -> None:
    """Full jitter: of the pauses before the n-th attempt each length is as likely."""
    firsts, lasts = [], []
    for _ in range(60):
        clock = Clock()
        service = Service(clock, *[refused(500)] * 12, FINE)
        with open_feed(clock, service) as feed:
            feed.first()
        pauses = [later - sooner for sooner, later in pairwise(service.asked)]
        firsts.append(pauses[0])
        lasts.append(pauses[-1])
        assert max(pauses) <= DEFAULT_TIMEOUTS.backoff_most_seconds + 0.1
    assert max(firsts) <= DEFAULT_TIMEOUTS.backoff_seconds
    assert min(firsts) < 0.1
    assert max(firsts) > 0.3
    assert min(lasts) < 8
    assert max(lasts) > 22


def test_a_storm_is_met_with_a_request_a_second_at_most() -> None:
    """From the fourth failure on."""
    clock = Clock()
    service = Service(clock, refused(503))
    with open_feed(clock, service) as feed, pytest.raises(ServiceUnavailableError):
        feed.first()
    stormy = service.asked[4:-1]
    assert all(later - sooner >= 1.0 - 1e-6 for sooner, later in pairwise(stormy))


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "30"}, 30, 31.1),
        ({"Retry_After": "3600"}, MOST, MOST + 1),
        ({"Retry_After": "1000000000"}, 0, 0.6),
        ({"Retry_After": "-1"}, 0, 0.6),
        (
            {
                "Date": "Mon, 05 Jan 2026 12:00:00 GMT",
                "Retry_After": "Mon, 05 Jan 2026 12:01:00 GMT",
            },
            60,
            61.1,
        ),
    ],
)
def test_retry_after_is_waited(headers: dict[str, str], least: float, most: float) -> None:
    """A random second is added, so that not all retry at once, but never beyond the deadline."""
    clock = Clock()
    with open_feed(clock, Service(clock, refused(429, **headers), FINE)) as feed:
        feed.first()
    assert least <= clock.time <= most


def test_a_token_that_is_refused_is_red_after_a_minute() -> None:
    """Nobody waits ten for a role that is not there."""
    clock = Clock()
    service = Service(clock, refused(401))
    with open_feed(clock, service) as feed, pytest.raises(ServiceRefusedError, match="in 60 s"):
        feed.first()
    assert 60 <= clock.time < 62
    assert service.asked[:2] == [0.0, 0.0]


def test_what_will_not_pass_is_red_at_once() -> None:
    """Without a pause."""
    clock = Clock()
    with (
        open_feed(clock, Service(clock, refused(403))) as feed,
        pytest.raises(ServiceRefusedError, match="DICOM Data Reader"),
    ):
        feed.first()
    assert clock.time == 0.0


def test_the_deadlines_stand_in_order() -> None:
    """A piece of an answer, the answer, the run: each fits into the next."""
    seconds = [
        DEFAULT_TIMEOUTS.connect_seconds,
        DEFAULT_TIMEOUTS.read_seconds,
        DEFAULT_TIMEOUTS.request_seconds,
        MOST,
    ]
    assert seconds == sorted(seconds)
    assert DEFAULT_TIMEOUTS.doubt_seconds < DEFAULT_TIMEOUTS.request_seconds
    assert DEFAULT_TIMEOUTS.refused_seconds <= 60
    assert DEFAULT_TIMEOUTS.storm_seconds >= 1
