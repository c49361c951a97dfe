"""F01 to F06: answers that are refusals, late, cut, or no answers of a feed at all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from azure.core.credentials import AccessToken

from dicom_assets.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed.http import body
from dicom_assets_tests.adversary import (
    Bomb,
    ContentType,
    CutChunked,
    CutGzip,
    CutJson,
    Drip,
    Fault,
    Faults,
    Html,
    NoContent,
    Reset,
    Rule,
    ShortLength,
    Stall,
    Status,
    Trailing,
    WrongShape,
    cancelled,
    invalid_parameter,
)
from dicom_assets_tests.feed.faults.truth import SHOWN, WINDOW, assert_all_is_read, current
from dicom_assets_tests.support.feed_service import QUICK, SOON
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    import threading

    from dicom_assets.emulator.archive import Archive

CANARY = "PHI-2b1d"
Opener = Callable[..., ChangeFeed]


def at_times(fault: Fault) -> list[Rule]:
    """Return the fault for the first page, for two in a row in the middle, and for headers."""
    return [
        Rule(fault, "page", last=1),  # type: ignore[arg-type] # every kind of fault is of the union
        Rule(fault, "light", first=4, last=5),  # type: ignore[arg-type]
        Rule(fault, "heavy", first=3, last=4),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        (Status(429, retry_after="7"), 7.0),
        (Status(503, retry_after="7"), 7.0),
        (Status(429, retry_after_date=7.0), 7.0),
        (Status(429, retry_after="1000000000"), 0.0),
        (Status(429, retry_after="-1"), 0.0),
        (Status(429, retry_after="soon"), 0.0),
        (Status(429, retry_after_date=-9e6), 0.0),
    ],
    ids=["seconds", "503", "date", "1e9", "-1", "text", "past"],
)
def test_f01_what_retry_after_asks_for_is_waited(
    still: Archive, faults: Faults, open_feed: Opener, asked: Status, least: float
) -> None:
    """At least that long, or the ordinary pause when it is absurd."""
    waited: list[float] = []

    def sleep(seconds: float, _: threading.Event) -> None:
        waited.append(seconds)

    faults.replace(Rule(asked, last=1))
    feed = open_feed(timeouts=replace(QUICK, sleep=sleep))
    assert_all_is_read(feed, still)
    assert least <= max(waited) <= least + 2


def test_f01_retry_after_is_capped_by_the_deadline(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """The run is red when its time is over, not when the service likes."""
    faults.replace(Status(429, retry_after="900", body=CANARY))
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="429 Too Many Requests") as error:
        open_feed(retry_seconds=0.4).entries(WINDOW)
    assert 0.36 < time.monotonic() - began < SOON
    assert CANARY not in str(error.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_f02_what_passes_is_asked_again(
    still: Archive, faults: Faults, feed: ChangeFeed, status: int
) -> None:
    """Nothing is lost or doubled, and the service is not asked in vain more often than it fails."""
    faults.replace(at_times(Status(status, body=CANARY)))
    assert_all_is_read(feed, still)
    assert len(faults.log) == 5


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_f02_what_does_not_pass_is_red_within_the_deadline(
    still: Archive, faults: Faults, open_feed: Opener, status: int
) -> None:
    """The message names status, window, attempts and the setting."""
    faults.replace(Status(status, body=CANARY))
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError) as error:
        open_feed(retry_seconds=0.3).entries(WINDOW)
    assert time.monotonic() - began < SOON
    message = str(error.value)
    assert f" {status} " in message
    asked = re.search(rf"{SHOWN}; requested (\d+) times? in 0.3 s \(DICOM_RETRY_SECONDS\)", message)
    assert asked
    # The deadline may cut the last request before the service has noted it.
    assert int(asked[1]) - len(faults.log) in {0, 1}
    assert CANARY not in message


@pytest.mark.parametrize("status", [429, 503])
def test_f02_a_storm_is_met_with_one_request_at_a_time(
    still: Archive, faults: Faults, open_feed: Opener, status: int
) -> None:
    """After the requests that were in flight, one starts per pause, however many threads wait."""
    feed = open_feed(retry_seconds=20.0, in_flight=8)
    entries = feed.entries(WINDOW)
    faults.replace(Rule(Status(status), "heavy"))
    stormy = open_feed(
        retry_seconds=0.6, in_flight=8, batch_size=5, timeouts=replace(QUICK, storm_seconds=0.1)
    )
    with pytest.raises(ServiceUnavailableError):
        current(stormy, entries)
    assert faults.requests.total() <= 8 + 0.66 / 0.1 + 2


def test_f03_a_400_that_was_cancelled_inside_the_service_is_asked_again(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """Only one that is about a query parameter is ours."""
    faults.replace(at_times(cancelled()))
    assert_all_is_read(feed, still)


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (invalid_parameter("Limit"), "DICOM_API_VERSION"),
        (Status(403, body=CANARY), 'lacks the role "DICOM Data Reader"'),
        (Status(404, body=CANARY), "DICOM_SERVICE_URL the address of a DICOM service"),
        (Status(407, body=CANARY), "HTTPS_PROXY"),
        (Status(409, body=CANARY), "documentation"),
        (Status(424, body=CANARY), "customer-managed key"),
    ],
)
def test_f03_what_will_not_pass_is_red_at_once(
    still: Archive, faults: Faults, feed: ChangeFeed, fault: Status, remedy: str
) -> None:
    """With status, window and remedy, after one request, and without the body."""
    faults.replace(fault)
    with pytest.raises(ServiceRefusedError) as error:
        feed.entries(WINDOW)
    message = str(error.value)
    assert f" {fault.status} " in message
    assert SHOWN in message
    assert remedy in message
    assert CANARY not in message
    assert faults.requests.total() == 1


def test_f04_a_name_that_does_not_exist_names_the_setting() -> None:
    """It may be the network's fault, so that it is asked again, while there is time."""
    with (
        feed_of("https://dicom.invalid", credential=_Credential(), retry_seconds=0) as feed,
        pytest.raises(ServiceUnavailableError, match="DICOM_SERVICE_URL right") as error,
    ):
        feed.entries(WINDOW)
    assert "dicom.invalid" not in str(error.value)


class _Credential:
    def get_token(self, *_: str, **__: object) -> AccessToken:
        """Return a token that nobody takes."""
        return AccessToken("never-sent", 2**40)


@pytest.mark.parametrize(
    "fault", [Drip(2_000.0), Drip(200.0), Stall(seconds=9.0), Stall(500, 9.0)], ids=repr
)
def test_f04_no_answer_outlasts_its_deadline(
    still: Archive, faults: Faults, open_feed: Opener, fault: Drip | Stall
) -> None:
    """It ends with its time, though no single read is late."""
    faults.replace(fault)
    feed = open_feed(retry_seconds=0.0, timeouts=replace(QUICK, request_seconds=0.3))
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="did not answer in time"):
        feed.entries(WINDOW)
    assert 0.27 <= time.monotonic() - began < SOON


def test_f04_slow_answers_now_and_then_lose_nothing(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """The page is asked for again."""
    faults.replace(at_times(Drip(100.0)))
    assert_all_is_read(open_feed(timeouts=replace(QUICK, request_seconds=0.1)), still)


@pytest.mark.parametrize(
    "fault",
    [Reset(0), Reset(1), Reset(150), Reset(1_000), Reset(), ShortLength(0), ShortLength(),
     CutChunked(0), CutChunked(700), CutChunked()],
    ids=repr,
)  # fmt: skip
def test_f05_of_an_answer_that_breaks_off_no_part_is_accepted(
    still: Archive, faults: Faults, feed: ChangeFeed, fault: Fault
) -> None:
    """The page is read again, as a whole."""
    faults.replace(at_times(fault))
    assert_all_is_read(feed, still)
    assert len(faults.log) == 5


NO_PAGES: list[Fault] = [
    CutGzip(),
    CutGzip(15),
    CutJson(),
    CutJson(1),
    Trailing(),
    Trailing("]"),
    Html(),
    ContentType("text/plain"),
    ContentType(),
    NoContent(),
    WrongShape(),
]


@pytest.mark.parametrize("fault", NO_PAGES, ids=repr)
def test_f06_what_is_no_page_is_never_the_end_of_the_window(
    still: Archive, faults: Faults, feed: ChangeFeed, fault: Fault
) -> None:
    """Whatever its status says, it is asked for again."""
    faults.replace(at_times(fault))
    assert_all_is_read(feed, still)
    assert len(faults.log) == 5


@pytest.mark.parametrize("fault", NO_PAGES, ids=repr)
def test_f06_a_service_that_gives_no_pages_is_red(
    still: Archive, faults: Faults, open_feed: Opener, fault: Fault
) -> None:
    """And never an empty hour."""
    faults.replace(fault)
    with pytest.raises(ServiceError, match=r"requested \d+ times? in 0.1 s") as error:
        open_feed(retry_seconds=0.1).entries(WINDOW)
    assert isinstance(error.value, ServiceAnswerError) or isinstance(fault, CutGzip)


def test_f06_a_web_page_points_at_the_proxy(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """It is not the service that answered."""
    faults.replace(Html())
    with pytest.raises(ServiceAnswerError, match="a proxy or a sign-in page") as error:
        open_feed(retry_seconds=0.05).entries(WINDOW)
    assert "Please" not in str(error.value)


def test_f06_a_small_body_that_becomes_a_large_one_is_not_unpacked(
    still: Archive, faults: Faults, open_feed: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20 kB that would be 20 MB, no more than is allowed is ever in memory."""
    monkeypatch.setattr(body.read_body, "__defaults__", (2**21,))
    faults.replace(Bomb(20_000_000))
    with pytest.raises(ServiceAnswerError, match="more than 2 MiB"):
        open_feed(retry_seconds=0.0).entries(WINDOW)
