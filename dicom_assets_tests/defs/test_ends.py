"""A run ends: when it is told to, wherever it waits, and when its engine hangs."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets_tests.support.history import FIRST, START
from dicom_assets_tests.support.processes import (
    GREEN_SECONDS,
    copy_home,
    environment,
    finish,
    start,
    statuses,
)
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import world

pytestmark = pytest.mark.timeout(400)  # processes of Dagster, on a busy machine

# A run is to end within 15 seconds. Without a watchdog it takes a minute, or for ever.
END_SECONDS = 30


def _await(process: subprocess.Popen[str], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + GREEN_SECONDS
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not come to it"
        time.sleep(0.2)


def _events(folder: Path) -> list[str]:
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        (run,) = instance.get_runs()
        return [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]


def _terminated(
    folder: Path, environ: dict[str, str], location: str, waits: Callable[[], object]
) -> str:
    """A run came to where it waits, got SIGTERM, and ended; what Dagster says of its end."""
    process = start(folder, environ, location)
    try:
        _await(process, waits)
        time.sleep(1)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=END_SECONDS)
        print(f"ended {time.monotonic() - told:.1f} s after SIGTERM")  # noqa: T201 - a measurement
    finally:
        process.kill()
        process.communicate()
    assert process.returncode != 0
    (status,) = statuses(folder)
    return status


@pytest.fixture
def folder(fresh_home: Path, tmp_path: Path) -> Path:
    """A folder with a DAGSTER_HOME of its own."""
    copy_home(fresh_home, tmp_path)
    return tmp_path


def test_a_run_that_waits_for_its_hour_to_close_ends(own_service: Service, folder: Path) -> None:
    """By the service's clock the delay goes on for a quarter of an hour."""
    closed = START + timedelta(hours=6, seconds=10)
    own_service.behind = datetime.now(UTC) - closed
    environ = environment(folder, own_service)

    def waits() -> bool:
        return bool(own_service.asked) and any("waiting until" in one for one in _events(folder))

    assert _terminated(folder, environ, "killed", waits) == "FAILURE"


def test_a_run_that_waits_for_a_service_that_fails_ends(own_service: Service, folder: Path) -> None:
    """Between two requests, for ten minutes."""
    own_service.answer = (503, b"{}")
    environ = environment(folder, own_service) | {"DICOM_RETRY_SECONDS": "600"}
    assert _terminated(folder, environ, "killed", lambda: len(own_service.asked) > 2) == "FAILURE"


def test_a_run_that_waits_for_an_answer_ends(own_service: Service, folder: Path) -> None:
    """The service takes the request, and says nothing for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        taken = []

        def asked() -> bool:
            try:
                taken.append(silent.accept())
            except BlockingIOError:
                return False
            return True

        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environ = environment(folder, own_service) | {"DICOM_SERVICE_URL": url}
        assert _terminated(folder, environ, "killed", asked) == "FAILURE"
        for connection, _ in taken:
            connection.close()


def test_a_run_that_waits_for_its_commit_ends(service: Service, folder: Path) -> None:
    """No signal comes through to it; it is ended, and says so."""
    environ = environment(folder, service)
    ended = _terminated(folder, environ, "hung", (folder / "committing").exists)
    assert ended == "FAILURE"
    assert any("told to end and did not" in text for text in _events(folder))


def test_a_run_whose_commit_never_returns_is_ended(service: Service, folder: Path) -> None:
    """Nobody tells it to: it fails with the reason, and the process is gone."""
    environ = environment(folder, service) | {"DICOM_TEST_HUNG_SECONDS": "2"}
    ((code, output),) = finish([start(folder, environ, "hung")])
    assert code == 1, output[-3000:]
    assert statuses(folder) == ["FAILURE"]
    assert any("The Delta engine has not returned" in text for text in _events(folder))


def test_a_process_that_is_not_one_of_a_run_is_never_ended(
    own_service: Service, tmp_path: Path, home_instance: dg.DagsterInstance
) -> None:
    """This one, which runs tests: it gets no watchdog."""
    assert world(own_service, tmp_path / "tables").run(FIRST, instance=home_instance).success
    assert "dicom-watchdog" not in {thread.name for thread in threading.enumerate()}
