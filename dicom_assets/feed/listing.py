"""Paging by keyset: each page starts exactly after the last row listed.

A request has a start time, and an offset from it. For the next page they are the time of the last
row, and the number of rows listed with exactly that time. So offsets stay small, each of thousands
of rows with one timestamp is listed once, and a row inserted before the position shifts nothing.
`light_read` and `header_read` decide where a list ends.
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

# One page without a new row may be a passing error, or rows moved while they were listed.
MOST_STALE_PAGES: Final = 2
OUTSIDE: Final = "outside the window that was asked for"


@dataclass(frozen=True)
class Listed:
    """A row as the service listed it, and its tick in the order of the list."""

    identity: Identity
    ticks: int
    row: Entry | Rejection


@dataclass(frozen=True)
class Page:
    """One page: its rows in the window, and the size of its JSON in bytes.

    `strays` are the rows outside the window, each with its data partition if that is readable. They
    have no place in the list, so paging ignores them. A full page has as many rows as requested.
    """

    rows: list[Listed]
    strays: list[tuple[Rejection, str | None]]
    bytes: int
    is_full: bool


@dataclass(frozen=True)
class Position:
    """The start of a page: after `offset` of the rows at `ticks` or later."""

    ticks: int
    offset: int

    def after(self, rows: list[Listed]) -> "Position":
        """Return the position after rows, perhaps unordered or repeated. It never moves back."""
        ticks = max([self.ticks, *(row.ticks for row in rows)])
        listed = {row.identity for row in rows if row.ticks == ticks}
        return Position(ticks, len(listed) + (self.offset if ticks == self.ticks else 0))


@dataclass(frozen=True)
class Listing:
    """The pages of one feed. Safe to share between threads."""

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
        """Yield the window's pages from its `offset`-th row on, as long as they bring new rows.

        The second page in a row without a new row, empty or not, is the last. `limits` gives the
        size of each page. Without it, the size is `batch_size`.
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
        """Return the page that starts at the position."""
        return self.attempt(position, window, limit, headers=headers)

    def attempt(  # noqa: PLR0913 - a page, and how long to retry
        self,
        position: Position,
        window: Window,
        limit: int,
        *,
        headers: bool,
        since: float | None = None,
        tries: int | None = None,
    ) -> Page:
        """Return the page. Raises HeaderSuspectedError after `tries`, as `Connection.get` does."""
        parameters: dict[str, str | int] = {
            "startTime": format_timestamp(position.ticks),
            "endTime": format_timestamp(window.end),
            "offset": position.offset,
            "limit": limit,
            "includeMetadata": "true" if headers else "false",
        }
        query = ServiceQuery(
            self.path, parameters, lambda body: (decode_page(body), len(body)), str(window)
        )
        rows, size = self.connection.get(query, stop=self.stop, since=since, tries=tries)
        page = Page([], [], size, is_full=len(rows) >= limit)
        ticks = position.ticks
        for identity, row in rows:
            if row.ticks is None:  # unreadable, so the row gets the tick of the row before it
                page.rows.append(Listed(identity, ticks, row))
            elif window.start <= row.ticks < window.end:
                ticks = max(ticks, row.ticks)
                page.rows.append(Listed(identity, row.ticks, row))
            else:
                partition = row.partition if isinstance(row, Entry) else None
                page.strays.append((Rejection(row.sequence, row.ticks, OUTSIDE), partition))
        return page

    def first(self) -> list[Row]:
        """Return a list of the feed's first row. It is empty for an empty feed."""
        parameters: dict[str, str | int] = {"limit": 1, "includeMetadata": "false"}
        query = ServiceQuery(self.path, parameters, decode_page, "the first entry")
        return self.connection.get(query, stop=self.stop)

    def latest(self) -> list[Row]:
        """Return a list of the feed's newest row. It is empty for an empty feed."""
        path, where = f"{self.path}/latest", "the newest entry"
        parameters = {"includeMetadata": "false"}
        query = ServiceQuery(path, parameters, lambda body: decode_page(b"[" + body + b"]"), where)
        return self.connection.get(query, stop=self.stop)
