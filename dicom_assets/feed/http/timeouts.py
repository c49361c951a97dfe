"""How long is waited, for what: every deadline and every pause of the feed, in one place.

The one that people set is not here: how long a failing request is tried again in all
(`DICOM_RETRY_SECONDS`). Tests scale these down, or put a clock of their own beside them.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


def _sleep(seconds: float, stop: threading.Event) -> None:
    stop.wait(seconds)


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Deadlines and pauses in seconds; `now` and `sleep` are the clock they are counted by."""

    connect_seconds: float = 10.0
    # Between two pieces of an answer: 200 headers are read from 200 blobs before the first.
    read_seconds: float = 60.0
    # A whole answer, however slowly it drips; a page of 2 MB at 20 kB/s fits.
    request_seconds: float = 120.0
    # A credential: its command line tools take 10 s, a managed identity's retries half a minute.
    token_seconds: float = 60.0
    # A token that is refused, or not given: clocks differ by seconds, roles take no longer to see.
    refused_seconds: float = 60.0
    backoff_seconds: float = 0.5
    backoff_most_seconds: float = 30.0
    # What asks for more than this is no pause but a mistake.
    retry_after_most_seconds: float = 3600.0
    # So that threads that were all sent away do not all come back in the same instant.
    spread_seconds: float = 1.0
    # Between two requests to a service that answers nobody any more.
    storm_seconds: float = 1.0
    # How long a header is tried alone, before it is called unreadable.
    doubt_seconds: float = 30.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float, threading.Event], object] = _sleep


DEFAULT_TIMEOUTS: Final = Timeouts()

# For a question that may stay without an answer, because somebody waits for what comes after it.
GLANCE: Final = Timeouts(
    connect_seconds=5, read_seconds=10, request_seconds=10, token_seconds=20, refused_seconds=0
)
