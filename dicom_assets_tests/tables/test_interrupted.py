"""A run that ends anywhere is healed by running again: before or after each of its commits."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dicom_assets.errors import NotYetError
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets.tables.delta.commit import Committed, Difference
from dicom_assets.tables.delta.snapshot import Snapshot
from dicom_assets.tables.sync import open_hours
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import NOW, Bench, contents, hours, key

COMMITS = 9


class KilledError(Exception):
    """The process ended here."""


def prepared(root: Path) -> Bench:
    """An hour is done; the next one updates, deletes, creates, and holds a bad header."""
    bench = Bench(store_in(root))
    bench.archive.create(10, patientid="A")
    bench.archive.create(20, of=key("2"))
    bench.sync(hours(0))
    bench.archive.update(70, patientid="B")
    bench.archive.delete(80, of=key("2"))
    bench.archive.create(90, of=key("3", series="2"))
    bench.archive.create(95, of=key("4"))
    bench.archive.unreadable = {6: "header cannot be decoded"}
    return bench


def state(bench: Bench) -> list[object]:
    """Return the rows of all six tables, without load times."""
    return [
        contents(bench.store, CHANGE, "sequence", "action"),
        contents(bench.store, INSTANCE, "sequence", "patientid", "received_timestamp"),
        contents(bench.store, SERIES, "seriesInstanceUid", "instanceCount", "sequence"),
        contents(bench.store, STUDY, "patientId", "seriesCount", "instanceCount", "sequence"),
        contents(bench.store, REJECTED, "sequence", "attempts"),
        contents(bench.store, SYNC, "hour", "digest", "instanceAt", "seriesAt", "studyAt"),
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The rows of the tables after an undisturbed run."""
    bench = prepared(tmp_path_factory.mktemp("undisturbed"))
    bench.sync(hours(1))
    return state(bench)


def kill_after(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """The process ends right after that commit; returns the list in which they are counted."""
    commit, made = Snapshot.commit, list[int]()

    def committed(self: Snapshot, difference: Difference, note: Mapping[str, object]) -> Committed:
        done = commit(self, difference, note)
        if not difference.is_empty:
            made.append(done.version)
            if len(made) == number:
                raise KilledError
        return done

    monkeypatch.setattr(Snapshot, "commit", committed)
    return made


def test_an_undisturbed_run_makes_nine_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test below ends a run after every one of them."""
    bench = prepared(tmp_path)
    made = kill_after(monkeypatch, 0)
    bench.sync(hours(1))
    assert len(made) == COMMITS


@pytest.mark.parametrize("number", range(1, COMMITS + 1))
def test_a_run_that_ended_after_a_commit_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[object], number: int
) -> None:
    """All six tables hold what one undisturbed run leaves, marks included."""
    bench = prepared(tmp_path)
    with monkeypatch.context() as patched:
        kill_after(patched, number)
        with pytest.raises(KilledError):
            bench.sync(hours(1))
    bench.sync(hours(1))
    assert state(bench) == undisturbed
    assert contents(bench.store, SYNC, "studyAt") == [(NOW,), (NOW,)]


def test_a_run_that_ended_before_its_tombstones_are_logged_leaves_the_hour_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expired instance has no entry: no other table may show the hour before the log has it."""
    bench = Bench(store_in(tmp_path))
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.sync(hours(0))
    bench.archive.expire(of=key("2"))
    with monkeypatch.context() as patched:
        kill_after(patched, 1)
        with pytest.raises(KilledError):
            bench.change(hours(0))
    (owing,) = open_hours(bench.store).values()
    assert "change" in owing
    with pytest.raises(NotYetError):
        bench.instance(hours(0))
    bench.sync(hours(0))
    assert contents(bench.store, INSTANCE, "sequence") == [(1,)]
    assert open_hours(bench.store) == {}
