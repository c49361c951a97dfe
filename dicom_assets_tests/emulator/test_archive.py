"""The archive: what it keeps across processes, threads and re-opening, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicom_assets.emulator.archive import (
    AlreadyStored,
    Archive,
    ArchiveError,
    InvalidInstance,
    NotStored,
    is_uid,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT: Final = {"00081030": {"vr": "LO", "Value": ["new"]}}


def header(sop: int = 1, study: str = "1.2.1") -> dict[str, Any]:
    """The least that names an instance."""
    return {
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [f"{study}.1"]},
        "00080018": {"vr": "UI", "Value": [f"{study}.1.{sop}"]},
    }


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An empty archive whose clock stands at 1000 ticks."""
    archive = Archive(tmp_path / "archive", clock=lambda: 1000)
    yield archive
    archive.close()


def sequences(archive: Archive) -> list[int]:
    """The sequences of the feed's first page, by time."""
    return [entry.sequence for entry in archive.entries()]


def test_writes_return_the_sequences_of_their_entries(archive: Archive) -> None:
    """Each write says which entries it made."""
    assert archive.store(header(1)) == 1
    assert archive.store(header(2)) == 2
    assert archive.update(["1.2.1"], TEXT) == [3, 4]
    assert archive.delete("1.2.1", "1.2.1.1", "1.2.1.1.2") == [5]
    assert archive.expire("1.2.1") == 1
    assert archive.store(header(1)) == 6


def test_the_clock_stamps_what_has_no_time_of_its_own(archive: Archive) -> None:
    """`at` wins over the clock, and may be anywhere."""
    archive.store(header(1))
    archive.store(header(2), at=-5)
    archive.delete("1.2.1", at=7)
    assert [(entry.sequence, entry.ticks) for entry in archive.entries()] == [
        (2, -5),
        (3, 7),
        (4, 7),
        (1, 1000),
    ]


def test_a_re_opened_archive_continues(archive: Archive, tmp_path: Path) -> None:
    """Sequences, gaps, states and headers survive; a deleted top sequence is not used again."""
    archive.store(header(1))
    archive.skip_sequences(2**40)
    archive.close()
    again = Archive(tmp_path / "archive", clock=lambda: 2000)
    assert again.store(header(2)) == 2**40 + 2
    assert [entry.state for entry in again.entries()] == ["Current", "Current"]
    assert [instance.header for instance in again.instances()] == [header(1), header(2)]
    again.close()


def test_refused_writes_leave_no_trace(archive: Archive) -> None:
    """Neither an entry nor a gap comes of a write that was refused."""
    archive.store(header(1))
    with pytest.raises(AlreadyStored):
        archive.store(header(1))
    with pytest.raises(NotStored):
        archive.delete("1.9")
    with pytest.raises(NotStored):
        archive.update(["1.9"], TEXT)
    assert archive.expire("1.9") == 0
    with pytest.raises(ValueError, match="JSON"):
        archive.store({**header(2), "00189087": {"vr": "FD", "Value": [float("nan")]}})
    assert archive.store(header(2)) == 2
    assert AlreadyStored.code == 45070


@pytest.mark.parametrize("tag", ["0020000D", "0020000E", "00080018"])
@pytest.mark.parametrize(
    "element",
    [
        None,
        "1.2.3",
        {"vr": "UI"},
        {"vr": "UI", "Value": []},
        {"vr": "UI", "Value": ["1.2", "1.3"]},
        {"vr": "UI", "Value": [12]},
        {"vr": "UI", "Value": [""]},
        {"vr": "UI", "Value": ["1.2."]},
        {"vr": "UI", "Value": ["1.2/../3"]},
        {"vr": "UI", "Value": ["1" * 65]},
    ],
)
def test_a_header_must_name_its_instance(archive: Archive, tag: str, element: object) -> None:
    """Missing, multiple and malformed UIDs are refused without a word of their value."""
    with pytest.raises(InvalidInstance) as caught:
        archive.store({**header(), tag: element})
    assert str(caught.value) == f"{tag} must hold one UID of at most 64 digits and dots"
    assert sequences(archive) == []


@pytest.mark.parametrize("name", ["", "a b", "x/y", "ä", "x" * 65, '"'])
def test_a_data_partition_must_have_a_name(archive: Archive, name: str) -> None:
    """Letters, digits, dots, dashes and underscores, at most 64."""
    with pytest.raises(InvalidInstance):
        archive.store(header(), partition=name)


def test_uids_are_digits_and_dots() -> None:
    """Up to 64 of them, a digit at the end, and spaces after it."""
    assert is_uid("1.2.840.10008  ")
    assert is_uid("1" * 64 + " ")
    assert not any(map(is_uid, (" ", " 1", "1 2", "1\0")))
    assert is_uid("1.2.840.10008")
    assert is_uid("1" * 64)
    assert not any(map(is_uid, ("", ".", "1.", "1a", "1" * 65, "1\n", None, 1)))


def test_a_uid_keeps_its_spaces_and_is_found_without_them(archive: Archive) -> None:
    """As SQL Server compares: padded or not, it is one instance, in the form that came first."""
    padded = {**header(), "0020000D": {"vr": "UI", "Value": ["1.2.1 "]}}
    archive.store(padded)
    (entry,) = archive.entries()
    assert (entry.study, entry.series) == ("1.2.1 ", "1.2.1.1")
    assert json.loads(entry.header or "") == padded
    assert [instance.key.study for instance in archive.instances()] == ["1.2.1"]
    with pytest.raises(AlreadyStored):
        archive.store(header())
    assert archive.headers("1.2.1") == archive.headers("1.2.1  ", "1.2.1.1 ")
    assert len(archive.update(["1.2.1"], TEXT)) == 1
    assert len(archive.delete("1.2.1", "1.2.1.1 ")) == 1
    assert archive.store(header()) == 4
    assert {one.study for one in archive.entries()} == {"1.2.1 "}


def test_data_partitions_do_not_know_one_another(archive: Archive) -> None:
    """The same key lives, changes and goes in each by itself."""
    archive.store(header())
    archive.store(header(), partition="north")
    archive.update(["1.2.1"], TEXT, partition="north")
    archive.delete("1.2.1", partition="Microsoft.Default")
    assert [instance.key.partition for instance in archive.instances()] == ["north"]
    assert list(archive.instances("Microsoft.Default")) == []
    assert [instance.sequence for instance in archive.instances("north")] == [3]


def test_a_study_given_twice_is_updated_once(archive: Archive) -> None:
    """Studies that are absent or repeated do not disturb an update."""
    archive.store(header())
    assert archive.update(["1.2.1", "1.9", "1.2.1"], TEXT) == [2]


def test_headers_keep_ascending_keys(archive: Archive) -> None:
    """Whatever order they came in, also after an update put a new one between."""
    archive.store({"00280010": {"vr": "US", "Value": [1]}, **header()})
    archive.update(["1.2.1"], TEXT)
    (instance,) = archive.instances()
    assert list(instance.header) == ["00080018", "00081030", "0020000D", "0020000E", "00280010"]


def test_any_text_survives(archive: Archive) -> None:
    """Quotes, line ends, nulls, other scripts and lone surrogates come back as they went in."""
    text = 'a"b\\c\r\n\0\u2028 Müller 山田 😀 \ud800'
    archive.store({**header(), "00104000": {"vr": "LT", "Value": [text]}})
    (entry,) = archive.entries()
    assert json.loads(entry.header or "")["00104000"]["Value"] == [text]


def test_the_live_instances_may_change_while_they_are_read(archive: Archive) -> None:
    """Reading goes on by key, in pages; what is deleted ahead is not seen."""
    for place in range(1100):
        archive.store(header(place))
    seen = 0
    for instance in archive.instances():
        seen += 1
        archive.delete(*instance.key[1:])
    assert seen >= 1000
    assert list(archive.instances()) == []


def test_an_archive_of_another_format_is_refused(archive: Archive) -> None:
    """A file that a later version wrote is not touched."""
    archive.close()
    with sqlite3.connect(archive.path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ArchiveError, match="format 99, expected 1"):
        Archive(archive.path.parent)


def test_threads_may_write_at_once(archive: Archive) -> None:
    """Every store of eight threads is kept, under a sequence of its own."""

    def store(place: int) -> int:
        return archive.store(header(place))

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(store, range(400)))
    assert sorted(given) == list(range(1, 401))
    assert len(list(archive.instances())) == 400


def test_a_race_for_one_instance_has_one_winner(archive: Archive) -> None:
    """Of many stores of one instance at once, one is kept and the others are refused."""

    def store(_place: int) -> bool:
        try:
            archive.store(header())
        except AlreadyStored:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(store, range(64))) == 1
    assert sequences(archive) == [1]


WRITE: Final = """
import sys, pathlib
from dicom_assets.emulator.archive import Archive
archive = Archive(pathlib.Path(sys.argv[1]))
for place in range(100):
    study = f"1.2.{sys.argv[2]}"
    archive.store({
        "0020000D": {"vr": "UI", "Value": [study]},
        "0020000E": {"vr": "UI", "Value": [study + ".1"]},
        "00080018": {"vr": "UI", "Value": [f"{study}.1.{place}"]},
    })
archive.delete(study)
"""


def test_processes_may_write_at_once(tmp_path: Path) -> None:
    """Four processes that also create the archive together lose nothing."""
    commands = [[sys.executable, "-c", WRITE, str(tmp_path), str(place)] for place in range(1, 5)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(60) for process in processes] == [0] * 4
    archive = Archive(tmp_path)
    entries = archive.entries(limit=2000)
    assert [entry.sequence for entry in entries] == list(range(1, 801))
    assert {entry.state for entry in entries} == {"Deleted"}
    deletes = [entry for entry in entries if entry.action == "Delete"]
    assert len({entry.ticks for entry in deletes}) == 4
    archive.close()


def test_reads_use_an_index(archive: Archive) -> None:
    """No read of the feed walks a whole table: SQLite's plan has no bare scan."""
    archive.store(header())
    plans: list[str] = []
    original = archive._ask

    def asked(query: str, values: Any = ()) -> list[Any]:  # noqa: ANN401
        rows = original(f"EXPLAIN QUERY PLAN {query}", values)
        plans.extend(row[3] for row in rows)
        return []

    archive._ask = asked  # type: ignore[method-assign]
    archive.entries(start=1, end=2)
    archive.entries_by_sequence(after=5)
    list(archive.instances("north"))
    assert len(plans) > 5
    assert not [plan for plan in plans if plan.startswith("SCAN")]
