"""The light read: every entry of a window, without headers, and the proof that it is every one.

A page that is short or empty is not believed to be the end: the service is asked how many rows it
counts. It must be as many as were read, from the beginning of the stretch; so a row that slipped
in behind the reading is noticed as well as one that was held back. How pages are asked for is in
`listing`; what the entries mean is decided in `tables`.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry, Identity
from dicom_assets.feed.listing import Listed, Listing, Page, Position, Stray
from dicom_assets.feed_contract import Entries, Rejection
from dicom_assets.schema import CHANGE
from dicom_assets.window import TICKS_PER_MICROSECOND, Window

# Counting costs the service as many rows as it counts, and a reading that does not add up begins
# again: so a window is read in stretches of about this many rows, each counted on its own.
STRETCH_ROWS: Final = 10_000
MOST_READINGS: Final = 10
# Readings in a row that bring the same rows, and a count that is not theirs: more would not help.
STEADY_READINGS: Final = 3
# A service that has told the truth so far is asked once for its count. One that failed or lied may
# hold back the same row from the page and from the count.
CONFIRMATIONS: Final = 3


@dataclass
class _Stretch:
    """A part of the window: its rows so far, over all readings of it."""

    window: Window
    rows: dict[Identity, Listed] = field(default_factory=dict)
    strays: set[Stray] = field(default_factory=set)

    def add(self, page: Page) -> None:
        """Keep the page's rows; of a row met before, the later form."""
        self.rows.update((row.identity, row) for row in page.rows)
        self.strays.update(page.strays)

    def has_nameless(self) -> bool:
        """Whether there are rows without a sequence that can be read."""
        return any(listed.row.sequence is None for listed in self.rows.values())

    def cut_at(self, ticks: int) -> "_Stretch":
        """Return the part before a tick."""
        rows = {identity: row for identity, row in self.rows.items() if row.ticks < ticks}
        return _Stretch(Window(self.window.start, ticks), rows, self.strays)

    def rejections(
        self, window: Window, kept: Collection[str] | None
    ) -> Iterator[tuple[object, Rejection]]:
        """Yield what cannot be used, and what each is known by.

        Of the strays, those from outside the window only: the others are of an earlier stretch of
        it, of which a page was served again. Nor those of data partitions that are not kept: no
        window will ever bring them.
        """
        for identity, listed in self.rows.items():
            if isinstance(listed.row, Rejection):
                yield identity, listed.row
        for stray in self.strays:
            found = stray.rejection
            if kept is not None and stray.partition is not None and stray.partition not in kept:
                continue
            if found.ticks is None or not window.start <= found.ticks < window.end:
                yield found, found


class LightRead:
    """One light read of a window, and what it has cost so far."""

    def __init__(
        self,
        listing: Listing,
        data_partitions: Collection[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._listing = listing
        self._kept = data_partitions
        self._progress = progress
        self._seen = self._pages = self._bytes = self._skipped = 0
        self._troubles = listing.connection.failures
        self._has_lied = False

    def read(self, window: Window) -> Entries:
        """Return every entry of the window, once."""
        tables, rejections = [_changes([])], dict[object, Rejection]()
        start = window.start
        while start < window.end:
            stretch = self.stretch(Window(start, window.end))
            rejections |= dict(stretch.rejections(window, self._kept))
            tables.append(_changes(self._keep(stretch)))
            self._seen += len(stretch.rows)
            start = stretch.window.end
        changes = pa.concat_tables(tables)
        return Entries(changes, tuple(rejections.values()), self._skipped, self._pages, self._bytes)

    def _keep(self, stretch: _Stretch) -> list[Entry]:
        entries = [row.row for row in stretch.rows.values() if isinstance(row.row, Entry)]
        kept = [e for e in entries if self._kept is None or e.partition in self._kept]
        self._skipped += len(entries) - len(kept)
        return kept

    def stretch(self, window: Window) -> _Stretch:
        """Return the first stretch of the window, up to its end if it is not long.

        It is believed when the service counts as many rows as were read; or when it is read a
        second time to an empty page, nothing new comes to light, and either there is nothing, or
        there are rows without a sequence, of which nobody can say how many are the same.
        """
        stretch, known, steady = _Stretch(window), -1, 1
        for _ in range(MOST_READINGS):
            part, is_counted, last = self._read_once(stretch)
            if is_counted:
                return part
            steady = steady + 1 if len(stretch.rows) == known else 1
            known = len(stretch.rows)
            if last.is_empty and self._may_end(stretch, steady):
                return part
            if steady == STEADY_READINGS:
                break
        raise ServiceAnswerError(
            f"the pages of {window} do not add up: {len(stretch.rows)} entries were read, and the "
            f"service neither counts as many nor comes to an end; run again, and if it stays so, "
            f"look at what stands between this machine and the service"
        )

    def _read_once(self, stretch: _Stretch) -> tuple[_Stretch, bool, Page]:
        """Read from the stretch's start on; return the part read, if it is counted, the last page.

        What is met is kept in `stretch`.
        """
        window = stretch.window
        position, page = Position(window.start, 0), Page([], [], 0, is_full=False)
        counted = 0
        for page in self._listing.pages(window):
            stretch.add(page)
            self._note(page, len(stretch.rows))
            position = position.after(page.rows)
            if page.is_full and len(stretch.rows) >= STRETCH_ROWS:
                part = stretch.cut_at(position.ticks)
                if part.rows:
                    return part, self._is_counted(stretch, part), page
            if not page.is_full and len(stretch.rows) > counted:
                counted = len(stretch.rows)
                if self._is_counted(stretch, stretch):
                    return stretch, True, page
        return stretch, False, page

    def _is_counted(self, stretch: _Stretch, part: _Stretch) -> bool:
        """Whether the service counts as many rows in the part, each time that it is asked."""
        confirmed = 0
        while confirmed < (CONFIRMATIONS if self._is_doubtful() else 1):
            if not self._counts(stretch, part):
                self._has_lied = True
                return False
            confirmed += 1
        return True

    def _may_end(self, stretch: _Stretch, steady: int) -> bool:
        """Whether an empty page may be the end, though no count confirms it."""
        if not stretch.rows:
            return steady > 1 or not self._is_doubtful()
        return steady > 1 and stretch.has_nameless()

    def _is_doubtful(self) -> bool:
        return self._has_lied or self._listing.connection.failures > self._troubles

    def _counts(self, stretch: _Stretch, part: _Stretch) -> bool:
        """Whether the service counts as many rows in the part: one after all but one, no more.

        If it shows a row that was not met, that is kept in the stretch as well.
        """
        last = Position(part.window.start, len(part.rows) - 1)
        page = self._listing.page(last, part.window, 2, headers=False)
        identities = {row.identity for row in page.rows}
        stretch.add(page)
        self._note(page, len(stretch.rows))
        return len(identities) == 1 and identities <= part.rows.keys()

    def _note(self, page: Page, rows: int) -> None:
        self._pages += 1
        self._bytes += page.bytes
        if self._progress is not None:
            self._progress(self._seen + rows)


def _changes(entries: list[Entry]) -> pa.Table:
    """Return the rows of `change` for entries, ordered by (timestamp_ticks, sequence)."""
    entries = sorted(entries, key=lambda entry: (entry.ticks, entry.sequence))
    columns: dict[str, list[int | str | None]] = {
        "sequence": [e.sequence for e in entries],
        "partitionName": [e.partition for e in entries],
        "studyinstanceuid": [e.study for e in entries],
        "seriesinstanceuid": [e.series for e in entries],
        "sopinstanceuid": [e.sop for e in entries],
        "action": [e.action for e in entries],
        "timestamp": [e.ticks // TICKS_PER_MICROSECOND for e in entries],
        "timestamp_ticks": [e.ticks for e in entries],
        "filepath": [e.file_path for e in entries],
        "state": [e.state for e in entries],
    }
    schema = CHANGE.arrow()
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
