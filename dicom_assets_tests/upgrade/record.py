"""The fixture of a release: its own code has lived for some minutes, and is stopped in the middle.

`python -m dicom_assets_tests.upgrade.record FOLDER NAME`, where FOLDER/release is a checkout of
that release with its `.venv`. Its daemon, its command line and its dagster.yaml run as they are,
against the emulator of today, whose archive lives through the hours meanwhile. It takes eight
minutes. What is left in FOLDER is put into `data/releases/NAME.zip`. FOLDER stands in Dagster's
databases, so it should be a neutral one, such as /srv/dicom.

What is left behind, by hour of `support.history`:

| hour | state |
| --- | --- |
| 0 | in the tables |
| 1 | failed: the service has refused it, and does so no longer |
| 2, 3 | in the tables, by a backfill |
| 4 | nobody has asked for it |
| 5 | in the queue, by the same backfill |

A person has stopped the schedule of the tables, has turned that of the audit off and on again, and
has deleted rows of `series`.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import dagster as dg
import yaml
from deltalake import DeltaTable

from dicom_assets.emulator.archive import Archive
from dicom_assets.window import HOUR
from dicom_assets_tests.support.dev_server import SETTINGS, started
from dicom_assets_tests.support.history import KEYS, START, at, study_uid, tell
from dicom_assets_tests.support.layout import TESTS
from dicom_assets_tests.support.sinks import Sink, http_sink
from dicom_assets_tests.support.watched_service import Service, serving

RELEASES: Final = TESTS / "data" / "releases"
ASSETS: Final = ("change", "instance", "series", "study")
MODULE: Final = "dicom_assets.definitions"
WORKSPACE: Final = ("-w", "workspace.yaml")
SCHEDULE: Final = "dicom_tables_schedule"
AUDIT: Final = "dicom_audit_schedule"
DAILY: Final = "dicom_daily_checks"
LEFT: Final = "left"
"""The file that says when the release was stopped, in seconds of the epoch."""
# The history tells the expiry of study 4 without a moment: it follows on its birth.
EXPIRY: Final = at(4, 3)
WAIT_SECONDS: Final = 600
# A daemon is given five minutes before a schedule that is stopped is told of.
ALERTED: Final = (
    "hours that are not in the tables (ServiceRefusedError)",
    f"schedule {SCHEDULE} is stopped",
    "check orphans of dicom_service failed",
)
BACKFILL: Final = """
mutation ($keys: [AssetKeyInput!], $hours: [String!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: $keys, partitionNames: $hours}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Meanwhile:
    """An archive that lives through one span of a history, and through nothing else of it."""

    archive: Archive
    first: int
    end: int

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return the event of that name: it happens if its moment lies in the span."""

        def happen(*args: object, **given: object) -> None:
            if self.first <= given.get("at", EXPIRY) < self.end:  # type: ignore[operator]  # ticks
                getattr(self.archive, name)(*args, **given)

        return happen


@dataclass(frozen=True)
class Release:
    """A checkout of a release with its environment, in a folder with its home and its tables."""

    folder: Path
    service: Service
    sink: Sink
    hours: int

    @property
    def checkout(self) -> Path:
        """The release's working copy: the folder in which its commands run."""
        return self.folder / "release"

    @property
    def home(self) -> Path:
        """The DAGSTER_HOME."""
        return self.folder / "home"

    @property
    def python(self) -> str:
        """The interpreter of the release."""
        return str(self.checkout / ".venv" / "bin" / "python")

    @property
    def has_alerts(self) -> bool:
        """Whether the release tells of alerts, and asks for every hour that is missing."""
        asked = "from dicom_assets.settings import Settings; Settings(alerts=())"
        words = (self.python, "-c", asked)
        return subprocess.run(words, cwd=self.checkout, check=False).returncode == 0

    def environment(self) -> dict[str, str]:
        """The settings of the release; the schedule ticks each minute, so that nobody waits."""
        clean = {name: value for name, value in os.environ.items() if not SETTINGS.match(name)}
        return clean | {
            "DAGSTER_HOME": str(self.home),
            "DICOM_SERVICE_URL": self.service.url,
            "DICOM_TABLES_URL": str(self.folder / "tables"),
            "DICOM_START_TIME": START.isoformat(),
            "DICOM_END_TIME": (START + self.hours * HOUR).isoformat(),
            "DICOM_RETRY_SECONDS": "0",
            "DICOM_SCHEDULE": "* * * * *",
            "DICOM_ALERTS": f"json://{self.sink.address}",
        }

    def command(self, *words: str) -> None:
        """One of Dagster's commands has ended, with whatever code."""
        program = str(Path(self.python).parent / words[0])
        subprocess.run(
            (program, *words[1:]), cwd=self.checkout, env=self.environment(), check=False
        )

    def prepare(self) -> None:
        """There is an empty home, with its databases: two processes would race for them."""
        self.home.mkdir()
        shutil.copy(self.checkout / "dagster.yaml", self.home)
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            instance.get_runs_count()

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """The release's daemon works on the release's code location."""
        command = [self.python, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"]
        with started(command, self.checkout, self.environment(), self.folder / "daemon.log"):
            yield

    def runs(self, *statuses: str) -> int:
        """Return how many runs there are in the statuses."""
        wanted = [dg.DagsterRunStatus[status] for status in statuses]
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return instance.get_runs_count(dg.RunsFilter(statuses=wanted))

    def cursor(self) -> str:
        """Return the cursor of the alerts' sensor."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            states = {state.name: state for state in instance.all_instigator_state()}
        data = states["dicom_alerts"].instigator_data if "dicom_alerts" in states else None
        return str(getattr(data, "cursor", ""))


def _until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WAIT_SECONDS} s until {what}")
        time.sleep(1)
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", flush=True)  # noqa: T201 - a person waits


def live(release: Release) -> None:
    """The release has left its home and its tables as the table above says."""
    release.prepare()
    _first_hours(release)
    _last_hours(replace(release, hours=6))


def _first_hours(release: Release) -> None:
    by_hand = not release.has_alerts
    for hour, statuses in enumerate(("SUCCESS", "FAILURE")):
        now = replace(release, hours=hour + 1)
        tell(Meanwhile(release.service.archive, at(hour) - 7, at(hour + 1) - 7))  # type: ignore[arg-type]  # stands in for it
        release.service.answer = (403, b"Authorization failed.") if hour else None
        with now.daemon():
            if by_hand:
                selected = ("--select", ",".join(ASSETS), "--partition", KEYS[hour])
                now.command("dagster", "asset", "materialize", "-m", MODULE, *selected)
            _until(lambda now=now, s=statuses: now.runs(s) == 1, f"hour {hour}: {statuses}")  # type: ignore[misc]  # bound here
            if hour:
                for action, schedule in (("stop", SCHEDULE), ("stop", AUDIT), ("start", AUDIT)):
                    now.command("dagster", "schedule", action, schedule, *WORKSPACE)
    release.service.answer = None


def _last_hours(release: Release) -> None:
    tell(Meanwhile(release.service.archive, at(2) - 7, at(6) - 7))  # type: ignore[arg-type]  # as above
    configuration = release.home / "dagster.yaml"
    own = configuration.read_text(encoding="utf-8")
    held = yaml.safe_load(own)
    limit = {"key": "dagster/asset_partition_range_start", "value": KEYS[5], "limit": 0}
    held["concurrency"]["runs"]["tag_concurrency_limits"] = [limit]
    configuration.write_text(yaml.safe_dump(held), encoding="utf-8")
    with release.daemon():
        keys = [{"path": [name]} for name in ASSETS]
        given = json.dumps({"keys": keys, "hours": [KEYS[2], KEYS[3], KEYS[5]]})
        release.command("dagster-graphql", "-t", BACKFILL, "-v", given, *WORKSPACE)
        done = 2
        _until(lambda: release.runs("SUCCESS") == done, "hours 2 and 3 are in the tables")
        _until(lambda: release.runs("QUEUED") == 1, "hour 5 is in the queue")
        series = DeltaTable(str(release.folder / "tables" / "series"))
        series.delete(f"\"studyInstanceUid\" = '{study_uid(1)}'")
        job = DAILY if release.has_alerts else "dicom_audit"
        release.command("dagster", "job", "launch", "-j", job, *WORKSPACE)
        _until(lambda: release.runs("SUCCESS") > done, f"{job} is over")
        for title in ALERTED if release.has_alerts else ():
            _until(lambda title=title: title in release.cursor(), title)  # type: ignore[misc]  # bound here
    configuration.write_text(own, encoding="utf-8")


def pack(folder: Path, target: Path) -> None:
    """The tables and the home are in the zip, without this machine's paths and without room."""
    for path in (folder / "home").rglob("*.db"):
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = DELETE")
            _make_neutral(database)
            database.execute("VACUUM")
    kept = (LEFT, "tables", "home/dagster.yaml", "home/history", "home/schedules")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for root in kept:
            for path in [folder / root, *sorted((folder / root).rglob("*"))]:
                if path.is_file():
                    packed.write(path, path.relative_to(folder).as_posix())


def _make_neutral(database: sqlite3.Connection) -> None:
    """No traceback of a home says where this machine's Python lies."""
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, column, kind, *_ in database.execute(f'PRAGMA table_info("{table}")').fetchall():
            if kind.startswith(("VARCHAR", "TEXT")):
                database.execute(
                    f'UPDATE "{table}" SET "{column}" = REPLACE("{column}", ?, ?)',  # noqa: S608 - names of the database's own
                    (sys.base_prefix, "/usr"),
                )


def main(folder: Path, name: str) -> None:
    """The release in the folder has lived, and the zip of that name says how it was left."""
    with (
        TemporaryDirectory() as scratch,
        serving(Archive(Path(scratch))) as service,
        http_sink() as sink,
    ):
        release = Release(folder, service, sink, hours=0)
        live(release)
    (folder / LEFT).write_text(f"{time.time():.0f}", encoding="utf-8")
    pack(folder, RELEASES / f"{name}.zip")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
