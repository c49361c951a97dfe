"""A page that fails for one bad header: the header is found, the others are read.

The service reads each header from a blob of its own, and one that is missing or damaged fails the
whole page, for as long as it stays so. The page is then cut in halves until the entry stands alone;
it becomes a Rejection, which later runs try again.

An outage looks the same from one page, and must not become a thousand rejections. So a header is
called unreadable only when all of this holds:

- the page failed QUICK_TRIES times, and alone the header failed for `doubt_seconds`;
- without headers the same span is answered, before and after, so that the service is there;
- another header was read meanwhile, so that its storage is there;
- no more than MOST_UNREADABLE are, in one read.

Else it is an outage: the page is asked for again until `retry_seconds` are over, and then the run
is red.
"""

import logging
import threading
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from dicom_assets.feed.decode import Entry, Identity
from dicom_assets.feed.http.answers import HEADER_UNREADABLE
from dicom_assets.feed.http.connection import HeaderSuspectedError
from dicom_assets.feed.listing import Listed, Listing, Page, Position
from dicom_assets.feed_contract import Rejection
from dicom_assets.window import Window

_LOG: Final = logging.getLogger(__name__)

QUICK_TRIES: Final = 3
ROUNDS: Final = 5
# Of a page in which so many parts fail, one must be read, or nothing can be.
DOUBTFUL: Final = 8
MOST_UNREADABLE: Final = 100


@dataclass
class HeaderHealth:
    """What the threads of one heavy read found out: that headers can be read, and which cannot."""

    read_at: float = float("-inf")
    unreadable: set[Identity] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, identities: set[Identity]) -> bool:
        """Return whether there are still few enough of them to be no outage."""
        with self.lock:
            self.unreadable |= identities
            return len(self.unreadable) <= MOST_UNREADABLE


@dataclass(frozen=True)
class HeaderListing(Listing):
    """A listing whose pages with headers come without those that cannot be read."""

    findings: HeaderHealth = field(default_factory=HeaderHealth)

    def page(self, position: Position, window: Window, limit: int, *, headers: bool) -> Page:
        """Return the page that begins at the position; unreadable headers are rejections."""
        if not headers:
            return super().page(position, window, limit, headers=False)
        began = self.connection.timeouts.now()
        try:
            return self.read(position, window, limit, since=began, tries=QUICK_TRIES)
        except HeaderSuspectedError:
            page = _Search(self, position, window, limit, began).page()
        # An outage is told as such, once its time is over.
        return page or self.read(position, window, limit, since=began)

    def read(
        self,
        position: Position,
        window: Window,
        limit: int,
        *,
        since: float,
        tries: int | None = None,
    ) -> Page:
        """Return the page as it is served; whether headers can be read is noted."""
        page = self.attempt(position, window, limit, headers=True, since=since, tries=tries)
        if has_header(page):
            self.findings.read_at = self.connection.timeouts.now()
        return page


@dataclass(frozen=True)
class _Part:
    """So many rows of the page, from its `start`-th on; and why they could not be read."""

    start: int
    count: int
    reason: str = HEADER_UNREADABLE
    is_certain: bool = False

    @property
    def is_alone(self) -> bool:
        return self.count == 1

    def halves(self) -> list["_Part"]:
        """Return both halves; a single row has only itself."""
        cuts = sorted({self.start, self.start + self.count // 2, self.start + self.count})
        return [_Part(start, end - start) for start, end in pairwise(cuts)]


class _Search:
    """The search for what cannot be read in one page."""

    def __init__(
        self, listing: HeaderListing, position: Position, window: Window, limit: int, began: float
    ) -> None:
        self._listing = listing
        self._position = position
        self._window = window
        self._limit = limit
        self._timeouts = listing.connection.timeouts
        self._ends = began + listing.connection.retry_seconds
        self._began = began
        self._suspected_at = self._timeouts.now()
        self._pages: list[Page] = []
        self._control: _Part | None = None

    def page(self) -> Page | None:
        """Return the page with rejections in the place of bad headers; None in an outage."""
        light = self._without_headers(_Part(0, self._limit))
        if light is None:
            return None
        parts = self._insist(self._narrow(_Part(0, len(light.rows) + len(light.strays))))
        rejected = None if parts is None else self._reject(parts)
        if rejected is None:
            return None
        pages = [*self._pages, *rejected]
        return Page(
            [row for page in pages for row in page.rows],
            [stray for page in pages for stray in page.strays],
            light.bytes + sum(page.bytes for page in pages),
            light.is_full,
        )

    def _narrow(self, whole: _Part) -> list[_Part] | None:
        """Return the single rows that fail; all else was read. None in an outage."""
        parts = [whole] if whole.count else []
        while not all(part.is_alone for part in parts):
            parts = self._failing([half for part in parts for half in part.halves()])
            if self._is_outage(parts):
                return None
        return parts

    def _insist(self, parts: list[_Part] | None) -> list[_Part] | None:
        """Return the rows that failed however often they were tried; None in an outage."""
        for _ in range(ROUNDS):
            if not parts or all(part.is_certain for part in parts):
                break
            self._timeouts.sleep(self._timeouts.doubt_seconds / ROUNDS, self._listing.stop)
            self._suspected_at = self._timeouts.now()
            parts = self._failing(parts)
            if self._is_outage(parts):
                return None
        return parts

    def _failing(self, parts: list[_Part]) -> list[_Part]:
        """Return those of the parts that cannot be read now; the others' rows are kept."""
        tried = [part if part.is_certain or self._is_late() else self._read(part) for part in parts]
        return [part for part in tried if part is not None]

    def _is_late(self) -> bool:
        return self._listing.stop.is_set() or self._timeouts.now() > self._ends

    def _read(self, part: _Part) -> _Part | None:
        """Return the part if it cannot be read."""
        at = self._place(part)
        try:
            page = self._listing.read(*at, since=self._began, tries=1)
        except HeaderSuspectedError as error:
            is_certain = error.is_certain and part.is_alone
            return replace(part, reason=error.reason, is_certain=is_certain)
        self._pages.append(page)
        if has_header(page) and (self._control is None or part.count < self._control.count):
            self._control = part
        return None

    def _is_outage(self, parts: list[_Part]) -> bool:
        if self._is_late() or len(parts) > MOST_UNREADABLE:
            return True
        return len(parts) >= DOUBTFUL and not self._are_others_read()

    def _are_others_read(self) -> bool:
        """Whether a header was read since the last suspicion; if none was, one is tried.

        The one is of this page, if any of it was read, else the newest of the feed.
        """
        if self._listing.findings.read_at >= self._suspected_at:
            return True
        try:
            at = self._newest() if self._control is None else self._place(self._control)
            return has_header(self._listing.read(*at, since=self._began, tries=QUICK_TRIES))
        except HeaderSuspectedError:
            return False

    def _newest(self) -> tuple[Position, Window, int]:
        newest = self._listing.latest()
        ticks = newest[0][1].ticks if newest else None
        ticks = self._position.ticks if ticks is None else ticks
        return Position(ticks, 0), Window(ticks, ticks + 1), 1

    def _reject(self, parts: list[_Part]) -> list[Page] | None:
        """Return the rows that cannot be read as rejections; None when they must not be."""
        is_blamed = all(part.is_certain for part in parts) or self._are_others_read()
        pages = [self._without_headers(part) for part in parts] if is_blamed else [None]
        served = [page for page in pages if page is not None]
        identities = {row.identity for page in served for row in page.rows}
        if len(served) < len(pages) or not self._listing.findings.add(identities):
            return None
        return [_rejected(page, part.reason) for page, part in zip(served, parts, strict=True)]

    def _without_headers(self, part: _Part) -> Page | None:
        """Return the part without its headers; None when that fails as well."""
        at = self._place(part)
        try:
            return self._listing.attempt(*at, headers=False, since=self._began, tries=QUICK_TRIES)
        except HeaderSuspectedError:
            return None

    def _place(self, part: _Part) -> tuple[Position, Window, int]:
        position = Position(self._position.ticks, self._position.offset + part.start)
        return position, self._window, part.count


def has_header(page: Page) -> bool:
    """Whether a header was served on the page."""
    return any(isinstance(listed.row, Entry) and listed.row.header for listed in page.rows)


def _rejected(page: Page, reason: str) -> Page:
    """Return the page of a single row, as one that cannot be read; what is gone needs no header."""
    rows = []
    for listed in page.rows:
        row = listed.row
        if isinstance(row, Entry) and row.state != "Deleted":
            _LOG.warning("sequence %d is rejected: %s", row.sequence, reason)
            row = Rejection(row.sequence, row.ticks, reason)
        rows.append(Listed(listed.identity, listed.ticks, row))
    return replace(page, rows=rows)
