"""Pages that fail because of one bad header: that entry is rejected, the others are read.

The service reads each header from a blob of its own. A missing or damaged blob fails the whole
page until it is repaired. Such a page is split in halves until the bad entry is alone. It
becomes a Rejection, and later runs retry it.

A header that is larger than an answer may be is found in the same way, but certain at once: the
service answers. The page is cut where the answer broke off. Such headers are no sign of an outage,
so neither their number nor `retry_seconds` ends the search.

An outage fails pages in the same way, and must not become a thousand rejections. So a header counts
as unreadable only if all of this is true:

- The page failed QUICK_TRIES times, and the header alone failed for `doubt_seconds`.
- The same rows are answered without headers, before and after, so the service works.
- Another header was read meanwhile, so the storage of headers works.
- At most MOST_UNREADABLE headers are unreadable in one read.

Otherwise it is an outage: the page is retried for `retry_seconds`, and then the run fails.
"""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from dicom_assets.errors import ServiceAnswerError, ServiceUnavailableError
from dicom_assets.feed.decode import Entry, Identity
from dicom_assets.feed.http.answers import HEADER_UNREADABLE
from dicom_assets.feed.http.connection import HeaderSuspectedError
from dicom_assets.feed.listing import Listing, Page, Position
from dicom_assets.feed_contract import Rejection
from dicom_assets.window import Window

_LOG: Final = logging.getLogger(__name__)

QUICK_TRIES: Final = 3
# So often is a single row retried within `doubt_seconds`.
ROUNDS: Final = 5
# From so many failing parts of a page on, another header must be readable, or it is an outage.
DOUBTFUL: Final = 8
MOST_UNREADABLE: Final = 100


@dataclass
class HeaderHealth:
    """The state of headers in one header read, shared by its threads.

    `read_at` is the time at which a header was last read, by the clock of the timeouts.
    """

    read_at: float = float("-inf")
    unreadable: set[Identity] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class HeaderListing(Listing):
    """A listing in whose pages unreadable headers are rejections."""

    health: HeaderHealth = field(default_factory=HeaderHealth)

    def page(self, position: Position, window: Window, limit: int, *, headers: bool) -> Page:
        """Return the page that starts at the position, with rejections for unreadable headers."""
        if not headers:
            return super().page(position, window, limit, headers=False)
        began = self.connection.timeouts.now()
        try:
            return self.read(position, window, limit, since=began, tries=QUICK_TRIES)
        except HeaderSuspectedError as error:
            suspicion = error
        now, ends = self.connection.timeouts.now(), began + self.connection.retry_seconds
        split = _Split(self, position, window, limit, ends, suspected_at=now)
        with suppress(_OutageError, ServiceUnavailableError, ServiceAnswerError):
            return split.page(suspicion)
        # In an outage this raises the error of the outage, after `retry_seconds`.
        return self.read(position, window, limit, since=began)

    def read(  # noqa: PLR0913 - as `attempt`
        self,
        position: Position,
        window: Window,
        limit: int,
        *,
        since: float,
        seconds: float | None = None,
        tries: int | None = None,
    ) -> Page:
        """Return the page as served, and store in `health` that headers can be read."""
        page = self.attempt(
            position, window, limit, headers=True, since=since, seconds=seconds, tries=tries
        )
        if has_header(page):
            self.health.read_at = self.connection.timeouts.now()
        return page


@dataclass(frozen=True)
class _Part:
    """`count` rows of the page from its `start`-th on, and why their headers are unreadable."""

    start: int
    count: int
    reason: str = HEADER_UNREADABLE
    is_certain: bool = False
    begun: int = 0

    def after(self, error: HeaderSuspectedError) -> "_Part":
        """Return the part with the reason why it is unreadable."""
        return replace(self, reason=error.reason, is_certain=error.is_certain, begun=error.begun)

    def smaller(self) -> list["_Part"]:
        """Return both halves, or the row at which the answer broke off, and those around it.

        A single row is returned as it is.
        """
        if self.count == 1:
            return [self]
        is_cut = 0 < self.begun <= self.count
        inner = {self.begun - 1, self.begun} if is_cut else {self.count // 2}
        cuts = sorted({0, *inner, self.count})
        return [_Part(self.start + low, high - low) for low, high in pairwise(cuts)]


class _OutageError(Exception):
    """Pages fail for another reason than a bad header."""


@dataclass
class _Split:
    """The split of a page at unreadable headers. Methods raise _OutageError if it is an outage."""

    listing: HeaderListing
    position: Position
    window: Window
    limit: int
    ends: float
    suspected_at: float
    pages: list[Page] = field(default_factory=list)
    # The smallest part whose headers were read, to be read again as a control.
    control: _Part | None = None

    def page(self, suspicion: HeaderSuspectedError) -> Page:
        connection, timeouts = self.listing.connection, self.listing.connection.timeouts
        whole = self._suspect(_Part(0, self.limit), suspicion)
        light = self._without_headers(whole)
        if suspicion.is_late:  # perhaps of a large header, for which `retry_seconds` are too few
            self.ends = max(self.ends, timeouts.now() + timeouts.request_seconds)
        count = len(light.rows) + len(light.strays)
        parts = [replace(whole, count=count)] if count else []
        while not all(part.count == 1 for part in parts):
            parts = self._failing([smaller for part in parts for smaller in part.smaller()])
        # With few seconds for all retries, a bad header is found in the first half of them.
        doubt_seconds = min(timeouts.doubt_seconds, connection.retry_seconds / 2)
        for _ in range(ROUNDS):
            if all(part.is_certain for part in parts):
                break
            timeouts.sleep(doubt_seconds / ROUNDS, self.listing.stop)
            self.suspected_at = timeouts.now()
            parts = self._failing(parts)
        pages = [*self.pages, *self._reject(parts)]
        return Page(
            [row for page in pages for row in page.rows],
            [stray for page in pages for stray in page.strays],
            light.bytes + sum(page.bytes for page in pages),
            light.is_full,
        )

    def _failing(self, parts: list[_Part]) -> list[_Part]:
        """Return the parts that cannot be read now, and keep the pages of the others."""
        failed = [
            part if part.is_certain or self._is_late() else self._read(part) for part in parts
        ]
        failing = [part for part in failed if part is not None]
        doubtful = sum(not part.is_certain for part in failing)
        if self._is_late() or doubtful > MOST_UNREADABLE:
            raise _OutageError
        if doubtful >= DOUBTFUL and not self._are_others_readable():
            raise _OutageError
        return failing

    def _is_late(self) -> bool:
        return self.listing.connection.timeouts.now() > self.ends or self.listing.stop.is_set()

    def _read_now(self, place: tuple[Position, Window, int], tries: int) -> Page:
        now = self.listing.connection.timeouts.now()
        return self.listing.read(*place, since=now, seconds=self.ends - now, tries=tries)

    def _suspect(self, part: _Part, error: HeaderSuspectedError) -> _Part:
        """Return the part with the reason. A header that is too large gives the search new time."""
        if error.is_certain:
            timeouts = self.listing.connection.timeouts
            self.ends = max(self.ends, timeouts.now() + timeouts.search_seconds)
        return part.after(error)

    def _read(self, part: _Part) -> _Part | None:
        """Keep the part's page, or return the part with the reason why it is unreadable."""
        at = self._place(part)
        try:
            page = self._read_now(at, tries=1)
        except HeaderSuspectedError as error:
            return self._suspect(part, error)
        self.pages.append(page)
        if has_header(page) and (self.control is None or part.count < self.control.count):
            self.control = part
        return None

    def _are_others_readable(self) -> bool:
        """True when another header was read since this one last failed, or can be read now.

        Reads one of this page if any of it was readable, otherwise the newest of the feed.
        """
        if self.listing.health.read_at >= self.suspected_at:
            return True
        try:
            if self.control is None:
                newest = self.listing.latest()
                ticks = newest[0][1].ticks if newest else None
                ticks = self.position.ticks if ticks is None else ticks
                at = Position(ticks, 0), Window(ticks, ticks + 1), 1
            else:
                at = self._place(self.control)
            return has_header(self._read_now(at, QUICK_TRIES))
        except HeaderSuspectedError:
            return False

    def _reject(self, parts: list[_Part]) -> list[Page]:
        """Return the pages of the unreadable rows as rejections."""
        if not (all(part.is_certain for part in parts) or self._are_others_readable()):
            raise _OutageError
        pages = [self._without_headers(part) for part in parts]
        health = self.listing.health
        with health.lock:
            health.unreadable.update(
                row.identity
                for page, part in zip(pages, parts, strict=True)
                for row in page.rows
                if not part.is_certain
            )
            if len(health.unreadable) > MOST_UNREADABLE:
                raise _OutageError
        for page, part in zip(pages, parts, strict=True):
            for place, listed in enumerate(page.rows):
                row = listed.row
                if isinstance(row, Entry) and row.state != "Deleted":  # which needs no header
                    _LOG.warning("sequence %d is rejected: %s", row.sequence, part.reason)
                    rejection = Rejection(row.sequence, row.ticks, part.reason)
                    page.rows[place] = replace(listed, row=rejection)
        return pages

    def _without_headers(self, part: _Part) -> Page:
        """Return the part's page without headers. It is an outage when that fails as well."""
        at, now = self._place(part), self.listing.connection.timeouts.now()
        seconds = self.ends - now
        try:
            return self.listing.attempt(
                *at, headers=False, since=now, seconds=seconds, tries=QUICK_TRIES
            )
        except HeaderSuspectedError:
            raise _OutageError from None

    def _place(self, part: _Part) -> tuple[Position, Window, int]:
        position = Position(self.position.ticks, self.position.offset + part.start)
        return position, self.window, part.count


def has_header(page: Page) -> bool:
    """True when a header was served on the page."""
    return any(isinstance(listed.row, Entry) and listed.row.header for listed in page.rows)
