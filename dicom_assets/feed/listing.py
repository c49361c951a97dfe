"""Pages in the feed's order, by keyset: each begins exactly after the last row listed.

A page is asked for by a start time and the rows to skip from it; the next one by the time of the
last row and the rows listed with that very time. So the service never skips far, rows with the
same timestamp by the thousand are listed once each, and a row that appears before the position
shifts nothing. When a list has ended is decided by who reads it: `light_read`, `heavy_read`.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from dicom_assets.feed.decode import Entry, Identity, Row, decode_page
from dicom_assets.feed.http.connection import Connection, ServiceQuery
from dicom_assets.feed_contract import Rejection
from dicom_assets.window import Window, format_timestamp

# One page without a new row may be a passing lie, or rows that moved while they were listed.
MOST_STALE_PAGES: Final = 2
OUTSIDE: Final = "outside the window that was asked for"


@dataclass(frozen=True)
class Listed:
    """A row as the service listed it, and the tick at which it stands in the list."""

    identity: Identity
    ticks: int
    row: Entry | Rejection


@dataclass(frozen=True)
class Stray:
    """A row of another time than was asked for, and its data partition if that can be read."""

    rejection: Rejection
    partition: str | None


@dataclass(frozen=True)
class Page:
    """One answer: its rows, and the size of its JSON.

    `strays` are rows of another time than was asked for. They have no place in the list, and so no
    part in paging. A page is full when it has as many rows as were asked for.
    """

    rows: list[Listed]
    strays: list[Stray]
    bytes: int
    is_full: bool

    @property
    def is_empty(self) -> bool:
        """Whether the service had nothing to show, not even what does not belong there."""
        return not self.rows and not self.strays


@dataclass(frozen=True)
class Position:
    """Where a page begins: after `offset` of the rows that stand at `ticks` or later."""

    ticks: int
    offset: int

    def after(self, rows: list[Listed]) -> "Position":
        """Return the position after a page's rows, in whatever order, and how often, it held them.

        Where the page goes back behind the position, it stays where it is.
        """
        ticks = max([self.ticks, *(row.ticks for row in rows)])
        listed = {row.identity for row in rows if row.ticks == ticks}
        return Position(ticks, len(listed) + (self.offset if ticks == self.ticks else 0))


@dataclass(frozen=True)
class Listing:
    """Lists the entries of one feed; safe to share by threads."""

    connection: Connection
    path: str
    batch_size: int
    stop: threading.Event

    def pages(
        self,
        window: Window,
        *,
        offset: int = 0,
        limits: Iterator[int] | None = None,
        headers: bool = False,
    ) -> Iterator[Page]:
        """Yield the window's pages from its `offset`-th row on, for as long as rows are new.

        After a page without a new row, empty or not, the next one is asked for all the same; the
        second such page in a row is the last. `limits` gives the size of each page, else it is
        `batch_size`.
        """
        position, met, stale_pages = Position(window.start, offset), set[Identity](), 0
        sizes = repeat(self.batch_size) if limits is None else limits
        while stale_pages < MOST_STALE_PAGES:
            page = self.page(position, window, next(sizes), headers=headers)
            yield page
            position = position.after(page.rows)
            before = len(met)
            met.update(row.identity for row in page.rows)
            stale_pages = 0 if len(met) > before else stale_pages + 1

    def page(self, position: Position, window: Window, limit: int, *, headers: bool) -> Page:
        """Return the page that begins at the position."""
        return self.attempt(position, window, limit, headers=headers)

    def attempt(  # noqa: PLR0913 - a page, and how long to try
        self,
        position: Position,
        window: Window,
        limit: int,
        *,
        headers: bool,
        since: float | None = None,
        tries: int | None = None,
    ) -> Page:
        """Return the page.

        Raises HeaderSuspectedError after so many tries, see `Connection.ask`.
        """
        parameters: dict[str, str | int] = {
            "startTime": format_timestamp(position.ticks),
            "endTime": format_timestamp(window.end),
            "offset": position.offset,
            "limit": limit,
            "includeMetadata": "true" if headers else "false",
        }
        question = ServiceQuery(self.path, parameters, _read_page, str(window))
        rows, size = self.connection.ask(question, stop=self.stop, since=since, tries=tries)
        listed, strays = _place(rows, position.ticks, window)
        return Page(listed, strays, size, is_full=len(rows) >= limit)

    def first(self) -> list[Row]:
        """Return the feed's first row, in a list; an empty feed has none."""
        parameters: dict[str, str | int] = {"limit": 1, "includeMetadata": "false"}
        question = ServiceQuery(self.path, parameters, _read_page, "the first entry")
        rows, _ = self.connection.ask(question, stop=self.stop)
        return rows

    def latest(self) -> list[Row]:
        """Return the feed's newest row, in a list; an empty feed has none."""
        parameters = {"includeMetadata": "false"}
        question = ServiceQuery(f"{self.path}/latest", parameters, _read_one, "the newest entry")
        return self.connection.ask(question, stop=self.stop)


def _read_page(body: bytes) -> tuple[list[Row], int]:
    return decode_page(body), len(body)


def _read_one(body: bytes) -> list[Row]:
    return decode_page(b"[" + body + b"]")


def _place(rows: list[Row], ticks: int, window: Window) -> tuple[list[Listed], list[Stray]]:
    """Return the rows with the tick at which each stands, and those that do not belong there.

    A row whose own time cannot be read stands where it was met.
    """
    listed, strays = [], []
    for identity, row in rows:
        if row.ticks is None:
            listed.append(Listed(identity, ticks, row))
        elif window.start <= row.ticks < window.end:
            ticks = max(ticks, row.ticks)
            listed.append(Listed(identity, row.ticks, row))
        else:
            partition = row.partition if isinstance(row, Entry) else None
            strays.append(Stray(Rejection(row.sequence, row.ticks, OUTSIDE), partition))
    return listed, strays
