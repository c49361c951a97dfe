"""The light read: the entries of a window without headers, and the proof that none is missing.

A window is read in stretches, several at once, each with a proof of its own. A short or empty page
does not prove the end. The service must also count as many rows as were read in the stretch. This
detects a row inserted behind the reading, and one that was held back.

Where a stretch ends is no part of the proof. While fewer requests are in flight than may be, a page
some thousand rows ahead of a stretch is requested, and a new stretch begins in it: at a whole
second if it holds one, because a service may round the times of a request. Other rounding would
show in the rows of that page, which are listed without a cut between them. Each must be in a
stretch, otherwise the rest of the window is read again without cuts.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, TypeAlias, TypeVar

import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import MAX_INT64, Entry, Identity
from dicom_assets.feed.listing import Listed, Listing, Page, Paging, Position
from dicom_assets.feed.rows import change_rows
from dicom_assets.feed_contract import Entries, Rejection
from dicom_assets.window import TICKS_PER_SECOND, Partitions, Window

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)

# A count costs the service as much as reading the rows, and after a wrong count the reading starts
# again. So no stretch has many more rows, which are in memory until it is counted.
STRETCH_ROWS: Final = 5_000
MOST_READINGS: Final = 10
# After so many readings in a row with the same rows and another count, more would not help.
STEADY_READINGS: Final = 3
# So often is a service asked for its count once a request failed or a count was wrong, because it
# may hold back the same row from the page and from the count. Before that, once is enough.
CONFIRMATIONS: Final = 3
# A page is ahead by so many rows at most: an offset costs the service as much as a count.
MOST_AHEAD: Final = 4 * STRETCH_ROWS
# Stretches that are read and wait in memory for an earlier one. Beyond, only that one is read.
MOST_WAITING: Final = 16
# Each stretch costs a count and a page that is not full. So one is cut only if it leaves pages.
LEAST_PAGES: Final = 2
# Pages ahead may be in vain: at first as many as are in flight, later one for so many full pages.
# None is requested before the second full page, so that a window of one page costs none.
PAGES_IN_VAIN: Final = 4
_REMEDY: Final = (
    "Run again. If it stays so, look for a proxy or a cache between this machine and the service"
)
# Where a stretch begins, the best first: at a second, a millisecond, a tick.
_UNITS: Final = (TICKS_PER_SECOND, TICKS_PER_SECOND // 1_000, 1)


# An entry outside the window that was asked for, and its data partition if that is readable.
_Stray: TypeAlias = tuple[Rejection, str | None]


@dataclass(eq=False)
class _Stretch:
    """A part of the window, with its rows from all readings so far.

    It can be cut while it is open: until its first reading has come to its end.
    """

    window: Window
    # The rows of the whole window before its start and its end. They only say where it is cut.
    first: int = 0
    last: int | None = None
    rows: dict[Identity, Listed] = field(default_factory=dict)
    strays: dict[Identity, _Stray] = field(default_factory=dict)
    is_open: bool = True
    # Rows per tick on its latest page.
    density: float = 0.0
    # Pages ahead of it that are in flight.
    ahead: int = 0

    def __post_init__(self) -> None:
        self.paging = Paging(Position(self.window.start, 0))

    @property
    def left(self) -> float:
        """The number of rows that are still to be read, about."""
        if self.last is not None:
            return self.last - self.first - len(self.rows)
        return min(MOST_AHEAD, self.density * (self.window.end - self.paging.position.ticks))


@dataclass(frozen=True)
class _Request:
    """A page to request: the next one for the proof of a stretch, or one ahead of it.

    `first` is the number of rows of the whole window before a page ahead, about.
    """

    position: Position
    window: Window
    limit: int
    first: int | None = None


_Requests: TypeAlias = Generator[_Request, Page, T]


class LightRead:
    """One light read of a window, with at most `in_flight` requests at once."""

    def __init__(
        self,
        listing: Listing,
        in_flight: int = 1,
        data_partitions: Partitions = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._listing = listing
        self._in_flight = in_flight
        self._kept = data_partitions
        self._progress = progress
        self._proofs = dict[_Stretch, _Requests[None]]()
        self._due = list[tuple[_Stretch, _Request]]()
        self._seen = self._pages = self._bytes = 0
        # Full pages, and what became of the pages ahead.
        self._full_pages = self._cuts = self._in_vain = 0
        # The rows around each cut and their ticks, and whole stretches that wait for earlier ones.
        self._around = dict[int, dict[Identity, int]]()
        self._waiting = dict[int, _Stretch]()
        self._failures = listing.connection.failures
        self._was_miscounted = False

    def read(self, window: Window, take: Callable[[pa.Table], None] | None = None) -> Entries:
        """Return every entry of the window, once. Those that `take` gets are not in the result."""
        tables, rejections = [change_rows([])], dict[Identity, Rejection]()
        strays, identities = dict[Identity, _Stray](), [pa.array([], pa.int64())]
        skipped = 0
        for stretch in self.stretches(window):
            identities.append(pa.array(stretch.rows, pa.int64()))
            rejections |= {
                identity: replace(listed.row, place=listed.ticks)
                for identity, listed in stretch.rows.items()
                if isinstance(listed.row, Rejection)
            }
            strays |= stretch.strays
            entries = [row.row for row in stretch.rows.values() if isinstance(row.row, Entry)]
            kept = [e for e in entries if self._kept is None or e.partition in self._kept]
            (take or tables.append)(change_rows(kept))
            skipped += len(entries) - len(kept)
        outside = dict(self._outside(strays, window, identities))
        return Entries(
            changes=pa.concat_tables(tables),
            listed=len(pa.chunked_array(identities).unique()) + len(outside),
            rejections=(*rejections.values(), *outside.values()),
            skipped=skipped,
            pages=self._pages,
            bytes=self._bytes,
            partitions=self._kept,
        )

    def _outside(
        self,
        strays: dict[Identity, _Stray],
        window: Window,
        identities: Sequence["pa.Array[Any]"],
    ) -> Iterator[tuple[Identity, Rejection]]:
        """Yield the entries that are listed in no stretch because their time is outside the window.

        A stray inside the window is left out: it belongs to another stretch, of which the service
        sent a page again. So is one of a data partition that no window reads.
        """
        unlisted = set(strays)
        for some in identities if unlisted else ():
            unlisted.difference_update(some.to_pylist())
        for identity in unlisted:
            stray, partition = strays[identity]
            is_kept = self._kept is None or partition is None or partition in self._kept
            if is_kept and stray.ticks is not None and not window.holds(stray.ticks):
                yield identity, stray

    def stretches(self, window: Window) -> Iterator[_Stretch]:
        """Yield the stretches of the window in their order.

        From where they do not add up because of a cut on, the window is read again without cuts.
        Raises ServiceAnswerError when it does not add up then, and for a page of which nothing can
        be read.
        """
        start, seen = window.start, 0
        try:
            with closing(self._side_by_side(window)) as stretches:
                for stretch in stretches:
                    self._waiting[stretch.window.start] = stretch
                    while (first := self._waiting.get(start)) is not None:
                        behind = self._waiting.get(first.window.end)
                        if behind is None and first.window.end < window.end:
                            break
                        self._require_border(first, behind)
                        del self._waiting[start]
                        start = first.window.end
                        seen += len(first.rows)
                        yield first
        except ServiceAnswerError:
            if not self._cuts:
                raise
        if start < window.end:
            rest = Window(start, window.end)
            _LOG.warning("the stretches of %s do not add up: it is read again as a whole", rest)
            self._proofs.clear()
            self._due.clear()
            self._waiting.clear()
            self._in_flight, self._cuts, self._seen, self._was_miscounted = 1, 0, seen, True
            yield from self.stretches(rest)

    def _require_border(self, first: _Stretch, behind: _Stretch | None) -> None:
        """Raise ServiceAnswerError unless each row listed around a cut is on one side of it."""
        if behind is None:
            return
        inside = Window(first.window.start, behind.window.end)
        around = self._around.pop(behind.window.start, {})
        met = [identity for identity, ticks in around.items() if inside.holds(ticks)]
        for identity, (stray, _) in (*first.strays.items(), *behind.strays.items()):
            if stray.ticks is not None and inside.holds(stray.ticks):
                met.append(identity)
        if any(identity not in first.rows and identity not in behind.rows for identity in met):
            raise ServiceAnswerError(
                f"the pages of {inside} do not add up: an entry that was "
                f"listed there is missing when a list begins or ends beside it. {_REMEDY}"
            )

    def _side_by_side(self, window: Window) -> Generator[_Stretch]:
        """Yield the stretches of the window in any order, each when it is counted."""
        listing = replace(self._listing, stop=self._listing.stop.derived())
        executor = ThreadPoolExecutor(self._in_flight, thread_name_prefix="dicom-entries")
        in_flight = dict[Future[Page], tuple[_Stretch, _Request]]()
        if window.start < window.end:
            self._begin(_Stretch(window))
        try:
            while self._proofs:
                self._look_ahead(in_flight.values())
                behind = len(self._waiting) > MOST_WAITING
                first = min(self._proofs, key=lambda one: one.window.start) if behind else None
                for stretch, request in self._due:
                    if first in {None, stretch}:
                        of = request.position, request.window, request.limit
                        future = executor.submit(listing.page, *of, headers=False)
                        in_flight[future] = stretch, request
                self._due = [due for due in self._due if first not in {None, due[0]}]
                for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                    stretch, request = in_flight.pop(future)
                    if self._is_whole(stretch, request, future.result()):
                        yield stretch
        finally:
            listing.stop.set()
            executor.shutdown(wait=False, cancel_futures=True)

    def _is_whole(self, stretch: _Stretch, request: _Request, page: Page) -> bool:
        """Take a page that was requested for a stretch. True if the stretch is whole with it."""
        self._pages += 1
        self._bytes += page.bytes
        self._full_pages += page.is_full and request.limit == self._listing.batch_size
        is_whole = False
        if request.first is not None:
            stretch.ahead -= 1
            self._cut(page, request.first, request.window.end)
        else:
            try:
                self._due.append((stretch, self._proofs[stretch].send(page)))
            except StopIteration:
                is_whole = True
        if self._progress is not None:
            self._progress(self._seen + sum(len(one.rows) for one in self._proofs))
        if is_whole:
            del self._proofs[stretch]
            self._seen += len(stretch.rows)
        return is_whole

    def _look_ahead(self, in_flight: Collection[tuple[_Stretch, _Request]]) -> None:
        """Request pages ahead of the longest stretches, as many as requests may be in flight."""
        size = self._listing.batch_size
        ahead = sum(request.first is not None for _, request in in_flight)
        most = self._in_flight - 1 + self._full_pages // PAGES_IN_VAIN - self._in_vain - ahead
        most *= self._full_pages > 1
        left = {one: one.left / size for one in self._proofs if one.is_open and not one.ahead}
        cuts = Counter[_Stretch]()
        for _ in range(min(most, self._in_flight - len(in_flight) - len(self._due))):
            longest = max(left, key=lambda one: left[one] / (cuts[one] + 2), default=None)
            if longest is None or left[longest] < (cuts[longest] + 2) * LEAST_PAGES:
                break
            cuts[longest] += 1
        for stretch, count in cuts.items():
            stretch.ahead = count
            for number in range(1, count + 1):
                # A little less than whole pages each, so that no page has a few rows only.
                rows = round(left[stretch] * number / (count + 1)) * size - number * (size // 10)
                start = stretch.paging.position
                position = Position(start.ticks, start.offset + rows)
                first = stretch.first + len(stretch.rows) + rows
                self._due.append((stretch, _Request(position, stretch.window, size, first)))

    def _cut(self, page: Page, first: int, end: int) -> None:
        """Begin a new stretch in a page ahead, before which are `first` rows.

        In vain if the rows there are read already, or do not exist.
        """
        if not page.is_full:
            for stretch in self._proofs:
                if stretch.window.end == end:
                    stretch.last = min(first + len(page.rows), stretch.last or MAX_INT64)
        ticks = sorted(row.ticks for row in page.rows)
        for stretch in self._proofs if ticks else ():
            read = stretch.paging.position.ticks
            cut = _best_cut(ticks) or _best_cut([read, ticks[0]])
            if stretch.is_open and read < cut < stretch.window.end > ticks[0]:
                self._cuts += 1
                self._end_at(stretch, cut, first + sum(tick < cut for tick in ticks), page)
                return
        self._in_vain += 1

    def _end_at(self, stretch: _Stretch, ticks: int, first: int, page: Page) -> None:
        """End a stretch at a tick, before which are `first` rows, and begin another there.

        Its first rows are those of the page, if they begin on it, and at a whole second. Elsewhere
        the service may round the start: then its list lacks rows that were listed on the page.
        """
        rest = _Stretch(Window(ticks, stretch.window.end), first, stretch.last)
        stretch.window, stretch.last = Window(stretch.window.start, ticks), first
        self._around[ticks] = {row.identity: row.ticks for row in page.rows}
        rows = [row for row in page.rows if row.ticks >= ticks]
        is_first = len(rows) < len(page.rows) and ticks % TICKS_PER_SECOND == 0
        self._begin(rest, replace(page, rows=rows) if is_first else None)

    def _begin(self, stretch: _Stretch, page: Page | None = None) -> None:
        """Begin the proof of a stretch, with its first page if there is one."""
        proof = self._proofs[stretch] = self._prove(stretch)
        request = next(proof)
        self._due.append((stretch, request if page is None else proof.send(page)))

    def _prove(self, stretch: _Stretch) -> _Requests[None]:
        """Request pages until the stretch is whole.

        It is whole when the service counts as many rows as were read. Without such a count it is
        whole only if a second reading up to an empty page brings nothing new, and there are either
        no rows at all, or rows without a sequence: those cannot be told apart, so their count
        proves nothing. Raises ServiceAnswerError when neither is reached, and for a page of which
        nothing can be read.
        """
        known, steady = -1, 1
        for _ in range(MOST_READINGS):
            is_counted, last = yield from self._read_once(stretch)
            if is_counted:
                return
            steady = steady + 1 if len(stretch.rows) == known else 1
            known = len(stretch.rows)
            if not last.rows and not last.strays and self._may_end(stretch, steady):
                return
            if steady == STEADY_READINGS:
                break
        raise ServiceAnswerError(
            f"the pages of {stretch.window} do not add up: {len(stretch.rows)} entries were read, "
            f"and the service neither counts as many nor ends its list. {_REMEDY}"
        )

    def _read_once(self, stretch: _Stretch) -> _Requests[tuple[bool, Page]]:
        """Request pages from the start of the stretch, and add their rows to it.

        Returns True if the service counts as many rows in it, and the last page.
        """
        paging = stretch.paging = Paging(Position(stretch.window.start, 0))
        size, page, counted = self._listing.batch_size, Page([], [], 0, is_full=False), 0
        while not paging.is_over:
            page = yield _Request(paging.position, stretch.window, size)
            if page.unreadable is not None:
                raise _unreadable_error(page, stretch.window)
            page = self._add(page, stretch)
            paging.take(page, size, stretch.window)
            if page.is_full and stretch.is_open and len(stretch.rows) >= STRETCH_ROWS:
                page = self._shorten(stretch, page)
            if not page.is_full and len(stretch.rows) > counted:
                counted, stretch.is_open = len(stretch.rows), False
                if (yield from self._is_counted(stretch)):
                    return True, page
        stretch.is_open = False
        return False, page

    def _shorten(self, stretch: _Stretch, page: Page) -> Page:
        """End the stretch in its last page, unless that has one tick. Return the page."""
        cut = _best_cut(sorted(row.ticks for row in page.rows))
        if not cut:
            return page
        stretch.rows = {key: row for key, row in stretch.rows.items() if row.ticks < cut}
        self._end_at(stretch, cut, stretch.first + len(stretch.rows), page)
        return replace(page, is_full=False)

    def _is_counted(self, stretch: _Stretch) -> _Requests[bool]:
        """True when the service counts as many rows in the stretch, each time that it is asked.

        So it must list exactly one row after all but one of them. Rows listed there are added.
        """
        confirmed = 0
        while confirmed < (CONFIRMATIONS if self._is_doubtful() else 1):
            last = Position(stretch.window.start, len(stretch.rows) - 1)
            page = yield _Request(last, stretch.window, 2)
            identities = {row.identity for row in page.rows}
            # Before the page is added: a row that was not read confirms nothing.
            is_known = identities <= stretch.rows.keys()
            self._add(page, stretch)
            if len(identities) != 1 or not is_known:
                self._was_miscounted = True
                return False
            confirmed += 1
        return True

    def _may_end(self, stretch: _Stretch, steady: int) -> bool:
        """True when an empty page may be the end although no count confirms it."""
        if not stretch.rows:
            return steady > 1 or not self._is_doubtful()
        return steady > 1 and any(row.row.sequence is None for row in stretch.rows.values())

    def _is_doubtful(self) -> bool:
        return self._was_miscounted or self._listing.connection.failures > self._failures

    def _add(self, page: Page, stretch: _Stretch) -> Page:
        """Add the page's rows to the stretch. A usable row replaces the one that is there.

        An unusable one does not: where a count lists it, it has not the tick of its place. Returns
        the page without rows after the stretch, which may have been cut since the request.
        """
        rows = [row for row in page.rows if row.ticks < stretch.window.end]
        if len(rows) < len(page.rows):
            page = replace(page, rows=rows, is_full=False)
        stretch.rows.update(
            (row.identity, row)
            for row in rows
            if isinstance(row.row, Entry) or row.identity not in stretch.rows
        )
        stretch.strays |= {identity: (stray, part) for identity, stray, part in page.strays}
        if rows:
            ticks = [row.ticks for row in rows]
            stretch.density = len(rows) / (max(ticks) - min(ticks) + 1)
        return page


def _best_cut(ticks: Sequence[int]) -> int:
    """Return the best tick behind one of these, ascending, and not behind the next. 0 for none."""
    for unit in _UNITS:
        for before, after in pairwise(ticks):
            if before < after // unit * unit:
                return after // unit * unit
    return 0


def _unreadable_error(page: Page, window: Window) -> ServiceAnswerError:
    names = ", ".join(page.unreadable or ()) or "none that can be named"
    return ServiceAnswerError(
        f"a page of {window} has {len(page.rows)} entries, and in none of them a sequence can be "
        f"read. Nothing was sealed. The fields of the first: {names}. Ask the operator of the "
        "service for the form of its change feed, look for a proxy that changes answers, and "
        "report these names"
    )
