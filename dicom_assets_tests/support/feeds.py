"""Clients of a service for tests: with the defaults of the settings, unless a test sets others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from dicom_assets.feed import ChangeFeed
from dicom_assets.feed.search import StudyCounts
from dicom_assets.settings import DEFAULTS


def feed_of(url: str, **arguments: Any) -> ChangeFeed:  # noqa: ANN401 - as ChangeFeed has them
    """Return the change feed of a service."""
    return ChangeFeed(url, **(_defaults() | arguments))


@contextmanager
def opening(
    url: str,
    **usual: Any,  # noqa: ANN401 - as ChangeFeed has them
) -> Iterator[Callable[..., ChangeFeed]]:
    """A function that opens feeds of a service, as usual or not; all are closed at the end."""
    with ExitStack() as opened:

        def open_(**settings: Any) -> ChangeFeed:  # noqa: ANN401 - as ChangeFeed has them
            return opened.enter_context(feed_of(url, **(usual | settings)))

        yield open_


def search_of(url: str, **arguments: Any) -> StudyCounts:  # noqa: ANN401 - as StudyCounts
    """Return the search of a service."""
    return StudyCounts(url, **(_defaults() | arguments))


def _defaults() -> dict[str, Any]:
    names = ("api_version", "batch_size", "retry_seconds")
    values = {name: getattr(DEFAULTS, name) for name in names}
    return values | {"in_flight": DEFAULTS.requests_in_flight}
