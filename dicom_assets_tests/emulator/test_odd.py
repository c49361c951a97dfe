"""Possible behaviour of newer services: new UIDs, entries without a change, file numbers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from dicom_assets.emulator.archive import Archive, InstanceKey, NotStored, instance_key
from dicom_assets_tests.adversary.uids import Effect, change_uids
from dicom_assets_tests.emulator.test_archive import header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW = {"1.2.1": "1.3.1"}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """An archive with a study of two instances, whose clock stands still."""
    archive = Archive(tmp_path, clock=lambda: 7)
    archive.store(header(1))
    archive.store(header(2))
    yield archive
    archive.close()


def rows(archive: Archive) -> list[tuple[str, str, str]]:
    """Study, action and state of every entry."""
    return [(one.study, one.action, one.state) for one in archive.entries()]


def study_in_header(archive: Archive) -> set[str]:
    """The study UIDs in the metadata of the feed."""
    texts = [entry.header for entry in archive.entries() if entry.header]
    return {json.loads(text)["0020000D"]["Value"][0] for text in texts}


def study(archive: Archive) -> str:
    """The study of the first entry."""
    return archive.entries()[0].study


@pytest.mark.parametrize(
    ("effect", "entries", "old_state"),
    [
        (Effect.DELETE_CREATE, ["Delete", "Create"] * 2, "Deleted"),
        (Effect.CREATE, ["Create"] * 2, "Deleted"),
        (Effect.UPDATE, ["Update"] * 2, "Deleted"),
        (Effect.MISMATCH, ["Update"] * 2, "Replaced"),
        (Effect.SILENT, [], "Current"),
    ],
)
def test_new_uids_show_in_one_of_several_ways(
    archive: Archive, effect: Effect, entries: list[str], old_state: str
) -> None:
    """The headers have the new study; which entries say so is the test's choice."""
    old = study(archive)
    sequences = change_uids(archive, old, {old: "1.3.1"}, effect)
    assert [row[1] for row in rows(archive)[2:]] == entries
    assert sequences == list(range(3, 3 + len(entries)))
    assert {row[2] for row in rows(archive)[:2]} == {old_state}
    assert study_in_header(archive) == {"1.3.1"}
    keyed_by_old = effect in {Effect.MISMATCH, Effect.SILENT}
    keys = {one.key.study for one in archive.instances()}
    assert keys == {old if keyed_by_old else "1.3.1"}
    assert {entry.ticks for entry in archive.entries()} == {7}


def test_uids_of_series_and_instances_change_too(archive: Archive) -> None:
    """Every UID that has a new one, at the time that is given; others stay."""
    first = next(archive.instances())
    new = {first.key.series: "1.3.7", first.key.sop: "1.3.8"}
    change_uids(archive, first.key.study, new, Effect.CREATE, at=99)
    assert {one.key.series for one in archive.instances()} == {"1.3.7"}
    assert "1.3.8" in {one.key.sop for one in archive.instances()}
    assert {entry.ticks for entry in archive.entries(start=8)} == {99}


def test_a_put_stores_and_replaces(archive: Archive) -> None:
    """What lives is replaced; one entry for each action, whatever its name."""
    assert archive.put(header(3), at=9) == [3]
    assert archive.put(header(3), actions=("Update", "Archive"), at=9) == [4, 5]
    states = [(one.action, one.state) for one in archive.entries(start=9)]
    assert states == [("Create", "Replaced"), ("Update", "Replaced"), ("Archive", "Current")]


def test_a_put_in_silence_needs_something_live(archive: Archive) -> None:
    """Without entries there must be one that holds the header."""
    with pytest.raises(NotStored):
        archive.put(header(3), actions=())
    assert len(archive.entries()) == 2
    key = instance_key(header(1))
    changed = {**header(1), "00081030": {"vr": "LO", "Value": ["new"]}}
    assert archive.put(changed, actions=()) == []
    assert archive.entries()[0].state == "Current"
    assert "new" in str(archive.entries()[0].header)
    assert archive.put(changed, key=InstanceKey("north", *key[1:])) == [3]


def test_file_numbers_are_never_used_again(tmp_path: Path) -> None:
    """Across processes, deletes and refusals; without external storage there are no paths."""
    archive = Archive(tmp_path, external_storage="root")
    archive.store(header(1))
    archive.delete(header(1)["0020000D"]["Value"][0])
    archive.close()
    archive = Archive(tmp_path, external_storage="root")
    archive.store(header(1))
    paths = [entry.file_path for entry in archive.entries()]
    assert [path and re.sub(r"_\w+", "", path) for path in paths] == [
        "root/Microsoft.Default/1.dcm",
        None,
        "root/Microsoft.Default/2.dcm",
    ]
    archive.close()
    plain = Archive(tmp_path)
    plain.store(header(2))
    assert plain.entries()[-1].file_path is None
    plain.close()
