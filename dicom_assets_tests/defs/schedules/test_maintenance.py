"""The job that maintains the tables, as Dagster runs it."""

import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.defs.pool import POOL
from dicom_assets.defs.schedules.maintenance import MAINTENANCE_CRON
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.upkeep import compaction
from dicom_assets_tests.support.history import KEYS
from dicom_assets_tests.support.maintained import age
from dicom_assets_tests.support.names import MAINTENANCE_JOB
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

RESTED, EXPIRED = 8, 31


def _night(made: World, *, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    job = made.definitions.resolve_job_def(MAINTENANCE_JOB)
    return job.execute_in_process(raise_on_error=raise_on_error)


def _numbers(night: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    """The metadata of each op, by table."""
    return {
        str(event.step_key).removeprefix("maintain_"): {
            name: value.value for name, value in event.step_output_data.metadata.items()
        }
        for event in night.all_node_events
        if event.is_successful_output
    }


@pytest.fixture(scope="module")
def template(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables that six runs, one for each hour, have filled."""
    made = world(service, folder := tmp_path_factory.mktemp("hourly"))
    for key in KEYS:
        made.run(key)
    return folder


@pytest.fixture
def hourly(
    template: Path, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The same for one test; three files are many here."""
    monkeypatch.setattr(compaction, "LEAST_FILES", 3)
    return world(service, Path(shutil.copytree(template, tmp_path / "tables")))


def _age(made: World, days: float) -> None:
    for table in TABLES:
        if made.versions()[table.name] >= 0:
            age(made.store, table, days)


def test_a_night_keeps_every_row_and_says_what_it_did(hourly: World) -> None:
    """Twice: small files become one, and after the retention the old ones are gone."""
    before = hourly.contents()
    _age(hourly, RESTED)
    told = _numbers(_night(hourly))
    assert set(told) == {table.name for table in TABLES}
    files = {t.name: len(data_files(hourly.store.open(t))) for t in TABLES}
    assert {name: numbers["files_after"] for name, numbers in told.items()} == files
    assert told["change"]["compacted"] == told["change"]["files_before"]
    assert files["change"] == 1
    assert hourly.contents() == before
    _age(hourly, EXPIRED)
    told = _numbers(_night(hourly))
    assert told["change"]["files_removed"] == len(KEYS) - 1
    assert all(
        {"bytes_removed", "log_entries_removed", "checkpoints", "conflicts", "seconds"} <= set(n)
        for name, n in told.items()
        if n["version"] != -1
    )
    assert hourly.contents() == before
    folder = Path(hourly.store.urls["instance"])
    on_disk = {p for p in folder.rglob("*.parquet") if "_delta_log" not in p.parts}
    assert len(on_disk) == len(data_files(hourly.store.open(INSTANCE)))


def test_the_hours_go_on_after_a_night(hourly: World) -> None:
    """Materialized again, an hour finds everything there and writes nothing."""
    _age(hourly, RESTED)
    _night(hourly)
    before, versions = hourly.contents(), hourly.versions()
    hourly.run(KEYS[0], KEYS[-1])
    assert hourly.contents() == before
    assert {n: v for n, v in hourly.versions().items() if n != "sync"} == {
        n: v for n, v in versions.items() if n != "sync"
    }


def test_a_damaged_table_does_not_keep_the_others_waiting(hourly: World) -> None:
    """Its op is red and says what to do; the others are done."""
    log = Path(hourly.store.urls["change"]) / "_delta_log"
    max(log.glob("*.json")).write_bytes(b"")
    night = _night(hourly, raise_on_error=False)
    (failed,) = night.get_step_failure_events()
    assert failed.step_key == "maintain_change"
    assert "is empty" in str(failed.event_specific_data)
    assert "docs/operate/repair.md" in str(failed.event_specific_data)
    assert set(_numbers(night)) == {table.name for table in TABLES} - {CHANGE.name}


def _schedules(made: World) -> dict[str, dg.ScheduleDefinition]:
    found = made.definitions.schedules or ()
    return {s.name: s for s in found if isinstance(s, dg.ScheduleDefinition)}


def test_the_schedule_is_nightly_and_outside_the_busy_minutes(filled: World) -> None:
    """And on, as the others are, with a service of one's own; the ops take the pool."""
    others = _schedules(filled)
    schedule = others.pop(f"{MAINTENANCE_JOB}_schedule")
    minute, hour, *days = MAINTENANCE_CRON.split()
    assert (schedule.cron_schedule, hour.isdigit(), days) == (MAINTENANCE_CRON, True, ["*"] * 3)
    assert len(others) > 1
    assert minute not in {str(other.cron_schedule).split()[0] for other in others.values()}
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    embedded = _schedules(World(replace(filled.settings, service_url=None)))[schedule.name]
    assert embedded.default_status is dg.DefaultScheduleStatus.STOPPED
    job = filled.definitions.resolve_job_def(MAINTENANCE_JOB)
    assert {node.definition.pool for node in job.nodes} == {POOL}  # type: ignore[attr-defined]  # each is an op
