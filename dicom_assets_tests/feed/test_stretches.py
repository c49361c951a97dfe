"""Stretches that are read side by side give the same entries as one page at a time."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicom_assets.errors import ServiceAnswerError, ServiceError, ServiceRefusedError
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed_contract import Entries
from dicom_assets.window import Window
from dicom_assets_tests.support.entries import Json
from dicom_assets_tests.support.feed_service import (
    HOUR,
    Answer,
    Request,
    Service,
    made,
    stamp,
    ticks_of,
)
from dicom_assets_tests.support.feeds import feed_of

pytestmark = pytest.mark.sockets

SECOND, MILLISECOND = 10_000_000, 10_000
WINDOW = Window(HOUR, HOUR + 3_600 * SECOND)
Opener = Callable[..., ChangeFeed]


def listed(entries: Entries) -> list[tuple[int, int]]:
    """Return tick and sequence of each entry, in the order of the rows."""
    columns = (entries.changes[name].to_pylist() for name in ("timestamp_ticks", "sequence"))
    return [(tick, sequence) for tick, sequence in zip(*columns, strict=True)]


def filled(service: Service, ticks: list[int]) -> list[tuple[int, int]]:
    """Give the service an entry at each tick, and return ticks and sequences in order."""
    service.add(*(made(i, HOUR + tick, metadata=None) for i, tick in enumerate(ticks)))
    return sorted((HOUR + tick, i) for i, tick in enumerate(ticks))


@dataclass
class Rounding:
    """A service that rounds the bounds of a request, up or down, to a unit of ticks."""

    unit: int
    starts_up: bool
    ends_up: bool

    def rounded(self, request: Request) -> Request:
        """Return the request with other bounds."""
        low, high = (
            -(-self._ticks(request, name) // self.unit) * self.unit
            if is_up
            else self._ticks(request, name) // self.unit * self.unit
            for name, is_up in (("startTime", self.starts_up), ("endTime", self.ends_up))
        )
        bounds = {"startTime": _parameter(low), "endTime": _parameter(high)}
        return replace(request, parameters=request.parameters | bounds)

    def _ticks(self, request: Request, name: str) -> int:
        return ticks_of(request.parameters[name])


def _parameter(ticks: int) -> str:
    return stamp(ticks).removesuffix("+00:00") + "Z"


class RoundingService(Service):
    """A service that rounds the times it is asked for."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self.rounding = rounding

    def answer(self, request: Request) -> Answer:
        """Return what the service says to the request as it understands it."""
        return super().answer(self.rounding.rounded(request))


@st.composite
def archives(draw: st.DrawFn) -> list[int]:
    """Ticks of an hour: dense and sparse, many of them equal."""
    ticks = list[int]()
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, 3_599)) * SECOND + draw(st.sampled_from([0, 1, 9_999, 123_456]))
        step = draw(st.sampled_from([0, 1, 7, MILLISECOND // 3, SECOND // 4, SECOND, 7 * SECOND]))
        ticks += [start + number * step for number in range(draw(st.integers(1, 60)))]
    return [tick for tick in ticks if tick < 3_600 * SECOND]


@given(archives(), st.sampled_from([1, 2, 3, 5]), st.sampled_from([2, 3, 8, 20]))
def test_side_by_side_is_as_one_at_a_time(
    ticks: list[int], batch_size: int, in_flight: int
) -> None:
    """Whatever the ties, the gaps, the page size and the requests in flight."""
    service = Service()
    expected = filled(service, ticks)
    with feed_of(
        "http://127.0.0.1", batch_size=batch_size, in_flight=in_flight, transport=service
    ) as feed:
        entries = feed.entries(WINDOW)
    assert listed(entries) == expected
    assert (entries.rejections, entries.listed) == ((), len(ticks))


# Beside a cut in the seventh of the dense entries, it is on neither side.
@example(
    [0, 0, 0, *(172 * SECOND + number * 3_333 for number in range(9))],
    2,
    Rounding(MILLISECOND, starts_up=True, ends_up=True),
)
@given(
    archives(),
    st.sampled_from([2, 3, 5]),
    st.builds(Rounding, st.sampled_from([7, MILLISECOND, SECOND]), st.booleans(), st.booleans()),
)
def test_a_service_that_rounds_times_loses_nothing_in_silence(
    ticks: list[int], batch_size: int, rounding: Rounding
) -> None:
    """What one page at a time can read is read. What it cannot is an error, as before."""
    service, results = RoundingService(rounding), list[object]()
    expected = filled(service, ticks)
    for in_flight in (1, 8):
        with feed_of(
            "http://127.0.0.1", batch_size=batch_size, in_flight=in_flight, transport=service
        ) as feed:
            parts = list[pa.Table]()
            try:
                entries = feed.entries(WINDOW, None, parts.append)
            except ServiceAnswerError:
                results.append(None)
            else:
                assert entries.changes.num_rows == 0
                results.append(listed(replace(entries, changes=pa.concat_tables(parts))))
    alone, together = results
    assert together in (expected, None)
    assert alone is None or together == alone


@pytest.mark.parametrize("unit", [MILLISECOND, SECOND])
def test_a_rounding_service_is_read_side_by_side(
    unit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Because stretches begin at whole seconds where there are any."""
    service = RoundingService(Rounding(unit, starts_up=False, ends_up=False))
    expected = filled(service, [number * SECOND // 3 for number in range(6_000)])
    with feed_of("http://127.0.0.1", transport=service) as feed:
        assert listed(feed.entries(WINDOW)) == expected
    assert not caplog.records
    starts = {request.parameters["startTime"] for request in service.requests}
    assert len({request.parameters["endTime"] for request in service.requests}) > 4
    assert len(starts) > 25


@given(archives(), st.integers(0, 2**32))
def test_entries_that_come_late_double_and_lose_nothing(ticks: list[int], seed: int) -> None:
    """Between any two requests, at any place. Those that were there before are all read."""
    service, chance = Service(), random.Random(seed)
    expected = filled(service, ticks)
    late = [(HOUR + chance.choice(ticks), 10_000 + number) for number in range(3)]
    coming = {chance.randrange(1, 40): one for one in late}

    def insert(_: Request, number: int) -> None:
        if number in coming:
            tick, sequence = coming[number]
            service.add(made(sequence, tick, metadata=None))

    service.before = insert
    with feed_of("http://127.0.0.1", batch_size=3, transport=service) as feed:
        read = listed(feed.entries(WINDOW))
    assert set(expected) <= set(read) <= {*expected, *late}
    assert read == sorted(set(read))


@given(archives(), st.integers(0, 2**32))
def test_answers_that_are_cut_repeated_or_moved_are_noticed(ticks: list[int], seed: int) -> None:
    """All is read, each entry once, or the run is red. The counts are true."""
    service, chance, lock = Service(), random.Random(seed), threading.Lock()
    expected, pages = filled(service, ticks), list[list[Json]]()

    def spoil(request: Request, rows: list[Json]) -> list[Json]:
        if request.limit == 2:
            return rows
        with lock:
            pages.append(rows)
            kinds: list[list[Json]] = [
                rows[: len(rows) // 2],
                [],
                rows[::-1],
                rows * 2,
                chance.choice(pages),
            ]
            return chance.choice(kinds) if chance.random() < 0.1 else rows

    service.spoil = spoil
    with feed_of("http://127.0.0.1", batch_size=5, transport=service) as feed:
        try:
            entries = feed.entries(WINDOW)
        except ServiceError:
            return
    assert listed(entries) == expected
    assert entries.rejections == ()


@pytest.mark.parametrize("step", [1, SECOND // 10, SECOND])
@pytest.mark.parametrize("count", [401, 1_000, 3_000])
def test_pages_ahead_cost_few_requests(step: int, count: int) -> None:
    """Also where the entries end long before the hour does."""
    service = Service()
    filled(service, [number * step for number in range(count)])
    with feed_of("http://127.0.0.1", transport=service) as feed:
        feed.entries(WINDOW)
    alone = count // 200 + 2
    assert len(service.requests) <= alone + 7 + alone


def test_no_more_requests_are_in_flight_than_allowed(service: Service, open_feed: Opener) -> None:
    """And as many are, while there are pages."""
    filled(service, [number * SECOND for number in range(2_000)])
    lock, running, most = threading.Lock(), [0], [0]

    def before(*_: object) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    service.before = before
    open_feed(batch_size=20, in_flight=4).entries(WINDOW)
    assert most == [4]


def test_a_storm_of_refusals_loses_nothing(service: Service, open_feed: Opener) -> None:
    """Some at once, some with a time to wait."""
    expected = filled(service, [number * SECOND // 7 for number in range(2_000)])
    chance = random.Random(7)

    def before(*_: object) -> Answer | None:
        after = chance.choice([{}, {"Retry-After": "0"}])
        return Answer(429, headers=after) if chance.random() < 0.3 else None

    service.before = before
    assert listed(open_feed(batch_size=20, retry_seconds=60.0).entries(WINDOW)) == expected


def test_a_refusal_ends_all_requests(service: Service, open_feed: Opener) -> None:
    """Also those that wait for a service that asks them to wait for long."""
    filled(service, [number * SECOND for number in range(2_000)])

    def before(_: Request, number: int) -> Answer | None:
        if number < 8:
            return None
        # Later than the other requests start: none does after such an answer.
        return Answer(403) if number == 10 else Answer(429, b"", {"Retry-After": "300"}, 1.0)

    service.before = before
    started = time.monotonic()
    with pytest.raises(ServiceRefusedError):
        open_feed(batch_size=20, retry_seconds=600).entries(WINDOW)
    while any(thread.name.startswith("dicom-entries") for thread in threading.enumerate()):
        time.sleep(0.01)
    assert time.monotonic() - started < 20


def test_a_feed_that_is_closed_ends_its_reads(service: Service, open_feed: Opener) -> None:
    """They do not wait as long as the service asks them to."""
    service.before = lambda *_: Answer(429, headers={"Retry-After": "300"})
    feed = open_feed(retry_seconds=600)
    started = time.monotonic()
    threading.Timer(0.3, feed.close).start()
    with pytest.raises(ServiceError):
        feed.entries(WINDOW)
    assert time.monotonic() - started < 20


def test_progress_never_goes_back(service: Service, open_feed: Opener) -> None:
    """Whatever page comes first."""
    filled(service, [number * SECOND for number in range(1_500)])
    seen = list[int]()
    open_feed(batch_size=20).entries(WINDOW, seen.append)
    assert all(before <= after for before, after in pairwise(seen))
    assert seen[-1] == 1_500
