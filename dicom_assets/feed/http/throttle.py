"""The number of requests in flight: fewer when the service is overloaded, more when it recovers.

Each failure that may come from load halves the limit, and each answer raises it by one, as TCP does
with its window. When even a single request at a time fails, there is a storm: then all requests
together start `storm_seconds` apart. Where the service says how long to wait, none starts before.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_assets.feed.http.timeouts import Timeouts

# A wait for a turn has steps, so that it ends soon after the read is stopped.
_STEP_SECONDS = 0.05


class Throttle:
    """A limit of requests in flight, at most `most`. Safe to share between threads."""

    def __init__(self, most: int, timeouts: Timeouts) -> None:
        self.limit = self._most = most
        self._timeouts = timeouts
        self._is_storm = False
        self._running = 0
        self._started = self._opens = float("-inf")
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, stop: threading.Event, until: float) -> Iterator[bool]:
        """Wait for a turn, yield True, and give the turn back in the end.

        Yields False when `stop` is set or the time is `until` before there is a turn.
        """
        has_turn = True
        while (seconds := self._take()) > 0:
            left = until - self._timeouts.now()
            if stop.is_set() or left <= 0:
                has_turn = False
                break
            self._timeouts.sleep(min(seconds, left, _STEP_SECONDS), stop)
        try:
            yield has_turn
        finally:
            with self._lock:
                self._running -= has_turn

    def _take(self) -> float:
        """Take a turn and return 0, or return the seconds until the next try."""
        with self._lock:
            now = self._timeouts.now()
            if now < self._opens:
                return self._opens - now
            if self._running >= self.limit:
                return _STEP_SECONDS
            if self._is_storm and now < self._started + self._timeouts.storm_seconds:
                return self._started + self._timeouts.storm_seconds - now
            self._running += 1
            self._started = now
            return 0.0

    def slow_down(self, seconds: float = 0.0) -> None:
        """Halve the limit, and start no request for `seconds`. If it was one, start a storm."""
        with self._lock:
            self._opens = max(self._opens, self._timeouts.now() + seconds)
            self._is_storm = self.limit == 1
            self.limit = max(1, self.limit // 2)

    def speed_up(self) -> None:
        """Raise the limit by one, and end a storm."""
        with self._lock:
            self._is_storm = False
            self.limit = min(self._most, self.limit + 1)
