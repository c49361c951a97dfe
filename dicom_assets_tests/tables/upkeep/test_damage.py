"""A damaged table is told before anything is removed from it, in words that name the damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from dicom_assets.errors import (
    ConflictError,
    DamagedTableError,
    TableError,
    TableUnavailableError,
)
from dicom_assets.schema import CHANGE
from dicom_assets.tables.delta import files, retry
from dicom_assets.tables.delta.files import DataFile, data_files
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.join import join
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.upkeep import maintenance
from dicom_assets.tables.upkeep.damage import named_damage, require_whole_log
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


# --- what a run says -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGES)
def test_a_run_that_fails_by_a_damage_names_it(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers and writers get other errors, or none where a reader passes over the damage."""
    monkeypatch.setattr(retry, "CONFLICT_SECONDS", 0.0)
    damage, said = DAMAGES[name]
    damage(store)

    def fail() -> None:
        store.open(CHANGE).rows()
        converge(lambda: insert(store, CHANGE, [logged(LAST + 1)]))
        raise TableUnavailableError  # where neither fails, as after an empty commit in the middle

    with pytest.raises(DamagedTableError, match=said) as told, named_damage(store):
        fail()
    assert "docs/operate/repair.md" in str(told.value)


@pytest.mark.parametrize("error", [TableUnavailableError("no"), ConflictError("no")])
def test_an_error_without_a_damage_stays_what_it_is(store: Store, error: TableError) -> None:
    """The storage may have been away for a moment."""
    with pytest.raises(type(error), match="no"), named_damage(store):
        raise error


# --- files whose bytes are others -----------------------------------------------------------------


def spoil(path: Path, kind: str) -> None:
    """Other bytes, and as many; `footer`, `page` and all."""
    content = bytearray(path.read_bytes())
    first, last = {"page": (4, 60), "footer": (-40, -8), "all": (0, len(content))}[kind]
    content[first:last] = bytes(byte ^ 0xA5 for byte in content[first:last])
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["page", "footer", "all"])
def test_a_file_that_cannot_be_decoded_is_told(store: Store, kind: str) -> None:
    """By the night, and by a run that reads it; with the name that the remedy needs."""
    spoil(data(store), kind)
    said = rf"a data file cannot be decoded \({data(store).name}\)"
    with pytest.raises(DamagedTableError, match=said):
        maintain(store, CHANGE, Run("night", NOW))
    with pytest.raises(DamagedTableError, match=said), named_damage(store):
        store.open(CHANGE).rows()


def test_a_file_of_compaction_has_checksums(store: Store) -> None:
    """A byte that is another is found, though every value can be read."""
    snapshot = store.open(CHANGE)
    joined = join(snapshot, data_files(snapshot), "joined-", lambda _: None)
    path = root_of(store) / joined.new.path
    assert files.is_decodable(snapshot, joined.new)
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    assert not files.is_decodable(snapshot, joined.new)


def test_every_file_is_decoded_within_the_nights(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turn, the oldest first; the table keeps the place, also for another process."""
    monkeypatch.setattr(maintenance, "LEAST_DECODED", 3)
    decoded: list[str] = []
    is_decodable = files.is_decodable

    def noted(snapshot: Snapshot, file: DataFile) -> bool:
        decoded.append(file.path)
        return is_decodable(snapshot, file)

    monkeypatch.setattr("dicom_assets.tables.upkeep.damage.is_decodable", noted)
    turn = [file.path for file in data_files(store.open(CHANGE))]
    for _ in range(3):
        totals = maintain(store_in(root_of(store).parent), CHANGE, Run("night", NOW)).totals
        assert (totals["decoded"], totals["decoding_nights"]) == (3, 3)
    assert decoded == [*turn, turn[0]]


def test_a_night_decodes_for_a_bounded_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is for the next one."""
    monkeypatch.setattr(maintenance, "DECODED_SECONDS", -1.0)
    assert maintain(store, CHANGE, Run("night", NOW)).totals["decoded"] == 0


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


@pytest.mark.parametrize("name", ["data file missing", "data file cut", "undecodable"])
def test_a_lost_data_file_is_taken_out_of_the_table(store: Store, name: str) -> None:
    """By the engine's own repair; a run for its hours brings the rows again."""
    damage = DAMAGES.get(name, (lambda s: spoil(data(s), "page"), ""))[0]
    lost = data(store)
    damage(store)
    lost.unlink(missing_ok=True)
    DeltaTable(store.urls["change"]).repair()
    assert repaired(store) == LAST - 1
