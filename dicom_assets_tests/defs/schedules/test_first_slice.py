"""The first start of a daemon: the first slice is requested at once, the rest by the schedule."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
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
)

from dicom_assets_tests.support.history import HOURS, tell
from dicom_assets_tests.support.names import JOB, REOPENED
from dicom_assets_tests.support.ticks import SCHEDULE, carry_out, spans, tick
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world


@pytest.fixture
def told(own_service: Service, tmp_path: Path) -> World:
    """A service with the six hours' history, and no tables yet."""
    tell(own_service.archive)
    return world(own_service, tmp_path / "tables")


def _look(made: World, instance: dg.DagsterInstance) -> list[dg.RunRequest] | str:
    """The requests of the sensor, or its reason for none."""
    repository = made.definitions.get_repository_def()
    sensor = repository.get_sensor_def(REOPENED)
    assert sensor.minimum_interval_seconds == 60
    with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
        looked = sensor.evaluate_tick(context)
    return list(looked.run_requests or ()) or looked.skip_message or ""


def _switch(instance: dg.DagsterInstance, status: InstigatorStatus) -> None:
    location = RegisteredCodeLocationOrigin(location_name="dicom_assets")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), SCHEDULE)
    data = ScheduleInstigatorData("15 * * * *", 0.0)
    state = InstigatorState(origin, InstigatorType.SCHEDULE, status, data)
    instance.add_instigator_state(state)


def test_the_first_look_requests_the_first_slice(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """And the schedule, after it, nothing twice."""
    requests = _look(told, home_instance)
    assert isinstance(requests, list)
    assert spans(requests) == [(0, HOURS - 1)]
    assert carry_out(told, home_instance, requests[0])
    assert _look(told, home_instance) == "all tables show every hour that was read"
    assert tick(told, home_instance) == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE])
def test_a_second_look_leaves_the_slice_alone(
    told: World, home_instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    """It is on its way, or has failed: then the schedule requests it again."""
    requests = _look(told, home_instance)
    assert isinstance(requests, list)
    job = told.definitions.resolve_job_def(JOB)
    home_instance.create_run_for_job(job, tags=dict(requests[0].tags), status=status)
    assert isinstance(_look(told, home_instance), str)


def test_a_schedule_that_somebody_has_stopped_is_not_gone_round(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """Nothing is requested until it is on."""
    _switch(home_instance, InstigatorStatus.STOPPED)
    assert _look(told, home_instance) == "no hour was read yet, and the schedule is off"
    assert not Path(told.settings.table_path("sync")).exists()


def test_a_service_that_does_not_answer_is_no_failed_tick(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """The reason says it, and the next look asks again."""
    nobody = World(replace(told.settings, service_url="http://127.0.0.1:9"))
    reason = _look(nobody, home_instance)
    assert "the service does not answer" in reason
