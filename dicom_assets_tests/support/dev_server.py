"""`dicom-assets dev` as a person starts it: a process of its own, in a folder of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from dicom_assets.emulator import claim
from dicom_assets.window import HOUR
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.layout import ROOT

START_SECONDS = 90.0
GRACE_SECONDS = 3.0
END_SECONDS = 20.0
DELAY = timedelta(minutes=15)
SETTINGS = re.compile(r"(DICOM|DAGSTER|AZURE)_")

RUNS = "{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }"


@dataclass(frozen=True)
class Server:
    """A running `dicom-assets dev`: its page, and the folder in which it was started."""

    url: str
    folder: Path

    def runs(self) -> list[dict[str, Any]]:
        """Every run that Dagster knows, newest first: runId, status, and tags by name."""
        answer = httpx.post(f"{self.url}/graphql", json={"query": RUNS}).raise_for_status().json()
        found: list[dict[str, Any]] = answer["data"]["runsOrError"]["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def hours(self) -> list[str]:
        """The partition keys of the embedded archive's 48 hours."""
        first = _first_hour(self.folder)
        return [f"{first + number * HOUR:%Y-%m-%d-%H:%M}" for number in range(48)]

    def table(self, name: str) -> Path:
        """The folder of a table."""
        return self.folder / "data" / "dicom" / name


@contextmanager
def running(folder: Path, window: str = "--no-browser") -> Iterator[Server]:
    """A server whose page answers; nothing of it is left afterwards."""
    log = folder / "dev.log"
    url = f"http://127.0.0.1:{(port := _free_port())}"
    command = [sys.executable, "-m", "dicom_assets.cli", "dev", "--port", str(port), window]
    with started(command, folder, _environment(folder), log) as process:
        _await_page(url, process, log)
        yield Server(url, folder)


@contextmanager
def started(
    command: list[str], folder: Path, environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A command of Dagster's runs in a folder and says all in a log; no process of it is left."""
    with log.open("wb") as output:
        # A session of its own: what Dagster starts is reached by its group's end only.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environ),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)
            overhear(log.read_text(encoding="utf-8"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _first_hour(folder: Path) -> datetime:
    """The hour in which the embedded archive begins, claimed by whoever asks first."""
    return claim.first_hour(folder / "data" / "archive", now=datetime.now(UTC), delay=DELAY)


def _environment(folder: Path) -> dict[str, str]:
    """The environment without settings of whoever runs the tests.

    The end keeps hours out that pass by while the tests run: one that has just ended is waited for.
    """
    kept = {name: value for name, value in os.environ.items() if not SETTINGS.match(name)}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return kept | {
        "DAGSTER_HOME": str(folder / "data" / "dagster"),
        "DICOM_END_TIME": f"{_first_hour(folder) + claim.SPAN:%Y-%m-%dT%H:%M:%SZ}",
        "PYTHONPATH": path,
    }


def _await_page(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(url):
            return
        time.sleep(0.25)
    told = log.read_text(encoding="utf-8", errors="replace")[-4000:]
    raise AssertionError(f"no page at {url} after {START_SECONDS:.0f} s; it said:\n{told}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info").is_success
    except httpx.TransportError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """No process of the server's group is left, whatever it does on being asked to end."""
    members = _members(process)
    _signal_group(process, signal.SIGTERM)
    _, left = psutil.wait_procs(members, timeout=GRACE_SECONDS)
    if left:
        _signal_group(process, signal.SIGKILL)
    process.wait(END_SECONDS)
    psutil.wait_procs(left, timeout=END_SECONDS)


def _members(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
