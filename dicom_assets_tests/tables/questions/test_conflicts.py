"""How often a commit came too late: the Delta logs remember it."""

from contextvars import Context
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from dicom_assets.errors import ConflictError
from dicom_assets.schema import SYNC
from dicom_assets.tables.delta import retry as converge
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.conflicts import conflicts_since
from dicom_assets_tests.support.tables import at, contents

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits."""
    monkeypatch.setattr(converge, "LONGEST_PAUSE_SECONDS", 0.0)


def committed(store: Store, hour: int, overtaken: int = 0) -> None:
    """A commit is made that others have overtaken so many times, with commits of their own."""
    left = list(range(overtaken))

    def attempt() -> None:
        sync = store.open(SYNC)
        if left:
            # As another run would, which knows nothing of our attempts.
            row, note = _row(100 * hour + left.pop()), {"run_id": "other"}
            Context().run(store.open(SYNC).commit, row, note)
        sync.commit(_row(hour), {"run_id": "own"})

    converge.converge(attempt)


def _row(hour: int) -> Difference:
    rows = pa.Table.from_pylist([{"hour": at(60 * hour)}], schema=SYNC.arrow())
    return Difference(SYNC, inserts=rows)


def test_commits_without_a_rival_have_none(store: Store) -> None:
    """Tables that are not there have no commits at all. The creation of a table is one."""
    assert conflicts_since(store, LONG_AGO).rate == 0.0
    committed(store, 1)
    committed(store, 2)
    found = conflicts_since(store, LONG_AGO)
    assert (found.commits, found.conflicts.total(), found.rate) == (3, 0, 0.0)


def test_a_commit_tells_how_often_it_came_too_late(store: Store) -> None:
    """Each of its attempts counts, and the rivals' own commits count as commits."""
    committed(store, 1)
    committed(store, 2, overtaken=2)
    found = conflicts_since(store, LONG_AGO)
    assert (found.commits, found.conflicts["sync"]) == (5, 2)
    assert found.rate == pytest.approx(2 / 7)
    assert len(contents(store, SYNC, "hour")) == 4


def test_what_is_older_is_not_counted(store: Store) -> None:
    """A day that was bad is over."""
    committed(store, 1)
    committed(store, 2, overtaken=1)
    assert conflicts_since(store, datetime.now(UTC) + timedelta(minutes=1)).commits == 0


def test_an_attempt_after_one_that_ended_otherwise_counts_anew() -> None:
    """The count is of one commit's attempts, and nothing is left of it."""
    seen: list[int] = []

    def attempt() -> None:
        seen.append(converge.conflicts())
        if len(seen) == 1:
            raise ConflictError("first")

    converge.converge(attempt)
    assert converge.conflicts() == 0
    converge.converge(attempt)
    assert seen == [0, 1, 0]
