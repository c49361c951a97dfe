"""How far a load is, as the log of each of its runs says."""

import re
from datetime import timedelta

from dicom_assets.tables.pace import RECENT, said
from dicom_assets_tests.unit.tables.build import Bench, at, hours, run


def followed(bench: Bench, first: int, end: int, minute: float) -> None:
    """A run has brought all tables to some hours, at a minute."""
    bench.sync(hours(first, end), run(now=at(minute)))


def test_a_run_that_leaves_no_hour_open_says_nothing(bench: Bench) -> None:
    """The newest hour is missing, and is its own; so are the last ones of a load."""
    followed(bench, 0, 4, 300)
    assert said(bench.store, hours(0, 5), hours(4), at(315)) is None
    assert said(bench.store, hours(0, 7), hours(4, 7), at(435)) is None


def test_the_first_run_of_a_load_knows_no_pace(bench: Bench) -> None:
    """Nothing was read yet."""
    told = said(bench.store, hours(0, 40), hours(0, 10), at(2_500))
    assert told == "so far all tables show 0 of 40 hours (0.0 %)"


def test_the_others_take_as_long_as_those_of_the_last_day(bench: Bench) -> None:
    """Ten hours took thirty minutes since the first of them was sealed: thirty take ninety."""
    followed(bench, 0, 10, 2_500)
    told = said(bench.store, hours(0, 40), hours(10, 20), at(2_530))
    assert told == (
        "so far all tables show 10 of 40 hours (25.0 %); at the pace of the last day the others "
        "take about 90 minutes"
    )


def test_what_was_read_before_the_last_day_is_no_pace(bench: Bench) -> None:
    """A load that stood still for days is as quick as it is now."""
    followed(bench, 0, 10, 2_500)
    later = at(2_500) + 3 * RECENT
    assert said(bench.store, hours(0, 40), hours(10, 20), later) == (
        "so far all tables show 10 of 40 hours (25.0 %)"
    )
    bench.sync(hours(10, 20), run(now=later))
    told = said(bench.store, hours(0, 40), hours(20, 30), later + timedelta(minutes=60))
    assert re.search(r"50\.0 %.*about 2 hours", str(told))
