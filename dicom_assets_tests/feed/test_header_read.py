"""The header read brings the headers that are wanted, from the pages that hold them."""

import json
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable

import pyarrow as pa
import pytest

from dicom_assets.errors import ServiceAnswerError, ServiceRefusedError
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed_contract import Headers
from dicom_assets.schema import INSTANCE
from dicom_assets_tests.support.entries import Json, header
from dicom_assets_tests.support.feed_service import HOUR, Answer, Request, Service, made

pytestmark = pytest.mark.sockets

Opener = Callable[..., ChangeFeed]


def log_of(ticks: Iterable[int]) -> pa.Table:
    """Return a log with the sequences 0, 1, … at the ticks."""
    given = list(ticks)
    return pa.table({"sequence": list(range(len(given))), "timestamp_ticks": given})


def landed(pieces: Iterable[Headers]) -> list[int]:
    """Return the sequences of all rows, sorted."""
    found = [s for piece in pieces for s in piece.rows["sequence"].to_pylist()]
    return sorted(sequence for sequence in found if sequence is not None)


def read(feed: ChangeFeed, log: pa.Table, wanted: Collection[int]) -> list[Headers]:
    """Return all the pieces of a header read."""
    return list(feed.headers(log, wanted))


@pytest.fixture
def log(service: Service) -> pa.Table:
    """Return the log of a service with 1,000 entries, seven at each tick."""
    ticks = [HOUR + i // 7 for i in range(1_000)]
    service.add(*(made(i, tick) for i, tick in enumerate(ticks)))
    return log_of(ticks)


def test_every_wanted_header_lands_once(service: Service, feed: ChangeFeed, log: pa.Table) -> None:
    """In as many requests as there are pages."""
    pieces = read(feed, log, range(1_000))
    assert landed(pieces) == list(range(1_000))
    assert len(service.requests) == sum(piece.pages for piece in pieces) == 5
    assert all(request.has_headers for request in service.requests)
    assert all(piece.rows.schema == INSTANCE.arrow() for piece in pieces)
    assert sum(piece.bytes for piece in pieces) > 1_000_000


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_pages_of_any_size_bring_the_same(
    service: Service, open_feed: Opener, log: pa.Table, batch_size: int
) -> None:
    """Also in the middle of a tick."""
    wanted = range(100, 150)
    assert landed(read(open_feed(batch_size=batch_size), log, wanted)) == list(wanted)
    assert len(service.requests) == {1: 50, 7: 8, 200: 1}[batch_size]


def test_only_pages_that_hold_wanted_entries_are_read(
    service: Service, feed: ChangeFeed, log: pa.Table
) -> None:
    """Single entries, far from one another, cost a row each."""
    assert landed(read(feed, log, [3, 303, 603, 999])) == [3, 303, 603, 999]
    assert sorted(request.limit for request in service.requests) == [1, 1, 1, 1]
    assert {request.parameters["offset"] for request in service.requests} == {"3", "2", "1", "5"}


def test_a_few_unwanted_entries_between_are_read_and_ignored(
    service: Service, feed: ChangeFeed, log: pa.Table
) -> None:
    """A page costs more than some rows."""
    assert landed(read(feed, log, [20, 25, 30])) == [20, 25, 30]
    assert [request.limit for request in service.requests] == [11]


def test_nothing_wanted_is_not_asked_for(service: Service, feed: ChangeFeed, log: pa.Table) -> None:
    """A re-run fetches no header."""
    assert read(feed, log, []) == []
    assert service.requests == []


def test_what_is_not_in_the_log_cannot_be_asked_for(feed: ChangeFeed, log: pa.Table) -> None:
    """It is a mistake of the caller. The message has the count."""
    with pytest.raises(ValueError, match="2 of 3 wanted sequences are not in the log"):
        read(feed, log, [1, 5_000, 6_000])


def test_the_log_may_be_in_any_order_and_hold_more_columns(
    service: Service, feed: ChangeFeed, log: pa.Table
) -> None:
    """It is what a table gives."""
    shuffled = log.take(random.Random(1).sample(range(1_000), 1_000))
    shuffled = shuffled.append_column("action", pa.array(["Create"] * 1_000))
    assert landed(read(feed, shuffled, range(1_000))) == list(range(1_000))
    assert len(service.requests) == 5


@pytest.mark.parametrize("late", [HOUR, HOUR + 28, HOUR + 57, HOUR + 142])
@pytest.mark.parametrize("count", [1, 30, 400])
def test_late_entries_hide_nothing(
    service: Service, feed: ChangeFeed, log: pa.Table, late: int, count: int
) -> None:
    """They move others to later offsets. Each wanted one is looked for until it is found."""
    service.add(*(made(-i, late) for i in range(1, count + 1)))
    assert landed(read(feed, log, range(1_000))) == list(range(1_000))
    assert len(service.requests) <= 5 + 5 + 2 * count // 200 + 5


def test_late_entries_of_a_huge_tick_hide_nothing(service: Service, feed: ChangeFeed) -> None:
    """A tick of thousands is cut by offsets, and one late row moves every one of them."""
    service.add(*(made(i, HOUR) for i in range(-1, 3_000)))
    assert landed(read(feed, log_of([HOUR] * 3_000), range(3_000))) == list(range(3_000))
    assert len(service.requests) == 30


def test_data_partitions_unknown_to_the_log_hide_nothing(
    service: Service, open_feed: Opener
) -> None:
    """Where a log holds one tenant of many, pages are longer than it knows."""
    ticks = {i: HOUR + i // 5 for i in range(2_000)}
    service.add(*(made(i, tick, partitionName="ab"[i % 2]) for i, tick in ticks.items()))
    mine = [i for i in ticks if i % 2]
    log = pa.table({"sequence": mine, "timestamp_ticks": [ticks[i] for i in mine]})
    assert landed(read(open_feed(data_partitions=["b"]), log, mine)) == mine
    assert len(service.requests) < 50


def test_a_page_that_was_served_empty_is_asked_for_again(
    service: Service, feed: ChangeFeed, log: pa.Table
) -> None:
    """And if need be, the list of each tick is read."""
    service.script = [Answer(body=b"[]"), Answer(body=b"[]")]
    assert landed(read(feed, log, range(50))) == list(range(50))


def test_an_entry_that_is_nowhere_is_an_error(
    service: Service, feed: ChangeFeed, log: pa.Table
) -> None:
    """The two reads do not agree. The message has counts and times, and no UID."""
    service.remove(20, 21)
    with pytest.raises(ServiceAnswerError) as error:
        read(feed, log, range(50))
    message = str(error.value)
    assert message.startswith("the two reads do not agree: 2 of 50 entries of the log")
    assert "2026-01-05 08:00:00" in message
    assert "1.3." not in message


def test_states_are_told_apart(service: Service, feed: ChangeFeed) -> None:
    """Of what is wanted, all but the Deleted become rows, and all but the Current are named."""
    service.add(
        made(0, HOUR),
        made(1, HOUR, state="Deleted"),
        made(2, HOUR, state="replaced"),
        made(3, HOUR, state="DELETED"),
        made(4, HOUR, state="Deleted"),
    )
    [piece] = read(feed, log_of([HOUR] * 5), [0, 1, 2, 3])
    assert landed([piece]) == [0, 2]
    assert (piece.deleted, piece.replaced, piece.rejections) == ((1, 3), (2,), ())


def test_what_cannot_be_used_is_a_rejection(service: Service, feed: ChangeFeed) -> None:
    """Each costs one row. The others land, and unwanted ones are not mentioned."""
    bad: list[dict[str, object]] = [
        {"metadata": None},
        {"metadata": header("9.9")},
        {"state": "Gone"},
        {"metadata": "text"},
        {"metadata": {"00080020": {"vr": "DA", "Value": ["x"]}, **header("1.2.0", "1.2.0.1")}},
        {"state": "Gone"},
    ]
    service.add(*(made(i, HOUR + i, **fields) for i, fields in enumerate(bad)), made(6, HOUR + 6))
    [piece] = read(feed, log_of(HOUR + i for i in range(7)), [0, 1, 2, 3, 4, 6])
    assert sorted((r.sequence, r.ticks, r.reason) for r in piece.rejections) == [
        (0, HOUR, "header absent"),
        (1, HOUR + 1, "header is of another instance"),
        (2, HOUR + 2, "unknown state"),
        (3, HOUR + 3, "header cannot be decoded"),
        (4, HOUR + 4, "header is of another instance"),
    ]
    assert landed([piece]) == [6]


def test_values_that_do_not_parse_are_counted(service: Service, feed: ChangeFeed) -> None:
    """By column, and their rows land."""
    odd = {"00080020": {"vr": "DA", "Value": ["someday"]}}
    service.add(
        *(made(i, HOUR, metadata=header("1.2.0", "1.2.0.1", f"1.3.{i}") | odd) for i in (0, 1))
    )
    [piece] = read(feed, log_of([HOUR, HOUR]), [0, 1])
    assert piece.unparsable == {
        "studydate_formatted: not a date": 2,
        "study_timestamp: not a date": 2,
    }
    assert landed([piece]) == [0, 1]


def test_a_bomb_costs_one_rejection(service: Service, feed: ChangeFeed, log: pa.Table) -> None:
    """A header nested too deep to be read does not take its page along."""
    body = b'{"a":' * 20_000 + b"1" + b"}" * 20_000

    def before(request: Request, _: int) -> Answer:
        rows = service._page(request)
        rows[7] = rows[7] | {"metadata": "BOMB"}
        return Answer(body=json.dumps(rows).encode().replace(b'"BOMB"', body))

    service.before = before
    [piece] = read(feed, log, range(20))
    assert [(r.sequence, r.reason) for r in piece.rejections] == [(7, "header cannot be decoded")]
    assert len(landed([piece])) == 19


def test_pages_may_arrive_in_any_order_and_several_at_once(
    service: Service, open_feed: Opener, log: pa.Table
) -> None:
    """The result does not depend on it, and no more are in flight than allowed."""
    chance, most = random.Random(7), [0]
    lock, running = threading.Lock(), [0]

    def before(request: Request, _: int) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(chance.random() / 50)
        with lock:
            running[0] -= 1

    service.before = before
    assert landed(read(open_feed(batch_size=20, in_flight=4), log, range(1_000))) == list(
        range(1_000)
    )
    assert 2 <= most[0] <= 4


def test_eight_pages_are_asked_for_at_once(
    service: Service, feed: ChangeFeed, log: pa.Table
) -> None:
    """Waiting for the service is done at the same time: none is answered before the eighth asks."""
    eight = threading.Barrier(8, timeout=5)

    def before(*_: object) -> None:
        eight.wait()

    service.before = before
    wanted = [i * 100 for i in range(8)]
    assert landed(read(feed, log, wanted)) == wanted


def test_no_more_is_read_ahead_than_is_in_flight(
    service: Service, open_feed: Opener, log: pa.Table
) -> None:
    """Memory is bounded by pages, not by the hour, however slow the reader is."""
    pieces = open_feed(batch_size=5, in_flight=2).headers(log, range(1_000))
    next(pieces)
    time.sleep(0.2)
    assert len(service.requests) <= 2 * 2 + 1
    pieces.close()  # type: ignore[attr-defined]


def test_work_ends_when_the_reader_stops(
    service: Service, open_feed: Opener, log: pa.Table
) -> None:
    """Outstanding requests are abandoned."""
    pieces = open_feed(batch_size=5, in_flight=2).headers(log, range(1_000))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    time.sleep(0.05)
    asked = len(service.requests)
    time.sleep(0.2)
    assert len(service.requests) == asked < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("dicom-headers")]


def test_one_page_refused_for_good_ends_the_read_at_once(
    service: Service, open_feed: Opener, log: pa.Table
) -> None:
    """Also while the others wait for a service that asks them to wait for long."""

    def before(_: Request, number: int) -> Answer:
        # Later than the other requests start: none does after such an answer.
        return (
            Answer(403) if number == 4 else Answer(429, headers={"Retry-After": "300"}, seconds=1)
        )

    service.before = before
    started = time.monotonic()
    with pytest.raises(ServiceRefusedError, match="DICOM Data Reader"):
        read(open_feed(batch_size=50, retry_seconds=600), log, range(1_000))
    while any(thread.name.startswith("dicom-headers") for thread in threading.enumerate()):
        time.sleep(0.01)
        assert time.monotonic() - started < 10


def test_pages_longer_reordered_and_repeated_bring_each_header_once(
    service: Service, open_feed: Opener, log: pa.Table
) -> None:
    """A header that was read is not requested again."""

    def spoil(_: Request, rows: list[Json]) -> list[Json]:
        return list(reversed(rows)) * 2

    service.spoil = spoil
    assert landed(read(open_feed(batch_size=30), log, range(300))) == list(range(300))
