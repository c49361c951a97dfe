"""What holds for every test: how hypothesis runs, and that no value of a patient is left behind.

Fixtures live in the folder that uses them.
"""

import gc
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from alembic.config import Config

# `make test` looks at the same examples every time, so that a change is judged by what it changed;
# `make soak` looks at new ones. Either way a failure prints the blob that replays it, and a slow
# machine is no failure.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, database=None)
settings.register_profile("soak", deadline=None, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# No test leaves a patient's value outside the tables.
pytest_plugins = ("dicom_assets_tests.support.canary",)

# Folders whose tests need neither Dagster nor a network, but those marked `sockets`.
CORE = ("feed", "header", "schema", "tables")


@pytest.fixture(autouse=True)
def no_connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to a test of the core that is not marked `sockets`."""
    folder = request.path.relative_to(Path(__file__).parent).parts[0]
    if folder in CORE and request.node.get_closest_marker("sockets") is None:
        monkeypatch.setattr(socket.socket, "connect", _refuse)


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """Begin each test with the usual umask: commands set that of their process."""
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def pytest_collection_finish() -> None:
    """Spare each test the same work: none waits for a disk, or reads Dagster's migrations anew.

    No database has to outlive a power cut. What was collected stays, so no search for garbage
    looks at it.
    """
    gc.freeze()
    if "dagster" in sys.modules:  # not where only unit tests run
        from alembic.script import ScriptDirectory
        from sqlalchemy import Engine, event

        event.listen(Engine, "connect", _do_not_wait)
        read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

        def from_config(config: "Config") -> ScriptDirectory:
            place = config.get_main_option("script_location")
            return known.get(place) or known.setdefault(place, read(config))

        ScriptDirectory.from_config = staticmethod(from_config)  # type: ignore[method-assign]


def pytest_unconfigure() -> None:
    """Let the objects end that `definitions` has frozen: DuckDB lists its own that do not."""
    gc.unfreeze()


def _do_not_wait(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def _refuse(*_: object) -> None:
    raise AssertionError("this test connects: mark it `sockets`")
