"""Handles of tables: brought up to date, shared, and not believed for another table's log."""

import pickle
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from dicom_assets.errors import ConflictError, TableUnavailableError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, SYNC
from dicom_assets.tables.delta import handles
from dicom_assets.tables.delta.arrow import ints, texts
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import DataFile, read_columns
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot, Store, one_step
from dicom_assets_tests.support.maintained import rows_of
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import NOW, at, insert, instances, row

RUN = Run("r1", NOW)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose process looks at the table again and again."""
    return store_in(tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of tables that were opened from nothing."""
    urls = list[str]()

    def counted(url: str, *given: Any, **more: Any) -> DeltaTable:  # noqa: ANN401 - the engine's
        urls.append(url)
        return DeltaTable(url, *given, **more)

    monkeypatch.setattr(handles, "DeltaTable", counted)
    return urls


def add(store: Store, *numbers: int) -> None:
    """Add instances in a commit each, as another process does it."""
    for number in numbers:
        insert(replace(store), INSTANCE, [row(number, f"{number}")])


def studies(store: Store) -> list[str]:
    """Return what the store's process sees now."""
    return texts(store.open(INSTANCE).rows(["sopinstanceuid"])["sopinstanceuid"])


def test_a_table_is_opened_once(store: Store, opened: list[str]) -> None:
    """Whoever commits, each look shows the newest version."""
    for number in range(1, 6):
        insert(store, INSTANCE, [row(number, f"{number}")])
    added = [url for url in opened if "instance" in url]
    # Absent, and made. The process that has made it opens it once.
    assert len(added) <= 3
    del opened[:]
    add(store, 6, 7)
    others = len(opened)
    assert len(studies(store)) == 7
    assert len(opened) == others


def test_a_snapshot_stays_what_it_was_while_others_look_further(store: Store) -> None:
    """In rows, count and files, and it cannot be committed on any more."""
    add(store, 1)
    early = store.open(INSTANCE)
    add(store, 2)
    late = store.open(INSTANCE)
    assert (early.version, early.count(), len(early.rows(["sequence"]))) == (1, 1, 1)
    assert (late.version, late.count(), len(late.query("SELECT sequence FROM t"))) == (2, 2, 2)
    assert len(early.query("SELECT sequence FROM t")) == 1
    with pytest.raises(ConflictError):
        early.commit(Difference(INSTANCE, inserts=instances(row(3, "3"))), {})
    assert late.commit(Difference(INSTANCE, inserts=instances(row(3, "3"))), {}) == (3, 3)
    assert late.count() == 2


def test_snapshots_of_one_version_are_committed_on_once(store: Store, opened: list[str]) -> None:
    """They share a handle, which a commit does not move."""
    add(store, 1)
    first, second = store.open(INSTANCE), store.open(INSTANCE)
    assert first.delta is second.delta
    first.commit(Difference(INSTANCE, inserts=instances(row(2, "2"))), {})
    with pytest.raises(ConflictError):
        second.commit(Difference(INSTANCE, inserts=instances(row(3, "3"))), {})
    assert (first.count(), second.count()) == (1, 1)
    del first, second, opened[:]
    assert store.open(INSTANCE).count() == 2
    assert opened == []


@pytest.mark.parametrize("change", ["delete", "overwrite"])
def test_a_change_of_rows_by_the_engine_moves_no_other_snapshot(store: Store, change: str) -> None:
    """It takes a handle of its own."""
    add(store, 1, 2)
    changed, other = store.open(INSTANCE), store.open(INSTANCE)
    before = other.query("SELECT count(*) AS n, max(sopinstanceuid) AS top FROM t")
    if change == "delete":
        changed.delete("sequence = 1", {})
    else:
        changed.commit(Difference(INSTANCE, instances(row(1, "3")), replaced="sequence = 1"), {})
    assert other.query("SELECT count(*) AS n, max(sopinstanceuid) AS top FROM t") == before
    assert store.open(INSTANCE).version == other.version + 1


def remade(root: Path, store: Store, *numbers: int) -> None:
    """The table's folder was removed, and the table was made anew by somebody else."""
    shutil.rmtree(root / "instance")
    add(store, *numbers)


@pytest.mark.parametrize("made", [0, 1, 2, 3, 5], ids=lambda n: f"{n} commits")
def test_a_table_that_was_made_anew_is_opened(store: Store, tmp_path: Path, made: int) -> None:
    """With fewer commits, as many, or more: the engine notices the first only."""
    add(store, 1, 2, 3)
    before = store.open(INSTANCE)
    identity = before.delta.metadata().id if before.delta else None
    remade(tmp_path, store, *range(11, 11 + made))
    after = store.open(INSTANCE)
    assert after.version == (made or -1)
    assert sorted(ints(after.rows(["sequence"])["sequence"])) == [*range(11, 11 + made)]
    assert after.delta is None or after.delta.metadata().id != identity
    assert store.version(INSTANCE) == after.version


@pytest.mark.parametrize("made", [0, 1, 2, 3, 4])
def test_a_table_that_was_made_anew_after_an_own_commit_is_opened(
    store: Store, tmp_path: Path, made: int
) -> None:
    """The commit has told that the handle is behind."""
    insert(store, INSTANCE, [row(1, "1")])
    insert(store, INSTANCE, [row(2, "2")])
    remade(tmp_path, store, *range(11, 11 + made))
    assert rows_of(store, INSTANCE) == rows_of(replace(store), INSTANCE)
    assert store.open(INSTANCE).version == (made or -1)


def without_newest(table: Path) -> None:
    """The newest commit is lost."""
    max((table / "_delta_log").glob("*.json")).unlink()


def replaced_newest(table: Path) -> None:
    """The newest commit is lost, and others have committed since."""
    without_newest(table)
    store = store_in(table.parent)
    add(store, 21, 22)


@pytest.mark.parametrize("damage", [without_newest, replaced_newest])
def test_a_log_whose_newest_commits_were_lost_is_read_anew(
    store: Store, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Also when its version is greater by now."""
    add(store, 1, 2, 3)
    assert store.open(INSTANCE).version == 3
    damage(tmp_path / "instance")
    assert rows_of(store, INSTANCE) == rows_of(replace(store), INSTANCE)


def test_a_commit_without_files_is_told_from_that_of_another_table(
    store: Store, tmp_path: Path, opened: list[str]
) -> None:
    """A vacuum names neither a file nor the table. It is known by what it says, from then on."""
    add(store, 1)
    url = store.urls["instance"]
    DeltaTable(url).vacuum(0, enforce_retention_duration=False, dry_run=False)
    version = store.open(INSTANCE).version
    store.open(INSTANCE)
    del opened[:]
    assert [store.open(INSTANCE).version for _ in range(3)] == [version] * 3
    assert opened == []
    remade(tmp_path, store, 11)
    DeltaTable(url).vacuum(0, enforce_retention_duration=False, dry_run=False)
    assert store.open(INSTANCE).version == version
    assert rows_of(store, INSTANCE) == rows_of(replace(store), INSTANCE)


def test_a_table_that_is_gone_is_absent(store: Store, tmp_path: Path) -> None:
    """And a table whose log cannot be read is not."""
    add(store, 1)
    store.open(INSTANCE)
    shutil.rmtree(tmp_path / "instance" / "_delta_log")
    assert store.version(INSTANCE) == store.open(INSTANCE).version == -1
    (tmp_path / "instance" / "_delta_log").mkdir()
    (tmp_path / "instance" / "_delta_log" / f"{7:020}.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TableUnavailableError):
        store.open(INSTANCE)


def test_a_thread_has_handles_of_its_own(store: Store) -> None:
    """What one thread looks at does not move under another one."""
    add(store, 1)
    here = store.open(INSTANCE)
    there = list[object]()
    thread = threading.Thread(target=lambda: there.append(store.open(INSTANCE).delta))
    thread.start()
    thread.join()
    assert there[0] is not here.delta


def test_a_store_goes_to_another_process_without_its_handles(store: Store) -> None:
    """They belong to the process that has opened them."""
    add(store, 1)
    store.open(INSTANCE)
    assert pickle.loads(pickle.dumps(handles.Handles(), protocol=5)).looks == {}  # noqa: S301 - own
    assert replace(store).open(INSTANCE).count() == 1


def test_storage_options_of_another_store_have_handles_of_their_own(store: Store) -> None:
    """A handle keeps the identity with which it was opened."""
    add(store, 1)
    other = replace(store, options={"timeout": "7s"})
    assert store.open(INSTANCE).delta is not other.open(INSTANCE).delta


def test_a_step_looks_at_a_table_once(store: Store) -> None:
    """Until it commits, or another run has come first."""
    add(store, 1)

    @one_step
    def step(_: None, store: Store, run: Run) -> list[int]:
        seen = [store.recent(INSTANCE).count()]
        add(store, 2)
        seen.append(store.recent(INSTANCE).count())
        with pytest.raises(ConflictError):
            store.recent(INSTANCE).commit(
                Difference(INSTANCE, inserts=instances(row(3, run.run_id))), {}
            )
        return [*seen, store.recent(INSTANCE).count()]

    assert step(None, store, RUN) == [1, 1, 2]
    assert store.recent(INSTANCE).count() == 2
    add(store, 4)
    assert store.recent(INSTANCE).count() == 3


def test_a_look_that_is_outdated_is_forgotten(store: Store) -> None:
    """The number of the newest version tells."""
    add(store, 1)
    with store.step():
        assert store.recent(INSTANCE).version == 1
        add(store, 2)
        assert store.version(INSTANCE) == 2
        assert store.recent(INSTANCE).version == 2


def test_rows_between_are_read_from_files_that_may_have_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the log's statistics."""
    for n in range(5):
        insert(store, SYNC, [{"hour": at(60 * n), "creates": n}])
    read, snapshot = list[str](), store.open(SYNC)

    def counted(snapshot: Snapshot, file: DataFile, names: list[str]) -> pa.Table:
        read.append(file.path)
        return read_columns(snapshot, file, names)

    monkeypatch.setattr("dicom_assets.tables.delta.snapshot.read_columns", counted)
    rows = snapshot.rows_between("hour", at(60), at(180), ["creates"])
    assert sorted(ints(rows["creates"])) == [1, 2]
    assert len(read) == 2
    assert snapshot.greatest("hour", ["creates"]).to_pylist() == [{"creates": 4}]
    assert len(read) == 3
    assert snapshot.has_value("creates")
    assert not snapshot.has_value("seriesAt")
    assert store.open(SERIES).greatest("sequence", ["sequence"]).num_rows == 0
    assert store.open(CHANGE).rows_between("sequence", 1, 9).num_rows == 0
