"""A user's files as an archive: all are found once, stored or refused by a reason."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest

from dicom_assets.emulator import own_files
from dicom_assets.emulator.archive import Archive
from dicom_assets.emulator.own_files import ImportResult, Search, imports, store_files, take_back
from dicom_assets_tests.support.dicom_files import TEN
from dicom_assets_tests.support.own_files import fill, image

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive in the root `own`."""
    opened = Archive(tmp_path / "own" / "archive")
    yield opened
    opened.close()


def brought(archive: Archive, *paths: Path) -> ImportResult:
    """The files at paths are imported, from ten o'clock on."""
    search = Search(archive.path.parents[1])
    for path in paths:
        search.add(path)
    stored = store_files(archive, search.files, lambda n, _: TEN + n, lambda *_: None)
    stored.refused.extend(search.refused)
    return stored


def reasons(stored: ImportResult) -> dict[str, str]:
    """The reason of each refused file, by its name."""
    return {Path(one.shown).name: one.reason for one in stored.refused}


def test_each_file_is_stored_or_named(archive: Archive, tmp_path: Path) -> None:
    """In folders, in a loop of links, and in a zip file; by its reason."""
    stored = brought(archive, fill(tmp_path / "given"))
    assert stored.modalities == {"CT": 2, "MR": 1}
    assert (len(stored.studies), len(stored.series), stored.known) == (2, 2, 0)
    assert Counter(reasons(stored).values()) == {
        "cut-short": 1,
        "no-study-instance-uid": 1,
        "not-part-10": 2,
        "other-content": 1,
        "stored-twice": 1,
    }
    assert reasons(stored)["cut.dcm"] == "cut-short"


def test_the_path_of_an_entry_opens_its_file(archive: Archive, tmp_path: Path) -> None:
    """Also of one that came in a zip file, whose members' names lead nowhere else."""
    brought(archive, fill(tmp_path / "given"))
    for entry in archive.entries():
        path = Path(str(entry.file_path))
        assert str(pydicom.dcmread(path).SOPInstanceUID) == entry.sop
        if entry.study == "1.2.2":
            assert path.parent == tmp_path / "own" / "files"
            assert path.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "inside").exists()
    assert [*(tmp_path / "own" / "files").glob("*.part")] == []


def test_a_second_import_adds_what_is_new(archive: Archive, tmp_path: Path) -> None:
    """The known ones are counted; undoing it leaves those of the first."""
    given = tmp_path / "given"
    given.mkdir()
    (given / "a").write_bytes(image(1, 1))
    assert brought(archive, given).modalities.total() == 1
    (given / "b").write_bytes(image(1, 2))
    (given / "same").write_bytes(image(1, 1))
    second = brought(archive, given)
    assert (second.modalities.total(), second.known, second.refused) == (1, 2, [])
    assert len(imports(archive)) == 2
    assert take_back(archive, TEN) == 1
    assert [one.key.sop for one in archive.instances()] == ["1.2.1.1.1"]
    assert (given / "b").exists(), "files of the user stay"
    again = brought(archive, given)
    assert (again.modalities.total(), again.known) == (1, 2)


def test_an_import_of_nothing_new_is_none_to_take_back(archive: Archive, tmp_path: Path) -> None:
    """The import before it is the last one."""
    (tmp_path / "a").write_bytes(image(1, 1))
    for _ in range(2):
        brought(archive, tmp_path / "a")
    assert imports(archive) == [1]


def test_files_in_many_are_read_by_several_processes(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same result, in the order of the files."""
    monkeypatch.setattr(own_files, "_FEW", 2)
    for sop in (1, 2, 3):
        (tmp_path / f"{sop}.dcm").write_bytes(image(1, sop))
    (tmp_path / "x").write_bytes(b"")
    stored = brought(archive, *sorted(tmp_path.glob("*.dcm")), tmp_path / "x")
    assert [entry.sop for entry in archive.entries()] == [f"1.2.1.1.{n}" for n in (1, 2, 3)]
    assert reasons(stored) == {"x": "not-part-10"}


def _zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def test_a_zip_file_that_harms_is_refused_whole(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that would fill the disk, by what it says of itself, and a damaged one."""
    bomb = _zip(tmp_path / "bomb.zip", image=image(1) + bytes(2_000_000))
    damaged = _zip(tmp_path / "bad.zip", image=image(2))
    content = bytearray(damaged.read_bytes())
    content[60:90] = bytes(30)
    damaged.write_bytes(content)
    monkeypatch.setattr(own_files, "_HARMLESS_BYTES", 100_000)
    stored = brought(archive, bomb, damaged)
    assert reasons(stored) == {"bomb.zip": "large-zip", "image": "damaged-zip"}
    assert archive.entries() == []


def test_odd_files_are_named(archive: Archive, tmp_path: Path) -> None:
    """A pipe, a link that leads nowhere, and a name that is no text; none is waited for."""
    given = tmp_path / "given"
    given.mkdir()
    os.mkfifo(given / "pipe")
    (given / "link").symlink_to(given / "nowhere")
    Path(os.fsdecode(os.fsencode(given) + b"/\xff.dcm")).write_bytes(image(1))
    stored = brought(archive, given)
    assert Counter(one.reason for one in stored.refused) == {
        "unreadable-file": 2,
        "name-not-utf-8": 1,
    }


def test_a_dicomdir_is_no_image_and_names_what_lacks(archive: Archive, tmp_path: Path) -> None:
    """Given by itself, its folder is imported; names count in any case."""
    from pydicom.fileset import FileSet

    (tmp_path / "a.dcm").write_bytes(
        image(1, 1, StudyTime="1000", StudyID="1", SeriesNumber=1, InstanceNumber=1)
    )
    (tmp_path / "b.dcm").write_bytes(
        image(1, 2, StudyTime="1000", StudyID="1", SeriesNumber=1, InstanceNumber=2)
    )
    files = FileSet()
    for path in (tmp_path / "a.dcm", tmp_path / "b.dcm"):
        files.add(path)
    files.write(tmp_path / "cd")
    files._stage["t"].cleanup()
    gone = max(path for path in (tmp_path / "cd").rglob("*") if path.is_file())
    assert gone.name != "DICOMDIR"
    gone.unlink()
    stored = brought(archive, tmp_path / "cd" / "DICOMDIR")
    assert stored.modalities.total() == 1
    assert reasons(stored) == {gone.name: "named-in-dicomdir"}
