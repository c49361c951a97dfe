"""The 48 hours of the sample archive, the same for every process."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dicom_assets.emulator import claim

FIRST: Final = datetime(2026, 1, 1, 10, tzinfo=UTC)
DELAY: Final = timedelta(minutes=15)


def test_the_first_hour_is_claimed_once(tmp_path: Path) -> None:
    """48 hours that are over, by a floor; later askers get the same hour."""
    directory = tmp_path / "deep" / "archive"
    now = datetime(2026, 1, 3, 10, 14, 59, tzinfo=UTC)
    claimed = claim.first_hour(directory, now=now, delay=DELAY)
    assert claimed == datetime(2026, 1, 1, 9, tzinfo=UTC)
    later = claim.first_hour(directory, now=now + timedelta(days=9), delay=timedelta(0))
    assert later == claimed
    kept = tmp_path / "deep" / "archive.first-hour"
    assert kept.read_text(encoding="utf-8") == "2026-01-01T09:00:00+00:00\n"
    assert list(kept.parent.iterdir()) == [kept]


def test_the_first_hour_is_utc_whatever_the_clock_says(tmp_path: Path) -> None:
    """A moment with another offset gives the same UTC hour."""
    tokyo = datetime.fromisoformat("2026-01-03T19:15:00+09:00")
    claimed = claim.first_hour(tmp_path / "archive", now=tokyo, delay=DELAY)
    assert claimed.isoformat() == "2026-01-01T10:00:00+00:00"


def test_where_nothing_can_be_written_the_first_hour_is_computed(tmp_path: Path) -> None:
    """Without a place for the claim the answer moves with the clock."""
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    directory = tmp_path / "file" / "archive"
    now = datetime(2026, 1, 3, 10, 15, tzinfo=UTC)
    assert claim.first_hour(directory, now=now, delay=DELAY) == FIRST
    assert claim.first_hour(directory, now=now + 5 * timedelta(hours=1), delay=DELAY) == (
        FIRST + 5 * timedelta(hours=1)
    )
