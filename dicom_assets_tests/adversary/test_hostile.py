"""Hostile entries: their texts, and each on the wire as it was written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dicom_assets_tests.adversary import hostile
from dicom_assets_tests.support.dicom_files import header, many

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary import Faults


def test_every_hostile_form_arrives_between_good_neighbours(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """First and third entry are untouched, and what is between them is what was written."""
    many(archive, 3)
    whole = client.get("/v2/changefeed").content
    first, second, third = (whole[1:-1].replace(b"},{", b"}\0{")).split(b"\0")
    for name, override in hostile.overrides(2, header(sop=2)):
        faults.replace(override)
        content = client.get("/v2/changefeed").content
        assert content.startswith(b"[" + first + b","), name
        assert content.endswith(b"," + third + b"]"), name
        middle = content[len(first) + 2 : -len(third) - 2]
        assert middle != second, name
        if override.metadata is not None:
            assert middle.endswith(b',"metadata":' + override.metadata + b"}"), name
        if override.entry is not None:
            assert middle == override.entry, name
        for field, value in override.fields.items():
            shown = b'"%b":' % field.encode()
            assert (shown in middle) is (value is not None), name
            assert value is None or shown + value in middle, name


def test_hostile_headers_differ_from_the_good_one() -> None:
    """Each has a name and is another text; all of the list are there."""
    texts = hostile.headers(header())
    good = json.dumps(header(), separators=(",", ":")).encode()
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
    for name, text in hostile.headers(header()).items():
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
    forms = list(hostile.overrides(9, header()))
    names = [name for name, _ in forms]
    assert len(set(names)) == len(names) >= 85
    assert {override.sequence for _, override in forms} == {9}
    for _, override in forms:
        given = [override.entry is not None, override.metadata is not None, bool(override.fields)]
        assert given.count(True) == 1
