"""One server for all tests of the folder; every test gets an archive of its own behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import Faults, breakable, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.applications import Starlette


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    """The application under test; `archive` puts another archive into it for each test."""
    return breakable(Archive(tmp_path_factory.mktemp("unused")), Faults())


@pytest.fixture(scope="session")
def url(application: Starlette) -> Iterator[str]:
    """Where the application listens."""
    with serve(application) as running:
        yield running.url


@pytest.fixture
def archive(application: Starlette, tmp_path: Path) -> Iterator[Archive]:
    """The empty archive that the service serves during a test."""
    archive = Archive(tmp_path / "archive")
    application.state.archive = archive
    yield archive
    archive.close()


@pytest.fixture
def faults(application: Starlette) -> Iterator[Faults]:
    """What goes wrong during a test; nothing, until it says so."""
    faults: Faults = application.state.faults
    yield faults
    faults.clear()


@pytest.fixture
def client(url: str, archive: Archive) -> Iterator[httpx.Client]:
    """An HTTP client of the service."""
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
