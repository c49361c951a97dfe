"""A service that does one wrong thing for ever: red in time, with all that one needs to know."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dicom_assets.errors import ServiceError
from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import (
    AnyFault,
    CutChunked,
    CutGzip,
    CutJson,
    Drip,
    Faults,
    Reset,
    Rule,
    ShortLength,
    Stall,
    Status,
)
from dicom_assets_tests.feed.faults.truth import SHOWN, WINDOW, current
from dicom_assets_tests.support.feed_service import QUICK, SOON

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive

Opener = Callable[..., ChangeFeed]
PATIENT = replace(QUICK, request_seconds=0.12)
FAULTS: dict[str, AnyFault] = {
    "truncates": ShortLength(),
    "truncates gzip": CutGzip(),
    "truncates chunks": CutChunked(),
    "truncates JSON": CutJson(),
    "resets": Reset(),
    "answers 500": Status(500),
    "drips": Drip(100.0),
    "stalls": Stall(),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("route", ["light", "heavy"])
def test_a_service_that_only_fails_is_red_within_the_deadline(
    still: Archive, faults: Faults, open_feed: Opener, name: str, route: str
) -> None:
    """The message has the window, the attempts, the time and a remedy; nothing is handed over."""
    # What is read before anything goes wrong may take its time.
    entries = open_feed().entries(WINDOW)
    feed = open_feed(retry_seconds=0.4, timeouts=PATIENT)
    faults.replace(Rule(FAULTS[name], route))  # type: ignore[arg-type] # one of the routes
    began = time.monotonic()
    with pytest.raises(ServiceError) as error:
        feed.entries(WINDOW) if route == "light" else current(feed, entries)
    assert time.monotonic() - began < SOON
    message = str(error.value)
    assert re.search(
        r"; requested \d+ times? in 0.4 s \(DICOM_RETRY_SECONDS\): .+again is safe", message
    )
    assert (SHOWN if route == "light" else "2026-01-05 08:00:00 to ") in message
    assert "127.0.0.1" not in message
    assert "1.3." not in message
