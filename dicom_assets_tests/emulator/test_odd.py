"""What newer services may do to UIDs and entries, hostile texts, and marked patient values."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from dicom_assets.emulator.archive import Archive, InstanceKey, NotStored, instance_key
from dicom_assets.emulator.uids import Effect, change_uids
from dicom_assets_tests.adversary import canary, hostile
from dicom_assets_tests.adversary.entries import PartialArchive, parts_of, spliced
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


def test_hidden_entries_leave_no_hole(archive: Archive) -> None:
    """Limits and offsets count what is seen; an archive of hidden ones is empty."""
    archive.store(header(3))
    assert [one.sequence for one in _without(archive, 1).entries(limit=1)] == [2]
    assert [one.sequence for one in _without(archive, 1).entries(offset=1)] == [3]
    assert [one.sequence for one in _without(archive, 2, 3).entries_by_sequence()] == [1]
    for by_sequence in (False, True):
        newest = _without(archive, 3).latest(by_sequence=by_sequence)
        assert newest is not None
        assert newest.sequence == 2
        assert _without(archive, 1, 2, 3).latest(by_sequence=by_sequence) is None


def _without(archive: Archive, *hidden: int) -> PartialArchive:
    return PartialArchive(archive, frozenset(hidden))


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


# --- hostile texts --------------------------------------------------------------------------------


def test_hostile_headers_differ_from_the_good_one() -> None:
    """Each has a name and is another text; all of the list are there."""
    texts = hostile.headers(header(1))
    good = json.dumps(header(1), separators=(",", ":")).encode()
    assert good not in texts.values()
    assert len(set(texts.values())) == len(texts) >= 55
    assert len(texts["string of 10 MB"]) > 10_000_000
    assert texts["array of 100,000"].count(b"1.5") == 100_000
    assert texts["nested 1,000 deep"].count(b"00081115") == 1_001
    assert texts["nested 100,000 deep"].count(b"00081115") == 100_001
    assert texts["tag twice"].count(b'"00081030"') == 2
    assert b"0020000D" not in texts["study not in header"]


def test_most_hostile_headers_are_json_all_the_same() -> None:
    """Those that no parser takes are known by name; of the nested ones each has its limit."""
    broken = set()
    for name, text in hostile.headers(header(1)).items():
        if name.startswith("nested"):
            continue
        try:
            json.loads(text, parse_constant=broken_number, parse_int=str)
        except ValueError:
            broken.add(name)
    assert broken == {"NaN", "Infinity", "invalid UTF-8", "raw control"}


def broken_number(name: str) -> float:
    """NaN and its like are no JSON."""
    raise ValueError(name)


def test_hostile_entries_name_the_entry_they_replace() -> None:
    """Headers, fields and whole entries, each under a name of its own."""
    forms = list(hostile.overrides(9, header(1)))
    names = [name for name, _ in forms]
    assert len(set(names)) == len(names) >= 85
    assert {override.sequence for _, override in forms} == {9}
    for _, override in forms:
        given = [override.entry is not None, override.metadata is not None, bool(override.fields)]
        assert given.count(True) == 1


def test_an_object_is_spliced_without_being_read() -> None:
    """Values keep their bytes, others are replaced in place, left out or put at the end."""
    parts = parts_of(b'{"sequence":1, "a": 1.50 ,"b":[1, 2],"c":{},"metadata":{"\xff":"\\ud800"}}')
    assert parts is not None
    assert (parts.sequence, parts.header) == (1, b'{"\xff":"\\ud800"}')
    assert spliced(parts.fields, {}) == b'{"sequence":1,"a":1.50,"b":[1, 2],"c":{}}'
    changes = {"a": b"\xff", "b": None, "d": b"{"}
    assert spliced(parts.fields, changes) == b'{"sequence":1,"a":\xff,"c":{},"d":{}'
    for row in (b"7", b"", b"null", b"[]", b"{}", b'{"sequence":"x"}', b'{"sequence":1'):
        assert parts_of(row) is None


# --- marked patient values ------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    """Every text and number in a header, its VRs left out."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name != "vr":
                yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def test_a_mark_is_found_nowhere_else() -> None:
    """Each is another one."""
    assert re.fullmatch(r"PHI-[0-9a-f-]{36}", canary.mark())
    assert canary.mark() != canary.mark()


def test_every_text_of_a_marked_header_is_the_mark() -> None:
    """Texts and names at every depth; UIDs, dates, numbers and nothing stay what they are."""
    item = {"00081150": {"vr": "UI", "Value": ["1.2"]}, "00104000": {"vr": "LT", "Value": ["x"]}}
    plain = {
        **header(1),
        "00080020": {"vr": "DA", "Value": ["20260101"]},
        "00080060": {"vr": "CS", "Value": ["CT", None]},
        "00081115": {"vr": "SQ", "Value": [item, {}]},
        "00100010": {"vr": "PN", "Value": [{"Ideographic": "X"}, None]},
        "00100040": {"vr": "CS"},
        "00200013": {"vr": "IS", "Value": [1]},
    }
    marked = canary.marked(plain, "PHI-1")
    assert instance_key(marked) == instance_key(plain)
    assert marked["00080060"]["Value"] == ["PHI-1", None]
    assert marked["00100010"]["Value"] == [{"Ideographic": "PHI-1^Ideographic"}, None]
    assert marked["00081115"]["Value"][0]["00104000"]["Value"] == ["PHI-1"]
    assert marked["00100040"] == {"vr": "CS"}
    kept = {"1.2", "20260101", 1, None, *instance_key(plain)}
    assert all(one in kept or "PHI-1" in str(one) for one in leaves(marked))
    assert list(marked) == sorted(marked)


def test_a_marked_header_has_the_usual_identifiers() -> None:
    """Even a bare header leaks when it is leaked."""
    marked = canary.marked(header(1), "PHI-1")
    for tag in ("00100010", "00100020", "00080050", "00081030", "0008103E", "00080090"):
        assert "PHI-1" in json.dumps(marked[tag])
    assert marked["00100010"]["Value"][0]["Alphabetic"].startswith("PHI-1")
