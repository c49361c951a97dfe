"""Ticks, feed timestamps and windows: exact to the seventh digit, half-open, cut at full hours."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.window import (
    HOUR,
    TICKS_PER_HOUR,
    Span,
    Window,
    datetime_of,
    floor_hour,
    format_timestamp,
    parse_timestamp,
    spans_of,
    ticks_of,
)

FIRST_TICK = -621_355_968_000_000_000
LAST_TICK = 2_534_023_007_999_999_999
YEAR_1000 = -306_095_328_000_000_000
HALF_PAST = 1_800 * 10_000_000


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.0000001Z", 1),
        ("1970-01-01T00:00:00.1+00:00", 1_000_000),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T17:00:00-07:00", 0),
        ("2022-11-25T08:44:12.3524895+00:00", 16_693_658_523_524_895),
        ("2024-02-29T00:00:00Z", 17_091_648_000_000_000),
        ("0001-01-01T00:00:00Z", FIRST_TICK),
        ("9999-12-31T23:59:59.9999999Z", LAST_TICK),
    ],
)
def test_a_timestamp_with_zone_is_exact_to_the_seventh_digit(text: str, ticks: int) -> None:
    """Fewer digits mean zeros. The zone is taken off. Both ends of the calendar fit."""
    assert parse_timestamp(text) == ticks


@pytest.mark.parametrize(
    "text",
    [
        "",
        "foo",
        "2022-11-25",
        "2022-11-25T08:44:12",
        "2022-11-25T08:44:12.12345678Z",
        "2022-11-25T08:44:12.Z",
        "2022-11-25 08:44:12Z",
        "2022-11-25T08:44Z",
        "2022-11-25T08:44:12z",
        "2022-11-25T08:44:12+0100",
        "2022-11-25T08:44:12Z\n",
        " 2022-11-25T08:44:12Z",
        "٢٠٢٢-11-25T08:44:12Z",
        "2022-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2022-13-01T00:00:00Z",
        "2022-11-25T24:00:00Z",
        "2022-11-25T23:59:60Z",
        "2022-11-25T00:00:00+24:00",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_refused_without_repeating_it(text: str) -> None:
    """No zone, too many digits, no such day or hour: a ValueError that does not hold the text."""
    with pytest.raises(ValueError, match=r"not a (timestamp with zone|time that exists)") as caught:
        parse_timestamp(text)
    assert str(caught.value) in {"not a timestamp with zone", "not a time that exists"}
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_that_its_zone_moves_out_of_the_calendar_is_refused(text: str) -> None:
    """Whatever is parsed can be shown as a datetime: no later step meets a year 0 or 10000."""
    with pytest.raises(ValueError, match="not a time that exists"):
        parse_timestamp(text)


@given(st.integers(YEAR_1000, LAST_TICK))
def test_formatting_and_parsing_gives_the_same_ticks(ticks: int) -> None:
    """No tick is lost between an entry's timestamp and the next question's bound."""
    assert parse_timestamp(format_timestamp(ticks)) == ticks


def test_years_before_1000_are_written_with_four_digits() -> None:
    """The form has a fixed width, so what is written can be read again."""
    assert format_timestamp(FIRST_TICK) == "0001-01-01T00:00:00.0000000Z"


@pytest.mark.parametrize(
    ("ticks", "text"),
    [
        (0, "1970-01-01T00:00:00.0000000Z"),
        (-1, "1969-12-31T23:59:59.9999999Z"),
        (16_693_658_523_524_895, "2022-11-25T08:44:12.3524895Z"),
        (LAST_TICK, "9999-12-31T23:59:59.9999999Z"),
    ],
)
def test_a_time_is_written_as_the_feed_takes_it(ticks: int, text: str) -> None:
    """Seven digits, and Z: a plus sign would have to be escaped in a query."""
    assert format_timestamp(ticks) == text


@pytest.mark.parametrize(
    ("ticks", "moment"),
    [
        (19, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (FIRST_TICK, datetime(1, 1, 1, tzinfo=UTC)),
        (LAST_TICK, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_datetime_is_the_tick_cut_to_the_microsecond(ticks: int, moment: datetime) -> None:
    """Cut, never rounded: a time does not move into the next hour."""
    assert datetime_of(ticks) == moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_datetime_survives_the_way_through_ticks(moment: datetime) -> None:
    """Microseconds are exact in both directions."""
    assert datetime_of(ticks_of(moment)) == moment


def test_ticks_do_not_depend_on_the_zone_of_a_datetime() -> None:
    """The same moment in another zone is the same tick."""
    east = datetime(2026, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert ticks_of(east) == ticks_of(datetime(2026, 1, 1, tzinfo=UTC)) == 17_672_256_000_000_000


def test_the_hour_of_a_moment_is_a_utc_hour() -> None:
    """Half-hour zones do not shift it."""
    moment = datetime(2026, 1, 1, 12, 15, 3, 7, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert floor_hour(moment) == datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert floor_hour(moment).utcoffset() == timedelta(0)


def day(hour: int, minute: int = 0) -> datetime:
    """A time of the first of January 2026, UTC."""
    return datetime(2026, 1, 1, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "clipped"),
    [
        (None, None, (1, 3)),
        (day(0), day(9), (1, 3)),
        (day(2), None, (2, 3)),
        (None, day(2), (1, 2)),
        (day(2), day(2), (2, 2)),
        (day(3), None, (3, 3)),
        (day(5), None, (5, 5)),
        (None, day(0), (1, 1)),
    ],
)
def test_a_window_is_clipped_to_start_and_end(
    start: datetime | None, end: datetime | None, clipped: tuple[int, int]
) -> None:
    """Outside of the bounds nothing is left: a window without hours, never a negative one."""
    window = Window.between(day(1), day(3)).clip(start, end)
    assert window == Window.between(day(clipped[0]), day(clipped[1]))
    assert bool(list(window.hours())) == (clipped[0] < clipped[1])


def test_hours_are_cut_at_full_hours() -> None:
    """The first and the last may be shorter."""
    found = list(Window.between(day(0, 30), day(3, 30)).hours())
    bounds = [day(0, 30), day(1), day(2), day(3), day(3, 30)]
    assert found == [Window.between(a, b) for a, b in pairwise(bounds)]


@pytest.mark.parametrize("window", [Window(0, 0), Window(5, 5), Window(9, 3)])
def test_an_empty_window_has_no_hours(window: Window) -> None:
    """Nor has one whose end comes before its start."""
    assert list(window.hours()) == []


@given(st.integers(-(10**12), 10**12), st.integers(0, 20 * TICKS_PER_HOUR))
def test_the_hours_of_a_window_are_the_window(start: int, length: int) -> None:
    """They touch, none is empty, none crosses a full hour, and together they are the whole."""
    window = Window(start, start + length)
    found = list(window.hours())
    assert sum(hour.end - hour.start for hour in found) == length
    assert all(a.end == b.start for a, b in pairwise(found))
    assert all(h.start // TICKS_PER_HOUR == (h.end - 1) // TICKS_PER_HOUR for h in found)
    assert all(hour.start < hour.end for hour in found)


def test_a_window_says_its_bounds_in_utc() -> None:
    """To the second, for messages."""
    window = Window(HALF_PAST, TICKS_PER_HOUR)
    assert str(window) == "1970-01-01 00:30:00 to 1970-01-01 01:00:00 UTC"


@given(st.lists(st.integers(0, 60)))
def test_hours_become_the_fewest_spans_that_hold_them(numbers: list[int]) -> None:
    """In any order and twice: the same hours come out once, and no two spans touch."""
    spans = spans_of(day(0) + number * HOUR for number in numbers)
    hours = [hour for span in spans for hour in span.hours()]
    assert hours == [day(0) + number * HOUR for number in sorted(set(numbers))]
    assert all(later.first - earlier.last > HOUR for earlier, later in pairwise(spans))
    assert spans_of([]) == []


def test_a_span_counts_its_hours() -> None:
    """Both ends are hours of the span."""
    span = Span(day(1), day(3))
    assert list(span.hours()) == [day(1), day(2), day(3)]
    assert span.count == 3
