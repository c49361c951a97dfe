"""F29: hours of nothing, of very many entries, and of none that can be used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.adversary import Faults, Override, Plan, Rule, Shorter, Status
from dicom_assets_tests.feed.faults.truth import WINDOW, changes_in, changes_of, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_assets.emulator.archive import Archive

Opener = Callable[..., ChangeFeed]
MANY = 20_000
MOST_MEGABYTES = 250


class Watch(threading.Thread):
    """Watches how much memory the process takes, at most, above what it took before."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self._over = threading.Event()
        self.megabytes = 0.0

    def run(self) -> None:
        """Look twenty times a second."""
        while not self._over.wait(0.05):
            taken = self._process.memory_info().rss - self._before
            self.megabytes = max(self.megabytes, taken / 2**20)

    def stop(self) -> float:
        """Return the most that was seen, in MiB."""
        self._over.set()
        self.join()
        return self.megabytes


def sequences(feed: ChangeFeed, log: object, wanted: range) -> Iterator[int]:
    """Yield the sequences of the headers as they arrive; nothing else is kept."""
    for piece in feed.headers(log, wanted):  # type: ignore[arg-type] # a table
        yield from (s for s in piece.rows["sequence"].to_pylist() if s is not None)


def test_f29_an_hour_of_twenty_thousand_entries_fits_into_memory(
    archive: Archive, faults: Faults, open_feed: Opener
) -> None:
    """Every entry and every header once, through some faults; memory is that of pages in flight."""
    fill(archive, MANY, per_tick=3)
    faults.replace([
        Rule(Status(503), "page", probability=0.02, seed=1, most_in_row=2),
        Rule(Shorter(5), "page", probability=0.02, seed=2, most_in_row=1),
    ])  # fmt: skip
    feed = open_feed(batch_size=200, retry_seconds=60.0)
    watch = Watch()
    watch.start()
    entries = feed.entries(WINDOW)
    assert changes_in(entries) == changes_of(archive)
    faults.clear()
    found = list(sequences(feed, entries.changes, range(1, MANY + 1)))
    assert sorted(found) == list(range(1, MANY + 1))
    assert watch.stop() < MOST_MEGABYTES


def test_f29_an_hour_of_nothing_is_read_twice_and_empty(
    archive: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """Two answers agree that there is nothing; after a failure, four do."""
    assert feed.entries(WINDOW).changes.num_rows == 0
    faults.replace(Rule(Status(503), last=1))
    assert feed.entries(WINDOW).changes.num_rows == 0
    assert faults.requests["light"] == 1 + 4


def test_f29_an_hour_of_entries_that_cannot_be_used_is_counted(
    archive: Archive, faults: Faults, feed: ChangeFeed
) -> None:
    """Each is one rejection in the light read; none of them is asked for its header."""
    fill(archive, 200)
    faults.replace(Plan(tuple(Rule(Override(s, fields={"action": b'"?"'})) for s in range(1, 201))))
    entries = feed.entries(WINDOW)
    assert entries.changes.num_rows == 0
    assert sorted(r.sequence or 0 for r in entries.rejections) == list(range(1, 201))
    assert {r.reason for r in entries.rejections} == {"unknown action"}
