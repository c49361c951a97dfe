"""Probes of Dagster's instance: its dagster.yaml, its daemons, its schedules and sensors.

dagster.yaml is read from DAGSTER_HOME only and no code location can correct it, so a red line names
the lines that are needed there. A home that is not there is not made.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import dagster as dg
import yaml
from dagster._core.instance.config import PoolGranularity
from dagster_shared.check import CheckError
from sqlalchemy.exc import SQLAlchemyError

from dicom_assets.commands.check.probe import Finding, Probe, ok, red, unseen, warn
from dicom_assets.commands.home import DAGSTER_YAML, shipped
from dicom_assets.definitions import build_definitions
from dicom_assets.defs.alerts.ledger import Ledger
from dicom_assets.defs.alerts.silent_ticks import STOP_ONE, lives_of, time_together
from dicom_assets.defs.names import Names
from dicom_assets.defs.pool import POOL
from dicom_assets.settings import Settings

DAGSTER_GROUP: Final = "Dagster"
_HOME: Final = "home"
_REFUSALS = (dg.DagsterError, CheckError, SQLAlchemyError, yaml.YAMLError, OSError, ImportError)


@dataclass
class InstanceProbe:
    """The probes of the instance in a home; the first opens it, and `closing` closes it."""

    home: Path
    closing: ExitStack
    _instance: dg.DagsterInstance | None = None

    def probes(self, settings: Settings | None) -> list[Probe]:
        """Return the probes; without settings those that do not depend on them."""
        questions: dict[str, Callable[[dg.DagsterInstance], Finding]] = {
            "pool": partial(check_pool, self.home),
            "run monitoring": partial(check_run_monitoring, self.home),
            "telemetry": partial(check_telemetry, self.home),
        }
        if settings is None or not settings.is_embedded:
            questions["daemon"] = partial(check_daemons, self.home, datetime.now(UTC))
        # With the embedded service all are off by default, and definitions would fill its archive.
        if settings is not None and not settings.is_embedded:
            now = datetime.now(UTC)
            start = settings.start_time or min(now, settings.end_time or now) - timedelta(days=1)
            built = build_definitions(replace(settings, start_time=start))
            for one in (*(built.schedules or ()), *(built.sensors or ())):
                if isinstance(one, dg.ScheduleDefinition | dg.SensorDefinition):
                    questions[one.name] = partial(check_switch, one)
        probes = [
            Probe(DAGSTER_GROUP, name, partial(self._answer, name, question), (_HOME,))
            for name, question in questions.items()
        ]
        return [Probe(DAGSTER_GROUP, _HOME, self.open), *probes]

    def open(self) -> Finding:
        """Red unless the instance opens with its dagster.yaml and its database."""
        try:
            opened = self.closing.enter_context(dg.DagsterInstance.from_config(str(self.home)))
            opened.get_runs_count()
        except _REFUSALS as error:
            failure = f"the instance in {self.home} cannot be opened ({type(error).__name__})"
            return red(failure, _repair(self.home))
        self._instance = opened
        has_own = (self.home / DAGSTER_YAML).exists()
        return ok(f"in {self.home}{'' if has_own else f', without a {DAGSTER_YAML}'}")

    def _answer(self, name: str, question: Callable[[dg.DagsterInstance], Finding]) -> Finding:
        if self._instance is None:
            raise TypeError("the instance is not open yet")
        try:
            return question(self._instance)
        except _REFUSALS as error:
            failure = f"it cannot be read ({type(error).__name__})"
            return red(failure, f"for `{name}`: {_repair(self.home)}")


def _repair(home: Path) -> str:
    return (
        f"`dagster instance info` with DAGSTER_HOME={home} tells why; `dagster instance migrate` "
        "brings a database of an older Dagster up to date"
    )


def _put(lines: str, home: Path) -> str:
    return f"put `{lines}` into {home / DAGSTER_YAML}, then start Dagster anew"


def _put_ours(home: Path, *path: str, names: Iterable[str]) -> str:
    """Return the remedy: the lines of our own dagster.yaml with these names, at a path in it."""
    given = _ours(*path)
    lines: object = {name: given[name] for name in names if name in given}
    for step in reversed(path):
        lines = {step: lines}
    text = yaml.safe_dump(lines, default_flow_style=True, width=1000, sort_keys=False)
    return _put(text.strip()[1:-1], home)


def _ours(*path: str) -> dict[str, Any]:
    """Return what this project's own dagster.yaml says at a path."""
    said = yaml.safe_load(shipped().read_text(encoding="utf-8"))
    for step in path:
        said = said[step]
    return dict(said)


def check_pool(home: Path, instance: dg.DagsterInstance) -> Finding:
    """Red unless the pool lets one run at a time read the service and write the tables."""
    config = instance.get_concurrency_config().pool_config
    limits = instance.event_log_storage.get_pool_limits()
    own = (limit.limit for limit in limits if limit.name == POOL and not limit.from_default)
    limit = next(own, config.default_pool_limit)
    granularity = config.pool_granularity or PoolGranularity.OP
    facts = f"the limit of {POOL} is {limit or 'none'}, a slot is held by each {granularity.value}"
    ours = _ours("concurrency", "pools")
    wanted = ours["default_limit"]
    if limit == wanted and granularity.value == ours["granularity"]:
        return ok(facts)
    command = f", or `dagster instance concurrency set {POOL} {wanted}`" if limit != wanted else ""
    names = ("default_limit", "granularity")
    return red(facts, _put_ours(home, "concurrency", "pools", names=names) + command)


def check_run_monitoring(home: Path, instance: dg.DagsterInstance) -> Finding:
    """Red unless Dagster detects a killed run and frees its slot; warn of other differences."""
    ours, freeing = _ours("run_monitoring"), "free_slots_after_run_end_seconds"
    remedy = _put_ours(home, "run_monitoring", names=("enabled", freeing))
    if not instance.run_monitoring_enabled:
        return red("it is off: a killed run keeps its slot for ever", remedy)
    theirs = instance.run_monitoring_settings
    if not theirs.get(freeing):
        return red("it frees no slots: a killed step keeps its own", remedy)
    other = [name for name in ours if theirs.get(name) != ours[name] and name != "enabled"]
    if other:
        listed = ", ".join(
            f"{name} is {theirs.get(name, 'unset')}, and not {ours[name]}" for name in other
        )
        names = ("enabled", freeing, *other)
        return warn(
            f"it is on, but not as ours: {listed}",
            _put_ours(home, "run_monitoring", names=names) + ", unless you want it so",
        )
    return ok(f"it is on, and frees slots {theirs[freeing]} s after the end of a run")


def check_telemetry(home: Path, instance: dg.DagsterInstance) -> Finding:
    """Warn unless Dagster's telemetry is off."""
    if not instance.telemetry_enabled:
        return ok("it is off")
    remedy = _put("telemetry: {enabled: false}", home)
    return warn("Dagster tells its maker how it is used", remedy)


def check_daemons(home: Path, now: datetime, instance: dg.DagsterInstance) -> Finding:
    """Red unless every required daemon sent a heartbeat of late, and all are of one process."""
    beats = instance.get_daemon_heartbeats()
    ages = {
        name: now - datetime.fromtimestamp(beats[name].timestamp, UTC) if name in beats else None
        for name in instance.get_required_daemon_types()
    }
    # Daemons send a heartbeat twice a minute, but not while one waits for a long tick.
    dead = sorted(n.lower() for n, age in ages.items() if age is None or age > timedelta(minutes=5))
    start = (
        f"start `dagster-daemon run` with DAGSTER_HOME={home}, as a service of the machine; "
        "`dicom-assets dev` starts it too"
    )
    if len(dead) == len(ages):
        since = "it has never lived here"
        if lived := [age for age in ages.values() if age is not None]:
            since = f"silent for {min(lived) // timedelta(minutes=1):,} minutes"
        return red(f"it does not run ({since})", start)
    if dead:
        parts = ", ".join(dead)
        return red(f"parts of it do not live: {parts}", f"read its log for {parts}; {start}")
    states = instance.all_instigator_state()
    alerts = (one.instigator_data for one in states if one.name == Names().alerts)
    # The sensor of alerts notes the daemons of late. One look sees few of their heartbeats.
    known = Ledger.read(getattr(next(alerts, None), "cursor", None)).daemons or {}
    if time_together(lives_of(instance, known, now)):
        return red("two daemons live on this database: hours are requested twice", STOP_ONE)
    failing = sorted(name.lower() for name in ages if beats[name].errors)
    if failing:
        parts = ", ".join(failing)
        return warn(f"parts of it fail: {parts}", f"read the log of dagster-daemon for {parts}")
    return ok(f"all {len(ages)} parts live")


def check_switch(
    ours: dg.ScheduleDefinition | dg.SensorDefinition, instance: dg.DagsterInstance
) -> Finding:
    """Red when somebody has stopped a schedule or sensor of ours."""
    kind = "schedule" if isinstance(ours, dg.ScheduleDefinition) else "sensor"
    states = [state for state in instance.all_instigator_state() if state.name == ours.name]
    if any(state.is_running for state in states):
        return ok("it is on")
    start = f"`dagster {kind} start {ours.name} -m dicom_assets.definitions`"
    if states:
        return red("somebody has stopped it", f"turn it on under Automation, or by {start}")
    if ours.default_status.value == "STOPPED":
        return unseen("it is off by default")
    if not instance.get_daemon_heartbeats():
        return unseen("no daemon has lived here yet")
    return warn(
        "it has never ticked here",
        f"it does as soon as a daemon here has loaded the code location: see {ours.name} under "
        "Automation",
    )
