"""The light read into the log: every entry once, and what a row may still learn afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom_assets.errors import ConflictError, ForeignArchiveError, MiscountError
from dicom_assets.feed_contract import Entries, Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SYNC
from dicom_assets.tables.change import require_archive
from dicom_assets.tables.delta.commit import Committed
from dicom_assets.tables.delta.snapshot import Snapshot
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.tables import (
    DEFAULT,
    Archive,
    Bench,
    at,
    contents,
    hours,
    key,
    run,
    ticks,
    total,
    versions,
)


def states(bench: Bench) -> list[tuple[object, ...]]:
    """Sequence, action and state of each row of the log."""
    return contents(bench.store, CHANGE, "sequence", "action", "state")


def test_every_entry_of_the_window_is_in_the_log(bench: Bench) -> None:
    """Once, with its key, its exact time and its state; others are not."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.archive.delete(59.9, of=key("2"))
    bench.archive.create(60, of=key("3"))
    bench.change(hours(0))
    assert states(bench) == [
        (1, "Create", "Current"),
        (2, "Create", "Deleted"),
        (3, "Delete", "Deleted"),
    ]
    columns = ("sequence", *INSTANCE.key, "timestamp", "timestamp_ticks")
    assert contents(bench.store, CHANGE, *columns)[0] == (1, *key(), at(10), ticks(10))


def test_an_outcome_counts_by_hour_and_in_total(bench: Bench) -> None:
    """Hours without entries are counted as empty, not left out."""
    bench.archive.create(10)
    bench.archive.update(20)
    bench.archive.create(130, of=key("2"))
    outcome = bench.change(hours(0, 3))
    assert [total(outcome, m) for m in (0, 60, 120)] == [
        {"creates": 1, "updates": 1},
        {},
        {"creates": 1},
    ]
    assert (outcome.version_before, outcome.version_after, outcome.rows) == (0, 1, 3)
    assert (outcome.totals["inserts"], outcome.totals["sealed"]) == (3, 3)
    assert set(outcome.seconds) == {"read", "commit", "retry", "seal"}


def test_reading_an_hour_again_writes_nothing(bench: Bench) -> None:
    """No version of any table, no seal."""
    bench.archive.create(10)
    bench.change(hours(0))
    before = versions(bench.store)
    outcome = bench.change(hours(0))
    assert versions(bench.store) == before
    assert total(outcome) == {"creates": 1}
    assert (outcome.totals["inserts"], outcome.totals["sealed"]) == (0, 0)


def test_a_late_entry_is_added_to_what_is_known(bench: Bench) -> None:
    """Whatever its place in time or sequence."""
    bench.archive.create(50)
    bench.change(hours(0))
    bench.archive.create(5, of=key("2"))
    outcome = bench.change(hours(0))
    assert [row[0] for row in states(bench)] == [1, 2]
    assert (outcome.totals["inserts"], outcome.totals["sealed"]) == (1, 1)


def test_a_seal_that_another_run_has_just_set_stays(bench: Bench, tmp_path: Path) -> None:
    """That run has added the same entries, so it is not told that its hour is missing."""
    bench.archive.create(10)
    bench.sync(hours(0))
    bench.archive.create(20, of=key("2"))
    other = Bench(steps.store_in(tmp_path), bench.archive)
    after: list[dict[str, int]] = []

    class Slow(Archive):
        def entries(self, *some: Any, **others: Any) -> Entries:  # noqa: ANN401 - as they come
            read = super().entries(*some, **others)
            other.sync(hours(0))
            after.append(versions(other.store))
            return read

    steps.add_entries(bench.store, hours(0), Slow(**vars(bench.archive)), run())
    assert [versions(bench.store)] == after
    assert contents(bench.store, SYNC, "sealedAt", "studyAt")[0].count(None) == 0


def test_hours_may_come_in_any_order_and_overlap(bench: Bench) -> None:
    """The log is the same."""
    for minutes in (10, 70, 130):
        bench.archive.create(minutes, of=key(str(minutes)))
    for window in (hours(2), hours(0, 2), hours(1, 3)):
        bench.change(window)
    assert [row[0] for row in states(bench)] == [1, 2, 3]


def test_a_row_that_is_now_served_as_deleted_learns_it_when_nothing_else_says_so(
    bench: Bench,
) -> None:
    """Expiry leaves no Delete entry; reading the hour again finds out, and seals it anew."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.change(hours(0))
    bench.archive.expire()
    outcome = bench.change(hours(0))
    assert states(bench) == [(1, "Create", "Deleted"), (2, "Create", "Current")]
    assert (outcome.totals["patches"], outcome.totals["sealed"]) == (1, 1)


def test_a_row_that_a_delete_explains_is_left_as_it_was(bench: Bench) -> None:
    """The Delete says the same: old hours are not written again for it."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.archive.delete(70)
    bench.change(hours(1))
    before = bench.store.version(CHANGE)
    bench.change(hours(0))
    assert bench.store.version(CHANGE) == before
    assert states(bench) == [(1, "Create", "Current"), (2, "Delete", "Deleted")]


def test_other_states_of_known_rows_are_not_followed(bench: Bench) -> None:
    """Replaced says nothing that the newer entry does not say."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.archive.update(70)
    bench.change(hours(0, 2))
    assert states(bench) == [(1, "Create", "Current"), (2, "Update", "Current")]


def test_a_tombstone_does_not_outlive_a_re_creation(bench: Bench) -> None:
    """The instance comes back with a greater sequence, which decides."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.archive.expire()
    bench.change(hours(0))
    bench.archive.create(70)
    bench.change(hours(0, 2))
    assert states(bench)[-1] == (2, "Create", "Current")


def test_rejected_entries_are_noted_and_sealed(bench: Bench) -> None:
    """They are in `rejected` and in the seal, and not in the log."""
    bench.archive.create(10)
    bench.archive.unusable = [Rejection(7, ticks(20), "unknown action")]
    outcome = bench.change(hours(0))
    assert total(outcome) == {"creates": 1, "rejected": 1}
    assert len(states(bench)) == 1
    assert contents(bench.store, REJECTED, "sequence", "reason", "window_start") == [
        (7, "unknown action", at(0))
    ]
    assert contents(bench.store, SYNC, "rejected", "lastSequence") == [(1, 7)]


def test_entries_without_a_sequence_are_counted_in_hour_seal_and_table(bench: Bench) -> None:
    """One by one; and not any more once they can be read."""
    bench.archive.create(10)
    bench.archive.unusable = [Rejection(None, None, "r", place=ticks(20))] * 60
    for _ in range(2):
        assert total(bench.change(hours(0))) == {"creates": 1, "rejected": 60}
        assert contents(bench.store, SYNC, "rejected") == [(60,)]
        assert contents(bench.store, REJECTED, "window_start") == [(at(0),)] * 60
    bench.archive.unusable = []
    assert total(bench.change(hours(0))) == {"creates": 1}
    assert contents(bench.store, SYNC, "rejected") == [(0,)]
    assert contents(bench.store, REJECTED, "sequence") == []


@pytest.mark.parametrize("wrong", [-1, 1])
def test_entries_that_are_nowhere_are_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """Whatever was listed is in the log, or counted as something else; nothing is sealed."""
    bench.archive.create(10)
    bench.archive.unusable = [Rejection(7, ticks(20), "unknown action")]
    read = bench.archive.entries

    def lying(*given: Any) -> Entries:  # noqa: ANN401 - as `entries`
        entries = read(*given)
        return replace(entries, listed=entries.listed + wrong)

    monkeypatch.setattr(bench.archive, "entries", lying)
    with pytest.raises(
        MiscountError, match=rf"listed {2 + wrong} entries .* 1 of them are in"
    ) as e:
        bench.change(hours(0))
    assert str(e.value).endswith("Nothing was sealed. This is a fault of ours: report it")
    assert contents(bench.store, SYNC, "hour") == []


def test_rows_that_the_log_lost_before_the_seal_are_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is asked, not what was handed to it."""
    bench.archive.create(10)
    monkeypatch.setattr(Snapshot, "commit", lambda self, *_: Committed(self.version, 0))
    with pytest.raises(ConflictError, match="were removed from the change log"):
        bench.change(hours(0))


def test_an_empty_log_fits_any_archive(bench: Bench) -> None:
    """There is nothing to compare."""
    bench.change(hours(0))
    require_archive(bench.store.open(CHANGE), bench.archive)
    assert states(bench) == []


def another() -> Archive:
    """An archive with another instance at the same sequence and time."""
    archive = Archive()
    archive.create(10, of=key("9"))
    return archive


@pytest.mark.parametrize("archive", [Archive(), another()], ids=["emptied", "re-created"])
def test_another_archive_is_refused_before_anything_is_written(
    bench: Bench, archive: Archive
) -> None:
    """Neither the log nor `instance` takes a row; the message names both ways out."""
    bench.archive.create(10)
    bench.sync(hours(0))
    before = versions(bench.store)
    bench.archive = archive
    for step in (bench.change, bench.instance):
        with pytest.raises(ForeignArchiveError) as caught:
            step(hours(0))
        message = str(caught.value)
        assert "another or a re-created DICOM service" in message
        assert "its entry with sequence 1 is not in this one. Nothing was written" in message
        assert "DICOM_SERVICE_URL back, or DICOM_TABLES_URL to a new root" in message
        assert key()[3] not in message
    assert versions(bench.store) == before


def test_the_newest_entry_is_the_one_compared(bench: Bench) -> None:
    """By sequence: the one that a restored backup lacks first."""
    bench.archive.create(50)
    bench.archive.create(10, of=key("2"))
    bench.change(hours(0))
    bench.archive.entries_ = bench.archive.entries_[:1]
    with pytest.raises(ForeignArchiveError, match="sequence 2 "):
        bench.change(hours(0))


def test_a_delete_of_the_newest_instance_is_no_other_archive(bench: Bench) -> None:
    """Its entry stays in the feed, whatever its state."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.archive.expire()
    bench.change(hours(0), run("later"))
    assert contents(bench.store, CHANGE, "partitionName") == [(DEFAULT,)]
