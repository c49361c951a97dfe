"""Each fault of a page's rows and of single entries, and the archive moving between two pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from dicom_assets_tests.adversary import (
    Again,
    Call,
    Duplicate,
    Empty,
    Gap,
    Hide,
    Longer,
    Operate,
    Override,
    Poison,
    Rule,
    Shift,
    Shorter,
    Shuffle,
)
from dicom_assets_tests.adversary.pages import PageFault
from dicom_assets_tests.support.dicom_files import TEN, feed, header, many, sequences, shapes

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary import Fault, Faults

LIGHT: Final = "includeMetadata=false"


@pytest.mark.parametrize(
    ("fault", "pages"),
    [
        (Shorter(), [[1, 2], [4, 5], [7]]),
        (Shorter(2), [[1], [4], []]),
        (Shorter(9), [[], [], []]),
        (Empty(), [[], [], []]),
        (Gap(), [[1, 3], [4, 6], [8]]),
        (Duplicate(), [[1, 2, 3, 1], [4, 5, 6, 4], [7, 8, 7]]),
        (Longer(), [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8]]),
        (Longer(2), [[1, 2, 3, 4, 5], [4, 5, 6, 7, 8], [7, 8]]),
        (Shift(-1), [[1, 2, 3], [3, 4, 5], [6, 7, 8]]),
        (Shift(-3), [[1, 2, 3], [1, 2, 3], [4, 5, 6]]),
        (Shift(1), [[2, 3, 4], [5, 6, 7], [8]]),
        (Again(), [[1, 2, 3], [1, 2, 3], [1, 2, 3]]),
        (Again(rows=1), [[1, 2, 3], [3, 4, 5, 6], [6, 7, 8]]),
    ],
)
def test_rows_are_not_those_asked_for(
    client: httpx.Client, archive: Archive, faults: Faults, fault: Fault, pages: list[list[int]]
) -> None:
    """Three pages of eight entries, three rows each; the offsets asked for are 0, 3 and 6."""
    many(archive, 8)
    faults.replace(fault)
    for query in (LIGHT, ""):
        got = [sequences(client, f"?limit=3&offset={offset}&{query}") for offset in (0, 3, 6)]
        assert got == pages


def test_rows_are_shuffled(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """Never as they were, the same for the same seed, none lost."""
    many(archive, 6)
    seen = set()
    for seed in range(8):
        faults.replace(Shuffle(seed))
        rows = sequences(client)
        assert rows == sequences(client)
        assert rows != sorted(rows) == [1, 2, 3, 4, 5, 6]
        seen.add(tuple(rows))
    assert len(seen) > 4
    archive.delete("1.2.1")
    assert len(sequences(client, "?limit=1")) == 1


def test_pages_may_be_swapped(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """The second page comes third, the third second."""
    many(archive, 9)
    faults.replace([Rule(Shift(3), first=2, times=1), Rule(Shift(-3), first=3, times=1)])
    pages = [sequences(client, f"?limit=3&offset={offset}") for offset in (0, 3, 6)]
    assert pages == [[1, 2, 3], [7, 8, 9], [4, 5, 6]]


@pytest.mark.parametrize("fault", [Shorter(), Empty(), Gap(), Duplicate(), Longer(), Shuffle()])
def test_what_is_no_page_passes(
    client: httpx.Client, archive: Archive, faults: Faults, fault: Fault
) -> None:
    """`/latest` and a refusal have no rows that could be wrong."""
    many(archive, 2)
    faults.replace(fault)
    assert client.get("/v2/changefeed/latest").json()["sequence"] == 2
    assert client.get("/v2/changefeed?limit=0").text.startswith("The query parameter 'Limit'")


def test_a_page_fault_alone_changes_nothing(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """What its kinds have in common is that the rest of the page stays."""
    many(archive, 2)
    whole = client.get("/v2/changefeed").content
    faults.replace(Shorter(0))
    assert client.get("/v2/changefeed").content == whole
    assert PageFault().change([b"1"]) == [b"1"]


def test_hidden_entries_are_nowhere(client: httpx.Client, archive: Archive, faults: Faults) -> None:
    """Neither in a page of any version nor the newest; offsets count what is seen."""
    many(archive, 5)
    faults.replace(Hide(frozenset({2, 5})))
    assert sequences(client) == [1, 3, 4]
    assert sequences(client, "?offset=1&limit=2") == [3, 4]
    assert sequences(client, "?limit=10", version=1) == [1, 3, 4]
    for version in (1, 2):
        assert client.get(f"/v{version}/changefeed/latest").json()["sequence"] == 4
    faults.clear()
    assert sequences(client) == [1, 2, 3, 4, 5]


def test_an_entry_may_be_late_for_so_many_requests(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """It is there from the third request on."""
    many(archive, 2)
    faults.replace(Rule(Hide(frozenset({1})), times=2))
    assert [sequences(client) for _ in range(3)] == [[2], [2], [1, 2]]


def test_the_archive_moves_between_pages(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """States flip while a client pages: what was read first stands otherwise by now."""
    many(archive, 3)
    name = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^Two"}]}}
    plan = [
        Operate("update", "1.2.1", header=name, at=TEN * 2),
        Operate("delete", "1.2.1", "1.2.1.1", "1.2.1.1.1", at=TEN * 2),
        Operate("expire", "1.2.1", "1.2.1.1", "1.2.1.1.2"),
        Operate("store", header=header(sop=1), at=TEN * 2),
        Operate("store", header=header(sop=1), partition="north", at=TEN * 2),
        Operate("delete", "1.9"),
    ]
    faults.replace([Rule(fault, first=place + 2, times=1) for place, fault in enumerate(plan)])
    states = [[entry["state"][0] for entry in feed(client)] for _ in range(7)]
    assert ["".join(each) for each in states] == [
        "CCC",
        "RRRCCC",
        "DRRDCCD",
        "DDRDDCD",
        "RDRRDCRC",
        "RDRRDCRCC",
        "RDRRDCRCC",
    ]
    assert shapes(client)[6:] == [
        (7, "Delete", "Replaced"),
        (8, "Create", "Current"),
        (9, "Create", "Current"),
    ]


def test_a_function_may_be_called_between_pages(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """Whatever a test wants to happen, with the archive in hand."""
    faults.callbacks["more"] = lambda served: many(served, 2)
    faults.replace(Rule(Call("more"), "light", first=2, times=1))
    pages = [sequences(client, f"?{LIGHT}") for _ in range(3)]
    assert pages == [[], [1, 2], [1, 2]]


def test_thousands_of_entries_may_have_one_timestamp(
    client: httpx.Client, archive: Archive
) -> None:
    """An update of a study stamps all its instances at once; the clock may step back after it."""
    many(archive, 40)
    for _ in range(30):
        archive.update(["1.2.1"], {"00081030": {"vr": "LO", "Value": ["a"]}}, at=TEN * 2)
    archive.clock = lambda: TEN - 1
    archive.store(header(study=2))
    start = "startTime=2027-01-01T00:00:00Z"
    pages = [feed(client, f"?{start}&limit=200&offset={n}&{LIGHT}") for n in range(0, 1400, 200)]
    assert [len(page) for page in pages] == [200] * 6 + [0]
    assert len({entry["timestamp"] for page in pages for entry in page}) == 1
    assert sequences(client, "?limit=1") == [1241]


def test_poison_is_nothing_without_metadata(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """`/latest` fails only when it would show the header."""
    many(archive, 2)
    faults.replace(Poison(frozenset({2}), 503, body="the store is busy"))
    answer = client.get("/v2/changefeed/latest")
    assert (answer.status_code, answer.text) == (503, "the store is busy")
    assert client.get(f"/v2/changefeed/latest?{LIGHT}").status_code == 200


def test_an_entry_is_overridden_byte_by_byte(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """Whole, a field, or the header only; the other entries stay as they are."""
    many(archive, 3)
    good = [json.dumps(entry, separators=(",", ":")).encode() for entry in feed(client)]
    faults.replace(Override(2, entry=b"\xff"))
    assert client.get("/v2/changefeed").content == b"[" + good[0] + b",\xff," + good[2] + b"]"

    fields = {"partitionName": b"NaN", "state": None, "extra": b"\xfe"}
    faults.replace(Override(2, fields=fields, metadata=b"{"))
    expected = good[1].replace(b'"Microsoft.Default"', b"NaN").replace(b',"state":"Current"', b"")
    start, _ = expected.split(b'"metadata":')
    row = client.get("/v2/changefeed?limit=1&offset=1").content
    assert row == b"[" + start + b'"metadata":{,"extra":\xfe}]'

    light = client.get(f"/v2/changefeed?{LIGHT}&limit=1&offset=1").content
    assert b"metadata" not in light
    assert light.endswith(b',"extra":\xfe}]')


def test_the_newest_entry_may_be_overridden(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """`/latest` is an entry, too; a refusal is none."""
    faults.replace(Override(1, metadata=b"[]"))
    assert client.get("/v2/changefeed/latest").status_code == 204
    many(archive, 1)
    assert client.get("/v2/changefeed/latest").json()["metadata"] == []
    assert client.get("/v2/changefeed?limit=0").status_code == 400


def test_a_page_with_a_lone_surrogate_is_a_page_all_the_same(
    client: httpx.Client, archive: Archive, faults: Faults
) -> None:
    """Rows are told apart, poisoned and overridden whatever text their headers hold."""
    for sop in (1, 2, 3):
        archive.store(header(sop=sop) | {"00081030": {"vr": "LO", "Value": ['\ud800 [{"},{']}})
    faults.replace(Gap())
    assert sequences(client) == [1, 3]
    faults.replace(Override(2, fields={"state": b'"Odd"'}))
    assert [state for _, _, state in shapes(client)] == ["Current", "Odd", "Current"]
    faults.replace(Poison(frozenset({2})))
    assert client.get("/v2/changefeed").status_code == 500
