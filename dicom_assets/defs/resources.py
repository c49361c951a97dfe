"""The DICOM service as a Dagster resource: its change feed, and the wait for an hour to close."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field, PrivateAttr

from dicom_assets.defs.names import Names
from dicom_assets.errors import NotYetError
from dicom_assets.schema import INSTANCE, added
from dicom_assets.settings import DEFAULTS, HEADER_COLUMNS
from dicom_assets.window import Bounds, Partitions, Window, datetime_of

if TYPE_CHECKING:
    from dicom_assets.feed import ChangeFeed
    from dicom_assets.feed.search import StudyCounts

LONGEST_SLEEP_SECONDS = 5.0


def service_of(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, names: Names
) -> "DicomService":
    """Return the DICOM service of a run's resources."""
    service: DicomService = getattr(context.resources, names.service)
    return service


class DicomService(dg.ConfigurableResource):  # type: ignore[type-arg]  # its own value
    """A DICOM service that speaks the change feed (Azure Health Data Services, or like it)."""

    url: str = Field(description="Base URL, without /v2.")
    api_version: int = Field(
        default=DEFAULTS.api_version, description="Version of the service's API; 2 or later."
    )
    batch_size: int = Field(default=DEFAULTS.batch_size, description="Entries per page, 1 to 200.")
    retry_seconds: int = Field(
        default=DEFAULTS.retry_seconds,
        description="How long a failing request is tried again, in seconds.",
    )
    requests_in_flight: int = Field(
        default=DEFAULTS.requests_in_flight,
        description="Requests of a run at the service at once, 1 to 64.",
    )
    delay_minutes: int = Field(
        default=DEFAULTS.delay_minutes,
        description="How long after its end an hour is read, in minutes.",
    )
    data_partitions: list[str] | None = Field(
        default=None, description="Data partitions to keep; all when unset."
    )
    start_time: str | None = Field(
        default=None, description="First moment that is read (UTC, ISO 8601, inclusive)."
    )
    end_time: str | None = Field(
        default=None, description="Moment at which reading stops (UTC, ISO 8601, exclusive)."
    )
    site_time_zone: str | None = Field(
        default=None, description="Zone (IANA) of DICOM times without offset; unknown when unset."
    )
    columns_file: str | None = Field(
        default=None, description="File that names the columns that were added to the tables."
    )
    header_columns: str | None = Field(
        default=None,
        description="Form in which the header is kept: string, map or both; as the table says.",
    )
    _feed: "ChangeFeed | None" = PrivateAttr(default=None)

    def address(self) -> str:
        """Return the base URL. The embedded service starts with the first call."""
        return self.url

    @property
    def feed(self) -> "ChangeFeed":
        """The change feed, connected on first use."""
        if self._feed is None:
            from dicom_assets.feed import ChangeFeed
            from dicom_assets.feed.rows import RowReader

            table = added.tables(self.columns_file)[INSTANCE.name]
            form = self.header_columns or HEADER_COLUMNS[0]
            self._feed = ChangeFeed(
                self.address(),
                api_version=self.api_version,
                batch_size=self.batch_size,
                retry_seconds=self.retry_seconds,
                in_flight=self.requests_in_flight,
                data_partitions=self.kept,
                reader=RowReader(table, self.site_time_zone, form),
            )
        return self._feed

    def glance(self) -> "ChangeFeed":
        """Return a feed that asks once and waits for seconds only, to be closed by the caller."""
        from dicom_assets.feed import ChangeFeed
        from dicom_assets.feed.http.timeouts import GLANCE

        return ChangeFeed(
            self.address(),
            api_version=self.api_version,
            batch_size=self.batch_size,
            retry_seconds=0,
            in_flight=1,
            timeouts=GLANCE,
        )

    def counts(self) -> "StudyCounts":
        """Return the service's search for studies, to be closed by the caller."""
        from dicom_assets.feed.search import StudyCounts

        return StudyCounts(
            self.address(),
            api_version=self.api_version,
            batch_size=self.batch_size,
            retry_seconds=self.retry_seconds,
            in_flight=self.requests_in_flight,
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connection when the run ends."""
        del context
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    @property
    def kept(self) -> Partitions:
        """The data partitions that are kept, None for all."""
        return None if self.data_partitions is None else frozenset(self.data_partitions)

    def bounds(self, window: Window) -> Bounds:
        """Return what is read of the window: its part from start to end, and data partitions."""
        return Bounds(self.clip(window), self.kept)

    def clip(self, window: Window) -> Window:
        """Return the part of the window that lies between the start and the end."""
        bounds = (self.start_time, self.end_time)
        return window.clip(*(b if b is None else datetime.fromisoformat(b) for b in bounds))

    def await_closed(self, window: Window, say: Callable[[str], None]) -> Window:
        """Wait until the window ended at least the delay ago, by the slower of both clocks.

        Return the window. Raises NotYetError for a window in the future. The wait is logged first.
        """
        delay = timedelta(minutes=self.delay_minutes)
        end, now = datetime_of(window.end), self.feed.now()
        if now < end - delay:
            raise NotYetError(
                f"the hour that ends at {end:%Y-%m-%d %H:%M} UTC lies in the future: it is "
                f"{now:%Y-%m-%d %H:%M:%S} UTC by the slower of this machine's clock and the "
                "service's. Materialize hours that have ended"
            )
        if now < end + delay:
            say(
                f"waiting until {end + delay:%H:%M:%S} UTC, because the service may show changes "
                f"up to {self.delay_minutes} minutes late (DICOM_DELAY_MINUTES)"
            )
        while (left := (end + delay - self.feed.now()).total_seconds()) > 0:
            time.sleep(min(left, LONGEST_SLEEP_SECONDS))
        return window
