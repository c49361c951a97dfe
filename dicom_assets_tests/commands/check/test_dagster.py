"""What can be wrong with Dagster's instance: one line is red, and says what to put where."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import pytest
import yaml
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from dicom_assets.commands import home
from dicom_assets.defs.alerts.ledger import Ledger
from dicom_assets.defs.pool import POOL
from dicom_assets_tests.commands.check.world import SCHEDULES, SENSORS, Told, World, beat, turn
from dicom_assets_tests.support.command import environment
from dicom_assets_tests.support.daemon import daemon

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 120
Config = dict[str, Any]


def edit(world: World, change: Callable[[Config], object]) -> None:
    """The instance's dagster.yaml is another one."""
    path = world.home / home.DAGSTER_YAML
    config: Config = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def pools(config: Config) -> Config:
    """What dagster.yaml says of pools."""
    found: Config = config["concurrency"]["pools"]
    return found


def test_a_pool_without_a_limit(world: World) -> None:
    """The line to put into dagster.yaml, and the command that does it at once."""
    edit(world, lambda config: pools(config).pop("default_limit"))
    found, remedy = world.check().red()
    assert found == "the limit of dicom_tables is none, a slot is held by each run"
    assert "concurrency: {pools: {default_limit: 1, granularity: run}}" in remedy
    assert str(world.home / "dagster.yaml") in remedy
    assert "dagster instance concurrency set dicom_tables 1" in remedy


def test_a_limit_of_its_own_counts(world: World) -> None:
    """As set on Dagster's page: it goes before the default, for better or worse."""
    edit(world, lambda config: pools(config).pop("default_limit"))
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 1)
    assert world.check().code == 0
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 5)
    assert "dicom_tables is 5" in world.check().red()[0]


def test_a_limit_that_was_the_default_once_does_not_count(world: World) -> None:
    """Dagster remembers it for a pool that was used, and goes by dagster.yaml."""
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)
    assert world.check().code == 0
    edit(world, lambda config: pools(config).update(default_limit=3))
    assert "dicom_tables is 3" in world.check().red()[0]


def test_a_pool_held_by_steps(world: World) -> None:
    """A step that waits for it uses a whole processor, and ends at no signal."""
    edit(world, lambda config: pools(config).update(granularity="op"))
    found, remedy = world.check().red()
    assert found == "the limit of dicom_tables is 1, a slot is held by each op"
    assert "granularity: run" in remedy


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"enabled": False}, "it is off: a killed run keeps its slot"),
        ({"free_slots_after_run_end_seconds": 0}, "it frees no slots"),
    ],
    ids=["off", "frees nothing"],
)
def test_run_monitoring_that_does_not_free_slots(world: World, change: Config, what: str) -> None:
    """The line to put into dagster.yaml."""
    edit(world, lambda config: config["run_monitoring"].update(change))
    found, remedy = world.check().red()
    assert what in found
    assert "run_monitoring: {enabled: true, free_slots_after_run_end_seconds: 10}" in remedy


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda own: own.pop("max_runtime_seconds"), "max_runtime_seconds is unset, and not 86400"),
        (
            lambda own: own.update(start_timeout_seconds=7),
            "start_timeout_seconds is 7, and not 180",
        ),
    ],
    ids=["no end", "another"],
)
def test_run_monitoring_that_is_not_as_ours_is_said(
    world: World, change: Callable[[Config], object], found: str
) -> None:
    """Compared with the dagster.yaml that is shipped; it may be wanted, so it is no fault."""
    edit(world, lambda config: change(config["run_monitoring"]))
    told = world.check()
    assert (told.code, told.lines["run monitoring"]["state"]) == (0, "warn")
    assert found in told.lines["run monitoring"]["found"]
    assert found.split(maxsplit=1)[0] in told.lines["run monitoring"]["remedy"]


def test_the_lines_that_are_asked_for_are_those_of_our_own_file(world: World) -> None:
    """What is shipped is what is wanted: there is no second copy of its values."""
    shipped: Config = yaml.safe_load(home.shipped().read_text(encoding="utf-8"))
    edit(world, lambda config: config.update(concurrency={}, run_monitoring={"enabled": False}))
    told = world.check()
    for name, path in (("pool", ("concurrency", "pools")), ("run monitoring", ("run_monitoring",))):
        wanted, lines = shipped, yaml.safe_load(told.lines[name]["remedy"].split("`")[1])
        for step in path:
            wanted, lines = wanted[step], lines[step]
        assert lines.items() <= wanted.items()


def test_a_second_daemon_on_the_same_database(world: World) -> None:
    """A heartbeat of one between two of the other: both live."""
    _beat(world, ("one", 40), SCHEDULER=("two", 30), QUEUED_RUN_COORDINATOR=("one", 5))
    found, remedy = world.check().red()
    assert found == "two daemons live on this database: hours are requested twice"
    assert "`dagster-daemon run`" in remedy


def test_a_second_daemon_that_the_alerts_have_seen(world: World) -> None:
    """At one look all heartbeats may be those of one; the sensor's notes have the other's."""
    _beat(world, ("one", 10))
    now = time.time()
    noted = Ledger(daemons={"one": (now - 900, now - 60), "two": (now - 600, now - 30)}).dump()
    turn(world.home, "dicom_alerts", InstigatorStatus.RUNNING, cursor=noted)
    assert "two daemons" in world.check().red()[0]


def test_a_daemon_that_was_started_again_is_one(world: World) -> None:
    """Parts of it still show the heartbeat of the process before."""
    _beat(world, ("old", 40), SENSOR=("new", 20), SCHEDULER=("new", 5))
    assert world.check().lines["daemon"]["state"] == "ok"


def _beat(world: World, usual: tuple[str, float], **parts: tuple[str, float]) -> None:
    """Each part's last heartbeat: whose, and how many seconds ago."""
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.wipe_daemon_heartbeats()
        for name in {*instance.get_required_daemon_types(), *parts}:
            whose, ago = parts.get(name, usual)
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - ago, name, whose))


def test_telemetry_is_said(world: World) -> None:
    """It is no fault."""
    edit(world, lambda config: config.pop("telemetry"))
    told = world.check()
    assert (told.code, told.lines["telemetry"]["state"]) == (0, "warn")
    assert "telemetry: {enabled: false}" in told.lines["telemetry"]["remedy"]


def test_an_instance_without_dagster_yaml(world: World) -> None:
    """Dagster's defaults hold, which is what several lines say."""
    (world.home / home.DAGSTER_YAML).unlink()
    told = world.check()
    assert (told.code, told.named("red")) == (1, {"pool", "run monitoring"})
    assert "without a dagster.yaml" in told.lines["home"]["found"]


@pytest.mark.parametrize("text", ["concurrency: [", "concurrency: {pools: {limit: 1}}", "a: b"])
def test_a_dagster_yaml_that_cannot_be_read(world: World, text: str) -> None:
    """The rest is not looked at; what Dagster says is asked of Dagster."""
    (world.home / home.DAGSTER_YAML).write_text(text, encoding="utf-8")
    told = world.check()
    found, remedy = told.red()
    assert "cannot be opened" in found
    assert "dagster instance info" in remedy
    assert {"pool", "daemon", *SCHEDULES, *SENSORS} <= told.named("not looked")


def test_a_daemon_that_has_stopped(world: World) -> None:
    """It was alive, and is silent; how to start it, and where."""
    beat(world.home, minutes_ago=30)
    found, remedy = world.check().red()
    assert found == "it does not run (silent for 30 minutes)"
    assert f"`dagster-daemon run` with DAGSTER_HOME={world.home}" in remedy


def test_a_daemon_that_was_never_there(world: World) -> None:
    """Nothing ticks: one line is red, and not one for each schedule."""
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.wipe_daemon_heartbeats()
        instance.wipe_all_schedules()
    told = world.check()
    assert "never lived" in told.red()[0]
    assert {*SCHEDULES, *SENSORS} <= told.named("not looked")


def test_a_part_of_the_daemon_that_is_dead(world: World) -> None:
    """It is named."""
    beat(world.home, minutes_ago=30)
    beat(world.home, without="SENSOR")
    found, remedy = world.check().red()
    assert found == "parts of it do not live: sensor"
    assert "log" in remedy


def test_a_part_of_the_daemon_that_fails_is_said(world: World) -> None:
    """By its name; the error is in the daemon's log, and is not told."""
    error = SerializableErrorInfo("words of somebody else", [], "ValueError")
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "daemon", [error]))
    told = world.check()
    assert (told.code, told.lines["daemon"]["state"]) == (0, "warn")
    assert told.lines["daemon"]["found"] == "parts of it fail: sensor"
    assert "somebody else" not in f"{told.whole}"


@pytest.mark.parametrize("name", [SCHEDULES[0], SENSORS[0]])
def test_a_schedule_or_sensor_that_was_stopped(world: World, name: str) -> None:
    """And how it is turned on again."""
    turn(world.home, name, InstigatorStatus.STOPPED)
    told = world.check()
    found, remedy = told.red()
    assert told.named("red") == {name}
    assert found == "somebody has stopped it"
    kind = "schedule" if name in SCHEDULES else "sensor"
    assert f"`dagster {kind} start {name} -m dicom_assets.definitions`" in remedy


def test_a_daemon_that_has_not_loaded_our_code_is_said(world: World) -> None:
    """It lives, and nothing of ours has ever ticked."""
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.wipe_all_schedules()
    told = world.check()
    assert told.code == 0
    assert {*SCHEDULES, *SENSORS} <= told.named("warn")
    assert "never ticked here" in told.lines[SCHEDULES[0]]["found"]


def test_a_home_that_is_not_there_is_not_made(world: World) -> None:
    """Nothing is red; whoever starts Dagster makes it."""
    nowhere = world.folder / "nowhere"
    told = world.check(DAGSTER_HOME=str(nowhere))
    assert (told.code, told.named("not looked")) == (0, {"Dagster"})
    assert f"{nowhere} (DAGSTER_HOME)" in told.lines["Dagster"]["found"]
    assert not nowhere.exists()


def test_of_dagster_plus_it_is_said_where_to_look(world: World) -> None:
    """Its instance is not here, whatever DAGSTER_HOME holds."""
    told = world.check(DAGSTER_CLOUD_DEPLOYMENT_NAME="prod")
    assert (told.code, told.named("not looked")) == (0, {"Dagster"})
    assert "Deployment" in told.lines["Dagster"]["found"]


def test_with_the_embedded_service_no_daemon_is_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the demo: the instance is looked at, and nothing of it is missing."""
    monkeypatch.chdir(world.folder)
    told = world.check("DICOM_SERVICE_URL", "DICOM_TABLES_URL")
    absent = {"change", "instance", "series", "study", "sync", "rejected", "schema"}
    assert (told.code, told.named("not looked")) == (0, {"service"} | absent)
    assert told.lines["pool"]["state"] == "ok"
    assert told.lines.keys().isdisjoint({"daemon", *SCHEDULES, *SENSORS})
    assert not (world.folder / "data").exists()


def test_the_real_daemon_turns_every_line_green(world: World) -> None:
    """On a home in which nothing has ever ticked: it lives, and everything of ours is on."""
    with dg.DagsterInstance.from_config(str(world.home)) as instance:
        instance.wipe_daemon_heartbeats()
        instance.wipe_all_schedules()
    assert world.check().named("red") == {"daemon"}
    environ = environment(**world.settings(DICOM_SERVICE_URL="http://127.0.0.1:9"))
    ours = {"daemon", *SCHEDULES, *SENSORS}
    with daemon(world.folder, environ, "dicom_assets.definitions"):
        deadline = time.monotonic() + SECONDS
        told: Told = world.check()
        while not ours <= told.named("ok") and time.monotonic() < deadline:
            time.sleep(1)
            told = world.check()
    assert ours <= told.named("ok")
