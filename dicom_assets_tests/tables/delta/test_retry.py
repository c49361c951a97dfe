"""Running again what another run has overtaken."""

import pytest

from dicom_assets.errors import ConflictError, TableUnavailableError
from dicom_assets.tables.delta import retry
from dicom_assets.tables.delta.retry import converge, settle
from dicom_assets_tests.support.tables import run


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits."""
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0.0)


def conflicting(times: int) -> list[Exception]:
    """So many conflicts."""
    return [ConflictError("first") for _ in range(times)]


def attempt(errors: list[Exception], made: list[int]) -> int:
    """One attempt more, which fails as long as there are errors."""
    made.append(len(made))
    if errors:
        raise errors.pop()
    return len(made)


def test_an_attempt_that_succeeds_is_made_once() -> None:
    """And what it returned is returned."""
    made: list[int] = []
    assert converge(lambda: attempt([], made)) == 1


def test_an_attempt_that_conflicts_is_made_again() -> None:
    """As a whole, as often as needed."""
    made: list[int] = []
    errors = conflicting(5)
    assert converge(lambda: attempt(errors, made)) == 6


def test_other_errors_end_it_at_once() -> None:
    """Only a conflict says that trying again helps."""
    made: list[int] = []
    errors: list[Exception] = [TableUnavailableError("gone")]
    with pytest.raises(TableUnavailableError):
        converge(lambda: attempt(errors, made))
    assert len(made) == 1


def test_conflicts_without_end_end_with_the_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red within the time allowed, as our own error."""
    monkeypatch.setattr(retry, "CONFLICT_SECONDS", 0.05)
    made: list[int] = []
    with pytest.raises(ConflictError, match="first"):
        converge(lambda: attempt(conflicting(1), made))
    assert len(made) > 1


def settled(versions: list[int]) -> tuple[list[int], list[int]]:
    """Return the results of the attempts, and the versions that were not read."""
    made: list[int] = []
    return settle(lambda: versions.pop(0), lambda: attempt([], made)), versions


def test_an_upstream_at_rest_needs_one_attempt() -> None:
    """Its version is read before and after."""
    assert settled([4, 4, 99]) == ([1], [99])


def test_an_upstream_that_moved_needs_another_attempt() -> None:
    """Until it has not moved during one, and every attempt counts."""
    assert settled([4, 5, 7, 7, 99]) == ([1, 2, 3], [99])


def test_an_upstream_that_went_back_has_moved() -> None:
    """A table restored to an old version is another upstream."""
    assert settled([4, 3, 3]) == ([1, 2], [])


def test_a_conflict_inside_is_not_a_move() -> None:
    """It is settled where it happened."""
    made: list[int] = []
    errors = conflicting(2)
    assert settle(lambda: 4, lambda: attempt(errors, made)) == [3]


def test_a_run_says_nothing_unless_it_was_given_a_voice() -> None:
    """And is equal to itself."""
    run().say("text")
    assert run() == run()


def test_an_attempt_longer_than_all_patience_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill that reads for an hour and meets one other commit does not end with it."""
    monkeypatch.setattr(retry, "CONFLICT_SECONDS", 0.0)
    errors, made = conflicting(4), list[int]()
    assert converge(lambda: attempt(errors, made)) == 5
