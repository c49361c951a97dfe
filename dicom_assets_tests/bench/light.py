"""The light read of 20,000 entries at .3 s latency, against one page at a time, over a socket.

`light_parallel` is how many times as fast it is for the same entries. Beside it are the requests of
both, because a read could be fast by asking more.
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import TYPE_CHECKING, Final

from dicom_assets.settings import DEFAULTS
from dicom_assets.window import TICKS_PER_HOUR, Window
from dicom_assets_tests.bench.measure import Measured
from dicom_assets_tests.support.feed_service import HOUR, Running, Service, made
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES: Final = int(os.environ.get("BENCH_ENTRIES", "20000"))
LATENCY_SECONDS: Final = 0.3
ROUNDS: Final = 3


def measure() -> Iterator[Measured]:
    """Yield the ratio of the seconds: one page at a time to as many requests as a run has."""
    yield light_parallel(ENTRIES, LATENCY_SECONDS, ROUNDS)


def light_parallel(entries: int, latency_seconds: float, rounds: int) -> Measured:
    """Return the ratio for so many entries, evenly within an hour. Of some rounds the median."""
    service = Service()
    ticks = (HOUR + number * TICKS_PER_HOUR // entries for number in range(entries))
    service.add(*(made(number, tick, metadata=None) for number, tick in enumerate(ticks)))
    service.before = lambda *_: time.sleep(latency_seconds)
    with Running(service) as running:
        alone = _seconds(running.url, service, entries, in_flight=1)
        requests_alone = len(service.requests)
        together = [
            _seconds(running.url, service, entries, in_flight=DEFAULTS.requests_in_flight)
            for _ in range(rounds)
        ]
    beside = {
        "seconds_alone": round(alone, 1),
        "seconds": round(median(together), 1),
        "requests_alone": requests_alone,
        "requests": len(service.requests),
    }
    return Measured("light_parallel", alone / median(together), beside)


def _seconds(url: str, service: Service, entries: int, *, in_flight: int) -> float:
    service.requests.clear()
    with feed_of(url, in_flight=in_flight) as feed:
        began = time.monotonic()
        read = feed.entries(Window(HOUR, HOUR + TICKS_PER_HOUR))
        seconds = time.monotonic() - began
    if read.changes.num_rows != entries:
        raise AssertionError(f"{read.changes.num_rows} of {entries} entries were read")
    return seconds


if __name__ == "__main__":
    for measured in measure():
        print(measured)  # noqa: T201 - a command
