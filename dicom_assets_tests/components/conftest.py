"""A real browser on a real `dicom-assets dev`: one server for each module, one page for each test.

`pytest dicom_assets_tests/components --pictures` takes the pictures of the documents anew.
"""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, sync_playwright

from dicom_assets_tests.components import cloud as clouds
from dicom_assets_tests.components.cloud import Cloud
from dicom_assets_tests.components.gate import Gate
from dicom_assets_tests.components.page import HEIGHT, WIDTH, DagsterPage
from dicom_assets_tests.support.dev_server import Server, running
from dicom_assets_tests.support.fixtures import filled, fresh_home, service
from dicom_assets_tests.support.layout import ROOT

__all__ = ["filled", "fresh_home", "service"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's own sandbox does not start as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MILLISECONDS = 30_000
REMEDY = "no browser on the path: `make test-components` installs one"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Pictures are taken when somebody asks for them."""
    parser.addoption("--pictures", action="store_true", help="take the pictures of docs/ anew")


@pytest.fixture(scope="session")
def running_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The cloud on this machine, for all tests."""
    with clouds.running(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def cloud(running_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The cloud, and an environment that knows nothing of it, nor of any other."""
    for name in os.environ.keys() - clouds.clean().keys():
        monkeypatch.delenv(name)
    running_cloud.entra.forget()
    yield running_cloud
    running_cloud.entra.forget()


@pytest.fixture
def signed_in(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The cloud, and the engine of this process may use it: a managed identity."""
    for name, value in cloud.engine().items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture
def gate(signed_in: Cloud, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """What stands before the storage, counts, and spoils when it is told to."""
    gate = signed_in.gate()
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", gate.url())
    return gate


def _browser() -> str:
    """The browser's path. Without one, tests are skipped here and fail in CI."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(REMEDY)
    if found is None:
        pytest.skip(REMEDY)
    return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser with a profile of its own."""
    path = _browser()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=path,
            args=FLAGS,
            viewport={"width": WIDTH, "height": HEIGHT},
            timezone_id="UTC",
            locale="en-US",
        )
        context.set_default_timeout(WAIT_MILLISECONDS)
        yield context
        context.close()


@pytest.fixture(scope="module")
def server(browser: BrowserContext, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nothing was materialized on; without a browser none is started."""
    del browser
    with running(tmp_path_factory.mktemp("clinic")) as started:
        yield started


@pytest.fixture(scope="module")
def dagster(
    browser: BrowserContext, server: Server, request: pytest.FixtureRequest
) -> Iterator[DagsterPage]:
    """Dagster's page in a tab of its own."""
    tab = browser.new_page()
    wanted = request.config.getoption("--pictures", default=False)
    pictures = ROOT / "docs" / "pictures"
    if wanted:
        pictures.mkdir(parents=True, exist_ok=True)
    yield DagsterPage(tab, server.url, pictures if wanted else None)
    tab.close()
