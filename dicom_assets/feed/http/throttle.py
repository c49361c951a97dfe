"""How many requests at once: fewer when the service is in trouble, more again when it is not.

Each failure that speaks of load halves what may be in flight, each answer allows one more, as a
network does it. When even one at a time fails, a storm is on: then requests start a second apart,
whoever asks. How long the one who was sent away waits is decided in `connection`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicom_assets.feed.http.timeouts import Timeouts

# A turn is waited for in steps, so that a read that is given up ends.
_STEP_SECONDS = 0.05


class Throttle:
    """Lets at most `most` requests run at once; safe to share by threads."""

    def __init__(self, most: int, timeouts: Timeouts) -> None:
        self.limit = self._most = most
        self._timeouts = timeouts
        self._is_storm = False
        self._running = 0
        self._started: float | None = None
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, stop: threading.Event, until: float) -> Iterator[bool]:
        """Wait for a turn, and give it back in the end; whether there is one is what is yielded.

        There is none when `stop` is set, or the time is `until`, before it comes.
        """
        has_turn = self._wait(stop, until)
        try:
            yield has_turn
        finally:
            with self._lock:
                self._running -= has_turn

    def _wait(self, stop: threading.Event, until: float) -> bool:
        while (seconds := self._take()) > 0:
            left = until - self._timeouts.now()
            if stop.is_set() or left <= 0:
                return False
            self._timeouts.sleep(min(seconds, left, _STEP_SECONDS), stop)
        return True

    def _take(self) -> float:
        """Return 0 when a turn was taken, else a time after which it is worth trying again."""
        with self._lock:
            now = self._timeouts.now()
            seconds = self._seconds_to_wait(now)
            if seconds <= 0:
                self._running += 1
                self._started = now
            return seconds

    def _seconds_to_wait(self, now: float) -> float:
        if self._running >= self.limit:
            return _STEP_SECONDS
        if self._is_storm and self._started is not None:
            return self._started + self._timeouts.storm_seconds - now
        return 0.0

    def slow_down(self) -> None:
        """Half as many requests may run at once; if it was one already, one a second."""
        with self._lock:
            self._is_storm = self.limit == 1
            self.limit = max(1, self.limit // 2)

    def speed_up(self) -> None:
        """One request more may run at once."""
        with self._lock:
            self._is_storm = False
            self.limit = min(self._most, self.limit + 1)
