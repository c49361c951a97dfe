"""How far the tables have followed: behind, a hole, a first load, and which of them it is."""

from datetime import datetime, timedelta

import pytest

from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables.questions.freshness import STALLED_AFTER, Freshness, freshness_of
from dicom_assets_tests.support.tables import Bench, at, bounds, hours, run


def followed(bench: Bench, first: int, end: int, minute: int) -> None:
    """A run has brought all tables to some hours, at a minute."""
    bench.sync(hours(first, end), run(now=at(minute)))


def looked(bench: Bench, end: int, minute: int, first: int = 0) -> Freshness:
    """What is told of the hours up to an end, at a minute."""
    return freshness_of(bench.store, bounds(first, end), at(minute))


def test_hours_that_all_tables_show_pass(bench: Bench) -> None:
    """Each in its time, and nothing is open."""
    for hour in range(3):
        followed(bench, hour, hour + 1, 60 * hour + 75)
    found = looked(bench, 3, 200)
    assert found == Freshness(due=3, followed=3, newest=at(120))
    assert found.passed
    assert (found.holes, found.share) == (0, 1.0)


def test_no_hour_that_is_due_is_nothing_open(bench: Bench) -> None:
    """Before the first hour has ended."""
    assert looked(bench, 0, 10) == Freshness(due=0, followed=0)
    assert looked(bench, 0, 10).passed


def test_a_standstill_is_behind_and_no_first_load(bench: Bench) -> None:
    """The open hours ended after the first was sealed: somebody has to look."""
    followed(bench, 0, 1, 75)
    found = looked(bench, 31, 31 * 60)
    assert (found.behind, found.holes, found.first_load) == (30, 0, False)
    assert (found.newest, found.first_open) == (at(0), at(60))
    assert not found.passed


def test_an_old_hour_that_is_open_is_a_hole(bench: Bench) -> None:
    """The newest hour is there all the same."""
    followed(bench, 0, 1, 75)
    followed(bench, 2, 4, 250)
    found = looked(bench, 4, 260)
    assert (found.behind, found.holes, found.first_load) == (0, 1, False)
    assert found.first_open == at(60)


@pytest.mark.parametrize("stops_before", [SERIES, STUDY])
def test_an_hour_that_one_table_lacks_is_open(bench: Bench, stops_before: object) -> None:
    """A run that ended before the last table."""
    bench.change(hours(0))
    bench.instance(hours(0))
    if stops_before is STUDY:
        bench.rollup(SERIES, hours(0))
    assert looked(bench, 1, 75).followed == 0


@pytest.mark.parametrize(("first", "end"), [(0, 10), (30, 40)])
def test_a_first_load_is_known_whichever_end_it_begins_at(
    bench: Bench, first: int, end: int
) -> None:
    """Hours are open that had ended before anything was sealed, and it goes on."""
    followed(bench, first, end, 40 * 60 + 15)
    found = looked(bench, 40, 40 * 60 + 60)
    assert (found.due, found.followed, found.first_load) == (40, 10, True)
    assert found.share == 0.25
    assert not found.passed


@pytest.mark.parametrize(("later", "under_way"), [(-1, True), (1, False)])
def test_a_first_load_that_is_silent_has_stopped(bench: Bench, later: int, under_way: bool) -> None:
    """Hours that came since do not count: only the load's own are heard."""
    loaded = 40 * 60 + 15
    followed(bench, 0, 10, loaded)
    followed(bench, 40, 41, loaded + 60)
    now = at(loaded) + STALLED_AFTER + timedelta(minutes=later)
    assert freshness_of(bench.store, bounds(0, 41), now).first_load is under_way


def test_an_old_hour_that_is_opened_again_is_no_first_load(bench: Bench) -> None:
    """It was read once, and long ago."""
    followed(bench, 0, 10, 10 * 60 + 15)
    bench.archive.create(30)
    bench.change(hours(0), run(now=at(0) + timedelta(days=400)))
    found = freshness_of(bench.store, bounds(0, 10), _after(at(0), days=401))
    assert (found.holes, found.first_load) == (1, False)


def _after(moment: datetime, days: int) -> datetime:
    return moment + timedelta(days=days)


def test_tables_that_are_not_there_are_behind(bench: Bench) -> None:
    """Nothing was heard of a first load yet."""
    found = looked(bench, 3, 200)
    assert (found.behind, found.newest, found.first_load) == (3, None, False)


def test_hours_before_the_start_do_not_count(bench: Bench) -> None:
    """It was moved: they were read, and nobody asks for them."""
    followed(bench, 0, 3, 195)
    assert looked(bench, 3, 200, first=1) == Freshness(due=2, followed=2, newest=at(120))
