"""The header read: the headers of the wanted entries, many pages in parallel.

The log gives the exact bounds of a page: a start time, the number of rows of that tick to skip, an
end time and a count. So pages are independent and can be read in parallel. The service may list
more entries than the log has, and then a wanted one comes a little later. So each is searched for
in its page, then in the pages after it, and then several times in the list of its own tick. If it
is nowhere, the light read and the header read disagree, and the run fails. A page that fails
because of one bad header is split in `unreadable_headers`.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Final

import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry
from dicom_assets.feed.listing import Listing, Page
from dicom_assets.feed.rows import RowReader
from dicom_assets.feed.unreadable_headers import HeaderListing
from dicom_assets.feed_contract import Headers, Rejection
from dicom_assets.window import Window

# An unwanted row costs the service a blob read, and us its bytes. A page costs a round trip, which
# with eight in flight takes about as long as ten rows.
GAP: Final = 10
# Page ranges submitted per request in flight, so that no thread idles while rows are processed.
AHEAD: Final = 2
# The size of the first page after a range (`_pages`).
LATE: Final = 8
# How often the list of a tick is read before the two reads count as disagreeing.
TICK_READINGS: Final = 3


@dataclass(frozen=True)
class PageRange:
    """A page to request: `limit` rows from the `offset`-th of tick `start` on, all before `end`.

    `wanted` maps the wanted sequences in it to their ticks.
    """

    start: int
    offset: int
    end: int
    limit: int
    wanted: dict[int, int]


def cut(
    ticks: Sequence[int], sequences: Sequence[int], wanted: Collection[int], batch_size: int
) -> Iterator[PageRange]:
    """Yield the page ranges that together hold every wanted sequence once.

    The log's rows are given as two columns ordered by (tick, sequence). A range has at most
    `batch_size` of them and GAP unwanted ones side by side, and starts and ends with a wanted one.
    """
    runs: list[list[int]] = []
    for row, sequence in enumerate(sequences):
        if sequence not in wanted:
            continue
        if not runs or row - runs[-1][-1] > GAP + 1 or row - runs[-1][0] >= batch_size:
            runs.append([])
        runs[-1].append(row)
    for rows in runs:
        first, last = rows[0], rows[-1]
        yield PageRange(
            start=ticks[first],
            offset=first - bisect_left(ticks, ticks[first], 0, first),
            end=ticks[last] + 1,
            limit=last - first + 1,
            wanted={sequences[row]: ticks[row] for row in rows},
        )


class HeaderRead:
    """One header read. It stops all its requests when its first page fails."""

    def __init__(self, listing: Listing, in_flight: int, reader: RowReader) -> None:
        self._stop = listing.stop.derived()
        self._listing = HeaderListing(
            listing.connection, listing.path, listing.batch_size, self._stop
        )
        self._in_flight = in_flight
        self._reader = reader

    def read(self, log: pa.Table, wanted: Collection[int]) -> Iterator[Headers]:
        """Yield the headers of the wanted sequences as they arrive, in any order.

        Raises the first error of any page. Then, and when the caller stops iterating, all other
        requests are abandoned.
        """
        log = log.select(["timestamp_ticks", "sequence"])
        log = log.sort_by([("timestamp_ticks", "ascending"), ("sequence", "ascending")])
        ticks: list[Any] = log["timestamp_ticks"].to_pylist()
        sequences: list[Any] = log["sequence"].to_pylist()
        wanted = frozenset(wanted)
        unknown = len(wanted.difference(sequences))
        if unknown:
            raise ValueError(f"{unknown} of {len(wanted)} wanted sequences are not in the log")
        executor = ThreadPoolExecutor(self._in_flight, thread_name_prefix="dicom-headers")
        waiting = set[Future[Headers]]()
        try:
            for page_range in cut(ticks, sequences, wanted, self._listing.batch_size):
                waiting.add(executor.submit(self._read_range, page_range))
                if len(waiting) >= AHEAD * self._in_flight:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            self._stop.set()
            executor.shutdown(wait=False, cancel_futures=True)

    def _read_range(self, page_range: PageRange) -> Headers:
        missing, found, pages, size = dict(page_range.wanted), list[Entry | Rejection](), 0, 0
        for page in self._pages(page_range, missing):
            pages += 1
            size += page.bytes
            for listed in page.rows:
                if missing.pop(listed.identity, None) is not None:
                    found.append(listed.row)
        if missing:
            raise ServiceAnswerError(
                f"the two reads do not agree: {len(missing)} of {len(page_range.wanted)} entries "
                f"of the log are not in the feed, for {Window(page_range.start, page_range.end)}. "
                "Run again. If it stays so, the service was restored from a backup, or it is "
                "another one"
            )
        entries = [row for row in found if isinstance(row, Entry)]
        unusable = [row for row in found if isinstance(row, Rejection)]
        alive = [entry for entry in entries if entry.state != "Deleted"]
        rows, rejections, unparsable = self._reader.read(alive)
        return Headers(
            rows=rows,
            deleted=tuple(entry.sequence for entry in entries if entry.state == "Deleted"),
            replaced=tuple(entry.sequence for entry in entries if entry.state == "Replaced"),
            rejections=(*unusable, *rejections),
            unparsable=unparsable,
            pages=pages,
            bytes=size,
        )

    def _pages(self, page_range: PageRange, missing: dict[int, int]) -> Iterator[Page]:
        """Yield pages until the caller has taken all of `missing`, a map of sequences to ticks."""
        window, most = Window(page_range.start, page_range.end), self._listing.batch_size
        # After the range's own size a few rows, then many. One late entry moves one row into the
        # next page. Only entries of data partitions that the log does not keep move many.
        limits = chain([page_range.limit], (min(LATE << doublings, most) for doublings in count()))
        offset = page_range.offset
        for page in self._listing.pages(window, offset=offset, limits=limits, headers=True):
            yield page
            if not missing:
                return
        for ticks in sorted(set(missing.values())) * TICK_READINGS:
            if ticks in missing.values():
                for page in self._listing.pages(Window(ticks, ticks + 1), headers=True):
                    yield page
                    if ticks not in missing.values():
                        break
