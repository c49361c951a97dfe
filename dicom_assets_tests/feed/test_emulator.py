"""Both reads against the emulator: a history of every kind of change, as it stands now."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets.feed import ChangeFeed
from dicom_assets.window import Window
from dicom_assets_tests.support.entries import header
from dicom_assets_tests.support.feeds import feed_of

pytestmark = pytest.mark.sockets

HOUR = 17_676_000_000_000_000


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Return an empty archive."""
    return Archive(tmp_path)


@pytest.fixture
def feed(archive: Archive) -> Iterator[ChangeFeed]:
    """Return a feed of the archive, in pages of two."""
    with (
        server.start(create_application(archive)) as running,
        feed_of(running.url, batch_size=2, retry_seconds=5) as feed,
    ):
        yield feed


def test_a_history_is_read_as_it_stands(archive: Archive, feed: ChangeFeed) -> None:
    """Two studies stored, one changed, an instance deleted and stored again, one expired."""
    for sop in ("1.1", "1.2", "1.3"):
        archive.store(header("1", "1.0", sop), at=HOUR)
    archive.store(header("2", "2.0", "2.1"), at=HOUR + 1, partition="other")
    archive.update(["1"], {"00100020": {"vr": "LO", "Value": ["ID2"]}}, at=HOUR + 2)
    archive.delete("1", "1.0", "1.1", at=HOUR + 3)
    archive.store(header("1", "1.0", "1.1"), at=HOUR + 4)
    archive.expire("1", "1.0", "1.2")

    changes = feed.entries(Window(HOUR, HOUR + 10)).changes
    actions = list(
        zip(changes["sopinstanceuid"].to_pylist(), changes["action"].to_pylist(),
            changes["state"].to_pylist(), strict=True)
    )  # fmt: skip
    assert sorted(actions[:3]) == [
        ("1.1", "Create", "Replaced"),
        ("1.2", "Create", "Deleted"),
        ("1.3", "Create", "Replaced"),
    ]
    assert actions[3] == ("2.1", "Create", "Current")
    assert sorted(actions[4:7]) == [
        ("1.1", "Update", "Replaced"),
        ("1.2", "Update", "Deleted"),
        ("1.3", "Update", "Current"),
    ]
    assert actions[7:] == [("1.1", "Delete", "Replaced"), ("1.1", "Create", "Current")]

    wanted = [sequence for sequence in changes["sequence"].to_pylist() if sequence is not None]
    pieces = list(feed.headers(changes, wanted))
    replaced = {sequence for piece in pieces for sequence in piece.replaced}
    rows = [row for piece in pieces for row in piece.rows.to_pylist()]
    assert len(rows) == 3 + len(replaced)
    rows = [row for row in rows if row["sequence"] not in replaced]
    assert sorted(
        (row["sopinstanceuid"], row["patientid"], row["partitionName"]) for row in rows
    ) == [
        ("1.1", "ID1", "Microsoft.Default"),
        ("1.3", "ID2", "Microsoft.Default"),
        ("2.1", "ID1", "other"),
    ]
    assert sum(len(piece.deleted) for piece in pieces) == 2
    assert len(replaced) == 4
    assert (feed.first(), feed.latest()) == (HOUR, HOUR + 4)


def test_an_empty_archive(feed: ChangeFeed) -> None:
    """It has no first and no newest entry, and its hours are empty."""
    assert (feed.first(), feed.latest()) == (None, None)
    assert feed.entries(Window(HOUR, HOUR + 10)).changes.num_rows == 0
