"""`instance` follows the log: the difference is read and committed, whatever runs meanwhile."""

from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from itertools import permutations

import pyarrow as pa
import pytest

from dicom_assets.errors import (
    DicomAssetsError,
    MiscountError,
    NotYetError,
    ServiceUnavailableError,
)
from dicom_assets.feed_contract import Headers
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables import instance as instance_table
from dicom_assets.tables.delta.arrow import ints
from dicom_assets_tests.support.tables import (
    NOW,
    Archive,
    Bench,
    at,
    contents,
    hours,
    insert,
    key,
    row,
    run,
    total,
    versions,
)

LATER = run("later", NOW + timedelta(hours=1))


def shown(bench: Bench) -> list[tuple[object, ...]]:
    """Last part of the UID, sequence and patient of each row of `instance`."""
    found = contents(bench.store, INSTANCE, "sopinstanceuid", "sequence", "patientid")
    return [(str(sop).rpartition(".")[2], *rest) for sop, *rest in found]


def step(bench: Bench, first: float, last: float | None = None) -> dict[str, object]:
    """A window is read and `instance` brought to it; what became of its first hour."""
    bench.change(hours(first, last))
    return total(bench.instance(hours(first, last)), first * 60)


def test_instances_of_the_window_are_in_the_table(bench: Bench) -> None:
    """With their sequence, their times and the run's moment; two changes of one are one row."""
    bench.archive.create(10, patientid="A")
    bench.archive.update(20, patientid="B")
    bench.archive.create(30, of=key("2"), patientid="C")
    assert step(bench, 0) == {"applied": 2, "superseded": 1}
    assert shown(bench) == [("1", 2, "B"), ("2", 3, "C")]
    columns = ("lastModifiedTimestamp", "received_timestamp", "created_date")
    assert contents(bench.store, INSTANCE, *columns) == [
        (at(20), at(10), NOW),
        (at(30), at(30), NOW),
    ]


def test_only_the_difference_is_asked_for(bench: Bench) -> None:
    """One header per key that is not as it should be, and of a second run none."""
    bench.archive.create(10)
    bench.archive.update(20)
    step(bench, 0)
    bench.archive.create(30, of=key("2"))
    step(bench, 0)
    step(bench, 0)
    assert bench.archive.asked == [[2], [3]]


def test_a_run_again_writes_no_version(bench: Bench) -> None:
    """Of no table; every entry is unchanged or superseded."""
    bench.archive.create(10)
    bench.archive.update(20)
    bench.archive.create(30, of=key("2"))
    bench.sync(hours(0))
    before = versions(bench.store)
    bench.change(hours(0), LATER)
    outcome = bench.instance(hours(0), LATER)
    assert total(outcome) == {"unchanged": 2, "superseded": 1}
    assert (outcome.version_before, outcome.version_after) == (before["instance"],) * 2
    assert versions(bench.store) == before


def test_an_update_replaces_the_row_and_keeps_when_it_was_received(bench: Bench) -> None:
    """The load time moves, the time of the Create does not."""
    bench.archive.create(10, patientid="A", modality="CT")
    step(bench, 0)
    bench.archive.update(70, patientid="B")
    bench.change(hours(1), LATER)
    assert total(bench.instance(hours(1), LATER), 60) == {"applied": 1}
    columns = ("sequence", "patientid", "modality", "received_timestamp", "created_date")
    assert contents(bench.store, INSTANCE, *columns) == [(2, "B", None, at(10), LATER.now)]


def test_a_deleted_instance_loses_its_row_without_a_header_read(bench: Bench) -> None:
    """In the hour of its creation or in a later one."""
    bench.archive.create(10)
    step(bench, 0)
    bench.archive.delete(70)
    bench.archive.create(80, of=key("2"))
    bench.archive.delete(90, of=key("2"))
    bench.archive.asked.clear()
    assert step(bench, 1) == {"deleted": 1, "superseded": 1, "unchanged": 1}
    assert shown(bench) == []
    assert bench.archive.asked == []


def test_an_instance_that_is_created_again_comes_back(bench: Bench) -> None:
    """With the time of its second Create."""
    bench.archive.create(10, patientid="A")
    bench.archive.delete(20)
    bench.archive.create(30, patientid="B")
    step(bench, 0)
    assert shown(bench) == [("1", 3, "B")]
    assert contents(bench.store, INSTANCE, "received_timestamp") == [(at(30),)]


def test_an_expired_instance_goes_when_its_hour_is_read_again(bench: Bench) -> None:
    """No Delete entry says so; and if it is created again, it comes back."""
    bench.archive.create(10, patientid="A")
    bench.archive.create(20, of=key("2"))
    step(bench, 0)
    bench.archive.expire()
    bench.archive.asked.clear()
    assert step(bench, 0) == {"deleted": 1, "unchanged": 1}
    assert shown(bench) == [("2", 2, None)]
    assert step(bench, 0) == {"unchanged": 2}
    assert bench.archive.asked == []
    bench.archive.create(70, patientid="B")
    assert step(bench, 1) == {"applied": 1}
    assert step(bench, 0) == {"superseded": 1, "unchanged": 1}
    assert shown(bench) == [("1", 3, "B"), ("2", 2, None)]


def test_an_instance_that_is_gone_before_its_header_is_read_makes_no_row(bench: Bench) -> None:
    """The header read sees Deleted, though the log still says Current."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.archive.expire()
    assert total(bench.instance(hours(0))) == {"deleted": 1}
    assert shown(bench) == []


def test_a_row_whose_instance_is_gone_before_the_header_of_its_update_is_read_goes(
    bench: Bench,
) -> None:
    """At once, not when a Delete comes."""
    bench.archive.create(10)
    step(bench, 0)
    bench.archive.update(70)
    bench.change(hours(1))
    bench.archive.expire()
    assert total(bench.instance(hours(1)), 60) == {"deleted": 1}
    assert shown(bench) == []


def test_an_entry_that_was_replaced_meanwhile_waits_for_the_hour_of_its_successor(
    bench: Bench,
) -> None:
    """The old row stays until then."""
    bench.archive.create(10, patientid="A")
    step(bench, 0)
    bench.archive.update(70, patientid="B")
    bench.change(hours(1))
    bench.archive.update(130, patientid="C")
    assert total(bench.instance(hours(1)), 60) == {"awaiting": 1}
    assert shown(bench) == [("1", 1, "A")]
    assert step(bench, 2) == {"applied": 1}
    assert shown(bench) == [("1", 3, "C")]


def test_where_reading_stops_what_was_replaced_shows_as_it_stands_now(bench: Bench) -> None:
    """The hour of its successor may never be read: an end is no snapshot, and loses nothing."""
    bench.archive.create(10, patientid="A")
    bench.change(hours(0))
    bench.archive.update(70, patientid="B")
    assert total(bench.instance(hours(0), reads_on=False)) == {"applied": 1}
    assert shown(bench) == [("1", 1, "B")]
    bench.archive.asked.clear()
    assert total(bench.instance(hours(0), reads_on=False)) == {"unchanged": 1}
    assert bench.archive.asked == []
    step(bench, 1)
    assert shown(bench) == [("1", 2, "B")]


def test_an_old_hour_after_a_new_one_changes_nothing_but_the_time_of_receipt(bench: Bench) -> None:
    """A deleted row stays deleted, a newer row stays newer."""
    bench.archive.create(10, patientid="A")
    bench.archive.create(20, of=key("2"))
    bench.archive.update(70, patientid="B")
    bench.archive.delete(80, of=key("2"))
    step(bench, 1)
    assert contents(bench.store, INSTANCE, "sequence", "received_timestamp") == [(3, None)]
    bench.archive.asked.clear()
    assert step(bench, 0) == {"superseded": 2}
    assert contents(bench.store, INSTANCE, "sequence", "received_timestamp") == [(3, at(10))]
    assert bench.archive.asked == []


def history() -> Archive:
    """Three hours: creations, updates, deletions, a re-creation, one data partition more."""
    archive = Archive()
    archive.create(10, patientid="A")
    archive.create(20, of=key("2"), patientid="B")
    archive.create(30, of=key("1", partition="other"), patientid="C")
    archive.update(70, patientid="A2")
    archive.delete(80, of=key("2"))
    archive.create(130, of=key("2"), patientid="B2")
    archive.delete(140)
    return archive


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_hours_in_any_order_make_the_same_table(bench: Bench, order: tuple[int, ...]) -> None:
    """Every column but the load time; no hour is needed twice."""
    bench.archive = history()
    for hour in order:
        step(bench, hour)
    columns = ("partitionName", "sequence", "patientid", "received_timestamp")
    assert contents(bench.store, INSTANCE, *columns) == [
        ("Microsoft.Default", 6, "B2", at(130)),
        ("other", 3, "C", at(30)),
    ]


def test_every_entry_of_an_hour_came_to_one_thing(bench: Bench) -> None:
    """Fetched = applied + deleted + superseded + unchanged + rejected + awaiting, in every hour."""
    bench.archive = history()
    bench.archive.create(15, of=key("3"))
    bench.archive.unreadable = {8: "header cannot be decoded"}
    bench.archive.create(150, of=key("4"))
    bench.change(hours(0, 4))
    bench.archive.update(200, of=key("4"))
    outcome = bench.instance(hours(0, 4))
    assert [total(outcome, m) for m in (0, 60, 120)] == [
        {"superseded": 2, "applied": 1, "rejected": 1},
        {"superseded": 2},
        {"applied": 1, "unchanged": 1, "awaiting": 1},
    ]
    logged = [h for (h,) in contents(bench.store, CHANGE, "timestamp")]
    assert sum(count.total() for count in outcome.hours.values()) == len(logged) == 9


def test_the_totals_say_what_was_written_and_read(bench: Bench) -> None:
    """Rows by kind of change, pages, and the rows that the table has now."""
    bench.archive = history()
    bench.change(hours(0, 3))
    outcome = bench.instance(hours(0, 3))
    expected = {"inserts": 2, "updates": 0, "deletes": 0, "patches": 0, "pages": 2}
    assert {name: outcome.totals[name] for name in expected} == expected
    assert outcome.rows == 2
    assert set(outcome.seconds) == {"plan", "read", "commit"}


def test_an_outcome_has_the_versions_between_which_it_happened(bench: Bench) -> None:
    """Of each of the four tables: the one that was found, and the one that was made of it."""
    bench.archive.create(10)
    bench.sync(hours(0))
    bench.archive.update(70)
    outcomes = [bench.change(hours(1)), bench.instance(hours(1))]
    outcomes += [bench.rollup(table, hours(1)) for table in (SERIES, STUDY)]
    assert [(o.version_before, o.version_after) for o in outcomes] == [(1, 2)] * 4


def test_rows_of_a_table_that_was_taken_over_are_brought_up_to_date(bench: Bench) -> None:
    """They hold no sequence: replaced when their instance lives, deleted when it is gone."""
    rows = [row(None, "1", patientid="old"), row(None, "2"), row(None, "3", patientid="kept")]
    insert(bench.store, INSTANCE, rows)
    bench.archive.create(10, patientid="new")
    bench.archive.create(20, of=key("2"))
    bench.archive.delete(30, of=key("2"))
    assert step(bench, 0) == {"applied": 1, "deleted": 1, "superseded": 1}
    assert shown(bench) == [("1", 1, "new"), ("3", None, "kept")]


def test_an_hour_that_is_not_in_the_log_writes_nothing(bench: Bench) -> None:
    """Though a part of its window is."""
    bench.archive.create(10)
    bench.change(hours(0))
    with pytest.raises(NotYetError):
        bench.instance(hours(0, 2))
    assert bench.store.version(INSTANCE) == 0
    assert bench.archive.asked == []


def fails(archive: Archive, error: DicomAssetsError) -> None:
    """The next heavy read ends with an error."""

    def fail() -> None:
        raise error

    archive.meanwhile = fail


def test_a_read_that_fails_writes_and_marks_nothing(bench: Bench) -> None:
    """The next run does it all."""
    bench.archive.create(10)
    bench.change(hours(0))
    fails(bench.archive, ServiceUnavailableError("no answer"))
    with pytest.raises(ServiceUnavailableError):
        bench.instance(hours(0))
    assert bench.store.version(INSTANCE) == 0
    assert contents(bench.store, SYNC, "instanceAt") == [(None,)]
    bench.instance(hours(0))
    assert shown(bench) == [("1", 1, None)]


def test_an_outcome_counts_values_that_became_null(bench: Bench) -> None:
    """By column, as the feed reports them; none of them here."""
    bench.archive.create(10)
    bench.change(hours(0))
    assert dict(bench.instance(hours(0)).unparsable) == {}


def meanwhile(bench: Bench, *steps: Callable[[], object]) -> None:
    """Another run takes these steps between the plan and the commit of the next one."""

    def take() -> None:
        for each in steps:
            each()

    bench.archive.meanwhile = take


def test_a_log_that_moved_between_plan_and_commit_is_applied_again(bench: Bench) -> None:
    """Another run brought a later hour into the log only: this run shows its newest entry too."""
    bench.archive.create(10, patientid="A")
    bench.change(hours(0))
    bench.archive.create(20, of=key("2"))
    meanwhile(
        bench,
        lambda: bench.archive.update(70, patientid="B"),
        lambda: bench.change(hours(1)),
    )
    bench.instance(hours(0))
    assert shown(bench) == [("1", 3, "B")]


def test_a_delete_that_was_logged_between_plan_and_commit_takes_the_row(bench: Bench) -> None:
    """A Create read before the delete and committed after it leaves nothing behind."""
    bench.archive.create(10, patientid="A")
    bench.change(hours(0))
    meanwhile(bench, lambda: bench.archive.delete(70), lambda: bench.change(hours(1)))
    bench.instance(hours(0))
    assert shown(bench) == []


def test_entries_that_a_second_attempt_overtook_are_counted_once(bench: Bench) -> None:
    """Two entries were fetched for the hour: what became of them adds up to two."""
    bench.archive.create(10, patientid="A")
    bench.archive.create(20, of=key("2"))
    bench.change(hours(0))
    meanwhile(
        bench,
        lambda: bench.archive.update(70, patientid="B"),
        lambda: bench.change(hours(1)),
    )
    outcome = bench.instance(hours(0))
    assert sum(int(str(count)) for count in total(outcome).values()) == 2


def test_who_loses_the_race_derives_anew_from_the_log(bench: Bench) -> None:
    """The other run was at a newer entry: what was read for the old one is not written over it."""
    bench.archive.create(10, patientid="A")
    bench.change(hours(0))
    meanwhile(
        bench,
        lambda: bench.archive.update(70, patientid="B"),
        lambda: bench.change(hours(1), LATER),
        lambda: bench.instance(hours(1), LATER),
    )
    bench.instance(hours(0))
    assert shown(bench) == [("1", 2, "B")]
    assert bench.archive.asked == [[1], [2]]
    assert bench.store.version(INSTANCE) == 1


def test_the_same_hour_twice_at_once_is_the_hour_once(bench: Bench) -> None:
    """The second finds everything done."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.change(hours(0))
    meanwhile(bench, lambda: bench.instance(hours(0), LATER))
    outcome = bench.instance(hours(0))
    assert total(outcome) == {"unchanged": 2}
    assert shown(bench) == [("1", 1, None), ("2", 2, None)]
    assert contents(bench.store, INSTANCE, "created_date") == [(LATER.now,)] * 2


def test_neighbours_are_the_log_rows_around_what_is_wanted(bench: Bench) -> None:
    """Wanted entries of a later hour come with the rows between them, in the log of that hour."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.archive.update(70)
    bench.archive.create(75, of=key("3"))
    bench.archive.update(80, of=key("2"))
    bench.archive.create(90, of=key("4"))
    bench.change(hours(0, 2))
    seen: list[list[int]] = []
    read = bench.archive.headers

    def headers(log: pa.Table, wanted: Collection[int]) -> Iterable[Headers]:
        seen.append(sorted(ints(log["sequence"])))
        return read(log, wanted)

    bench.archive.headers = headers  # type: ignore[method-assign]
    bench.instance(hours(0))
    assert seen == [[3, 4, 5]]
    assert bench.archive.asked == [[3, 5]]


def test_an_entry_without_a_fate_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no "superseded" by default; nothing is committed and no hour is marked."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.change(hours(0))
    monkeypatch.setattr(instance_table, "_read", lambda *_: None)
    with pytest.raises(MiscountError, match=r"2 of 2 entries of 2026-01-01 .* have no result"):
        bench.instance(hours(0))
    assert contents(bench.store, INSTANCE, "sequence") == []
    assert contents(bench.store, SYNC, "instanceAt") == [(None,)]
