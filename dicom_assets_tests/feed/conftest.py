"""A service on a port for each test, and a feed that asks it without long pauses."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dicom_assets.feed import ChangeFeed
from dicom_assets_tests.support.feed_service import QUICK, Running, Service
from dicom_assets_tests.support.feeds import feed_of


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
    opened: list[ChangeFeed] = []

    def open_(**settings: Any) -> ChangeFeed:  # noqa: ANN401 - whatever ChangeFeed takes
        usual: dict[str, Any] = {"retry_seconds": 5.0, "timeouts": QUICK}
        opened.append(feed_of(url, **(usual | settings)))
        return opened[-1]

    yield open_
    for feed in opened:
        feed.close()


@pytest.fixture
def feed(open_feed: Callable[..., ChangeFeed]) -> ChangeFeed:
    """Return a feed with the default page size."""
    return open_feed()
