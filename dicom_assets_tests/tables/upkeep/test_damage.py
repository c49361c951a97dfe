"""A damaged table is told before anything is removed from it, in words that name the damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from dicom_assets.errors import DamagedTableError
from dicom_assets.schema import CHANGE
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep.damage import require_whole_log
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import NOW, insert, logged

CHECKPOINT, LAST = 4, 8


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a table of eight commits after its creation, and a checkpoint in between."""
    root = tmp_path_factory.mktemp("template")
    store = store_in(root)
    for number in range(1, LAST + 1):
        insert(store, CHANGE, [logged(number)])
        if number == CHECKPOINT:
            DeltaTable(store.urls["change"]).create_checkpoint()
    return root


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    """The same, for one test."""
    return store_in(shutil.copytree(template, tmp_path / "tables"))


def root_of(store: Store) -> Path:
    """The folder of the table."""
    return Path(store.urls["change"])


def commit(store: Store, version: int) -> Path:
    """A commit."""
    return root_of(store) / "_delta_log" / f"{version:020}.json"


def checkpoint(store: Store) -> Path:
    """The checkpoint."""
    return root_of(store) / "_delta_log" / f"{CHECKPOINT:020}.checkpoint.parquet"


def hint(store: Store) -> Path:
    """Where readers look first for a checkpoint."""
    return root_of(store) / "_delta_log" / "_last_checkpoint"


def data(store: Store) -> Path:
    """A data file."""
    return next(root_of(store).glob("*.parquet"))


def cut(path: Path, length: int) -> None:
    """Only the first bytes are left of a file."""
    path.write_bytes(path.read_bytes()[:length])


def cut_behind_first_line(path: Path) -> None:
    """The commit says what it did, and holds nothing of it."""
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")


Damage = Callable[[Store], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "last commit empty": (lambda s: cut(commit(s, LAST), 0), "commit 8 is empty"),
    "last commit cut": (lambda s: cut(commit(s, LAST), 200), "commit 8 is cut"),
    "last commit without its files": (
        lambda s: cut_behind_first_line(commit(s, LAST)),
        "commit 8 lacks files that it counts",
    ),
    "commit empty": (lambda s: cut(commit(s, 6), 0), "commit 6 is empty"),
    "commit cut": (lambda s: cut(commit(s, 6), 200), "commit 6 is cut"),
    "commit missing": (lambda s: commit(s, 6).unlink(), "commit 6 is missing"),
    "checkpoint cut": (lambda s: cut(checkpoint(s), 500), "checkpoint 4 is cut or empty"),
    "checkpoint empty": (lambda s: cut(checkpoint(s), 0), "checkpoint 4 is cut or empty"),
    "checkpoint missing": (
        lambda s: checkpoint(s).unlink(),
        "its hint names checkpoint 4, which is not there",
    ),
    "hint to no checkpoint": (
        lambda s: hint(s).write_text(json.dumps({"version": 7, "size": 1}), encoding="utf-8"),
        "its hint names checkpoint 7, which is not there",
    ),
    "data file missing": (lambda s: data(s).unlink(), "1 of its data files are missing"),
    "data file cut": (lambda s: cut(data(s), 300), "1 of its data files are cut"),
}


def everything(store: Store) -> set[str]:
    """Every file of the folder."""
    return {str(path) for path in root_of(store).rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told_and_nothing_is_changed(store: Store, name: str) -> None:
    """Not even where the engine reads on, with fewer rows, without a word."""
    damage, said = DAMAGES[name]
    damage(store)
    before = everything(store)
    with pytest.raises(DamagedTableError, match=f"table change at .* is damaged: {said}") as told:
        maintain(store, CHANGE, Run("night", NOW))
    assert "docs/operate/repair.md" in str(told.value)
    assert told.value.__suppress_context__ or told.value.__context__ is None
    assert everything(store) == before


HARMLESS: dict[str, Damage] = {
    "hint cut": lambda s: cut(hint(s), 10),
    "hint missing": lambda s: hint(s).unlink(),
    "commit before the checkpoint missing": lambda s: commit(s, 2).unlink(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_readers_do_not_need_is_no_damage(store: Store, name: str) -> None:
    """The engine passes over it, and so does a night."""
    HARMLESS[name](store)
    assert maintain(store, CHANGE, Run("night", NOW)).rows == LAST


def test_a_whole_table_and_an_absent_one_are_whole(store: Store, tmp_path: Path) -> None:
    """One that lies at its newest checkpoint, too."""
    require_whole_log(Folder.of(store, CHANGE))
    DeltaTable(store.urls["change"]).create_checkpoint()
    require_whole_log(Folder.of(store, CHANGE))
    require_whole_log(Folder.of(store_in(tmp_path / "absent"), CHANGE))


# --- the repairs of docs/operate/repair.md --------------------------------------------------------


def repaired(store: Store) -> int:
    """A night finds the table whole; returns its rows."""
    return maintain(store, CHANGE, Run("night", NOW)).rows


@pytest.mark.parametrize("name", ["checkpoint cut", "checkpoint missing", "hint to no checkpoint"])
def test_without_checkpoint_and_hint_the_table_reads_from_its_first_commit(
    store: Store, name: str
) -> None:
    """As long as that is still there."""
    DAMAGES[name][0](store)
    hint(store).unlink()
    checkpoint(store).unlink(missing_ok=True)
    assert repaired(store) == LAST


@pytest.mark.parametrize("name", ["last commit empty", "last commit cut"])
def test_without_a_damaged_last_commit_the_table_is_as_before_it(store: Store, name: str) -> None:
    """What it held comes again with the next run for its hours."""
    DAMAGES[name][0](store)
    commit(store, LAST).unlink()
    assert repaired(store) == LAST - 1
    insert(store, CHANGE, [logged(LAST)])
    assert repaired(store) == LAST


@pytest.mark.parametrize("name", ["data file missing"])
def test_a_lost_data_file_is_taken_out_of_the_table(store: Store, name: str) -> None:
    """By the engine's own repair; a run for its hours brings the rows again."""
    DAMAGES[name][0](store)
    DeltaTable(store.urls["change"]).repair()
    assert repaired(store) == LAST - 1
