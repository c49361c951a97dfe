"""Fixtures of the folders whose tests run the project through Dagster; their conftest imports them.

One service with the six hours' history serves all that only read it; `filled` has followed it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.commands import home
from dicom_assets.emulator.archive import Archive
from dicom_assets.tables.delta.retry import Run
from dicom_assets.window import Window
from dicom_assets_tests.support import clinic as clinics
from dicom_assets_tests.support import demo as demos
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.history import END, FIRST, LAST, START, tell
from dicom_assets_tests.support.once import made_once
from dicom_assets_tests.support.processes import copy_home
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import World, world

__all__ = [
    "clinic",
    "filled",
    "first_demo",
    "followed",
    "fresh_home",
    "home_instance",
    "instance",
    "own_service",
    "pytest_itemcollected",
    "service",
]

# Warnings of others about others; each one by its message.
THEIRS = (
    # dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
    "ignore:The `dict` method is deprecated; use `model_dump` instead",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """In this folder the warnings in THEIRS are no errors."""
    for warning in THEIRS:
        item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service at rest after the six hours; a test that changes it takes `own_service`."""
    with serving(tell(Archive(tmp_path_factory.mktemp("archive")))) as service:
        yield service


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service with an empty archive, for one test."""
    with serving(Archive(tmp_path / "own-archive")) as service:
        yield service


@pytest.fixture(scope="session")
def filled(service: Service, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tables that one run over all six hours has filled; nobody changes them."""
    made = world(service, tmp_path_factory.mktemp("filled"))
    made.run(FIRST, LAST, instance=dg.DagsterInstance.ephemeral())
    return made


@pytest.fixture
def followed(own_service: Service, tmp_path: Path) -> World:
    """Tables in `tables` that have followed a service of their own, for one test to spoil."""
    tell(own_service.archive)
    made = world(own_service, tmp_path / "tables")
    by = Run("followed", datetime.now(UTC))
    with feed_of(own_service.url) as feed:  # without Dagster, in which `filled` has run
        steps.whole_run(made.store, Window.between(START, END), feed, by)
    return made


@pytest.fixture(scope="session")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME with the project's dagster.yaml and empty databases; tests copy it.

    Two processes on a fresh SQLite home race for its tables, so it is initialised here, once.
    """
    return home.initialise_home(tmp_path_factory.mktemp("fresh") / "home")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory, for one test."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def home_instance(fresh_home: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, for one test: the context of a schedule takes no other."""
    with dg.DagsterInstance.from_config(str(copy_home(fresh_home, tmp_path))) as instance:
        yield instance


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> clinics.Clinic:
    """A folder in which the demo has run, with what pydicom's files lack; nobody changes it."""
    return clinics.Clinic(made_once(tmp_path_factory, "clinic", clinics.open_in))


@pytest.fixture(scope="session")
def first_demo(tmp_path_factory: pytest.TempPathFactory) -> demos.First:
    """The first demo in an empty folder; nobody changes it."""
    return demos.First(made_once(tmp_path_factory, "demo", demos.run_in))
