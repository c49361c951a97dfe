"""The hours that are requested, their slices, and the rest after a failure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.defs.schedules.slices import (
    FIRST_REST,
    LONGEST_REST,
    SLICE_ENTRIES,
    SLICE_HOURS,
    Failure,
    Gap,
    gaps,
    slices,
)
from dicom_assets.window import HOUR, Span

START = datetime(2024, 3, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
EVERY = frozenset({"change", "instance", "series", "study"})
LONG_AGO = NOW - timedelta(days=2)


def gaps_of(
    hours: Iterable[datetime], failures: Sequence[Failure], now: datetime
) -> tuple[list[Gap], int]:
    """The gaps among hours that every table owes."""
    return gaps(dict.fromkeys(hours, EVERY), failures, now)


def gap(hours: Span, failure: Failure | None = None) -> Gap:
    """Hours that every table owes."""
    return Gap(hours, failure, EVERY)


def at(number: int) -> datetime:
    """The start of an hour, by number."""
    return START + number * HOUR


def span(first: int, last: int) -> Span:
    """The hours from one to another, both included."""
    return Span(at(first), at(last))


def hours(*numbers: int) -> list[datetime]:
    """The starts of some hours."""
    return [at(number) for number in numbers]


def quiet(_: Span) -> int:
    """No hour has entries."""
    return 0


def cut(due: Gap, entries: int = 0, *, newest_first: bool = False) -> list[tuple[Span, int]]:
    """The slices of a gap whose every hour has so many entries."""
    found = slices(due, lambda span: span.count * entries, newest_first=newest_first)
    return [(one.hours, one.attempt) for one in found]


def test_adjacent_hours_are_one_gap() -> None:
    """In whatever order they are told; an hour apart is another one."""
    found, resting = gaps_of(hours(6, 1, 2, 3, 5), [], NOW)
    assert found == [gap(span(1, 3)), gap(span(5, 6))]
    assert resting == 0


def test_no_hours_are_no_gap() -> None:
    """Nothing is asked for when nothing is missing."""
    assert gaps_of([], [Failure(span(0, 3), 1, LONG_AGO)], NOW) == ([], 0)


def test_a_gap_of_quiet_hours_is_cut_by_months() -> None:
    """No slice is longer than a month, however little lies in it."""
    found = cut(gap(span(0, 5 * 365 * 24 - 1)))
    assert max(one.count for one, _ in found) <= SLICE_HOURS
    assert sum(one.count for one, _ in found) == 5 * 365 * 24
    assert len(found) < 5 * 365 * 24 / SLICE_HOURS * 2.1


def test_a_gap_of_busy_hours_is_cut_by_entries() -> None:
    """A slice holds no more entries than are read in minutes; an hour is never cut."""
    (first, _), *_ = found = cut(gap(span(0, 31)), SLICE_ENTRIES // 4)
    assert first == span(0, 3)
    assert {one.count for one, _ in found} == {4}
    assert {one.count for one, _ in cut(gap(span(0, 3)), SLICE_ENTRIES * 5)} == {1}


def test_slices_come_in_the_order_that_is_asked_for() -> None:
    """The oldest first, or the newest."""
    oldest = cut(gap(span(0, 31)), SLICE_ENTRIES // 4)
    assert oldest == sorted(oldest, key=lambda one: one[0].first)
    assert cut(gap(span(0, 31)), SLICE_ENTRIES // 4, newest_first=True) == oldest[::-1]


def test_the_hours_of_a_failed_run_rest() -> None:
    """Only those: their neighbours are asked for meanwhile."""
    failure = Failure(span(1, 2), 1, NOW - timedelta(minutes=1))
    assert gaps_of(hours(0, 1, 2, 3), [failure], NOW) == (
        [gap(span(0, 0)), gap(span(3, 3))],
        2,
    )


def test_a_failed_run_comes_again_in_halves() -> None:
    """Until the hour that cannot be read is alone; the attempts are counted."""
    failed = Failure(span(0, 8), 1, LONG_AGO)
    counts = []
    for attempt in range(2, 7):
        (gap,), _ = gaps_of(hours(*range(failed.hours.count)), [failed], NOW)
        found = cut(gap)
        assert {told for _, told in found} == {attempt}
        counts.append([one.count for one, _ in found])
        failed = Failure(found[0][0], attempt, LONG_AGO)
    assert counts == [[4, 5], [2, 2], [1, 1], [1], [1]]


def test_what_is_left_of_a_failed_run_is_not_joined_with_others() -> None:
    """A fresh hour beside it is a run of its own: it shall not fail with it."""
    failure = Failure(span(0, 3), 1, LONG_AGO)
    found, _ = gaps_of(hours(2, 3, 4, 5), [failure], NOW)
    assert found == [gap(span(2, 3), failure), gap(span(4, 5))]


def test_the_last_failure_of_an_hour_counts() -> None:
    """Whatever the order in which failures are told."""
    first, second = Failure(span(0, 3), 1, LONG_AGO), Failure(span(0, 1), 2, NOW - HOUR / 3)
    for told in ([first, second], [second, first]):
        assert gaps_of(hours(0, 1, 2, 3), told, NOW) == ([gap(span(2, 3), first)], 2)


def test_pauses_grow_and_never_end() -> None:
    """Half an hour, an hour, two …, and a day at the most, after the thousandth attempt too."""
    ends = [Failure(span(0, 0), attempt, NOW).rests_until - NOW for attempt in (1, 2, 3, 6, 1000)]
    assert ends == [FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST, 32 * FIRST_REST, LONGEST_REST]


def test_an_hour_comes_again_in_the_moment_its_pause_ends() -> None:
    """Not before."""
    failure = Failure(span(0, 0), 1, NOW - FIRST_REST)
    assert gaps_of(hours(0), [failure], NOW)[1] == 0
    assert gaps_of(hours(0), [failure], NOW - timedelta(seconds=1))[1] == 1


SPANS = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda t: span(t[0], t[0] + t[1]))
FAILURES = st.lists(
    st.builds(
        Failure,
        SPANS,
        st.integers(1, 6),
        st.integers(0, 72).map(lambda back: NOW - back * HOUR),
    ),
    max_size=5,
)


@given(st.sets(st.integers(0, 50)), FAILURES, st.integers(0, SLICE_ENTRIES), st.booleans())
def test_every_hour_is_asked_for_once_or_rests(
    numbers: set[int], failures: Sequence[Failure], entries: int, newest_first: bool
) -> None:
    """None twice, none in silence, and none that nobody named."""
    found, resting = gaps_of(hours(*numbers), failures, NOW)
    cuts = chain.from_iterable(cut(gap, entries, newest_first=newest_first) for gap in found)
    asked = [one.first + n * HOUR for one, _ in cuts for n in range(one.count)]
    assert len(asked) == len(set(asked)) == len(numbers) - resting
    assert set(asked) <= set(hours(*numbers))
    rests = {
        hour
        for hour in set(hours(*numbers)) - set(asked)
        if any(f.hours.holds(hour) and f.rests_until > NOW for f in failures)
    }
    assert len(rests) == resting


def test_hours_that_other_tables_owe_are_another_gap() -> None:
    """A run brings the same tables to all its hours; the slices know which."""
    owed = {at(0): EVERY, at(1): frozenset({"study"}), at(2): frozenset({"study"})}
    found, resting = gaps(owed, [], NOW)
    assert ([(gap.hours, gap.tables) for gap in found], resting) == (
        [(span(0, 0), EVERY), (span(1, 2), frozenset({"study"}))],
        0,
    )
    tables = [one.tables for gap in found for one in slices(gap, quiet, newest_first=False)]
    assert tables == [EVERY, frozenset({"study"})]


def test_a_failure_delays_only_the_tables_that_its_run_was_over() -> None:
    """A further table that always fails delays no other."""
    failure = Failure(span(0, 0), 1, NOW, frozenset({"study"}))
    assert gaps({at(0): frozenset({"study"})}, [failure], NOW) == ([], 1)
    (due,), resting = gaps({at(0): EVERY}, [failure], NOW)
    assert (due.failure, resting) == (None, 0)
