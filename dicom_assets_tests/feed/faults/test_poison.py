"""F14: headers that the service cannot read cost one rejection each; an outage costs none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from dicom_assets.errors import ServiceAnswerError, ServiceUnavailableError
from dicom_assets.feed import ChangeFeed, unreadable_headers
from dicom_assets.feed.http import body
from dicom_assets.feed_contract import Rejection
from dicom_assets_tests.adversary import CutJson, Fault, Faults, Override, Poison, Rule, Status
from dicom_assets_tests.feed.faults.truth import (
    HOUR,
    WINDOW,
    changes_in,
    changes_of,
    current,
    fill,
    headers_in,
    headers_of,
    rejections_in,
)
from dicom_assets_tests.support.entries import Json, header
from dicom_assets_tests.support.feed_service import (
    QUICK,
    SOON,
    Answer,
    Request,
    Running,
    Service,
    made,
)
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive

Opener = Callable[..., ChangeFeed]
UNREADABLE = "header cannot be read by the service"


def assert_only_these_are_rejected(
    feed: ChangeFeed, archive: Archive, poisoned: set[int], reason: str = UNREADABLE
) -> None:
    """Every entry is read, and every header but those, which are rejections."""
    entries = feed.entries(WINDOW)
    assert changes_in(entries) == changes_of(archive)
    assert entries.rejections == ()
    pieces = current(feed, entries)
    ticks = {row[0]: row[1] for row in changes_of(archive)}
    assert rejections_in(pieces) == [Rejection(s, ticks[s], reason) for s in sorted(poisoned)]  # type: ignore[arg-type] # they are numbers
    good = {s: text for s, text in headers_of(archive).items() if s not in poisoned}
    assert headers_in(pieces) == good


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(
    "poisoned", [{1}, {130}, {77}, {20, 21}, {1, 41, 42, 60, 130}, set(range(61, 81))], ids=str
)
def test_f14_poison_is_found_and_the_others_land(
    still: Archive, faults: Faults, feed: ChangeFeed, status: int, poisoned: set[int]
) -> None:
    """First, last, neighbours, one on each page, a whole page of them."""
    faults.replace(Poison(frozenset(poisoned), status))
    assert_only_these_are_rejected(feed, still, poisoned)


def test_f14_the_search_is_a_bisection(
    archive: Archive, faults: Faults, open_feed: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 200 headers the bad one is found with two requests a halving, and a few to be sure."""
    fill(archive, 200)
    faults.replace(Poison(frozenset({101})))
    assert_only_these_are_rejected(open_feed(batch_size=200), archive, {101})
    assert (
        faults.requests["heavy"]
        <= unreadable_headers.QUICK_TRIES + 2 * 8 + unreadable_headers.ROUNDS
    )
    assert faults.requests["light"] == 3 + 2
    warnings = [r.getMessage() for r in caplog.records if r.name.endswith("unreadable_headers")]
    assert warnings == [f"sequence 101 is rejected: {UNREADABLE}"]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_f14_light_reads_are_not_affected(still: Archive, faults: Faults, feed: ChangeFeed) -> None:
    """No header is read for them."""
    faults.replace(Poison(frozenset({7})))
    assert changes_in(feed.entries(WINDOW)) == changes_of(still)
    assert (feed.first(), feed.latest()) == (HOUR, HOUR + 43)
    assert faults.requests["heavy"] == 0


def test_f14_poison_alone_is_compared_with_the_newest_header(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """Where no other header is wanted, one must be readable all the same."""
    log = feed.entries(WINDOW).changes
    faults.replace(Poison(frozenset({7})))
    assert rejections_in(feed.headers(log, [7])) == [Rejection(7, HOUR + 2, UNREADABLE)]
    assert faults.requests["latest"] == 1


def test_f14_what_heals_while_it_is_doubted_is_read(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """A blip is no poison."""
    faults.replace(Poison(frozenset({7, 90})))
    healing = threading.Timer(0.3, faults.clear)
    healing.start()
    feed = open_feed(timeouts=replace(QUICK, doubt_seconds=3.0))
    assert_only_these_are_rejected(feed, still, set())
    healing.join()


@pytest.mark.parametrize(
    "faulty",
    [Rule(Status(500), "heavy"), Rule(Status(503), "feed", first=3), Poison(frozenset(range(131)))],
    ids=["headers", "service", "every header"],
)
def test_f14_an_outage_is_no_poison(
    still: Archive, faults: Faults, open_feed: Opener, faulty: Rule | Fault
) -> None:
    """Where nothing can be read nobody is blamed: the run is red within its time."""
    feed = open_feed(retry_seconds=0.4)
    entries = feed.entries(WINDOW)
    faults.replace(faulty)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match=r"in 0.4 s \(DICOM_RETRY_SECONDS\)"):
        current(feed, entries)
    assert time.monotonic() - began < SOON


def test_f14_an_outage_that_passes_costs_nothing(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """Also when it begins in the middle of a page, and lasts longer than a header is doubted."""
    entries = open_feed().entries(WINDOW)
    faults.replace(Rule(Status(500), "heavy", first=3))
    passing = threading.Timer(0.6, faults.clear)
    passing.start()
    pieces = current(open_feed(in_flight=1), entries)
    passing.join()
    assert headers_in(pieces) == headers_of(still)
    assert rejections_in(pieces) == []


def test_f14_an_hour_of_poison_is_an_outage(
    archive: Archive, faults: Faults, open_feed: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a number of rejections, beyond which somebody should look at the storage."""
    monkeypatch.setattr(unreadable_headers, "MOST_UNREADABLE", 10)
    fill(archive, 60)
    feed = open_feed(retry_seconds=3.0)
    entries = feed.entries(WINDOW)
    faults.replace(Poison(frozenset(range(1, 61, 4))))
    with pytest.raises(ServiceUnavailableError, match="500"):
        current(feed, entries)


@pytest.mark.parametrize(
    "raw",
    [b'{"00100010":{"vr":"PN","Value":["A', b'{"00100010":{"vr":"PN"', b'"}', b"[", b"]", b"{}}"],
    ids=repr,
)
def test_f14_a_header_that_breaks_the_pages_json_is_found(
    still: Archive, faults: Faults, feed: ChangeFeed, raw: bytes
) -> None:
    """Its neighbours cannot be told from it on the page, and land all the same."""
    faults.replace(Override(50, metadata=raw))
    assert_only_these_are_rejected(feed, still, {50}, "header cannot be decoded")


def test_f14_a_service_that_cuts_every_page_of_headers_is_red(
    still: Archive, faults: Faults, open_feed: Opener
) -> None:
    """That is no header's fault."""
    feed = open_feed(retry_seconds=0.4)
    entries = feed.entries(WINDOW)
    faults.replace(Rule(CutJson(), "heavy"))
    with pytest.raises(ServiceAnswerError, match="the array is not whole"):
        current(feed, entries)


def test_f14_a_page_too_large_for_memory_is_read_in_parts(
    archive: Archive, faults: Faults, open_feed: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large headers land, and one that is too large by itself is a rejection."""
    monkeypatch.setattr(body.read_body, "__defaults__", (100_000,))
    for i, size in enumerate([1, 40_000, 40_000, 40_000, 1, 150_000, 90_000, 1]):
        large = header("1", "1.1", f"1.1.{i}") | {"00104000": {"vr": "LT", "Value": ["x" * size]}}
        archive.store(large, at=HOUR + i)
    assert_only_these_are_rejected(open_feed(), archive, {6}, "header is too large")


class Large(Service):
    """A service with headers beyond the cap: it counts the bytes that it could send."""

    def __init__(self, large: dict[int, int], rows: int, seconds: float = 0.0) -> None:
        super().__init__()
        self.large, self.sent, self.seconds = large, 0, seconds
        self.spoil = self._enlarged
        self.add(*(made(number, HOUR + number) for number in range(rows)))

    def _enlarged(self, request: Request, rows: list[Json]) -> list[Json]:
        if not request.has_headers:
            return rows
        extra = {s: {"00104000": {"vr": "LT", "Value": ["x" * n]}} for s, n in self.large.items()}
        return [r | {"metadata": r["metadata"] | extra.get(r["sequence"], {})} for r in rows]

    def answer(self, request: Request) -> Answer:
        """Send a large answer as slowly as a line would."""
        given = super().answer(request)
        self.sent += len(given.body)
        return replace(given, seconds=self.seconds if len(given.body) > LIMIT else 0.0)

    @property
    def heavy(self) -> int:
        """The number of requests for headers."""
        return sum(request.has_headers for request in self.requests)


LIMIT = 1_000_000


@pytest.fixture
def small_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an answer have no more bytes than LIMIT."""
    monkeypatch.setattr(body.read_body, "__defaults__", (LIMIT,))


def read_large(
    service: Large,
    **settings: Any,  # noqa: ANN401 - as ChangeFeed has them
) -> tuple[set[int], list[Rejection]]:
    """Return the sequences that land, and the rejections."""
    with Running(service) as running, feed_of(running.url, **settings) as feed:
        pieces = current(feed, feed.entries(WINDOW))
    return set(headers_in(pieces)), rejections_in(pieces)


@pytest.mark.usefixtures("small_cap")
@pytest.mark.parametrize("large", [{0}, {101}, {199}, {20, 21, 150}], ids=str)
def test_f14_a_header_beyond_the_cap_is_asked_for_twice(large: set[int]) -> None:
    """Once with its page, once alone: the answer that broke off tells where it is."""
    service = Large(dict.fromkeys(large, LIMIT), 200)
    landed, rejected = read_large(service, retry_seconds=60.0, timeouts=QUICK, batch_size=200)
    assert [(r.sequence, r.reason) for r in rejected] == [
        (s, "header is too large") for s in sorted(large)
    ]
    assert landed == set(range(200)) - large
    assert service.heavy <= 1 + 3 * len(large)
    assert service.sent < 4 * LIMIT * len(large) * (len(large) + 1)


@pytest.mark.usefixtures("small_cap")
@pytest.mark.parametrize("retry_seconds", [0.0, 0.2, 1.0])
def test_f14_the_search_for_large_headers_has_a_time_of_its_own(retry_seconds: float) -> None:
    """Each answer takes longer than all retries may, and the hour is not red."""
    service = Large({3: LIMIT, 7: LIMIT}, 10, seconds=retry_seconds and 1.2)
    landed, rejected = read_large(service, retry_seconds=retry_seconds, timeouts=QUICK)
    assert [(r.sequence, r.reason) for r in rejected] == [
        (3, "header is too large"),
        (7, "header is too large"),
    ]
    assert landed == set(range(10)) - {3, 7}


@pytest.mark.usefixtures("small_cap")
def test_f14_a_header_beyond_the_cap_that_is_alone_is_asked_for_once() -> None:
    """There is nothing to search for, and nothing to doubt."""
    service = Large({0: LIMIT}, 1)
    slow = replace(QUICK, doubt_seconds=1_000.0)
    landed, [rejected] = read_large(service, retry_seconds=60.0, timeouts=slow)
    assert (landed, rejected.reason, service.heavy) == (set(), "header is too large", 1)


@pytest.mark.usefixtures("small_cap")
def test_f14_many_headers_beyond_the_cap_are_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service answers each, so it is neither down nor in doubt."""
    monkeypatch.setattr(unreadable_headers, "MOST_UNREADABLE", 3)
    service = Large(dict.fromkeys(range(0, 40, 2), LIMIT), 40)
    landed, rejected = read_large(service, retry_seconds=0.5, timeouts=QUICK)
    assert landed == set(range(1, 40, 2))
    assert [r.sequence for r in rejected] == list(range(0, 40, 2))


def test_f14_poison_and_passing_faults_together_cost_only_the_poison(
    still: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """One request in five fails besides."""
    faults.replace([
        Rule(Poison(frozenset({33, 100}))),
        Rule(Status(503), "page", probability=0.2, seed=5, most_in_row=2),
    ])  # fmt: skip
    assert_only_these_are_rejected(feed, still, {33, 100})
