"""The emulator against what was captured of a real service, and derived from its SQL.

The captured page is in the tests' `data`. `state_transitions.json`, beside this, is the feed after
each of five writes, worked out from the stored procedures of microsoft/dicom-server (MIT), with
storage inside the service.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from dicom_assets_tests.support.dicom_files import feed

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive

HERE: Final = Path(__file__).parent
CAPTURED: Final = HERE.parent / "data" / "captured_page.json"
KEY: Final = ("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")


def ticks(timestamp: str) -> int:
    """100 ns since 1970, of a feed timestamp with 6 or 7 digits."""
    whole, fraction = timestamp.removesuffix("+00:00").split(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return int(seconds) * 10_000_000 + int(fraction.ljust(7, "0"))


def read(name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """A file of this folder."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


@pytest.fixture
def captured(archive: Archive) -> list[dict[str, Any]]:
    """The captured entries, which the archive holds too: same sequences, same timestamps."""
    entries: list[dict[str, Any]] = json.loads(CAPTURED.read_text(encoding="utf-8"))
    archive.skip_sequences(entries[0]["sequence"] - 1)
    for entry in entries:
        archive.store(entry["metadata"], at=ticks(entry["timestamp"]))
    return entries


def test_the_captured_page_is_served_byte_for_byte(
    client: httpx.Client, captured: list[dict[str, Any]]
) -> None:
    """Keys, order, casing, timestamps and metadata are those of the real service."""
    expected = json.dumps(captured, separators=(",", ":"), ensure_ascii=False)
    assert client.get("/v2/changefeed").text == expected
    assert [list(entry) for entry in feed(client)] == [list(entry) for entry in captured]


def test_the_captured_latest_is_the_last_entry(
    client: httpx.Client, captured: list[dict[str, Any]]
) -> None:
    """The newest entry is one object of the same form."""
    assert client.get("/v2/changefeed/latest").json() == captured[-1]


def test_the_states_are_those_of_the_services_procedures(
    client: httpx.Client, archive: Archive
) -> None:
    """After each of five writes the whole feed equals what the SQL of the service gives."""
    steps = read("state_transitions.json")
    feeds = [step["feed"] for step in steps]

    def new(place: int) -> dict[str, Any]:
        """The newest entry of a step, whose timestamp the write had."""
        entry: dict[str, Any] = feeds[place][-1]
        return entry

    first, second = feeds[0]
    archive.store(first["metadata"], at=ticks(first["timestamp"]))
    archive.store(second["metadata"], at=ticks(second["timestamp"]))
    assert feed(client) == feeds[0]

    name = {"00100010": new(1)["metadata"]["00100010"]}
    archive.update([new(1)["studyInstanceUid"]], name, at=ticks(new(1)["timestamp"]))
    assert feed(client) == feeds[1]

    archive.delete(*(new(2)[part] for part in KEY), at=ticks(new(2)["timestamp"]))
    assert feed(client) == feeds[2]

    archive.store(new(3)["metadata"], at=ticks(new(3)["timestamp"]))
    assert feed(client) == feeds[3]

    archive.delete(new(4)["studyInstanceUid"], at=ticks(new(4)["timestamp"]))
    assert feed(client) == feeds[4]
    assert [len(entries) for entries in feeds] == [2, 4, 5, 6, 8]
