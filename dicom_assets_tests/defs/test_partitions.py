"""Hours as partitions: UTC, whatever the machine's own zone does."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from dicom_assets.defs.partitions import hourly, window_of
from dicom_assets.window import TICKS_PER_HOUR


@pytest.fixture
def vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine stands in a zone with summer time."""
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


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
