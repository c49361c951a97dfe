"""The change feed of one DICOM service: the door to everything in this package.

Here: what may be asked, and the clock that decides whether a window is closed. How a window is
read is in `light_read`, how headers are in `heavy_read`; how pages follow one another in
`listing`, how a request survives the network in `connection`. What becomes of the rows is decided
in `tables`.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import httpx
import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry, Row
from dicom_assets.feed.header_read import HeaderRead
from dicom_assets.feed.http.connection import Connection
from dicom_assets.feed.http.timeouts import DEFAULT_TIMEOUTS, Timeouts
from dicom_assets.feed.light_read import LightRead
from dicom_assets.feed.listing import Listing, Position
from dicom_assets.feed.rows import RowReader
from dicom_assets.feed_contract import UNREADABLE, Entries, Headers
from dicom_assets.window import Window, ticks_of

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


# The end of a question without an end; the service takes no later year.
_LAST_TICK = ticks_of(datetime(9999, 1, 1, tzinfo=UTC))


def utc_now() -> datetime:
    """Return this machine's time in UTC."""
    return datetime.now(UTC)


class ChangeFeed:
    """The change feed of one DICOM service; a context manager that threads may share."""

    def __init__(  # noqa: PLR0913 - one argument per setting
        self,
        url: str,
        *,
        api_version: int,
        batch_size: int,
        retry_seconds: float,
        in_flight: int = 8,
        data_partitions: Collection[str] | None = None,
        reader: RowReader | None = None,
        credential: "TokenCredential | None" = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._in_flight = in_flight
        self._reader = reader or RowReader()
        self._data_partitions = None if data_partitions is None else frozenset(data_partitions)
        self._clock = clock
        self._behind: timedelta | None = None
        self._closed = threading.Event()
        self._connection = Connection(
            url,
            retry_seconds=retry_seconds,
            connections=in_flight,
            credential=credential,
            transport=transport,
            timeouts=timeouts,
            heard=self._hear,
        )
        path = f"v{api_version}/changefeed"
        self._listing = Listing(self._connection, path, batch_size, self._closed)

    def __enter__(self) -> Self:
        """Return the feed, ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the feed."""
        self.close()

    def close(self) -> None:
        """End every wait for the service, and close the connections."""
        self._closed.set()
        self._connection.close()

    def now(self) -> datetime:
        """Return the earlier of this machine's time and the service's, in UTC."""
        if self._behind is None:
            self._listing.first()
        return self._clock() - max(self._behind or timedelta(), timedelta())

    def _hear(self, served: datetime) -> None:
        """Remember by how much the service's clock is behind this machine's."""
        self._behind = self._clock() - served

    def first(self) -> int | None:
        """Return the ticks of the feed's first entry; None when the feed is empty."""
        return _only_ticks(self._listing.first())

    def latest(self) -> int | None:
        """Return the ticks of the feed's newest entry; None when the feed is empty."""
        return _only_ticks(self._listing.latest())

    def sequence_from(self, moment: datetime) -> int:
        """Return the first sequence at or after a moment; after the end, the one that would come.

        Two of these differ by about as many entries as lie between: exactly as many where the feed
        has no gaps and time runs as the sequence does. An empty feed has 0.
        """
        start = ticks_of(moment)
        page = self._listing.page(Position(start, 0), Window(start, _LAST_TICK), 1, headers=False)
        if page.rows and page.rows[0].row.sequence is not None:
            return page.rows[0].row.sequence
        return max((row.sequence or 0 for _, row in self._listing.latest()), default=-1) + 1

    def sample(self, moment: datetime, limit: int) -> tuple[int, int]:
        """Return the rows and the bytes of one page with headers, from a moment on.

        It costs the service a blob per row.
        """
        start = ticks_of(moment)
        window = Window(start, _LAST_TICK)
        page = self._listing.page(Position(start, 0), window, limit, headers=True)
        return len(page.rows), page.bytes

    def holds_more(self, window: Window, count: int) -> bool:
        """Return whether the service lists more than so many entries in a window."""
        page = self._listing.page(Position(window.start, count), window, 1, headers=False)
        return bool(page.rows)

    def key_of(self, sequence: int, ticks: int) -> tuple[str, str, str, str] | None:
        """Return the key of the entry with this sequence at this tick; None when it is not there.

        The key is (data partition, study, series, SOP instance UID).
        """
        stretch = LightRead(self._listing).stretch(Window(ticks, ticks + 1))
        listed = stretch.rows.get(sequence)
        if listed is None:
            return None
        return listed.row.key if isinstance(listed.row, Entry) else UNREADABLE

    def entries(self, window: Window, progress: Callable[[int], None] | None = None) -> Entries:
        """Return every entry of the window, without headers.

        `progress` is told after each page how many entries were read so far.
        """
        return LightRead(self._listing, self._data_partitions, progress).read(window)

    def headers(self, log: pa.Table, wanted: Collection[int]) -> Iterator[Headers]:
        """Yield the headers of the wanted sequences, as they arrive and in any order.

        `log` has the columns sequence and timestamp_ticks: rows of the log that include every
        wanted one, and whatever neighbours are known.
        """
        return HeaderRead(self._listing, self._in_flight, self._reader).read(log, wanted)


def _only_ticks(rows: list[Row]) -> int | None:
    if not rows:
        return None
    ticks = rows[0][1].ticks
    if ticks is None:
        raise ServiceAnswerError("the entry at the feed's end has no timestamp that can be read")
    return ticks
