"""Dagster's database on a real PostgreSQL, with what the lock file installs."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from dicom_assets.commands.home import DAGSTER_YAML, shipped
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.components import postgres
from dicom_assets_tests.components.postgres import Postgres
from dicom_assets_tests.support import command, processes
from dicom_assets_tests.support.daemon import daemon
from dicom_assets_tests.support.dev_server import started
from dicom_assets_tests.support.history import END, FIRST, START, alive, tell
from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import World, world

LOCATION: Final = "dicom_assets.definitions"
WAIT_SECONDS: Final = 240
HAPPENED: Final = "dagster_event_type = 'ASSET_MATERIALIZATION'"

pytestmark = [
    pytest.mark.timeout(600),  # the daemon fills hours that it has to find first
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]


@dataclass(frozen=True)
class Clinic:
    """A database, a service with six hours, the tables, and a home with the lines of the page."""

    database: Postgres
    service: Service
    world: World
    folder: Path

    def environment(self) -> dict[str, str]:
        """The settings of every process of Dagster, with a tick each minute."""
        ours = processes.environment(self.folder, self.service) | self.database.environment()
        return ours | {"DICOM_SCHEDULE": "* * * * *"}

    def run(self, *words: str) -> None:
        """A command of Dagster's has succeeded."""
        log = self.folder / "command.log"
        with started([sys.executable, "-m", *words], self.folder, self.environment(), log) as one:
            assert one.wait(WAIT_SECONDS) == 0, log.read_text(encoding="utf-8")


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """Nothing has run yet."""
    page = (ROOT / "docs" / "operate" / "postgresql.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    home = tmp_path / "home"
    home.mkdir()
    (home / DAGSTER_YAML).write_text(shipped().read_text(encoding="utf-8") + lines, "utf-8")
    with postgres.running() as database, serving(tell(Archive(tmp_path / "archive"))) as service:
        made = world(service, tmp_path / "tables", start_time=START, end_time=END)
        yield Clinic(database, service, made, tmp_path)


def _await(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < deadline, "the daemon did not come to it"
        time.sleep(0.5)


def test_hours_runs_ticks_and_heartbeats_are_kept_in_postgresql(clinic: Clinic) -> None:
    """An hour by hand, the rest by the daemon; and `check` is green while it lives."""
    select = ["--select", ",".join(f"key:{name}" for name in processes.ASSETS)]
    clinic.run("dagster", "asset", "materialize", "-m", LOCATION, *select, "--partition", FIRST)
    database = clinic.database
    assert database.count("runs", "status = 'SUCCESS'") == 1
    assert database.count("event_logs", HAPPENED) == len(processes.ASSETS)
    with daemon(clinic.folder, clinic.environment(), LOCATION):
        _await(lambda: database.count("runs", "status = 'SUCCESS'") > 1)
        done = command.run(clinic.folder, "check", "--json", **clinic.environment())
    told = {line["name"]: line for line in json.loads(done.stdout)["lines"]}
    of_dagster = {name for name, line in told.items() if line["group"] == "Dagster"}
    assert {name: told[name] for name in of_dagster if told[name]["state"] != "ok"} == {}
    assert (done.returncode, of_dagster > {"home", "pool", "daemon"}) == (0, True), done.stdout
    assert clinic.world.alive() == alive(clinic.service.archive)
    assert database.count("job_ticks", "status = 'SUCCESS'") > 0
    assert database.count("daemon_heartbeats") > 1
    assert [path.name for path in (clinic.folder / "home").rglob("*.db")] == []
