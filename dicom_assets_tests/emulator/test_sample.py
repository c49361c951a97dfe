"""The archive that comes with the emulator: filled once, the same for everybody, real files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pydicom
import pytest

from dicom_assets.emulator import sample
from dicom_assets.emulator.archive import Archive, ArchiveEntry
from dicom_assets_tests.support.dicom_files import dataset, header, part_10

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST: Final = datetime(2026, 1, 1, 10, tzinfo=UTC)
# 2026-01-01T10:00:00Z and an hour, in ticks of 100 ns.
TEN: Final = 17_672_616_000_000_000
HOUR: Final = 36_000_000_000


def everything(archive: Archive) -> list[ArchiveEntry]:
    """The whole feed in the order of its times."""
    entries: list[ArchiveEntry] = []
    while page := archive.entries(offset=len(entries), limit=200):
        entries += page
    return entries


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sample archive was prepared."""
    directory = tmp_path_factory.mktemp("sample") / "archive"
    sample.prepare_archive(directory, first_hour=FIRST).close()
    return directory


@pytest.fixture
def entries(directory: Path) -> Iterator[list[ArchiveEntry]]:
    """The feed of the sample archive."""
    archive = Archive(directory)
    yield everything(archive)
    archive.close()


def test_every_file_that_pydicom_ships_is_stored_or_refused(directory: Path) -> None:
    """Nothing is left out: stored and refused files add up to the files there are."""
    folder = Path(pydicom.__file__).parent / "data"
    named = set(folder.rglob("*.dcm"))
    unnamed = {file for file in folder.rglob("*") if file.is_file() and not file.suffix}
    real = {file for file in unnamed if file.read_bytes()[128:132] == b"DICM"}
    report = sample.fill_report(directory)
    assert report.stored + sum(report.refused.values()) == len(named | real)
    assert report.stored > 100
    assert set(report.refused) == {
        "already-stored",
        "no-patient-id",
        "no-sop-class-uid",
        "no-study-instance-uid",
        "not-part-10",
    }


def test_all_of_it_lies_in_the_48_hours(entries: list[ArchiveEntry]) -> None:
    """No entry is before the first hour or after the 48th; some hours have none."""
    hours = Counter((entry.ticks - TEN) // HOUR for entry in entries)
    assert min(hours) >= 0
    assert max(hours) < 48
    assert 5 <= 48 - len(hours) <= 20
    assert max(hours.values()) >= 10
    assert min(entry.ticks for entry in entries) < TEN + HOUR
    assert len({entry.ticks % 10 for entry in entries}) == 10  # seven digits are used


def test_it_tells_the_whole_story(directory: Path, entries: list[ArchiveEntry]) -> None:
    """Stores, updates, deletes and a re-creation, as many as the report says."""
    report = sample.fill_report(directory)
    actions = Counter(entry.action for entry in entries)
    assert actions["Create"] == report.stored + report.recreated
    assert actions["Update"] == report.updated
    assert actions["Delete"] == report.deleted
    assert min(report.updated, report.deleted, report.recreated) >= 1
    assert {entry.state for entry in entries} == {"Current", "Replaced", "Deleted"}


def test_every_change_comes_after_its_store(entries: list[ArchiveEntry]) -> None:
    """Per instance: first a Create, no Create while it lives, nothing else while it does not."""
    live: set[tuple[str, str, str]] = set()
    for entry in entries:
        key = (entry.study, entry.series, entry.sop)
        assert (entry.action == "Create") == (key not in live)
        live ^= {key} if entry.action != "Update" else set()
    assert [entry.sequence for entry in entries] == sorted(entry.sequence for entry in entries)


def test_deletes_are_of_all_three_levels(entries: list[ArchiveEntry]) -> None:
    """One instance of a series went, one series of a study, and one study whole."""
    gone = {
        entry.ticks: {(e.study, e.series, e.sop) for e in entries if e.ticks == entry.ticks}
        for entry in entries
        if entry.action == "Delete"
    }
    assert len(gone) >= 3
    assert max(len(keys) for keys in gone.values()) > 1


def test_the_same_files_give_the_same_feed(directory: Path, tmp_path: Path) -> None:
    """Another archive with another first hour differs by the hours between, and in no more."""
    later = FIRST + timedelta(hours=3)
    with_delay = sample.prepare_archive(tmp_path / "other", first_hour=later)
    archive = Archive(directory)
    moved = [entry._replace(ticks=entry.ticks + 3 * HOUR) for entry in everything(archive)]
    assert everything(with_delay) == moved
    archive.close()
    with_delay.close()


def test_an_archive_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """Whatever a user put into the directory stays, and nothing is added."""
    archive = Archive(tmp_path / "archive")
    archive.store(header())
    archive.close()
    again = sample.prepare_archive(tmp_path / "archive", first_hour=FIRST)
    assert [entry.sequence for entry in everything(again)] == [1]
    again.close()
    with pytest.raises(FileNotFoundError):
        sample.fill_report(tmp_path / "archive")


def test_a_fill_that_was_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    """Leftovers of a killed process are replaced by a whole archive."""
    left = Archive(tmp_path / "archive.building")
    left.store(header())
    left.close()
    archive = sample.prepare_archive(tmp_path / "archive", first_hour=FIRST)
    assert "1.2.1" not in {instance.key.study for instance in archive.instances()}
    assert not (tmp_path / "archive.building").exists()
    archive.close()


def test_progress_is_told_file_by_file(tmp_path: Path) -> None:
    """The watcher sees every file once, the last one at the end."""
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int) -> None:
        seen.append((done, total))

    sample.prepare_archive(tmp_path / "archive", first_hour=FIRST, progress=watch).close()
    total = len(seen)
    assert seen == [(done, total) for done in range(1, total + 1)]


PREPARE: Final = """
import json, sys, pathlib, datetime
from dicom_assets.emulator import claim, sample
directory = pathlib.Path(sys.argv[1])
now = datetime.datetime.fromisoformat(sys.argv[2])
first = claim.first_hour(directory, now=now, delay=datetime.timedelta(minutes=15))
archive = sample.prepare_archive(directory, first_hour=first)
digest = [[*entry][:8] for entry in archive.entries(limit=200, header=False)]
print(json.dumps([first.isoformat(), len(list(archive.instances())), digest]))
"""


def test_two_processes_at_once_give_one_archive(tmp_path: Path) -> None:
    """Processes that start together, on either side of an hour, agree on hour and content."""
    moments = ("2026-01-03T10:14:59+00:00", "2026-01-03T10:15:01+00:00") * 2
    commands = [
        [sys.executable, "-c", PREPARE, str(tmp_path / "archive"), moment] for moment in moments
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert answers[1:] == answers[:1] * 3
    assert answers[0][0] in ("2026-01-01T09:00:00+00:00", "2026-01-01T10:00:00+00:00")
    assert answers[0][1] > 100


def test_a_users_files_and_folders_are_imported(tmp_path: Path) -> None:
    """Folders with all below them, single files, and a reason for what was refused."""
    folder = tmp_path / "files" / "below"
    folder.mkdir(parents=True)
    (folder / "one").write_bytes(part_10(dataset(sop=1)))
    (folder / "two.dcm").write_bytes(part_10(dataset(sop=2)))
    (folder / "notes.txt").write_text("no DICOM", encoding="utf-8")
    (tmp_path / "again.dcm").write_bytes(part_10(dataset(sop=1)))
    archive = Archive(tmp_path / "archive", clock=lambda: TEN)
    seen: list[tuple[int, int]] = []
    report = sample.import_paths(
        archive,
        [tmp_path / "files", tmp_path / "again.dcm", tmp_path / "absent.dcm"],
        lambda done, total: seen.append((done, total)),
    )
    assert report.stored == 2
    assert report.refused == {"not-part-10": 1, "already-stored": 1, "unreadable-file": 1}
    assert seen[-1] == (5, 5)
    assert {entry.ticks for entry in everything(archive)} == {TEN}
    archive.close()
