"""A set-up in which all is well, and `dicom-assets check` in it: in this process, as JSON.

A service behind TLS that asks for tokens, a managed identity that has one, tables that have
followed, and an instance of Dagster in which a daemon lives and everything is on.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
from click.testing import CliRunner
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._daemon.types import DaemonHeartbeat

from dicom_assets.cli import main
from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.window import Window, floor_hour, ticks_of
from dicom_assets_tests.commands.check.identity import SECRET, SIGNATURE, Identity
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.history import header
from dicom_assets_tests.support.steps import store_in

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary import Faults
    from dicom_assets_tests.adversary.tokens import KnownTokens

FIRST: Final = floor_hour(datetime.now(UTC)) - timedelta(hours=12)
START_TIME: Final = f"{FIRST:%Y-%m-%dT%H:%M:%SZ}"
SCHEDULES: Final = (
    "dicom_tables_schedule",
    "dicom_hourly_checks_schedule",
    "dicom_audit_schedule",
    "dicom_daily_checks_schedule",
    "dicom_daily_report_schedule",
    "dicom_maintenance_schedule",
)
SENSORS: Final = (
    "dicom_reopened_hours",
    "dicom_unfilled_tables",
    "dicom_dead_runs",
    "dicom_alerts",
)
ORIGIN: Final = RemoteRepositoryOrigin(
    code_location_origin=RegisteredCodeLocationOrigin(location_name="dicom_assets"),
    repository_name="__repository__",
)


@dataclass(frozen=True)
class Told:
    """What the command said: its exit code, and its lines as JSON, by name."""

    code: int
    whole: dict[str, Any]

    @property
    def lines(self) -> dict[str, dict[str, str]]:
        """The lines by name, which is one line's only."""
        named = {line["name"]: line for line in self.whole["lines"]}
        assert len(named) == len(self.whole["lines"])
        return named

    def named(self, state: str) -> set[str]:
        """The names of the lines in this state."""
        return {name for name, line in self.lines.items() if line["state"] == state}

    def red(self) -> tuple[str, str]:
        """What the one red line found, and what to do; the command has failed."""
        (name,) = self.named("red")
        assert (self.code, self.whole["is_well"]) == (1, False)
        return self.lines[name]["found"], self.lines[name]["remedy"]


@dataclass(frozen=True)
class World:
    """The set-up of one test, to be spoilt."""

    folder: Path
    url: str
    trusted: Path
    identity: Identity
    tokens: KnownTokens
    faults: Faults

    @property
    def home(self) -> Path:
        """DAGSTER_HOME."""
        return self.folder / "home"

    @property
    def tables(self) -> Path:
        """The root of the tables."""
        return self.folder / "tables"

    def settings(self, **settings: str) -> dict[str, str]:
        """The environment of the command."""
        usual = {
            "DICOM_SERVICE_URL": self.url,
            "DICOM_TABLES_URL": str(self.tables),
            "DICOM_START_TIME": START_TIME,
            "DAGSTER_HOME": str(self.home),
            "SSL_CERT_FILE": str(self.trusted),
            "NO_PROXY": "127.0.0.1,localhost",
            "IDENTITY_ENDPOINT": f"{self.identity.url}/msi/token",
            "IDENTITY_HEADER": SECRET,
        }
        return usual | settings

    def check(self, *without: str, **settings: str) -> Told:
        """What the command says with these settings, and without those."""
        given = {k: v for k, v in self.settings(**settings).items() if k not in without}
        code, said = run("--json", **given)
        return Told(code, json.loads(said))


def run(*words: str, **settings: str) -> tuple[int, str]:
    """The exit code and the stdout of the command, in this process, which has Dagster loaded."""
    clean: dict[str, str | None] = dict.fromkeys(("AZURE_TENANT_ID", "HTTPS_PROXY", "https_proxy"))
    done = CliRunner().invoke(main, ["check", *words], env=clean | settings)
    overhear(done.output)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert not any(text in done.output for text in ("PHI", SECRET, SIGNATURE))
    return done.exit_code, done.stdout


def fill(archive: Archive, *studies: int) -> Archive:
    """The archive has these studies, stored an hour apart."""
    for hour, study in enumerate(studies, 1):
        archive.store(header(study), at=ticks_of(FIRST + timedelta(hours=hour, minutes=-10)))
    return archive


def follow(root: Path, url: str) -> None:
    """The tables of a root have followed the service's first two hours."""
    store, run_ = store_in(root), Run("run", datetime.now(UTC))
    window = Window(ticks_of(FIRST), ticks_of(FIRST + timedelta(hours=2)))
    with feed_of(url) as feed:
        steps.add_entries(store, window, feed, run_)
        steps.follow_log(store, window, feed, run_)
    for table in (SERIES, STUDY):
        steps.derive(store, table, window, run_)


def beat(home: Path, *, minutes_ago: float = 0.0, without: str = "") -> None:
    """Every daemon that the instance needs has told that it lived then, but one."""
    with dg.DagsterInstance.from_config(str(home)) as opened:
        for name in opened.get_required_daemon_types():
            if name != without:
                then = time.time() - minutes_ago * 60
                opened.add_daemon_heartbeat(DaemonHeartbeat(then, name, "daemon"))


def turn(home: Path, name: str, status: InstigatorStatus, cursor: str | None = None) -> None:
    """A schedule or sensor of ours is in this state, as a daemon or somebody has put it."""
    is_schedule = name in SCHEDULES
    state = InstigatorState(
        RemoteInstigatorOrigin(repository_origin=ORIGIN, instigator_name=name),
        InstigatorType.SCHEDULE if is_schedule else InstigatorType.SENSOR,
        status,
        ScheduleInstigatorData("15 * * * *")
        if is_schedule
        else SensorInstigatorData(cursor=cursor),
    )
    with dg.DagsterInstance.from_config(str(home)) as opened:
        known = [one for one in opened.all_instigator_state() if one.name == name]
        (opened.update_instigator_state if known else opened.add_instigator_state)(state)
