"""What a load takes: nothing for nothing, more for more, and in words that claim no precision."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.commands.estimate.effort import (
    BESIDE,
    Curve,
    Effort,
    Load,
    Range,
    Service,
    about,
    duration,
    effort,
    light_requests,
    sentence,
    size,
)
from dicom_assets.commands.estimate.report import load_of
from dicom_assets.defs.schedules.slices import SLICE_ENTRIES, SLICE_HOURS, Gap
from dicom_assets.window import HOUR, Span

START = datetime(2024, 3, 1, tzinfo=UTC)
COUNTS = (
    *("hours", "entries", "runs", "light_requests", "header_pages"),
    *("database_bytes", "events", "credits"),
)
RANGES = ("seconds", "table_bytes")

loads = st.lists(st.integers(0, SLICE_ENTRIES), min_size=1, max_size=20).map(
    lambda runs: Load(len(runs) * SLICE_HOURS, runs)
)


def span(first: int, last: int) -> Span:
    """Hours by number."""
    return Span(START + first * HOUR, START + last * HOUR)


def bounds(found: Effort) -> list[float]:
    """Every number of it."""
    ranges = [getattr(found, name) for name in RANGES]
    return [*(getattr(found, n) for n in COUNTS), *(b for r in ranges for b in (r.low, r.high))]


def test_nothing_takes_nothing() -> None:
    """No hours, no runs: every number is nought."""
    assert bounds(effort(Load(0, []), Service())) == [0] * (len(COUNTS) + 2 * len(RANGES))


@given(loads, st.integers(0, SLICE_ENTRIES))
def test_one_more_run_takes_more_of_everything(given: Load, entries: int) -> None:
    """Of all but the headers of hours without entries."""
    more = replace(given, hours=given.hours + 1, runs=[*given.runs, entries])
    pairs = zip(bounds(effort(given, Service())), bounds(effort(more, Service())), strict=True)
    grown = [less < greater for less, greater in pairs]
    assert grown.count(False) == (2 if not entries else 0)


@given(loads, st.integers(0, 10**8))
def test_low_is_never_above_high(given: Load, rows: int) -> None:
    """Whatever the load, and however many rows there are."""
    found = effort(replace(given, rows=rows), Service())
    assert all(getattr(found, name).low <= getattr(found, name).high for name in RANGES)


@given(loads)
def test_rows_that_are_there_cost_time_only(given: Load) -> None:
    """The tables look them through."""
    fresh, grown = (effort(replace(given, rows=n), Service()) for n in (0, 10**7))
    assert fresh.seconds.low < grown.seconds.low
    assert replace(fresh, seconds=grown.seconds) == grown


@pytest.mark.parametrize(
    ("entries", "requests"), [(0, 2), (1, 2), (199, 2), (200, 3), (9_999, 51), (10_000, 53)]
)
def test_the_light_read_asks_for_a_page_more_and_is_counted(entries: int, requests: int) -> None:
    """Hours without entries are asked for twice, since nothing confirms them."""
    assert light_requests(entries, 200) == BESIDE + requests


@given(st.integers(1, 50_000), st.integers(0, 10**7))
def test_slices_hold_all_hours_and_about_all_entries(hours: int, entries: int) -> None:
    """As many runs as the schedule asks for."""
    whole = span(0, hours - 1)
    curve = Curve([(whole.first, 7), (whole.last + HOUR, 7 + entries)])
    found = load_of([Gap(whole)], curve.entries_of)
    assert found.hours == hours
    assert sum(found.runs) == entries
    assert len(found.runs) >= hours / SLICE_HOURS


def test_a_curve_takes_entries_to_come_evenly_between_its_moments() -> None:
    """And none before the first and after the last."""
    moments = [START + n * HOUR for n in (0, 4, 8)]
    curve = Curve(list(zip(moments, (10, 10, 50), strict=True)))
    told = [curve.entries_of(span(*hours)) for hours in ((0, 3), (4, 5), (2, 4), (0, 7), (6, 20))]
    assert told == [0, 20, 10, 40, 20]
    assert curve.entries_of(span(9, 9)) == 0


def test_two_digits_count() -> None:
    """More of them would be a promise."""
    assert [about(n) for n in (0, 7, 99, 149, 12_345, 987_654)] == [
        *("0", "7", "99", "150", "12,000", "990,000")
    ]


def test_ranges_are_told_in_one_unit() -> None:
    """That of the greater bound; one number where both are about the same."""
    assert duration(Range(20, 90)) == "20 to 90 seconds"
    assert duration(Range(90, 660)) == "1.5 to 11 minutes"
    assert duration(Range(3_600, 36_000)) == "1 to 10 hours"
    assert duration(Range(86_400, 864_000)) == "1 to 10 days"
    assert size(Range(3e6, 3.04e6)) == "about 3 MB"
    assert size(Range(1.5e8, 2.5e9)) == "0.1 to 2.5 GB"
    assert size(Range(0, 0)) == "about 0 kB"


def test_a_load_is_told_in_one_line() -> None:
    """As the log of a tick has it."""
    told = sentence(effort(Load(720, [21_789]), Service()))
    assert told.startswith("about 22,000 entries in 720 hours: 1 runs, 120 light requests")
    assert "\n" not in told
