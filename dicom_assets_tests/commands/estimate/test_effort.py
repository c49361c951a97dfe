"""What a load takes: nothing for nothing, more for more, and in words that claim no precision."""

from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.commands.estimate.effort import (
    REQUESTS_BESIDE,
    Curve,
    Load,
    Pace,
    about,
    duration,
    effort_of,
    light_requests,
)
from dicom_assets.commands.estimate.report import PACE_RUNS, load_of, pace_of
from dicom_assets.defs.schedules.slices import SLICE_ENTRIES, SLICE_HOURS, Gap
from dicom_assets.schema import SYNC
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import HOUR, Span
from dicom_assets_tests.support.steps import store_in

START = datetime(2024, 3, 1, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
BATCH = 200

loads = st.lists(st.integers(0, SLICE_ENTRIES), min_size=1, max_size=20).map(
    lambda runs: Load(len(runs) * SLICE_HOURS, runs)
)


def span(first: int, last: int) -> Span:
    """Hours by number."""
    return Span(START + first * HOUR, START + last * HOUR)


def test_nothing_takes_nothing() -> None:
    """No hours, no runs: every number is nought."""
    assert set(astuple(effort_of(Load(0, []), BATCH))) == {0}


@given(loads, st.integers(0, SLICE_ENTRIES))
def test_one_more_run_takes_more_of_everything(given: Load, entries: int) -> None:
    """Of all but entries and their headers, where its hours have none."""
    more = replace(given, hours=given.hours + 1, runs=[*given.runs, entries])
    pairs = zip(astuple(effort_of(given, BATCH)), astuple(effort_of(more, BATCH)), strict=True)
    grown = [less < greater for less, greater in pairs]
    assert grown.count(False) == (2 if not entries else 0)


@pytest.mark.parametrize(
    ("entries", "requests"), [(0, 2), (1, 2), (199, 2), (200, 3), (4_999, 26), (5_000, 28)]
)
def test_the_light_read_asks_for_a_page_more_and_is_counted(entries: int, requests: int) -> None:
    """Hours without entries are asked for twice, since nothing confirms them."""
    assert light_requests(entries, BATCH) == REQUESTS_BESIDE + requests


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


def _run(store: Store, first: int, hours: int, began: datetime, seconds: float) -> None:
    """Hours that a run has followed, ten entries in each."""
    end = began + timedelta(seconds=seconds)
    marks = {"sealedAt": began, "instanceAt": end, "seriesAt": end, "studyAt": end}
    counts = {"creates": 7, "updates": 2, "deletes": 1}
    rows = [{"hour": START + n * HOUR, **marks, **counts} for n in range(first, first + hours)]
    sync = store.open(SYNC)
    inserts = pa.Table.from_pylist(rows, schema=sync.table.arrow())
    sync.commit(Difference(sync.table, inserts=inserts), {"run_id": "run"})


def test_the_pace_is_that_of_the_last_runs_over_a_day_or_more(tmp_path: Path) -> None:
    """Single hours say nothing of a load: they are left out, and so are older slices."""
    store = store_in(tmp_path)
    assert pace_of(store) is None
    _run(store, 0, 1, NOW, 9)
    assert pace_of(store) is None
    for number in range(PACE_RUNS + 1):
        _run(store, 100 * (number + 1), 24, NOW + number * HOUR, 1000 if number == 0 else 30)
    assert pace_of(store) == Pace(24 * PACE_RUNS, 240 * PACE_RUNS, 30.0 * PACE_RUNS)


def test_a_load_at_a_pace_is_between_its_hours_and_its_entries() -> None:
    """Which of them counts is different from archive to archive."""
    pace = Pace(hours=100, entries=1_000, seconds=60)
    assert pace.seconds_for(effort_of(Load(200, [4_000]), BATCH)) == (120, 240)
    assert replace(pace, entries=0).seconds_for(effort_of(Load(200, [0]), BATCH)) == (0, 120)


def test_two_digits_count() -> None:
    """More of them would be a promise."""
    assert [about(n) for n in (0, 7, 99, 149, 12_345, 987_654)] == [
        *("0", "7", "99", "150", "12,000", "990,000")
    ]


def test_ranges_are_told_in_one_unit() -> None:
    """That of the greater bound; one number where both are about the same."""
    assert duration(20, 90) == "20 to 90 seconds"
    assert duration(90, 660) == "1.5 to 11 minutes"
    assert duration(3_600, 36_000) == "1 to 10 hours"
    assert duration(86_400, 864_000) == "1 to 10 days"
    assert duration(300, 301) == "about 5 minutes"
