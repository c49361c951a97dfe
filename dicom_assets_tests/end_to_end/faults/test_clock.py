"""F15: a clock that is off, and the days on which others change theirs: hours stay UTC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from dicom_assets.emulator.faults import Clock, Faults
from dicom_assets.feed import ChangeFeed
from dicom_assets.partitions import hourly, window_of
from dicom_assets.window import TICKS_PER_HOUR

Opener = Callable[..., ChangeFeed]
QUARTER = timedelta(minutes=15)
# The Date header is cut to the second.
SECOND = timedelta(seconds=2)


@pytest.fixture
def vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine stands in a zone with summer time."""
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("off", [QUARTER, timedelta(0), -QUARTER])
def test_f15_the_slower_clock_says_what_is_closed(open_feed: Opener, off: timedelta) -> None:
    """A fast machine does not read an hour too early; a slow one reads it when it thinks it can."""
    feed = open_feed(clock=lambda: datetime.now(UTC) + off)
    expected = datetime.now(UTC) + min(off, timedelta(0))
    assert abs(feed.now() - expected) < SECOND


def test_f15_a_service_that_is_slow_is_waited_for(faults: Faults, open_feed: Opener) -> None:
    """Its entries are stamped by its own clock."""
    faults.replace(Clock(-QUARTER.total_seconds()))
    assert abs(open_feed().now() - (datetime.now(UTC) - QUARTER)) < SECOND


@pytest.mark.usefixtures("vienna")
@pytest.mark.parametrize(
    "day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)]
)
def test_f15_a_day_of_summer_time_has_24_hours_without_gap_or_overlap(day: datetime) -> None:
    """Wherever the machine stands, windows are UTC and half-open."""
    hours = hourly(day, day + timedelta(days=1))
    keys = hours.get_partition_keys(current_time=day + timedelta(days=2))
    windows = [window_of(hours.time_window_for_partition_key(key)) for key in keys]
    assert len(set(keys)) == 24
    assert all(window.end - window.start == TICKS_PER_HOUR for window in windows)
    assert all(one.end == other.start for one, other in pairwise(windows))
