"""What can be wrong with the storage and the tables in it: one line is red, and says the cure."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dicom_assets.commands.check.storage import StorageProbe
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.commands.check import blobs
from dicom_assets_tests.commands.check.world import World, fill, follow
from dicom_assets_tests.support import steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Where nobody may write, root neither.
KERNEL: Final = "/sys/kernel"
TABLES: Final = {"change", "sync", "instance", "series", "study", "rejected"}
ROOT: Final = "abfss://dicom@account.dfs.core.windows.net/tables"
ENOUGH: Final = 0


def test_a_root_that_can_be_made_is_well(world: World) -> None:
    """It is made for the look, with the folders above it, and goes again."""
    told = world.check(DICOM_TABLES_URL=str(world.folder / "to" / "be" / "made"))
    assert told.code == 0
    assert told.lines["root"]["found"] == "not there yet; the first run makes it"
    assert told.lines["access"]["state"] == "ok"
    assert not (world.folder / "to").exists()


def test_a_root_that_cannot_be_made(world: World) -> None:
    """This user may not, who may be root."""
    found, remedy = world.check(DICOM_TABLES_URL=f"{KERNEL}/dicom").red()
    assert found == "a file cannot be written: this user may not write there"
    assert "right to write" in remedy


def test_a_root_that_may_only_be_read(world: World) -> None:
    """It is there; what could be read is looked at all the same."""
    told = world.check(DICOM_TABLES_URL=KERNEL)
    found, remedy = told.red()
    assert told.lines["root"]["found"] == "the folder is there"
    assert found == "a file cannot be written: this user may not write there"
    assert "right to write" in remedy
    assert {told.lines[name]["state"] for name in TABLES} == {"not looked"}
    assert told.lines["room"]["state"] == "not looked"


@pytest.mark.skipif(os.name == "nt", reason="a folder's mode says nothing on Windows")
def test_a_folder_with_tables_that_lets_others_in(world: World) -> None:
    """A group counts, too; the remedy closes it with everything below."""
    world.tables.chmod(0o750)
    told = world.check()
    assert (told.code, told.lines["root"]["state"]) == (0, "warn")
    assert told.lines["root"]["found"] == "the folder lets other users of this machine in"
    command, _, _ = told.lines["root"]["remedy"].removeprefix("`").partition("`")
    subprocess.run(shlex.split(command), check=True)
    assert world.check().lines["root"]["state"] == "ok"


def test_a_file_in_the_way(world: World) -> None:
    """A root below a file can never be."""
    told = world.check(DICOM_TABLES_URL=f"{world.trusted}/tables")
    found, _ = told.red()
    assert "a file lies" in found
    assert {*TABLES, "access", "schema", "archive"} <= told.named("not looked")


def test_a_disk_without_room_is_said(tmp_path: Path) -> None:
    """No run fails yet."""
    probe = StorageProbe(str(tmp_path), steps.store_of({}), least_bytes=1 << 60)
    assert probe.room().state == "warn"
    assert "make room" in probe.room().remedy


def test_tables_of_another_archive(world: World) -> None:
    """As after the service was made anew; both ways out are told."""
    other = fill(Archive(world.folder / "other"), 8, 9)
    with server.start(other) as running:
        follow(world.folder / "others", running.url)
    other.close()
    found, remedy = world.check(DICOM_TABLES_URL=str(world.folder / "others")).red()
    assert "filled from another or a re-created DICOM service" in found
    assert "DICOM_SERVICE_URL back" in remedy
    assert "DICOM_TABLES_URL to a new root" in remedy


def test_a_foreign_table_at_a_path(world: World) -> None:
    """Which is told by name; the others are looked at."""
    shutil.rmtree(world.tables / "study")
    write_deltalake(world.tables / "study", pa.table({"theirs": [1]}))
    told = world.check()
    found, remedy = told.red()
    assert told.named("red") == {"study"}
    assert "is not the study table of this version" in found
    assert "DICOM_STUDY_TABLE_PATH" in remedy
    assert told.lines["series"]["state"] == "ok"
    assert told.lines["schema"]["state"] == "not looked"


def test_tables_that_are_not_there_are_not_ok(world: World) -> None:
    """Nothing can be said of their columns either, nor of the service that they fit."""
    told = world.check(DICOM_TABLES_URL=str(world.folder / "new"))
    assert told.code == 0
    assert {*TABLES, "schema", "archive"} <= told.named("not looked")
    found = {told.lines[name]["found"] for name in (*TABLES, "schema")}
    assert found == {"not there yet: the first run creates it"}


def test_each_table_has_a_remedy_of_its_own(world: World) -> None:
    """A cut commit is damage with its page, and no question of rights; each names its place."""
    filled = set(TABLES) - {"rejected"}
    for name in filled:
        (world.tables / name / "_delta_log" / f"{0:020}.json").write_text("{", encoding="utf-8")
    told = world.check()
    assert filled <= told.named("red")
    for name in filled:
        assert told.lines[name]["found"].endswith("is damaged: commit 0 is cut")
        assert "docs/operate/repair.md" in told.lines[name]["remedy"]


def test_a_table_that_was_removed_is_said(world: World) -> None:
    """The first run does not create it: there were many."""
    shutil.rmtree(world.tables / "series")
    told = world.check()
    assert told.named("warn") == {"TLS", "series"}
    assert "shows 2 hours" in told.lines["series"]["found"]
    assert "repair.md" in told.lines["series"]["remedy"]


def test_a_table_that_cannot_be_read_is_told_by_its_place(world: World) -> None:
    """The root is open, and the engine opens all tables but this."""
    log = world.tables / "series" / "_delta_log"
    (log / f"{0:020}.json").write_text('{"commitInfo": {}}', encoding="utf-8")
    told = world.check()
    assert told.named("red") == {"series"}
    assert f"{log}" in told.lines["series"]["remedy"]


def test_a_table_that_is_damaged(world: World) -> None:
    """A data file is lost: the table opens, and is not whole."""
    (lost,) = (world.tables / "series").rglob("*.parquet")
    lost.unlink()
    told = world.check()
    found, remedy = told.red()
    assert told.named("red") == {"series"}
    assert "1 of its data files are missing" in found
    assert "docs/operate/repair.md" in remedy


def test_a_feature_that_somebody_switched_on_is_said(world: World) -> None:
    """Readers that do not know it fail; ours does not."""
    table = DeltaTable(world.tables / "change")
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 1 days"})
    assert world.check().code == 0
    table.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 1 hours"})
    told = world.check()
    assert (told.code, told.lines["schema"]["state"]) == (0, "warn")
    assert "change: delta.deletedFileRetentionDuration" in told.lines["schema"]["found"]


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """A Blob service on this machine, in a process of its own: the engine waits holding the GIL."""
    command = [sys.executable, blobs.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def _probe(storage: str, *, lists: str = "200", writes: str = "201") -> StorageProbe:
    options = {
        "azure_storage_endpoint": f"{storage}/{lists}/{writes}",
        "account_name": "account",
        "account_key": "c2VjcmV0",
        "allow_http": "true",
    }
    return StorageProbe(ROOT, steps.store_of({}, options=options), ENOUGH)


@pytest.mark.parametrize(
    ("answer", "what", "remedy"),
    [
        ("404-ContainerNotFound", "the container is not there", "az storage container create"),
        ("403-AuthorizationPermissionMismatch", "may not", "`Storage Blob Data Contributor`"),
        ("403-AuthorizationFailure", "lets nobody in from here", "firewall"),
        ("401-InvalidAuthenticationInfo", "does not take the identity", "tenant of the storage"),
        ("400-Odd", "does not answer as one", "DICOM_TABLES_URL"),
    ],
)
def test_a_container_that_refuses_is_told_by_what_it_needs(
    storage: str, answer: str, what: str, remedy: str
) -> None:
    """No container, no role, a firewall, no identity; never in the storage's words."""
    found = _probe(storage, lists=answer).reach()
    assert found.state == "red"
    assert what in found.found
    assert remedy in found.remedy
    assert "PHI" not in f"{found}"
    assert "127.0.0.1" not in f"{found}"


@pytest.mark.parametrize(
    ("answer", "what", "remedy"),
    [
        ("403-AuthorizationPermissionMismatch", "may not", "`Storage Blob Data Contributor`"),
        ("409-BlobImmutableDueToPolicy", "does not let files change", "immutability policy"),
    ],
)
def test_a_container_that_may_only_be_read(
    storage: str, answer: str, what: str, remedy: str
) -> None:
    """It answers, and takes nothing."""
    probe = _probe(storage, writes=answer)
    found = probe.access()
    assert probe.reach().state == "ok"
    assert found.state == "red"
    assert found.found.startswith("a file cannot be written: ")
    assert what in found.found
    assert remedy in found.remedy


def test_an_account_that_is_not_there() -> None:
    """Its name leads nowhere: said in seconds."""
    options = {"account_name": "nowhere", "account_key": "c2VjcmV0"}
    options["azure_storage_endpoint"] = "https://nowhere.invalid"
    found = StorageProbe(ROOT, steps.store_of({}, options=options), ENOUGH).reach()
    assert (found.state, found.found) == ("red", "the account's name cannot be resolved")
    assert "account in DICOM_TABLES_URL" in found.remedy
