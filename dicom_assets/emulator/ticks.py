"""Time as the service keeps it: whole ticks of 100 ns since the Unix epoch, in UTC.

Microsecond types lose the seventh digit that the feed shows and takes, so no datetime is ever
between a parameter and the archive, nor between the archive and a page.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

PER_SECOND: Final = 10_000_000
PER_HOUR: Final = 3_600 * PER_SECOND

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ISO: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?)(?:\.(\d+))?(Z|[+-]\d{2}:\d{2})",
    re.ASCII | re.IGNORECASE,
)
_RFC_1123: Final = re.compile(
    r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", re.ASCII
)


def now() -> int:
    """Return the time of this machine."""
    return time.time_ns() // 100


def of(moment: datetime) -> int:
    """Return the ticks of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10


def to_text(ticks: int, zone: str = "+00:00") -> str:
    """Return the time as the feed writes it: at most 7 fraction digits, without trailing zeros."""
    whole, fraction = divmod(ticks, PER_SECOND)
    digits = f"{fraction:07d}".rstrip("0")
    seconds = (_EPOCH + timedelta(seconds=whole)).replace(tzinfo=None).isoformat()
    return f"{seconds}.{digits}{zone}" if digits else f"{seconds}{zone}"


def from_text(text: str) -> int:
    """Return the ticks of a time in ISO 8601 with a zone, or in RFC 1123, rounded to whole ones.

    Raise ValueError for any other text, also for a time without zone.
    """
    if _RFC_1123.fullmatch(text):
        return of(parsedate_to_datetime(text))
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError("not a time with a zone")
    minutes, fraction, zone = match.groups()
    try:
        whole = of(datetime.fromisoformat(f"{minutes}{zone.upper()}").astimezone(UTC))
    except OverflowError:
        raise ValueError("not a time between the years 1 and 9999") from None
    return whole + round(float(f"0.{fraction or '0'}") * PER_SECOND)
