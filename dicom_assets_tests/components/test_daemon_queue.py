"""Under the real daemon: runs wait in the queue, and not for one whose process is gone."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.commands import home
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.support.daemon import daemon
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, alive, tell
from dicom_assets_tests.support.processes import PACKAGE, environment
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import world

LOCATION = f"{PACKAGE}.held"
# The next run is to start within 90 seconds. It would wait for a day.
WAIT_SECONDS = 240

pytestmark = [
    pytest.mark.timeout(900),  # daemons start, on a busy machine
    # dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service at rest after the six hours."""
    with serving(tell(Archive(tmp_path / "archive"))) as service:
        yield service


def _await(what: Callable[[], object]) -> float:
    """Return after how many seconds it was so."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() < begun + WAIT_SECONDS, "it did not come to it"
        time.sleep(0.2)
    return time.monotonic() - begun


def _statuses(folder: Path) -> dict[str, str]:
    """The status of the runs over hours by the first hour, of the last run for each."""
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        runs = list(instance.get_runs())[::-1]
    first = ("dagster/partition", "dagster/asset_partition_range_start")
    hours = [next(filter(None, map(run.tags.get, first)), "") for run in runs]
    return {hour: run.status.value for hour, run in zip(hours, runs, strict=True) if hour}


@pytest.fixture
def waiting(service: Service, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder in which the first of two runs will be long, and the environment of its daemons."""
    home.initialise_home(tmp_path / "home")
    # Hours on both sides of this one are two runs.
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        world(service, tmp_path / "tables").run(KEYS[2], instance=instance)
    (tmp_path / "hold").touch()
    return tmp_path, environment(tmp_path, service) | {"DICOM_SCHEDULE": "* * * * *"}


def _process(folder: Path) -> int:
    """The process of the run that holds the pool, once another one waits for it in the queue."""
    held = folder / "held"
    _await(lambda: held.exists() and held.read_text(encoding="utf-8"))
    _await(lambda: sorted(_statuses(folder).values()) == ["QUEUED", "STARTED", "SUCCESS"])
    time.sleep(20)  # ticks of the sensor and of the queue
    assert sorted(_statuses(folder).values()) == ["QUEUED", "STARTED", "SUCCESS"]
    return int(held.read_text(encoding="utf-8"))


def _require_it_starts(folder: Path, service: Service) -> None:
    def starts() -> bool:
        return "QUEUED" not in (now := _statuses(folder).values()) and "STARTING" not in now

    print(f"the queued run started after {_await(starts):.0f} s")  # noqa: T201 - a measurement
    (folder / "held").unlink()
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        killed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert len(killed) == 1
    _await(lambda: set(_statuses(folder).values()) <= {"FAILURE", "SUCCESS"})
    made = world(service, folder / "tables")
    made.run(FIRST, LAST)
    assert made.alive() == alive(service.archive)


def test_a_queued_run_starts_soon_after_the_run_before_it_was_killed(
    waiting: tuple[Path, dict[str, str]], service: Service
) -> None:
    """While that one lives, it waits in the queue, where it has no process."""
    folder, environ = waiting
    with daemon(folder, environ, LOCATION):
        os.kill(_process(folder), signal.SIGKILL)
        _require_it_starts(folder, service)


def test_a_queued_run_starts_soon_after_everything_was_killed(
    waiting: tuple[Path, dict[str, str]], service: Service
) -> None:
    """The code server as well, which would have noticed: the tag says that the process is gone."""
    folder, environ = waiting
    with daemon(folder, environ, LOCATION):
        os.killpg(os.getpgid(_process(folder)), signal.SIGKILL)
    with daemon(folder, environ, LOCATION):
        _require_it_starts(folder, service)
