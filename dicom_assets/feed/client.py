"""The change feed of one DICOM service: its reads, and the clock by which a window is closed."""

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

import httpx
import pyarrow as pa

from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.decode import Entry, Row
from dicom_assets.feed.header_read import HeaderRead
from dicom_assets.feed.http.connection import Connection
from dicom_assets.feed.http.timeouts import DEFAULT_TIMEOUTS, Stop, Timeouts
from dicom_assets.feed.light_read import LightRead
from dicom_assets.feed.listing import Listing, Position
from dicom_assets.feed.rows import RowReader
from dicom_assets.feed_contract import UNREADABLE, Entries, Headers, Key
from dicom_assets.window import Partitions, Window, ticks_of

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


# The end of a window without an end. The service takes no later year.
_LAST_TICK = ticks_of(datetime(9999, 1, 1, tzinfo=UTC))


def utc_now() -> datetime:
    """Return this machine's time in UTC."""
    return datetime.now(UTC)


class ChangeFeed:
    """The change feed of one DICOM service: a context manager, safe to share between threads."""

    def __init__(  # noqa: PLR0913 - one argument per setting
        self,
        url: str,
        *,
        api_version: int,
        batch_size: int,
        retry_seconds: float,
        in_flight: int,
        data_partitions: Partitions = None,
        reader: RowReader | None = None,
        credential: "TokenCredential | None" = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], datetime] = utc_now,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._in_flight = in_flight
        self._reader = reader or RowReader()
        self._data_partitions = data_partitions
        self._clock = clock
        self._service_lag: timedelta | None = None
        self._closed = Stop()
        self._connection = Connection(
            url,
            retry_seconds=retry_seconds,
            connections=in_flight,
            credential=credential,
            transport=transport,
            timeouts=timeouts,
            on_date=self._compare_clocks,
        )
        self._version = f"v{api_version}"
        path = f"{self._version}/changefeed"
        self._listing = Listing(self._connection, path, batch_size, self._closed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every wait for the service and close the connections."""
        self._closed.set()
        self._connection.close()

    def now(self) -> datetime:
        """Return the earlier of this machine's time and the service's, in UTC."""
        if self._service_lag is None:
            self._listing.first()
        return self._clock() - max(self._service_lag or timedelta(), timedelta())

    def _compare_clocks(self, served: datetime) -> None:
        self._service_lag = self._clock() - served

    def first(self) -> int | None:
        """Return the ticks of the feed's first entry, None when the feed is empty."""
        return _only_ticks(self._listing.first(), "first")

    def latest(self) -> int | None:
        """Return the ticks of the feed's newest entry, None when the feed is empty."""
        return _only_ticks(self._listing.latest(), "newest")

    def sequence_from(self, moment: datetime) -> int:
        """Return the first sequence at or after a moment.

        After the newest entry it is the next sequence, in an empty feed 0. The difference of two
        results is about the number of entries between the moments. It is exact where sequences
        have no gaps and are in the order of time.
        """
        start = ticks_of(moment)
        page = self._listing.page(Position(start, 0), Window(start, _LAST_TICK), 1, headers=False)
        if page.rows and page.rows[0].row.sequence is not None:
            return page.rows[0].row.sequence
        return max((row.sequence or 0 for _, row in self._listing.latest()), default=-1) + 1

    def sample(self, moment: datetime, limit: int) -> tuple[int, int]:
        """Return the rows and bytes of one page with headers from a moment on, a blob per row."""
        start = ticks_of(moment)
        window = Window(start, _LAST_TICK)
        page = self._listing.page(Position(start, 0), window, limit, headers=True)
        return len(page.rows), page.bytes

    def holds_more(self, window: Window, count: int) -> bool:
        """Return True when the service lists more than `count` entries in a window."""
        page = self._listing.page(Position(window.start, count), window, 1, headers=False)
        return bool(page.rows)

    def key_of(self, sequence: int, ticks: int) -> Key | None:
        """Return the key of the entry with this sequence at this tick.

        None when the feed has no such entry, UNREADABLE when it has one that cannot be used.
        """
        [instant] = LightRead(self._listing).stretches(Window(ticks, ticks + 1))
        listed = instant.rows.get(sequence)
        if listed is None:
            return None
        return listed.row.key if isinstance(listed.row, Entry) else UNREADABLE

    def entries(
        self,
        window: Window,
        progress: Callable[[int], None] | None = None,
        take: Callable[[pa.Table], None] | None = None,
    ) -> Entries:
        """Return every entry of the window, without headers.

        `progress` is called after each page with the number of entries read so far, `take` with
        the entries in parts, in their order. Those that it got are not in the result.
        """
        read = LightRead(self._listing, self._in_flight, self._data_partitions, progress)
        return read.read(window, take)

    def headers(self, log: pa.Table, wanted: Collection[int]) -> Iterator[Headers]:
        """Yield the headers of the wanted sequences as they arrive, in any order.

        `log` has the columns sequence and timestamp_ticks. It holds the log's rows of the wanted
        sequences and all known rows between them.
        """
        return HeaderRead(self._listing, self._in_flight, self._reader).read(log, wanted)


def _only_ticks(rows: list[Row], which: str) -> int | None:
    if not rows:
        return None
    ticks = rows[0][1].ticks
    if ticks is None:
        sequence = rows[0][1].sequence
        named = "" if sequence is None else f" (sequence {sequence})"
        raise ServiceAnswerError(
            f"the {which} entry of the feed{named} has no readable timestamp. The operator of the "
            "service has to correct it: running again reads the same"
        )
    return ticks
