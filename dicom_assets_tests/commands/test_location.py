"""A home in which the code location had its former name goes on under `dicom_assets`."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.record import replace

from dicom_assets.commands.home import (
    FORMER_LOCATION,
    LOCATION,
    initialise_home,
    origin_of,
    take_over_location,
)
from dicom_assets.defs.alerts.ledger import Ledger, messages

TICKED: Final = 1_790_000_000.0
STATES: Final = {
    "dicom_tables_schedule": (InstigatorType.SCHEDULE, InstigatorStatus.STOPPED),
    "dicom_audit_schedule": (InstigatorType.SCHEDULE, InstigatorStatus.RUNNING),
    "dicom_alerts": (InstigatorType.SENSOR, InstigatorStatus.DECLARED_IN_CODE),
    "of_somebody_else": (InstigatorType.SENSOR, InstigatorStatus.STOPPED),
}
KEY: Final = "check dicom_service orphans"
LEDGER: Final = {
    "alerts": {
        KEY: {
            "reader": "data",
            "title": "check orphans of dicom_service failed",
            "text": "series lacks 1 row",
            "page": "runs/1",
            "since": "2026-09-21T12:00:00Z",
            "told": {"DICOM_ALERTS 1 (pagerduty)": "2026-09-21T12:01:00Z"},
        }
    }
}


def _former(origin: Any) -> Any:  # noqa: ANN401 - two kinds of origins
    repository = origin.repository_origin
    location = replace(repository.code_location_origin, location_name=FORMER_LOCATION)
    return replace(origin, repository_origin=replace(repository, code_location_origin=location))


def _state(name: str, *, former: bool = True) -> InstigatorState:
    kind, status = STATES[name]
    origin = RemoteInstigatorOrigin(origin_of("any").repository_origin, name)
    data: ScheduleInstigatorData | SensorInstigatorData
    if kind is InstigatorType.SCHEDULE:
        data = ScheduleInstigatorData("15 * * * *", TICKED - 86_400)
    else:
        data = SensorInstigatorData(cursor=json.dumps(LEDGER) if "alerts" in name else "7")
    return InstigatorState(_former(origin) if former else origin, kind, status, data)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that the former location has left: its switches, a tick, a queued and an old run."""
    made = initialise_home(tmp_path)
    with dg.DagsterInstance.from_config(str(made)) as instance:
        for name in STATES:
            state = instance.add_instigator_state(_state(name))
            if state.instigator_type is InstigatorType.SCHEDULE:
                ids = (state.instigator_origin_id, name, state.instigator_type)
                instance.create_tick(
                    TickData(
                        *ids, TickStatus.SKIPPED, TICKED, run_ids=[], selector_id=state.selector_id
                    )
                )
        for status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.FAILURE):
            instance.run_storage.add_run(
                dg.DagsterRun(
                    job_name="dicom_tables",
                    run_id=dg.DagsterRun(job_name="dicom_tables").run_id,
                    status=status,
                    remote_job_origin=_former(origin_of("dicom_tables")),
                )
            )
    return made


@pytest.fixture
def taken_over(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of the home after it was taken over twice."""
    take_over_location(home)
    take_over_location(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def _found(instance: dg.DagsterInstance, name: str) -> InstigatorState:
    wanted = _state(name, former=False)
    state = instance.get_instigator_state(wanted.instigator_origin_id, wanted.selector_id)
    assert state is not None
    return state


def test_no_switch_is_moved(taken_over: dg.DagsterInstance) -> None:
    """A stopped schedule stays stopped, and each state is there once under each name."""
    assert {name: _found(taken_over, name).status for name in STATES} == {
        name: status for name, (_, status) in STATES.items()
    }
    assert len(taken_over.all_instigator_state()) == 2 * len(STATES)


def test_no_tick_is_repeated(taken_over: dg.DagsterInstance) -> None:
    """A schedule goes on after its last tick, and not where a person turned it on."""
    data = _found(taken_over, "dicom_audit_schedule").instigator_data
    assert isinstance(data, ScheduleInstigatorData)
    assert data.start_timestamp == TICKED + 1


def test_an_open_alert_keeps_its_incident(taken_over: dg.DagsterInstance) -> None:
    """Its channels have had it, and PagerDuty closes it by the key that opened it."""
    data = _found(taken_over, "dicom_alerts").instigator_data
    assert isinstance(data, SensorInstigatorData)
    ledger, now = Ledger.read(data.cursor), datetime.now(UTC)
    assert ledger.alerts[KEY].sent.keys() == {"DICOM_ALERTS 1 (pagerduty)"}
    ledger.update([], {"data": ["DICOM_ALERTS 1 (pagerduty)"]}, now)
    (end,) = messages(Ledger.read(ledger.dump()).alerts, LOCATION, "http://page", bundled=False)
    assert end.title.startswith(f"{LOCATION}: resolved: ")
    assert end.incident == f"{FORMER_LOCATION} {KEY}"


def test_a_cursor_of_others_stays_as_it_is(taken_over: dg.DagsterInstance) -> None:
    """Whatever it says."""
    data = _found(taken_over, "of_somebody_else").instigator_data
    assert isinstance(data, SensorInstigatorData)
    assert data.cursor == "7"


def test_runs_belong_to_the_location_of_today(taken_over: dg.DagsterInstance) -> None:
    """One in the queue can start, and one that failed a moment ago is still looked at."""
    origins = [run.remote_job_origin for run in taken_over.get_runs()]
    assert [origin and origin.location_name for origin in origins] == [LOCATION] * 2


def test_what_is_under_the_name_of_today_stays(home: Path) -> None:
    """Somebody who has gone back and come again keeps the later switch."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        later = _state("dicom_tables_schedule", former=False)
        instance.add_instigator_state(later.with_status(InstigatorStatus.RUNNING))
    take_over_location(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert _found(instance, "dicom_tables_schedule").status is InstigatorStatus.RUNNING
