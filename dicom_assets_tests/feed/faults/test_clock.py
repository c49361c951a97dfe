"""F15: a clock that is off: the slower one counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import Clock, Faults

Opener = Callable[..., ChangeFeed]
QUARTER = timedelta(minutes=15)
# The Date header is cut to the second.
SECOND = timedelta(seconds=2)


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
