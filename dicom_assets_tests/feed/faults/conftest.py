"""One emulator for all tests of the folder. Each test has its archive, its faults and its feed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.emulator.conftest import application, archive, faults, url
from dicom_assets_tests.feed.faults.truth import fill
from dicom_assets_tests.support.feed_service import QUICK
from dicom_assets_tests.support.feeds import opening
from dicom_assets_tests.support.samples import TIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.applications import Starlette

    from dicom_assets.feed import ChangeFeed

__all__ = ["application", "archive", "faults", "url"]


@pytest.fixture
def repetition(request: pytest.FixtureRequest) -> int:
    """The number of this run of a test. In `make soak` each test runs FAULTS times."""
    return int(request.param)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test of the folder talks over a socket."""
    item.add_marker(pytest.mark.sockets)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of the folder runs FAULTS times."""
    if TIMES > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(TIMES), indirect=True)


@pytest.fixture(scope="session")
def resting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive of 130 entries, three at each tick, which no test may change."""
    archive = Archive(tmp_path_factory.mktemp("resting"))
    fill(archive, 130, per_tick=3)
    yield archive
    archive.close()


@pytest.fixture
def still(application: Starlette, resting: Archive) -> Archive:
    """The archive that no test may change, as the one that is served."""
    application.state.archive = resting
    return resting


@pytest.fixture
def open_feed(url: str) -> Iterator[Callable[..., ChangeFeed]]:
    """A function that opens a feed of the service, in pages of 20. All are closed in the end."""
    with opening(url, retry_seconds=10.0, timeouts=QUICK, batch_size=20, in_flight=4) as open_:
        yield open_


@pytest.fixture
def feed(open_feed: Callable[..., ChangeFeed]) -> ChangeFeed:
    """A feed of the service."""
    return open_feed()
