"""Runs whose process is gone: reported as failed, and nobody else is."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.names import Names
from dicom_assets.defs.pool import (
    OWNER_TAG,
    dead_runs_sensor,
    fail_dead_runs,
    is_dead,
    owner_of,
)
from dicom_assets.settings import Settings
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

RUN = "0d8f"
FAILED = dg.DagsterRunStatus.FAILURE
STARTED = dg.DagsterRunStatus.STARTED


def run_of(owner: str, tag: str = OWNER_TAG) -> dg.DagsterRun:
    """The run 0d8f with the tag of an owner."""
    return dg.DagsterRun("dicom_tables", run_id=RUN, tags={tag: owner})


def owner_gone(run_id: str) -> str:
    """The owner of a run whose process has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return owner_of(run_id, process.pid)


def test_a_living_process_is_not_dead() -> None:
    """Ours, for one."""
    assert not is_dead(run_of(owner_of(RUN, os.getpid())))


def test_a_process_that_was_killed_is_dead() -> None:
    """Its run ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = owner_of(RUN, process.pid)
        assert not is_dead(run_of(owner))
        process.kill()
    assert is_dead(run_of(owner))


def test_a_number_that_another_process_has_now_is_dead() -> None:
    """Process ids come again; the moment of the start does not."""
    run, machine, pid, started = owner_of(RUN, os.getpid()).split("|")
    assert is_dead(run_of(f"{run}|{machine}|{pid}|{int(started) - 1}"))


@pytest.mark.parametrize("tag", ["", "0d8f|elsewhere/|1|2", "0d8f"])
def test_what_cannot_be_looked_at_is_not_dead(tag: str) -> None:
    """A process on another machine, or in another container, may well live."""
    assert not is_dead(run_of(tag))


def test_a_tag_that_a_re_execution_took_over_says_nothing() -> None:
    """Dagster copies the tags of the run that failed to the one that tries again."""
    assert not is_dead(run_of(owner_gone("parent")))


def test_a_run_of_an_earlier_release_is_dead_by_its_own_tag() -> None:
    """Killed during the upgrade, it would hold the queue for a day."""
    assert is_dead(run_of(owner_gone(RUN), "dicom_assets/owner"))


def test_people_do_not_see_the_tag(
    service: Service, tmp_path: Path, home_instance: dg.DagsterInstance
) -> None:
    """Dagster hides it: nobody can do anything with it."""
    made = world(service, tmp_path / "tables")
    run = made.run("2024-03-01-00:00", instance=home_instance).dagster_run
    known = home_instance.get_run_by_id(run.run_id)
    assert known is not None
    mine = [tag for tag, value in known.tags.items() if value.startswith(run.run_id)]
    assert mine == [OWNER_TAG]
    assert OWNER_TAG.startswith(HIDDEN_TAG_PREFIX)


@pytest.fixture
def made(service: Service, tmp_path: Path) -> World:
    """The definitions of a service."""
    return world(service, tmp_path / "tables")


def unfinished(
    made: World, instance: dg.DagsterInstance, status: dg.DagsterRunStatus = STARTED
) -> dg.DagsterRun:
    """A run over hours, unfinished unless a status is told."""
    job = made.definitions.resolve_job_def("dicom_tables")
    return instance.create_run_for_job(job, status=status)


@pytest.mark.parametrize("status", ["STARTED", "STARTING", "CANCELING"])
def test_the_sensor_reports_a_run_whose_process_is_gone(
    made: World, instance: dg.DagsterInstance, status: str
) -> None:
    """And says so on the run; the one that lives goes on."""
    dead, lives, untold = (
        unfinished(made, instance, dg.DagsterRunStatus(status)) for _ in range(3)
    )
    instance.add_run_tags(dead.run_id, {OWNER_TAG: owner_gone(dead.run_id)})
    instance.add_run_tags(lives.run_id, {OWNER_TAG: owner_of(lives.run_id, os.getpid())})
    sensor = dead_runs_sensor(Names())
    told = sensor(dg.build_sensor_context(instance))
    assert isinstance(told, dg.SkipReason)
    assert dead.run_id in (told.skip_message or "")
    assert [_status(instance, run) for run in (dead, lives, untold)] == [
        FAILED,
        dg.DagsterRunStatus(status),
        dg.DagsterRunStatus(status),
    ]
    (event,) = instance.all_logs(dead.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "process of this run is gone" in event.message
    told = sensor(dg.build_sensor_context(instance))
    assert isinstance(told, dg.SkipReason)
    assert told.skip_message == "no run has lost its process"


def _status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_a_run_that_has_ended_or_waits_is_left_alone(
    made: World, instance: dg.DagsterInstance
) -> None:
    """A waiting one has no process yet: its tag is that of the run that it tries again."""
    for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.NOT_STARTED):
        run = unfinished(made, instance, status)
        owner = run.run_id if status is dg.DagsterRunStatus.SUCCESS else "parent"
        instance.add_run_tags(run.run_id, {OWNER_TAG: owner_gone(owner)})
    assert fail_dead_runs(instance, None) == []


def test_the_runs_of_another_code_location_are_left_alone(
    made: World, instance: dg.DagsterInstance
) -> None:
    """Its own sensor reports them; a run that was started by hand has no location."""
    target = LoadableTargetOrigin(module_name="theirs")
    location = InProcessCodeLocationOrigin(target, location_name="theirs")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "dicom_tables")
    job = made.definitions.resolve_job_def("dicom_tables")
    theirs = instance.create_run_for_job(job, status=STARTED, remote_job_origin=origin)
    by_hand = unfinished(made, instance)
    for run in (theirs, by_hand):
        instance.add_run_tags(run.run_id, {OWNER_TAG: owner_gone(run.run_id)})
    assert fail_dead_runs(instance, "ours") == [by_hand.run_id]
    assert fail_dead_runs(instance, "theirs") == [theirs.run_id]


def test_a_slot_that_a_dead_run_holds_is_free(
    made: World, home_instance: dg.DagsterInstance
) -> None:
    """With a dagster.yaml of an earlier release each step takes one."""
    storage, run = home_instance.event_log_storage, unfinished(made, home_instance)
    storage.initialize_concurrency_limit_to_default("dicom_tables")
    storage.claim_concurrency_slot("dicom_tables", run.run_id, "change")
    home_instance.add_run_tags(run.run_id, {OWNER_TAG: owner_gone(run.run_id)})
    assert fail_dead_runs(home_instance, None) == [run.run_id]
    assert storage.get_concurrency_info("dicom_tables").active_slot_count == 0


def test_the_sensor_is_on_by_default_with_the_embedded_service_too(tmp_path: Path) -> None:
    """A run by hand may be killed there as well."""
    made = build_definitions(Settings(tables_url=str(tmp_path)))
    sensors = {sensor.name: sensor for sensor in made.sensors or ()}
    assert sensors["dicom_dead_runs"].default_status is dg.DefaultSensorStatus.RUNNING
