"""What a read must bring: the archive itself, asked without a network."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from dicom_assets.window import TICKS_PER_HOUR, Window
from dicom_assets_tests.support.entries import header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicom_assets.emulator.archive import Archive
    from dicom_assets.feed import ChangeFeed
    from dicom_assets.feed_contract import Entries, Headers, Rejection

HOUR: Final = 17_676_000_000_000_000  # 2026-01-05 08:00:00 UTC, in ticks of 100 ns since 1970
WINDOW: Final = Window(HOUR, HOUR + TICKS_PER_HOUR)
SHOWN: Final = "2026-01-05 08:00:00 to 2026-01-05 09:00:00 UTC"
_ALL: Final = 1_000_000


def fill(archive: Archive, count: int, per_tick: int = 1) -> None:
    """Give the archive instances 0, 1, …, some at the same tick."""
    for i in range(count):
        archive.store(header("1.2", "1.2.1", f"1.3.{i}"), at=HOUR + i // per_tick)


def changes_of(archive: Archive) -> list[tuple[object, ...]]:
    """Return the archive's entries of the hour, in the feed's order."""
    entries = archive.entries(start=WINDOW.start, end=WINDOW.end, limit=_ALL, header=False)
    return [(e.sequence, e.ticks, e.partition, e.sop, e.action, e.state) for e in entries]


def changes_in(entries: Entries) -> list[tuple[object, ...]]:
    """Return the rows of a light read in the same form, in their order."""
    names = ("sequence", "timestamp_ticks", "partitionName", "sopinstanceuid", "action", "state")
    return list(zip(*(entries.changes[name].to_pylist() for name in names), strict=True))


def headers_of(archive: Archive) -> dict[int, str]:
    """Return the headers of the hour's current entries, as text, by sequence."""
    entries = archive.entries(start=WINDOW.start, end=WINDOW.end, limit=_ALL)
    return {e.sequence: e.header for e in entries if e.state == "Current" and e.header}


def current(feed: ChangeFeed, entries: Entries) -> list[Headers]:
    """Return the header read of the current entries of a light read."""
    changes = entries.changes
    states: list[Any] = changes["state"].to_pylist()
    sequences: list[Any] = changes["sequence"].to_pylist()
    wanted = [s for s, state in zip(sequences, states, strict=True) if state == "Current"]
    return list(feed.headers(changes, wanted))


def headers_in(pieces: Iterable[Headers]) -> dict[int, str]:
    """Return the headers of a header read, as text, by sequence; each came once."""
    rows: list[dict[str, Any]] = [row for piece in pieces for row in piece.rows.to_pylist()]
    found = {row["sequence"]: row["metadata_string"] for row in rows}
    assert len(found) == len(rows)
    return found


def rejections_in(pieces: Iterable[Headers]) -> list[Rejection]:
    """Return the rejections of a header read, of which no sequence has two."""
    found = [rejection for piece in pieces for rejection in piece.rejections]
    assert max(Counter(r.sequence for r in found).values(), default=0) <= 1
    return sorted(found, key=lambda rejection: rejection.sequence or 0)


def assert_all_is_read(feed: ChangeFeed, archive: Archive) -> None:
    """Every entry of the hour is read once, and every header as it is in the archive."""
    entries = feed.entries(WINDOW)
    assert changes_in(entries) == changes_of(archive)
    assert entries.rejections == ()
    pieces = current(feed, entries)
    assert headers_in(pieces) == headers_of(archive)
    assert rejections_in(pieces) == []
