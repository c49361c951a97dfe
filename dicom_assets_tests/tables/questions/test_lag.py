"""What the service has that the tables have not: asked of a feed that counts what it is asked."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dicom_assets.feed_contract import Rejection
from dicom_assets.tables.questions import lag
from dicom_assets.tables.questions.lag import HOURS_ASKED, MOST_COUNTED, Lag, measure_lag
from dicom_assets.window import Window
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import (
    DEFAULT,
    Archive,
    Bench,
    at,
    bounds,
    hours,
    key,
    run,
)


@dataclass
class Feed:
    """The light questions that a lag is made of, answered by an archive."""

    archive: Archive
    asked: list[str] = field(default_factory=list)

    def _moments(self) -> list[tuple[int, int]]:
        rows = self.archive.entries_
        return [(int(str(r["timestamp_ticks"])), int(str(r["sequence"]))) for r in rows]

    def latest(self) -> int | None:
        """The newest entry."""
        self.asked.append("latest")
        return max((moment for moment, _ in self._moments()), default=None)

    def holds_more(self, window: Window, count: int) -> bool:
        """Whether there are more."""
        self.asked.append("holds_more")
        return sum(window.holds(moment) for moment, _ in self._moments()) > count


def looked(bench: Bench, end: int, *kept: str) -> Lag:
    """The lag in the hours up to an end."""
    return measure_lag(bench.store, Feed(bench.archive), bounds(0, end, *kept))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Five hours with an entry each, read a quarter after their end."""
    bench = Bench(store_in(tmp_path_factory.mktemp("lag")))
    for hour in range(5):
        bench.archive.create(60 * hour + 10, of=key(str(hour)))
        bench.sync(hours(hour), run(now=at(60 * hour + 75)))
    return bench


@pytest.fixture
def read(template: Bench, tmp_path: Path) -> Bench:
    """The same, for one test."""
    return template.copied(tmp_path)


def test_tables_that_have_what_is_due_pass(read: Bench) -> None:
    """An entry of an hour that is not due yet is no lag."""
    read.archive.create(310, of=key("9"))
    found = looked(read, 5)
    assert found == Lag(at(310), at(300), 0, (), None)
    assert found.passed


def test_entries_that_are_due_and_in_no_table_are_counted(read: Bench) -> None:
    """From the end of the newest sealed hour on."""
    for minute in (310, 320, 390, 430):
        read.archive.create(minute, of=key(str(minute)))
    found = looked(read, 7)
    assert (found.missing, found.read_until, found.passed) == (3, at(300), False)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
def test_entries_are_counted_where_sequences_have_gaps(
    read: Bench, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence is used up by every attempt of the service; beyond the bound it counts no more."""
    monkeypatch.setattr(lag, "MOST_COUNTED", 8)
    for number in range(count):
        read.archive.next_sequence += 10_000
        read.archive.create(310 + number, of=key(str(number)))
    assert looked(read, 7).missing == min(count, 8)


def test_hours_without_entries_are_no_lag(read: Bench) -> None:
    """Whether they were read is the affair of freshness."""
    assert looked(read, 40).passed


def test_nothing_read_yet_is_all_of_it(bench: Bench) -> None:
    """From the start on."""
    bench.archive.create(10)
    assert looked(bench, 2) == Lag(at(10), at(0), 1, (), None)


def test_an_empty_feed_has_no_lag(bench: Bench) -> None:
    """There is nothing to be late with."""
    assert looked(bench, 2) == Lag(None, at(0), 0, (), None)


def test_an_entry_that_came_late_is_told_with_how_late(read: Bench) -> None:
    """The hour was read a quarter after its end, and did not have it."""
    read.archive.create(200, of=key("9"))
    found = looked(read, 5)
    assert (found.late, found.late_minutes, found.missing) == ((at(180),), 15.0, 0)
    assert not found.passed


def test_late_entries_of_earlier_hours_are_the_audits_affair(read: Bench) -> None:
    """Only the newest hours are asked for."""
    read.archive.create(20, of=key("9"))
    assert looked(read, 5).passed


@pytest.mark.parametrize("end", [5, 7])
def test_it_needs_a_few_light_requests(read: Bench, end: int) -> None:
    """However many entries there are."""
    for minute in range(310, 400):
        read.archive.create(minute, of=key(str(minute)))
    feed = Feed(read.archive)
    measure_lag(read.store, feed, bounds(0, end))
    assert len(feed.asked) <= 1 + HOURS_ASKED + (1 + MOST_COUNTED.bit_length() if end > 5 else 0)


def test_where_not_all_is_kept_nobody_knows_what_came_late(read: Bench) -> None:
    """Seals count what is kept: that is said, and not taken for nothing."""
    read.archive.create(200, of=key("9"))
    assert looked(read, 5, DEFAULT).late is None
    read.archive.unusable = [Rejection(None, None, "no timestamp")]
    read.sync(hours(4))
    assert looked(read, 5).late is None


def test_the_newest_hours_are_those_of_the_window(read: Bench) -> None:
    """An hour that was read by hand before it was due is not asked for."""
    assert looked(read, 2).read_until == at(120)
