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
from dicom_assets_tests.support.history import KEYS, alive, tell
from dicom_assets_tests.support.processes import PACKAGE, environment, finish, start
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


def test_a_queued_run_starts_soon_after_the_run_before_it_was_killed(
    service: Service, tmp_path: Path
) -> None:
    """That one was started by hand: only its tag says that its process is gone.

    While it lives the other waits in the queue, which costs no processor. In the end all is there.
    """
    home.initialise_home(tmp_path / "home")
    environ = environment(tmp_path, service) | {"DICOM_SCHEDULE": "* * * * *"}
    held = tmp_path / "held"
    (tmp_path / "hold").touch()
    by_hand = start(tmp_path, environ, "held", hours=(KEYS[0], KEYS[0]))
    try:
        _await(lambda: held.exists() and held.read_text(encoding="utf-8"))
        with daemon(tmp_path, environ, LOCATION):
            _await(lambda: _statuses(tmp_path).get(KEYS[1]) == "QUEUED")
            time.sleep(40)  # ticks of the sensor and of the queue
            assert _statuses(tmp_path) == {KEYS[0]: "STARTED", KEYS[1]: "QUEUED"}
            os.kill(int(held.read_text(encoding="utf-8")), signal.SIGKILL)
            seconds = _await(lambda: _statuses(tmp_path)[KEYS[1]] not in {"QUEUED", "STARTING"})
            print(f"the queued run started {seconds:.0f} s after the kill")  # noqa: T201 - measured
            assert _statuses(tmp_path)[KEYS[0]] == "FAILURE"
            _await(lambda: _statuses(tmp_path)[KEYS[1]] == "SUCCESS")
    finally:
        held.unlink(missing_ok=True)
        by_hand.kill()
        finish([by_hand])
    made = world(service, tmp_path / "tables")
    made.run(KEYS[0])
    assert made.alive() == alive(service.archive)
