"""The light read: the entries of a window without headers, and the proof that none is missing.

A short or empty page does not prove the end. The service must also count as many rows as were read
in the stretch. This detects a row inserted behind the reading, and one that was held back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry, Identity
from dicom_assets.feed.listing import Listed, Listing, Page, Position
from dicom_assets.feed.rows import change_rows
from dicom_assets.feed_contract import Entries, Rejection
from dicom_assets.window import Partitions, Window

# A count costs the service as much as reading the rows, and after a wrong count the reading starts
# again. So a window is read in stretches of about this many rows, and each is counted alone.
STRETCH_ROWS: Final = 10_000
MOST_READINGS: Final = 10
# After so many readings in a row with the same rows and another count, more would not help.
STEADY_READINGS: Final = 3
# So often is a service asked for its count once a request failed or a count was wrong, because it
# may hold back the same row from the page and from the count. Before that, once is enough.
CONFIRMATIONS: Final = 3


@dataclass
class _Stretch:
    """A part of the window, with its rows from all readings so far."""

    window: Window
    rows: dict[Identity, Listed] = field(default_factory=dict)
    strays: dict[Identity, tuple[Rejection, str | None]] = field(default_factory=dict)


class LightRead:
    """One light read of a window, with its pages and bytes so far."""

    def __init__(
        self,
        listing: Listing,
        data_partitions: Partitions = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._listing = listing
        self._kept = data_partitions
        self._progress = progress
        self._seen = self._pages = self._bytes = self._skipped = 0
        self._failures = listing.connection.failures
        self._was_miscounted = False

    def read(self, window: Window, take: Callable[[pa.Table], None] | None = None) -> Entries:
        """Return every entry of the window, once. Those that `take` gets are not in the result."""
        tables, rejections = [change_rows([])], dict[Identity, Rejection]()
        identities = list["pa.Array[Any]"]()
        start = window.start
        while start < window.end:
            stretch = self.stretch(Window(start, window.end))
            unusable = dict(self._rejections(stretch, window))
            rejections |= unusable
            identities.append(pa.array({*stretch.rows, *unusable}, pa.int64()))
            entries = [row.row for row in stretch.rows.values() if isinstance(row.row, Entry)]
            kept = [e for e in entries if self._kept is None or e.partition in self._kept]
            (take or tables.append)(change_rows(kept))
            self._skipped += len(entries) - len(kept)
            self._seen += len(stretch.rows)
            start = stretch.window.end
        return Entries(
            changes=pa.concat_tables(tables),
            listed=len(pa.chunked_array(identities, pa.int64()).unique()),
            rejections=tuple(rejections.values()),
            skipped=self._skipped,
            pages=self._pages,
            bytes=self._bytes,
            partitions=self._kept,
        )

    def _rejections(
        self, stretch: _Stretch, window: Window
    ) -> Iterator[tuple[Identity, Rejection]]:
        """Yield the unusable entries, each with its identity.

        A stray inside the window is left out: it belongs to an earlier stretch, of which the
        service sent a page again. So is one of a data partition that no window reads, and one that
        was listed at its own time, too.
        """
        for identity, listed in stretch.rows.items():
            if isinstance(listed.row, Rejection):
                yield identity, replace(listed.row, place=listed.ticks)
        for identity, (rejection, partition) in stretch.strays.items():
            if self._kept is not None and partition is not None and partition not in self._kept:
                continue
            is_outside = rejection.ticks is not None and not window.holds(rejection.ticks)
            if is_outside and identity not in stretch.rows:
                yield identity, rejection

    def stretch(self, window: Window) -> _Stretch:
        """Return the first stretch of the window, or all of a short window.

        It is whole when the service counts as many rows as were read. Without such a count it is
        whole only if a second reading up to an empty page brings nothing new, and there are either
        no rows at all, or rows without a sequence: those cannot be told apart, so their count
        proves nothing. Raises ServiceAnswerError when neither is reached, and for a page of which
        nothing can be read.
        """
        stretch, known, steady = _Stretch(window), -1, 1
        for _ in range(MOST_READINGS):
            part, is_counted, last = self._read_once(stretch)
            if is_counted:
                return part
            steady = steady + 1 if len(stretch.rows) == known else 1
            known = len(stretch.rows)
            if not last.rows and not last.strays and self._may_end(stretch, steady):
                return part
            if steady == STEADY_READINGS:
                break
        raise ServiceAnswerError(
            f"the pages of {window} do not add up: {len(stretch.rows)} entries were read, and the "
            "service neither counts as many nor ends its list. Run again. If it stays so, look for "
            "a proxy or a cache between this machine and the service"
        )

    def _read_once(self, stretch: _Stretch) -> tuple[_Stretch, bool, Page]:
        """Read pages from the start of the stretch, and add their rows to it.

        Returns the part read, True if the service counts as many rows in it, and the last page.
        """
        window = stretch.window
        position, page = Position(window.start, 0), Page([], [], 0, is_full=False)
        counted = 0
        for page in self._listing.pages(window):
            if page.unreadable is not None:
                raise _unreadable_error(page, window)
            self._add(page, stretch)
            position = position.after(page.rows)
            if page.is_full and len(stretch.rows) >= STRETCH_ROWS:
                rows = {key: row for key, row in stretch.rows.items() if row.ticks < position.ticks}
                if rows:
                    part = _Stretch(Window(window.start, position.ticks), rows, stretch.strays)
                    return part, self._is_counted(stretch, part), page
            if not page.is_full and len(stretch.rows) > counted:
                counted = len(stretch.rows)
                if self._is_counted(stretch, stretch):
                    return stretch, True, page
        return stretch, False, page

    def _is_counted(self, stretch: _Stretch, part: _Stretch) -> bool:
        """True when the service counts as many rows in the part, each time that it is asked.

        So it must list exactly one row after all but one of the part. Rows listed there are added.
        """
        confirmed = 0
        while confirmed < (CONFIRMATIONS if self._is_doubtful() else 1):
            last = Position(part.window.start, len(part.rows) - 1)
            page = self._listing.page(last, part.window, 2, headers=False)
            identities = {row.identity for row in page.rows}
            # Before the page is added: a row that was not read confirms nothing.
            is_known = identities <= part.rows.keys()
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

    def _add(self, page: Page, stretch: _Stretch) -> None:
        """Add the page's rows to the stretch. A usable row replaces the one that is there.

        An unusable one does not: where a count lists it, it has not the tick of its place.
        """
        stretch.rows.update(
            (row.identity, row)
            for row in page.rows
            if isinstance(row.row, Entry) or row.identity not in stretch.rows
        )
        stretch.strays |= {identity: (stray, part) for identity, stray, part in page.strays}
        self._pages += 1
        self._bytes += page.bytes
        if self._progress is not None:
            self._progress(self._seen + len(stretch.rows))


def _unreadable_error(page: Page, window: Window) -> ServiceAnswerError:
    names = ", ".join(page.unreadable or ()) or "none that can be named"
    return ServiceAnswerError(
        f"a page of {window} has {len(page.rows)} entries, and in none of them a sequence can be "
        f"read. Nothing was sealed. The fields of the first: {names}. Ask the operator of the "
        "service for the form of its change feed, look for a proxy that changes answers, and "
        "report these names"
    )
