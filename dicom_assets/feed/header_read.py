"""The heavy read: the headers of the entries that are wanted, many pages at once.

The log says where they stand (`pages`); the service may hold more than the log knows, and then
they stand a little later. So each wanted entry is looked for until it is found: in the page where
it should be, in those that follow, and several times in the list of its very tick. One that is
nowhere means that the two reads do not agree, and nobody can say which of them is right. A page
that fails for one bad header is the affair of `poison`.
"""

import threading
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final

import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry
from dicom_assets.feed.listing import Listing, Page
from dicom_assets.feed.pages import PageRange, cut
from dicom_assets.feed.rows import RowReader
from dicom_assets.feed.unreadable_headers import HeaderListing
from dicom_assets.feed_contract import Headers, Rejection
from dicom_assets.window import Window

# Spans that are waiting or done for each one in flight: none idles while the rows are taken in.
AHEAD: Final = 2
LATE: Final = 8
# How often the list of a tick is read, before the two reads are said not to agree.
TICK_READINGS: Final = 3


class HeaderRead:
    """One heavy read."""

    def __init__(self, listing: Listing, in_flight: int, reader: RowReader) -> None:
        self._stop = threading.Event()
        self._listing = HeaderListing(
            listing.connection, listing.path, listing.batch_size, self._stop
        )
        self._in_flight = in_flight
        self._reader = reader

    def read(self, log: pa.Table, wanted: Collection[int]) -> Iterator[Headers]:
        """Yield the headers of the wanted sequences as they arrive, in any order.

        Raises the first error of any page; whatever else is in flight is given up then, and when
        the caller stops iterating.
        """
        spans = _page_ranges(log, frozenset(wanted), self._listing.batch_size)
        executor = ThreadPoolExecutor(self._in_flight, thread_name_prefix="dicom-headers")
        waiting = set[Future[Headers]]()
        try:
            for span in spans:
                waiting.add(executor.submit(self._read_range, span))
                if len(waiting) >= AHEAD * self._in_flight:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            self._stop.set()
            executor.shutdown(wait=False, cancel_futures=True)

    def _read_range(self, span: PageRange) -> Headers:
        search = _Search(dict(span.wanted), self._reader)
        window = Window(span.start, span.end)
        limits = _limits(span.limit, self._listing.batch_size)
        search.through(self._listing.pages(window, offset=span.offset, limits=limits, headers=True))
        for ticks in sorted(set(search.missing.values())) * TICK_READINGS:
            if ticks in search.missing.values():
                pages = self._listing.pages(Window(ticks, ticks + 1), headers=True)
                search.through(pages, at=ticks)
        if search.missing:
            raise ServiceAnswerError(
                f"the two reads do not agree: {len(search.missing)} of {len(span.wanted)} entries "
                f"that the log has are not served, for {window}; run again, and if it stays so, "
                f"the service was restored from a backup, or it is another one"
            )
        return search.headers()


def _limits(first: int, batch_size: int) -> Iterator[int]:
    """Yield the sizes of a span's pages: what the log says, then a few rows more, then many.

    One late entry moves one row into the next page; only entries of data partitions that the log
    does not hold move many.
    """
    yield first
    limit = LATE
    while True:
        yield min(limit, batch_size)
        limit = min(2 * limit, batch_size)


class _Search:
    """Looks for wanted entries in pages; `missing` holds those not found yet, with their ticks."""

    def __init__(self, missing: dict[int, int], reader: RowReader) -> None:
        self.missing = missing
        self._reader = reader
        self._found: list[Entry | Rejection] = []
        self._pages = self._bytes = 0

    def through(self, pages: Iterator[Page], at: int | None = None) -> None:
        """Take what is wanted from the pages, until nothing (of the tick `at`) is missing."""
        for page in pages:
            self._pages += 1
            self._bytes += page.bytes
            for listed in page.rows:
                if self.missing.pop(listed.identity, None) is not None:
                    self._found.append(listed.row)
            if not self.missing or (at is not None and at not in self.missing.values()):
                break

    def headers(self) -> Headers:
        """Return what was found."""
        entries = [row for row in self._found if isinstance(row, Entry)]
        unusable = [row for row in self._found if isinstance(row, Rejection)]
        rows, rejections, unparsable = self._reader.read(
            [entry for entry in entries if entry.state != "Deleted"]
        )
        return Headers(
            rows=rows,
            deleted=tuple(entry.sequence for entry in entries if entry.state == "Deleted"),
            replaced=tuple(entry.sequence for entry in entries if entry.state == "Replaced"),
            rejections=(*unusable, *rejections),
            unparsable=unparsable,
            pages=self._pages,
            bytes=self._bytes,
        )


def _page_ranges(log: pa.Table, wanted: frozenset[int], batch_size: int) -> Iterator[PageRange]:
    log = log.select(["timestamp_ticks", "sequence"])
    log = log.sort_by([("timestamp_ticks", "ascending"), ("sequence", "ascending")])
    ticks: list[Any] = log["timestamp_ticks"].to_pylist()
    sequences: list[Any] = log["sequence"].to_pylist()
    unknown = len(wanted.difference(sequences))
    if unknown:
        raise ValueError(f"{unknown} of {len(wanted)} wanted sequences are not in the log")
    return cut(ticks, sequences, wanted, batch_size)
