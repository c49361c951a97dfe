"""The outcome of an update: attempts added up, time by stage, and progress in the log."""

from collections import Counter
from itertools import count

import pytest

from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch


def one(hours: dict[int, dict[str, int]], **totals: int) -> Outcome:
    """The outcome of one attempt, from version 3 to 4."""
    counted = {hour: Counter(counts) for hour, counts in hours.items()}
    return Outcome(3, 4, 10, counted, Counter(totals), Counter(a=1), {"plan": 1.0})


def together(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return the results of one hour after two attempts, without zeros."""
    both = one({0: before}).then(one({0: after}))
    return {name: number for name, number in both.hours[0].items() if number}


def test_two_attempts_are_one_outcome() -> None:
    """From the first version to the last, with everything that was done and took time."""
    second = Outcome(
        5, 6, 12, {7: Counter(applied=1)}, Counter(inserts=2), Counter(a=2), {"read": 2.0}
    )
    both = one({0: {"applied": 1}}, inserts=1).then(second)
    assert (both.version_before, both.version_after, both.rows) == (3, 6, 12)
    assert both.hours == {0: Counter(applied=1), 7: Counter(applied=1)}
    assert (both.totals, both.unparsable) == (Counter(inserts=3), Counter(a=3))
    assert both.seconds == {"plan": 1.0, "read": 2.0}


@pytest.mark.parametrize(
    ("before", "after", "both"),
    [
        ({"applied": 2}, {"unchanged": 2}, {"applied": 2}),
        ({"applied": 1, "deleted": 1}, {"unchanged": 2}, {"applied": 1, "deleted": 1}),
        ({"applied": 1}, {"unchanged": 1, "applied": 1}, {"applied": 2}),
        ({"unchanged": 1}, {"unchanged": 1, "superseded": 1}, {"unchanged": 1, "superseded": 1}),
        ({"awaiting": 1}, {"superseded": 1}, {"superseded": 1}),
        ({"rejected": 1}, {"rejected": 1}, {"rejected": 1}),
        ({}, {"applied": 1}, {"applied": 1}),
    ],
)
def test_what_the_first_attempt_did_is_not_undone_by_what_the_second_saw(
    before: dict[str, int], after: dict[str, int], both: dict[str, int]
) -> None:
    """The second finds done what the first did, and calls it unchanged."""
    assert together(before, after) == both


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"applied": 2}, {"superseded": 1, "unchanged": 1}),
        ({"applied": 1}, {"deleted": 1}),
        ({"applied": 1}, {"awaiting": 1}),
    ],
)
def test_an_hour_counts_every_entry_once(before: dict[str, int], after: dict[str, int]) -> None:
    """Also when the second attempt found something newer: the sum is the hour's entries."""
    assert sum(together(before, after).values()) == sum(after.values())


def test_a_stopwatch_adds_up_the_time_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that ends with an error."""
    clock = count(0.0, 1.5)
    monkeypatch.setattr("dicom_assets.tables.outcome.time.monotonic", lambda: next(clock))
    watch = Stopwatch()
    with watch.stage("read"):
        pass
    with pytest.raises(ValueError, match="x"), watch.stage("read"):
        raise ValueError("x")
    assert watch.seconds == {"read": 3.0}


def test_progress_is_said_every_few_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the count of that moment; nothing about what is quickly done."""
    clock = iter([0.0, 1.0, 2.0, 2.0, 3.9, 4.0, 4.0])
    monkeypatch.setattr("dicom_assets.tables.outcome.time.monotonic", lambda: next(clock))
    said: list[str] = []
    progress = Progress(said.append, "read {} entries")
    for number in (500, 1_500, 2_500, 3_500):
        progress(number)
    assert said == ["read 1,500 entries", "read 3,500 entries"]
