"""Every deadline and every pause of the feed.

Only the total time of retries is a setting (`DICOM_RETRY_SECONDS`). Tests replace the others.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet


class Stop(threading.Event):
    """The end of a read: no wait goes on. To set it sets those derived from it, too."""

    def __init__(self) -> None:
        super().__init__()
        self._derived = WeakSet["Stop"]()

    def derived(self) -> "Stop":
        """Return the end of a part of the read."""
        part = Stop()
        self._derived.add(part)
        if self.is_set():
            part.set()
        return part

    def set(self) -> None:
        """Stop the read and all its parts."""
        super().set()
        for part in list(self._derived):
            part.set()


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Deadlines and pauses in seconds, and the clock that counts them: `now` and `sleep`."""

    connect_seconds: float = 10.0
    # Between two pieces of an answer: 200 headers are read from 200 blobs before the first.
    read_seconds: float = 60.0
    # A whole answer, however slowly it drips. A page of 2 MB at 20 kB/s fits.
    request_seconds: float = 120.0
    # A credential: its command line tools take 10 s, a managed identity's retries half a minute.
    token_seconds: float = 60.0
    # Retries after a refused or missing token: neither clocks nor new roles need longer.
    refused_seconds: float = 60.0
    backoff_seconds: float = 0.5
    backoff_most_seconds: float = 30.0
    # A longer Retry-After is taken for a mistake and ignored.
    retry_after_most_seconds: float = 3600.0
    # Added at random to a Retry-After, so that threads do not all retry in the same instant.
    spread_seconds: float = 1.0
    # Between two requests to a service that fails even a single one at a time.
    storm_seconds: float = 1.0
    # How long a header is retried alone, before it counts as unreadable.
    doubt_seconds: float = 30.0
    # How long the search for headers that are too large goes on after it has found the last one.
    search_seconds: float = 300.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float, threading.Event], object] = lambda seconds, stop: stop.wait(seconds)


DEFAULT_TIMEOUTS: Final = Timeouts()

# For requests that may fail, because a person or a schedule waits for the result.
GLANCE: Final = Timeouts(
    connect_seconds=5, read_seconds=10, request_seconds=10, token_seconds=20, refused_seconds=0
)
