"""Faults of every kind at random: what is read is the archive, each time; a seed replays it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import Faults, random_faults
from dicom_assets_tests.feed.faults.truth import assert_all_is_read
from dicom_assets_tests.support.feed_service import QUICK

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive

Opener = Callable[..., ChangeFeed]


@pytest.mark.parametrize("rate", [0.05, 0.3])
@pytest.mark.parametrize("seed", range(12))
def test_random_faults_lose_and_double_nothing(
    still: Archive, faults: Faults, open_feed: Opener, rate: float, seed: int
) -> None:
    """Both reads of the hour equal the archive, whatever was answered on the way."""
    faults.replace(random_faults(seed, rate))
    batch_size = (7, 20, 200)[seed % 3]
    # What Retry-After asks for has tests of its own.
    timeouts = replace(QUICK, sleep=lambda seconds, stop: stop.wait(min(seconds, 0.02)))
    feed = open_feed(batch_size=batch_size, retry_seconds=20.0, timeouts=timeouts)
    assert_all_is_read(feed, still)
    assert faults.log or rate == 0.05 or batch_size == 200
