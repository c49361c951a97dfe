"""A service on a port for each test, and a feed that asks it without long pauses."""

from collections.abc import Callable, Iterator

import pytest

from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.support.feed_service import QUICK, Running, Service
from dicom_assets_tests.support.feeds import opening


@pytest.fixture
def service() -> Service:
    """Return an empty service."""
    return Service()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """Return the address where the service listens."""
    with Running(service) as running:
        yield running.url


@pytest.fixture
def open_feed(url: str) -> Iterator[Callable[..., ChangeFeed]]:
    """Return a function that opens a feed of the service. All are closed in the end."""
    with opening(url, retry_seconds=5.0, timeouts=QUICK) as open_:
        yield open_


@pytest.fixture
def feed(open_feed: Callable[..., ChangeFeed]) -> ChangeFeed:
    """Return a feed with the default page size."""
    return open_feed()
