"""Paging by keyset: each page starts exactly after the last row listed.

A request has a start time, and an offset from it. For the next page they are the time of the last
row, and the number of rows listed with exactly that time. So offsets stay small, each of thousands
of rows with one timestamp is listed once, and a row inserted before the position shifts nothing.
`light_read` and `header_read` decide where a list ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry, Identity, Row, decode_page, field_names
from dicom_assets.feed.http.connection import Connection, ServiceQuery
from dicom_assets.feed.http.timeouts import Stop
from dicom_assets.feed_contract import Rejection
from dicom_assets.window import Window, datetime_of, format_timestamp

# One page without a new row may be a passing error, or rows moved while they were listed.
MOST_STALE_PAGES: Final = 2
# Rows requested while the list stays at one tick. A bulk update of 100,000 instances has one tick,
# and a list that goes on for so long does not end.
MOST_AT_ONE_TICK: Final = 200_000
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
    `unreadable` names the fields of the first of several entries, if no sequence can be read.
    """

    rows: list[Listed]
    strays: list[tuple[Identity, Rejection, str | None]]
    bytes: int
    is_full: bool
    unreadable: list[str] | None = None


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


@dataclass
class Paging:
    """The progress of a list: where its next page starts, and whether there is one."""

    position: Position
    _met: set[Identity] = field(default_factory=set)
    _stale_pages: int = 0
    _requested: int = 0

    @property
    def is_over(self) -> bool:
        """True after the second page in a row without a new row, empty or not."""
        return self._stale_pages >= MOST_STALE_PAGES

    def take(self, page: Page, size: int, window: Window) -> None:
        """Move behind a page for which `size` rows were requested.

        Raises ServiceAnswerError for a list that does not end at one tick.
        """
        before, self.position = self.position, self.position.after(page.rows)
        self._requested = size + (self._requested if self.position.ticks == before.ticks else 0)
        if self._requested > MOST_AT_ONE_TICK:
            raise ServiceAnswerError(
                f"the list of {window} does not end: at one moment, "
                f"{datetime_of(self.position.ticks):%Y-%m-%d %H:%M:%S} UTC, there are ever new "
                f"entries, {MOST_AT_ONE_TICK:,} were requested. Nothing was sealed. Look for a "
                "proxy that changes `offset` or `startTime`, and ask the operator of the "
                "service what was stored or deleted at that moment"
            )
        known = len(self._met)
        self._met.update(row.identity for row in page.rows)
        self._stale_pages = 0 if len(self._met) > known else self._stale_pages + 1


@dataclass(frozen=True)
class Listing:
    """The pages of one feed. Safe to share between threads."""

    connection: Connection
    path: str
    batch_size: int
    stop: Stop

    def pages(
        self,
        window: Window,
        *,
        offset: int = 0,
        limits: Iterator[int] | None = None,
        headers: bool = False,
    ) -> Iterator[Page]:
        """Yield the window's pages from its `offset`-th row on, as long as they bring new rows.

        `limits` gives the size of each page. Without it, the size is `batch_size`. Raises
        ServiceAnswerError for a list that does not end at one tick.
        """
        paging = Paging(Position(window.start, offset))
        sizes = repeat(self.batch_size) if limits is None else limits
        while not paging.is_over:
            size = next(sizes)
            page = self.page(paging.position, window, size, headers=headers)
            yield page
            paging.take(page, size, window)

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
        seconds: float | None = None,
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
            self.path, parameters, lambda body: (decode_page(body), body), str(window)
        )
        rows, body = self.connection.get(
            query, stop=self.stop, since=since, seconds=seconds, tries=tries
        )
        # One entry without a sequence does not stop an hour. Several on a page, and none with one,
        # are another form of the feed, and every hour would be green without an entry.
        is_unreadable = len(rows) > 1 and all(row.sequence is None for _, row in rows)
        names = field_names(body) if is_unreadable else None
        page = Page([], [], len(body), is_full=len(rows) >= limit, unreadable=names)
        ticks = position.ticks
        for identity, row in rows:
            # Without a time it gets the tick of the row before it. Without a sequence, a time
            # outside the window proves nothing.
            if row.ticks is None or (row.sequence is None and not window.holds(row.ticks)):
                page.rows.append(Listed(identity, ticks, row))
            elif window.start <= row.ticks < window.end:
                ticks = max(ticks, row.ticks)
                page.rows.append(Listed(identity, row.ticks, row))
            else:
                partition = row.partition if isinstance(row, Entry) else None
                stray = Rejection(row.sequence, row.ticks, OUTSIDE)
                page.strays.append((identity, stray, partition))
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
