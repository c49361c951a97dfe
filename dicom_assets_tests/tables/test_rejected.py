"""Rejected entries: noted once, resting longer each time, tried again, cleared by all tables."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, Table
from dicom_assets.tables import rejected
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.tables import (
    NOW,
    Bench,
    at,
    contents,
    hours,
    insert,
    key,
    run,
    ticks,
    total,
)

BAD = Rejection(7, ticks(70), "header cannot be decoded")
SOON = run("soon", NOW + timedelta(minutes=59))
DUE = run("due", NOW + timedelta(hours=1))


def noted(store: Store) -> list[tuple[object, ...]]:
    """Sequence, attempts, last run and next attempt of each rejection."""
    return contents(store, REJECTED, "sequence", "attempts", "run_id", "next_attempt")


@pytest.mark.parametrize(
    ("attempts", "hours_"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 24), (7, 24), (999, 24)]
)
def test_a_pause_doubles_up_to_a_day(attempts: int, hours_: int) -> None:
    """After the first attempt an hour; never without an end."""
    assert rejected.pause_after(attempts) == timedelta(hours=hours_)


def test_a_rejection_has_sequence_time_reason_hour_and_run(store: Store) -> None:
    """And nothing else: no value."""
    rejected.note(store, hours(0, 3), [BAD], run("r1"))
    assert store.open(REJECTED).rows().to_pylist() == [
        {
            "sequence": 7,
            "timestamp_ticks": ticks(70),
            "reason": "header cannot be decoded",
            "window_start": at(60),
            "run_id": "r1",
            "attempts": 1,
            "next_attempt": NOW + timedelta(hours=1),
        }
    ]


def test_none_writes_nothing(store: Store) -> None:
    """Nor does clearing none, or what is not there."""
    rejected.note(store, hours(0), [], run())
    rejected.clear(store, [], run())
    rejected.clear(store, [5], run())
    assert store.version(REJECTED) == -1
    assert rejected.waiting(store, run()) == ({}, set())
    assert rejected.sequences(store) == []


def test_a_rejection_met_again_before_its_time_is_no_new_attempt(store: Store) -> None:
    """Nothing is written for it."""
    for by in (run("r1"), SOON):
        rejected.note(store, hours(0, 3), [BAD], by)
    assert noted(store) == [(7, 1, "r1", NOW + timedelta(hours=1))]
    assert store.version(REJECTED) == 1


def test_a_rejection_met_again_in_time_is_another_attempt(store: Store) -> None:
    """It rests twice as long, from then on."""
    for by in (run("r1"), DUE):
        rejected.note(store, hours(0, 3), [BAD], by)
    assert noted(store) == [(7, 2, "due", DUE.now + timedelta(hours=2))]


def test_a_rejection_tried_in_another_window_keeps_its_own_hour(store: Store) -> None:
    """The reconciliation names the hour that the entry belongs to, whichever run met it last."""
    for window, by in ((hours(0, 3), run("r1")), (hours(9), DUE)):
        rejected.note(store, window, [BAD], by)
    assert contents(store, REJECTED, "window_start") == [(at(60),)]


def test_an_entry_rejected_twice_in_one_read_is_noted_once(store: Store) -> None:
    """A shifted page may show it twice."""
    rejected.note(store, hours(0, 3), [BAD, BAD], run())
    assert len(noted(store)) == 1


def nameless(count: int, reason: str = "a", minutes: float = 10) -> list[Rejection]:
    """Entries without a sequence, at the same place."""
    return [Rejection(None, ticks(minutes), reason, place=ticks(minutes))] * count


def rows_without_a_sequence(store: Store) -> Counter[tuple[object, ...]]:
    """Hour and reason of the rows without a sequence, with their number."""
    return Counter(contents(store, REJECTED, "sequence", "window_start", "reason"))


def test_entries_without_a_sequence_are_a_row_each(store: Store) -> None:
    """However often their hour is read: the same rows, and nothing is written again."""
    for by in (run(), DUE, SOON):
        rejected.replace_nameless(store, hours(0), [*nameless(60), *nameless(1, "b")], by)
    rejected.replace_nameless(store, hours(1), nameless(2, minutes=70), run())
    assert rows_without_a_sequence(store) == {
        (None, at(0), "a"): 60,
        (None, at(0), "b"): 1,
        (None, at(60), "a"): 2,
    }
    assert store.version(REJECTED) == 2
    assert rejected.waiting(store, DUE) == ({}, set())
    assert set(contents(store, REJECTED, "next_attempt")) == {(None,)}


def test_entries_without_a_sequence_that_can_be_read_now_lose_their_rows(store: Store) -> None:
    """Those of the hours that were read; all other rows stay as they are."""
    rejected.note(store, hours(0, 3), [BAD], run("r1"))
    for hour in (0, 1, 2):
        rejected.replace_nameless(store, hours(hour), nameless(3, minutes=hour * 60), run())
    rejected.replace_nameless(store, hours(0), nameless(1, minutes=0), run())
    rejected.replace_nameless(store, hours(1, 2), [], run())
    assert rows_without_a_sequence(store) == {
        (None, at(0), "a"): 1,
        (None, at(120), "a"): 3,
        (7, at(60), BAD.reason): 1,
    }
    rejected.replace_nameless(store, hours(0, 3), [], run())
    assert noted(store) == [(7, 1, "r1", NOW + timedelta(hours=1))]


def test_the_one_row_of_an_earlier_release_becomes_a_row_each(store: Store) -> None:
    """When its hour is read again."""
    old = {"sequence": None, "timestamp_ticks": ticks(10), "reason": "a", "window_start": at(0)}
    insert(store, REJECTED, [old | {"run_id": "r", "attempts": 1, "next_attempt": NOW}])
    assert [one.next_attempt for one in rejected.by_reason(store)] == [None]
    rejected.replace_nameless(store, hours(0), nameless(60), run())
    assert rows_without_a_sequence(store) == {(None, at(0), "a"): 60}


def test_what_waits_is_told_by_reason(store: Store) -> None:
    """The most frequent first, with its oldest hour and its first attempt."""
    assert rejected.by_reason(store) == []
    rejected.note(store, hours(0, 3), [BAD, Rejection(8, ticks(5), BAD.reason)], run())
    rejected.replace_nameless(store, hours(0, 3), nameless(5, minutes=130), run())
    assert rejected.by_reason(store) == [
        rejected.WaitingReason("a", 5, at(120), None),
        rejected.WaitingReason(BAD.reason, 2, at(0), NOW + timedelta(hours=1)),
    ]


def test_a_pause_ends_at_its_moment(store: Store) -> None:
    """Until then the sequence rests, from then on it is due."""
    rejected.note(store, hours(0, 3), [BAD], run())
    assert rejected.waiting(store, SOON) == ({7: DUE.now}, set())
    assert rejected.waiting(store, DUE) == ({}, {7})


def test_what_is_cleared_is_gone_and_the_rest_stays(store: Store) -> None:
    """By sequence."""
    more = [BAD, Rejection(8, ticks(71), "r"), Rejection(9, ticks(72), "r")]
    rejected.note(store, hours(0, 3), more, run())
    rejected.clear(store, [9, 7, 100], run())
    assert rejected.sequences(store) == [8]


@pytest.fixture
def broken(bench: Bench) -> Bench:
    """Two instances of one study; the header of the second cannot be used."""
    bench.archive.create(10, patientid="A")
    bench.archive.create(20, of=key("2"), patientid="B")
    bench.archive.unreadable = {2: "header cannot be decoded"}
    outcome = bench.sync(hours(0))
    assert total(outcome) == {"applied": 1, "rejected": 1}
    return bench


def live(bench: Bench) -> list[tuple[object, ...]]:
    """The sequences in `instance`, and the count that series and study show."""
    counts = [contents(bench.store, t, "instanceCount")[0][0] for t in (SERIES, STUDY)]
    return [*contents(bench.store, INSTANCE, "sequence"), tuple(counts)]


def test_a_header_that_cannot_be_used_is_rejected_and_the_others_land(broken: Bench) -> None:
    """One row less, counted."""
    assert live(broken) == [(1,), (1, 1)]
    assert noted(broken.store) == [(2, 1, "run", NOW + timedelta(hours=1))]


def test_a_paused_header_is_not_asked_for(broken: Bench) -> None:
    """And the hour says so: it stays rejected, which is not the same as done."""
    broken.archive.unreadable = {}
    broken.archive.asked.clear()
    outcome = broken.sync(hours(0), SOON)
    assert broken.archive.asked == []
    assert total(outcome) == {"unchanged": 1, "rejected": 1}
    assert live(broken) == [(1,), (1, 1)]


BY_HAND = replace(SOON, retries_resting=True)


def test_a_run_that_a_person_starts_tries_the_entries_of_its_hours(broken: Bench) -> None:
    """Although they rest. Those of other hours rest on."""
    broken.archive.unreadable = {}
    broken.sync(hours(5), BY_HAND)
    assert len(noted(broken.store)) == 1
    outcome = broken.sync(hours(0), BY_HAND)
    assert total(outcome) == {"unchanged": 1, "applied": 1}
    assert live(broken) == [(1,), (2,), (2, 2)]
    assert noted(broken.store) == []


def test_an_entry_that_fails_for_a_person_rests_longer_and_is_asked_for_once(
    broken: Bench,
) -> None:
    """Also when another run makes this one plan again."""
    broken.archive.asked.clear()
    broken.archive.meanwhile = lambda: broken.change(hours(1), run("other"))
    broken.archive.create(70, of=key("3"))
    broken.sync(hours(0), BY_HAND)
    assert broken.archive.asked == [[2]]
    assert noted(broken.store) == [(2, 2, "soon", SOON.now + timedelta(hours=2))]


def test_an_entry_of_the_light_read_is_tried_by_a_person_too(bench: Bench) -> None:
    """Its hour is read anyway, and then `instance` does not wait."""
    bench.archive.unusable = [Rejection(1, ticks(10), "unknown state")]
    bench.sync(hours(0))
    bench.archive.unusable = []
    bench.archive.create(10)
    bench.sync(hours(0), BY_HAND)
    assert live(bench) == [(1,), (1, 1)]
    assert rejected.sequences(bench.store) == []


def test_a_run_says_how_many_entries_rest_and_until_when(broken: Bench) -> None:
    """Of all hours, and of its own."""
    said: list[str] = []
    for window in (hours(0), hours(5)):
        broken.sync(window, replace(SOON, say=said.append))
    until = f"{NOW + timedelta(hours=1):%Y-%m-%d %H:%M} UTC"
    rest = [one for one in said if "rest" in one]
    assert [f"1 rejected entries rest, the last until {until}" in one for one in rest] == [True] * 2
    assert ["1 of them are of these hours" in one for one in rest] == [True, False]


def test_a_due_header_is_tried_by_whatever_run_comes_next(broken: Bench) -> None:
    """Of another hour too; all three tables follow, and the entry is cleared."""
    broken.archive.unreadable = {}
    broken.sync(hours(5), DUE)
    assert live(broken) == [(1,), (2,), (2, 2)]
    assert noted(broken.store) == []


def test_a_due_header_that_fails_again_rests_longer(broken: Bench) -> None:
    """Twice as long, and is not asked for before."""
    broken.sync(hours(5), DUE)
    assert noted(broken.store) == [(2, 2, "due", DUE.now + timedelta(hours=2))]
    broken.archive.asked.clear()
    broken.sync(hours(5), run("r3", DUE.now + timedelta(minutes=119)))
    assert broken.archive.asked == []


@pytest.mark.parametrize("order", [(SERIES, STUDY), (STUDY, SERIES)], ids=["series", "study"])
def test_a_rejection_is_cleared_when_both_rollups_agree(
    broken: Bench, order: tuple[Table, Table]
) -> None:
    """In either order. Before, its study counts as touched in every run."""
    broken.archive.unreadable = {}
    broken.change(hours(5), DUE)
    broken.instance(hours(5), DUE)
    left = []
    for table in order:
        broken.rollup(table, hours(5), DUE)
        left.append(len(noted(broken.store)))
    assert left == [1, 0]


def test_a_newer_entry_of_the_key_heals_its_rejection(broken: Bench) -> None:
    """The instance was corrected: nothing waits for the old header any more."""
    broken.archive.update(70, of=key("2"), patientid="C")
    broken.sync(hours(1), SOON)
    assert live(broken) == [(1,), (3,), (2, 2)]
    assert noted(broken.store) == []


@pytest.mark.parametrize("silent", [False, True], ids=["deleted", "expired"])
def test_an_instance_that_is_gone_heals_its_rejection(broken: Bench, silent: bool) -> None:
    """With a Delete entry at once; without one, when its header is asked for again."""
    if silent:
        broken.archive.expire(of=key("2"))
        broken.archive.unreadable = {}
    else:
        broken.archive.delete(70, of=key("2"))
    broken.sync(hours(0, 2), DUE)
    assert live(broken) == [(1,), (1, 1)]
    assert noted(broken.store) == []


def test_the_first_sequence_there_can_be_is_cleared_like_any_other(bench: Bench) -> None:
    """Zero is a sequence, not nothing."""
    bench.archive.next_sequence = 0
    bench.archive.create(10)
    bench.archive.unreadable = {0: "header cannot be decoded"}
    bench.sync(hours(0))
    bench.archive.unreadable = {}
    bench.sync(hours(0), DUE)
    assert contents(bench.store, INSTANCE, "sequence") == [(0,)]
    assert noted(bench.store) == []


def test_an_entry_that_the_light_read_rejected_is_cleared_once_it_can_be_used(bench: Bench) -> None:
    """Reading its hour again brings it into the log, and from there into the tables."""
    bench.archive.unusable = [Rejection(1, ticks(10), "unknown state")]
    bench.sync(hours(0))
    assert rejected.sequences(bench.store) == [1]
    bench.archive.unusable = []
    bench.archive.create(10)
    bench.sync(hours(0), DUE)
    assert rejected.sequences(bench.store) == []
    assert live(bench) == [(1,), (1, 1)]


def test_an_entry_of_another_hour_is_tried_again_by_any_run(bench: Bench) -> None:
    """The run of a later hour finds it usable: it lands, with its study, and is cleared."""
    bench.archive.unusable = [Rejection(1, ticks(10), "unknown state")]
    bench.sync(hours(0))
    bench.archive.unusable = []
    bench.archive.create(10)
    bench.sync(hours(5), DUE)
    assert live(bench) == [(1,), (1, 1)]
    assert rejected.sequences(bench.store) == []


def test_an_entry_of_another_hour_rests_until_its_pause_is_over(bench: Bench) -> None:
    """Before, no request is spent on it."""
    bench.archive.unusable = [Rejection(1, ticks(10), "unknown state")]
    bench.sync(hours(0))
    bench.archive.unusable = []
    bench.archive.create(10)
    bench.sync(hours(5))
    assert contents(bench.store, INSTANCE, "sequence") == []
    assert rejected.sequences(bench.store) == [1]


def test_an_entry_that_is_no_longer_served_says_so_and_rests_longer(bench: Bench) -> None:
    """It stays, because rows of the feed never vanish: somebody should know."""
    bench.archive.unusable = [Rejection(1, ticks(10), "unknown state")]
    bench.sync(hours(0))
    bench.archive.unusable = []
    bench.sync(hours(5), DUE)
    columns = ("sequence", "reason", "attempts")
    assert contents(bench.store, REJECTED, *columns) == [(1, "no longer served", 2)]


def test_what_came_late_at_the_same_time_waits_for_its_own_hour(bench: Bench) -> None:
    """Only the entry that is due is taken in; the audit finds the other."""
    bench.archive.unusable = [Rejection(1, ticks(10), "unknown state")]
    bench.sync(hours(0))
    bench.archive.unusable = []
    bench.archive.create(10)
    bench.archive.create(10, of=key("2"))
    bench.sync(hours(5), DUE)
    assert contents(bench.store, CHANGE, "sequence") == [(1,)]


def test_a_rejected_header_whose_instance_is_gone_is_cleared(bench: Bench) -> None:
    """It expired without an entry: the header's answer is all that tells."""
    bench.archive.create(10)
    bench.archive.unreadable = {1: "header cannot be decoded"}
    bench.sync(hours(0))
    bench.archive.unreadable = {}
    bench.archive.expire()
    bench.sync(hours(5), DUE)
    assert rejected.sequences(bench.store) == []
    bench.archive.asked.clear()
    bench.sync(hours(5), DUE)
    assert bench.archive.asked == []
