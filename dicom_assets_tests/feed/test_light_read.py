"""The light read brings every entry of a window once, whatever the service does meanwhile."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed import ChangeFeed, light_read, listing
from dicom_assets.feed_contract import Entries
from dicom_assets.schema import CHANGE
from dicom_assets.window import Window, datetime_of
from dicom_assets_tests.support.entries import Json, page
from dicom_assets_tests.support.feed_service import HOUR, Answer, Request, Service, made, stamp
from dicom_assets_tests.support.feeds import feed_of

pytestmark = pytest.mark.sockets

WINDOW = Window(HOUR, HOUR + 36_000_000_000)
Opener = Callable[..., ChangeFeed]


def sequences(entries: Entries) -> list[int]:
    """Return the sequences in the order of the rows."""
    return [s for s in entries.changes["sequence"].to_pylist() if s is not None]


def fill(service: Service, count: int, per_tick: int = 1) -> None:
    """Give the service `count` entries from the hour's start on, some at the same tick."""
    service.add(*(made(i, HOUR + i // per_tick) for i in range(count)))


def test_an_entry_becomes_a_change(service: Service, feed: ChangeFeed) -> None:
    """Every column has its value, its type and its place."""
    service.add(made(7, HOUR + 1_234_567, filePath="a/b.dcm", action="update", state="current"))
    entries = feed.entries(WINDOW)
    assert entries.changes.schema == CHANGE.arrow()
    [row] = entries.changes.to_pylist()
    assert row.pop("timestamp").isoformat() == "2026-01-05T08:00:00.123456+00:00"
    assert row == {
        "sequence": 7,
        "partitionName": "Microsoft.Default",
        "studyinstanceuid": "1.2.0",
        "seriesinstanceuid": "1.2.0.1",
        "sopinstanceuid": "1.3.7",
        "action": "Update",
        "timestamp_ticks": 17_676_000_001_234_567,
        "filepath": "a/b.dcm",
        "state": "Current",
    }


def test_no_header_is_asked_for(service: Service, feed: ChangeFeed) -> None:
    """The light read costs the service no blob."""
    fill(service, 450)
    feed.entries(WINDOW)
    assert not any(request.has_headers for request in service.requests)
    assert {request.path for request in service.requests} == {"/v2/changefeed"}


@pytest.mark.parametrize(
    ("count", "requests"), [(0, 2), (1, 2), (150, 2), (199, 2), (200, 3), (201, 3)]
)
def test_what_a_window_costs(service: Service, feed: ChangeFeed, count: int, requests: int) -> None:
    """An empty hour costs two requests, any other its pages and one to count the rows."""
    fill(service, count)
    entries = feed.entries(WINDOW)
    assert sequences(entries) == list(range(count))
    assert len(service.requests) == entries.pages == requests


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_five_thousand_entries_of_one_tick_are_listed_once(batch_size: int) -> None:
    """A bulk update stamps all its rows with one timestamp."""
    service = Service()
    service.add(made(1, HOUR), *(made(i, HOUR + 5) for i in range(2, 5_002)), made(5_002, HOUR + 6))
    with feed_of("http://127.0.0.1", batch_size=batch_size, in_flight=1, transport=service) as feed:
        entries = feed.entries(WINDOW)
    assert sequences(entries) == list(range(1, 5_003))
    offsets = [int(request.parameters["offset"]) for request in service.requests]
    assert sum(offsets) < 5_001 * (5_002 // batch_size + 3)


@given(
    ticks=st.lists(st.integers(0, 9), max_size=80),
    batch_size=st.sampled_from([1, 2, 3, 7, 200]),
    stretch=st.sampled_from([1, 5, 10_000]),
)
def test_pages_of_any_size_are_the_same_list(
    ticks: list[int], batch_size: int, stretch: int
) -> None:
    """Whatever the ties, the page size and the stretches."""
    service = Service()
    service.add(*(made(i, HOUR + tick) for i, tick in enumerate(ticks)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(light_read, "STRETCH_ROWS", stretch)
        with feed_of("http://127.0.0.1", batch_size=batch_size, transport=service) as feed:
            entries = feed.entries(Window(HOUR + 2, HOUR + 8))
    expected = sorted((tick, i) for i, tick in enumerate(ticks) if 2 <= tick < 8)
    assert sequences(entries) == [i for _, i in expected]
    assert entries.rejections == ()


def test_bounds_are_exact_to_the_tick(service: Service, feed: ChangeFeed) -> None:
    """The start is inclusive, the end exclusive, the seventh digit counts."""
    service.add(*(made(i, HOUR + i) for i in range(5)))
    assert sequences(feed.entries(Window(HOUR + 1, HOUR + 3))) == [1, 2]
    assert service.requests[0].parameters["startTime"] == "2026-01-05T08:00:00.0000001Z"
    assert service.requests[0].parameters["endTime"] == "2026-01-05T08:00:00.0000003Z"


def test_an_empty_window_is_not_asked_for(service: Service, feed: ChangeFeed) -> None:
    """A window clipped to nothing costs nothing."""
    assert feed.entries(Window(HOUR, HOUR)).changes.num_rows == 0
    assert service.requests == []


@pytest.mark.parametrize("late", [HOUR, HOUR + 30, HOUR + 33, HOUR + 999])
@pytest.mark.parametrize("request_number", [2, 3, 4])
def test_a_late_entry_loses_and_doubles_nothing(
    service: Service, open_feed: Opener, late: int, request_number: int
) -> None:
    """It may appear before, at and after the position of the reading, between any two pages."""
    service.add(*(made(i, HOUR + i // 3) for i in range(1, 201)))

    def insert(_: Request, number: int) -> None:
        if number == request_number:
            service.add(made(0, late))

    service.before = insert
    entries = open_feed(batch_size=100).entries(WINDOW)
    assert sorted(sequences(entries)) == list(range(201))


@pytest.mark.parametrize("spoilt", [1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 30])
def test_a_page_that_is_short_or_empty_is_not_the_end(
    service: Service, open_feed: Opener, spoilt: int, length: int
) -> None:
    """The window ends when the service counts no more rows than were read."""
    fill(service, 200, per_tick=3)
    service.spoil = lambda _, rows: rows[:length] if len(service.requests) == spoilt else rows
    assert sequences(open_feed(batch_size=50).entries(WINDOW)) == list(range(200))


def test_a_count_that_is_empty_is_no_count(service: Service, open_feed: Opener) -> None:
    """Two answers in a row may be wrongly empty."""
    fill(service, 200)
    service.spoil = lambda _, rows: [] if len(service.requests) in {2, 3} else rows
    assert sequences(open_feed(batch_size=50).entries(WINDOW)) == list(range(200))


def test_a_service_with_smaller_pages_than_asked_for_is_read_whole(
    service: Service, feed: ChangeFeed
) -> None:
    """A gateway may cap the page."""
    fill(service, 100)
    service.spoil = lambda _, rows: rows[:30]
    assert sequences(feed.entries(WINDOW)) == list(range(100))


def test_pages_longer_than_asked_reordered_and_repeated(
    service: Service, open_feed: Opener
) -> None:
    """Each entry is there once, in the feed's order."""
    fill(service, 100, per_tick=2)
    earlier: list[list[Json]] = []

    def spoil(request: Request, rows: list[Json]) -> list[Json]:
        earlier.append(rows)
        if len(earlier) == 3:
            return earlier[0]  # a page twice
        return list(reversed(rows)) * 2

    service.spoil = spoil
    assert sequences(open_feed(batch_size=20).entries(WINDOW)) == list(range(100))


def test_of_an_entry_met_twice_the_later_form_counts(service: Service, open_feed: Opener) -> None:
    """The state is a view of now."""
    fill(service, 4)

    def spoil(request: Request, rows: list[Json]) -> list[Json]:
        if len(service.requests) == 2:
            return [made(1, HOUR + 1, state="Deleted", metadata=None), *rows]
        return rows

    service.spoil = spoil
    entries = open_feed(batch_size=2).entries(WINDOW)
    assert entries.changes["state"].to_pylist() == ["Current", "Deleted", "Current", "Current"]


def test_a_service_that_serves_the_same_page_for_ever_is_an_error(
    service: Service, open_feed: Opener
) -> None:
    """It ends, within few requests, and says where."""
    same = [made(i, HOUR + i) for i in range(10)]
    service.spoil = lambda *_: same
    with pytest.raises(ServiceAnswerError, match=r"2026-01-05 08:00:00 to .* do not add up"):
        open_feed(batch_size=10).entries(WINDOW)
    assert len(service.requests) < 20


def test_a_service_that_always_has_more_is_an_error(service: Service, open_feed: Opener) -> None:
    """A window in which new entries never cease to appear is not closed."""

    def grow(_: Request, number: int) -> None:
        service.add(made(1_000 - number, HOUR))

    service.before = grow
    with pytest.raises(ServiceAnswerError, match="do not add up"):
        open_feed(batch_size=50).entries(WINDOW)


def test_entries_of_other_times_are_rejections(service: Service, feed: ChangeFeed) -> None:
    """They are named, and the others land."""
    fill(service, 3)
    stray = made(99, HOUR + 36_000_000_000)
    service.spoil = lambda _, rows: [*rows, stray]
    entries = feed.entries(WINDOW)
    assert sequences(entries) == [0, 1, 2]
    [rejection] = entries.rejections
    assert (rejection.sequence, rejection.ticks) == (99, HOUR + 36_000_000_000)
    assert rejection.reason == "outside the window that was asked for"


def test_a_service_that_does_not_know_times_is_an_error(
    service: Service, open_feed: Opener
) -> None:
    """Its first page is not the hour's, and the hour is not empty."""
    others = [made(i, HOUR - 99) for i in range(5)]
    service.spoil = lambda *_: others
    with pytest.raises(ServiceAnswerError, match="do not add up"):
        open_feed(batch_size=5).entries(WINDOW)


@pytest.mark.parametrize("batch_size", [1, 2, 200])
def test_entries_that_cannot_be_used_are_rejections(service: Service, batch_size: int) -> None:
    """Also the first, the last, and two in a row, whatever the page size."""
    bad = {0, 3, 4, 9}
    service.add(*(made(i, HOUR + i, **{"action": "?"} if i in bad else {}) for i in range(10)))
    with feed_of("http://127.0.0.1", batch_size=batch_size, transport=service) as feed:
        entries = feed.entries(WINDOW)
    assert sequences(entries) == [1, 2, 5, 6, 7, 8]
    assert sorted((r.sequence, r.ticks) for r in entries.rejections) == [
        (i, HOUR + i) for i in sorted(bad)
    ]


def test_entries_without_sequence_and_time_have_the_time_of_their_place(
    service: Service, open_feed: Opener
) -> None:
    """Each is one rejection, at the tick of the entry before it or of the window's start."""
    fill(service, 60)
    readable = {10, 11, 40}
    service.spoil = lambda _, rows: [
        row if row["sequence"] in readable else row | {"sequence": None, "timestamp": "?"}
        for row in rows
    ]
    entries = open_feed(batch_size=200).entries(WINDOW)
    assert sequences(entries) == sorted(readable)
    assert {(r.sequence, r.ticks) for r in entries.rejections} == {(None, None)}
    places = [HOUR] * 10 + [HOUR + 11] * 28 + [HOUR + 40] * 19
    assert sorted(r.at or 0 for r in entries.rejections) == places
    assert entries.listed == 60


def test_a_page_of_which_nothing_can_be_read_is_an_error(
    service: Service, feed: ChangeFeed
) -> None:
    """With the names of the fields, and no value. Otherwise every hour would be green and empty."""
    fill(service, 60)
    service.spoil = lambda _, rows: [{f"the_{n}": v for n, v in row.items()} for row in rows]
    with pytest.raises(ServiceAnswerError) as caught:
        feed.entries(WINDOW)
    message = str(caught.value)
    assert "a page of 2026-01-05 08:00:00 to 2026-01-05 09:00:00 UTC has 60 entries" in message
    assert "the_sequence, the_partitionName, the_studyInstanceUid" in message
    assert "1.2.0" not in message
    assert len(service.requests) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_one_entry_without_a_sequence_stops_no_hour(
    service: Service, feed: ChangeFeed, count: int
) -> None:
    """Alone, and beside others."""
    fill(service, 1 + count)
    service.spoil = lambda _, rows: [
        row | {"sequence": "x"} if row["sequence"] == 0 else row for row in rows
    ]
    entries = feed.entries(WINDOW)
    assert (entries.changes.num_rows, len(entries.rejections), entries.listed) == (
        count,
        1,
        count + 1,
    )


def test_an_unknown_row_at_the_last_place_confirms_nothing(
    service: Service, feed: ChangeFeed
) -> None:
    """A row that was not read before shows that the reading was not whole."""
    fill(service, 4)
    replaced = made(99, HOUR + 3)

    def spoil(_: Request, rows: list[Json]) -> list[Json]:
        if len(service.requests) == 2:
            service.remove(1)
            service.add(replaced)
            return [replaced]
        return rows

    service.spoil = spoil
    with pytest.raises(ServiceAnswerError, match="do not add up: 5 entries were read"):
        feed.entries(WINDOW)


def test_a_row_of_another_time_that_is_listed_at_its_own_is_no_rejection(
    service: Service, open_feed: Opener
) -> None:
    """One answer had its time wrong."""
    fill(service, 40)

    def spoil(_: Request, rows: list[Json]) -> list[Json]:
        wrong = made(7, HOUR + 36_000_000_000)
        return [wrong, *rows] if len(service.requests) == 2 else rows

    service.spoil = spoil
    entries = open_feed(batch_size=20).entries(WINDOW)
    assert sequences(entries) == list(range(40))
    assert (entries.rejections, entries.listed) == ((), 40)


def test_a_tick_to_which_ever_new_rows_come_is_an_error() -> None:
    """After as many rows as no bulk change has, and it says when."""
    service = Service()

    def grow(request: Request, _: int) -> Answer:
        offset = int(request.parameters["offset"])
        rows = [made(i, HOUR + 5) for i in range(offset, offset + 3)]
        return Answer(body=page(*rows))

    service.before = grow
    with (
        pytest.MonkeyPatch.context() as patch,
        feed_of("http://127.0.0.1", batch_size=3, in_flight=1, transport=service) as feed,
    ):
        patch.setattr(listing, "MOST_AT_ONE_TICK", 3_000)
        with pytest.raises(ServiceAnswerError, match=r"does not end: .* 2026-01-05 08:00:00 UTC"):
            feed.entries(WINDOW)
    assert len(service.requests) < 1_010


def test_a_tick_of_a_hundred_thousand_rows_is_no_list_without_an_end() -> None:
    """So many instances may be updated or deleted at once."""
    service, rows = Service(), 100_000
    template = page(made(0, HOUR + 5, metadata=None))[1:-1].replace(
        b'"sequence":0', b'"sequence":%d'
    )

    def serve(request: Request, _: int) -> Answer:
        offset = int(request.parameters["offset"])
        some = range(offset, min(offset + request.limit, rows))
        return Answer(body=b"[" + b",".join(template % i for i in some) + b"]")

    service.before = serve
    with feed_of("http://127.0.0.1", transport=service) as feed:
        assert feed.entries(Window(HOUR + 5, HOUR + 6)).listed == rows


def test_data_partitions_that_are_not_kept_are_counted(service: Service, open_feed: Opener) -> None:
    """They take part in paging, and appear nowhere else."""
    service.add(*(made(i, HOUR, partitionName="ab"[i % 2]) for i in range(500)))
    entries = open_feed(data_partitions=["a"]).entries(WINDOW)
    assert sequences(entries) == list(range(0, 500, 2))
    assert (entries.skipped, entries.rejections) == (250, ())


def test_a_long_window_is_read_in_stretches(
    service: Service, open_feed: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is counted from its own start, so that no count costs more than a stretch."""
    monkeypatch.setattr(light_read, "STRETCH_ROWS", 100)
    fill(service, 1_000, per_tick=7)
    entries = open_feed(batch_size=20, in_flight=1).entries(WINDOW)
    assert sequences(entries) == list(range(1_000))
    assert max(int(request.parameters["offset"]) for request in service.requests) < 130
    assert len(service.requests) < 80


@pytest.mark.parametrize("spoilt", range(4, 14))
def test_a_page_of_an_earlier_stretch_rejects_nothing(
    service: Service, open_feed: Opener, monkeypatch: pytest.MonkeyPatch, spoilt: int
) -> None:
    """A cache that serves an old page again does not make good entries bad."""
    monkeypatch.setattr(light_read, "STRETCH_ROWS", 40)
    fill(service, 200)
    pages: list[list[Json]] = []

    def spoil(_: Request, rows: list[Json]) -> list[Json]:
        pages.append(rows)
        return pages[0] if len(pages) == spoilt else rows

    service.spoil = spoil
    entries = open_feed(batch_size=20).entries(WINDOW)
    assert sequences(entries) == list(range(200))
    assert entries.rejections == ()


def test_progress_is_told_after_each_page(service: Service, open_feed: Opener) -> None:
    """It never goes back, and ends with all the entries."""
    fill(service, 250)
    seen: list[int] = []
    open_feed(batch_size=100).entries(WINDOW, seen.append)
    assert seen == sorted(seen)
    assert seen[0] == 100
    assert seen[-1] == 250


def test_bytes_are_those_of_the_pages(service: Service, feed: ChangeFeed) -> None:
    """The size of the JSON, the count's page included."""
    service.script = [Answer(body=b"[  ]"), Answer(body=b"[]")]
    assert feed.entries(WINDOW).bytes == 6


def test_first_and_latest(service: Service, feed: ChangeFeed) -> None:
    """Their ticks are exact to the seventh digit, and None for an empty feed."""
    assert (feed.first(), feed.latest()) == (None, None)
    service.add(made(5, HOUR + 1), made(3, HOUR + 12_345_679), made(9, HOUR + 7))
    assert (feed.first(), feed.latest()) == (HOUR + 1, HOUR + 12_345_679)
    assert not any(request.has_headers for request in service.requests)
    assert service.requests[-1].path == "/v2/changefeed/latest"


def test_an_end_of_the_feed_without_a_time_names_its_entry(
    service: Service, feed: ChangeFeed
) -> None:
    """And who has to correct it: no run can."""
    bad = b'{"sequence": 7, "timestamp": "yesterday"}'
    for ask, which, body in ((feed.first, "first", b"[%b]"), (feed.latest, "newest", b"%b")):
        service.script = [Answer(body=body % bad)]
        with pytest.raises(ServiceAnswerError, match=rf"the {which} entry .*sequence 7.*operator"):
            ask()


def test_an_empty_answer_is_an_empty_feed_for_the_latest(
    service: Service, feed: ChangeFeed
) -> None:
    """The source suggests 204, and 200 without a body means the same."""
    service.script = [Answer(200, b"", {"Content-Type": "text/plain"})]
    assert feed.latest() is None


def test_the_latest_is_one_object(service: Service, open_feed: Opener) -> None:
    """Anything else is no answer."""
    service.before = lambda *_: Answer(body=b"[]")
    with pytest.raises(ServiceAnswerError):
        open_feed(retry_seconds=0.1).latest()


def test_the_key_of_an_entry(service: Service, feed: ChangeFeed) -> None:
    """Found among thousands of its tick. Absent at another tick, or with another sequence."""
    service.add(*(made(i, HOUR) for i in range(300)), made(700, HOUR + 1))
    assert feed.key_of(250, HOUR) == ("Microsoft.Default", "1.2.5", "1.2.5.1", "1.3.250")
    assert feed.key_of(250, HOUR + 1) is None
    assert feed.key_of(251, HOUR + 2) is None
    assert feed.key_of(999, HOUR) is None


def test_the_stamp_of_these_tests_is_the_services() -> None:
    """Trailing zeros are trimmed, and the zone is never Z."""
    assert stamp(HOUR + 1) == "2026-01-05T08:00:00.0000001+00:00"
    assert stamp(HOUR + 5_000_000) == "2026-01-05T08:00:00.5+00:00"
    assert stamp(HOUR) == "2026-01-05T08:00:00+00:00"


def test_the_sequence_from_a_moment_on_tells_how_many_entries_lie_before(
    service: Service, feed: ChangeFeed
) -> None:
    """The first at or after it, or the one that would come next."""
    start = datetime_of(HOUR)
    assert feed.sequence_from(start) == 0
    service.add(made(7, HOUR), made(8, HOUR), made(12, HOUR + 40_000_000))
    moments = (-1, 0, 1, 4, 5)
    found = [feed.sequence_from(start + timedelta(seconds=seconds)) for seconds in moments]
    assert found == [7, 7, 12, 12, 13]
