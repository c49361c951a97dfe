"""The audit: hours that are no longer what was sealed lose the seal, and become whole again."""

from datetime import datetime, timedelta

import pytest

from dicom_assets.errors import ForeignArchiveError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import INSTANCE, SYNC
from dicom_assets.tables.questions.audit import Audit, audit
from dicom_assets.tables.sync import open_hours
from dicom_assets.window import Bounds
from dicom_assets_tests.support.tables import Bench, at, bounds, contents, hours, key, run, ticks


def audited(bench: Bench, first: int = 0, end: int | None = None, days: int = 0) -> Audit:
    """An audit of hours, so many days after they were read."""
    now = run()
    later = type(now)(now.run_id, now.now + timedelta(days=days))
    return audit(bench.store, bounds(first, end), bench.archive, later)


def seals(bench: Bench) -> list[tuple[datetime, bool]]:
    """The hours in `sync`, and whether each has a seal."""
    found = contents(bench.store, SYNC, "hour", "sealedAt")
    return [(hour, moment is not None) for hour, moment in found]  # type: ignore[misc]


def test_hours_as_they_were_sealed_pass(bench: Bench) -> None:
    """Also hours without entries, and nothing is written."""
    bench.archive.create(10)
    bench.sync(hours(0, 3))
    before = bench.store.version(SYNC)
    assert audited(bench, 0, 3) == Audit(3, 0, (), 0, 0, 0)
    assert audited(bench, 0, 3).passed
    assert bench.store.version(SYNC) == before


def test_a_late_entry_opens_its_hour_and_only_that(bench: Bench) -> None:
    """Its seal goes; the seals of the others stay."""
    bench.archive.create(10)
    bench.sync(hours(0, 2))
    bench.archive.create(20, of=key("2"))
    found = audited(bench, 0, 2)
    assert (found.reopened, found.late, found.lost, found.passed) == ((at(0),), 1, 0, False)
    assert seals(bench) == [(at(0), False), (at(60), True)]
    assert list(open_hours(bench.store)) == [at(0)]


def test_an_opened_hour_is_whole_after_it_was_read_again(bench: Bench) -> None:
    """Nothing else has to be done: the next audit passes."""
    bench.archive.create(10)
    bench.sync(hours(0))
    bench.archive.create(20, of=key("2"))
    audited(bench)
    bench.sync(hours(0))
    assert list(open_hours(bench.store)) == []
    assert audited(bench).passed


def test_an_entry_that_is_no_longer_served_is_lost(bench: Bench) -> None:
    """Rows of the feed never vanish, so somebody has to look."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.sync(hours(0))
    del bench.archive.entries_[0]
    found = audited(bench)
    assert (found.late, found.lost, found.passed) == (0, 1, False)


def test_a_late_entry_that_cannot_be_used_opens_its_hour_too(bench: Bench) -> None:
    """The digest holds every sequence that was served."""
    bench.sync(hours(0))
    bench.archive.unusable = [Rejection(7, ticks(10), "unknown state")]
    assert audited(bench).late == 1


def test_a_rejected_entry_does_not_open_its_hour_again(bench: Bench) -> None:
    """It was sealed with the hour."""
    bench.archive.unusable = [Rejection(7, ticks(10), "unknown state")]
    bench.sync(hours(0))
    assert audited(bench).passed


def test_an_hour_without_a_seal_is_counted_and_not_compared(bench: Bench) -> None:
    """It was never read: the schedule's affair."""
    bench.archive.create(70)
    bench.sync(hours(0))
    found = audited(bench, 0, 2)
    assert (found.compared, found.unsealed, found.passed) == (1, 1, True)
    assert seals(bench) == [(at(0), True)]


def test_an_hour_that_start_cuts_is_compared_with_what_was_read_of_it(bench: Bench) -> None:
    """Its window is cut in the same place."""
    bench.archive.create(10)
    bench.archive.create(40, of=key("2"))
    half = type(hours(0))(ticks(30), hours(0).end)
    bench.sync(half)
    assert audit(bench.store, Bounds(half), bench.archive, run()).passed


@pytest.mark.parametrize(("days", "overdue"), [(-31, 0), (-29, 1)])
def test_an_instance_that_waits_for_a_later_hour_is_overdue_after_a_day(
    bench: Bench, days: int, overdue: int
) -> None:
    """Until then its successor may not have been read yet; the run is a month after the entry."""
    bench.archive.create(10)
    bench.archive.update(70)
    bench.sync(hours(0))
    assert audited(bench, days=days).overdue == overdue


def test_an_instance_is_not_overdue_while_the_table_is_behind(bench: Bench) -> None:
    """Nobody has asked for its header yet, so that nobody knows that it was replaced."""
    bench.archive.create(10)
    bench.archive.create(70, of=key("2"))
    bench.change(hours(0, 2))
    assert audited(bench, 0, 2, days=2).overdue == 0
    bench.archive.update(130)
    bench.instance(hours(0))
    assert audited(bench, 0, 2, days=2).overdue == 1
    bench.sync(hours(0, 3))
    assert audited(bench, 0, 2, days=2).passed


def test_a_rejected_instance_is_not_overdue(bench: Bench) -> None:
    """It has a row in `rejected`, which says when it is tried again."""
    bench.archive.create(10)
    bench.archive.unreadable = {1: "header absent"}
    bench.sync(hours(0))
    assert audited(bench, days=2).passed


def test_an_audit_of_another_archive_opens_nothing(bench: Bench) -> None:
    """A wrong address for an hour must not cost the seals of two days."""
    bench.archive.create(10)
    bench.sync(hours(0))
    another = type(bench.archive)()
    another.create(10, of=key("9"))
    with pytest.raises(ForeignArchiveError):
        audit(bench.store, bounds(0), another, run())
    assert seals(bench) == [(at(0), True)]


def test_an_entry_that_is_lost_is_reported_and_not_asked_for(bench: Bench) -> None:
    """Reading again does not bring it back."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.sync(hours(0))
    del bench.archive.entries_[0]
    assert audited(bench).reopened == ()
    assert list(open_hours(bench.store)) == []


def test_an_hour_that_only_the_log_has_is_open(bench: Bench) -> None:
    """A run that ended after `change`: the audit has nothing against the seal, the marks have."""
    bench.archive.create(10)
    bench.change(hours(0))
    assert audited(bench).reopened == ()
    assert list(open_hours(bench.store)) == [at(0)]
    bench.sync(hours(0))
    assert list(open_hours(bench.store)) == []


def test_an_expiry_that_only_the_log_has_leaves_the_hour_open(bench: Bench) -> None:
    """The digest is the same, but the tables have to follow."""
    bench.archive.create(10)
    bench.sync(hours(0))
    bench.archive.expire()
    bench.change(hours(0))
    assert list(open_hours(bench.store)) == [at(0)]
    bench.sync(hours(0))
    assert list(open_hours(bench.store)) == []
    assert contents(bench.store, INSTANCE, "sequence") == []
