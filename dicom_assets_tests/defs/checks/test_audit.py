"""The audit through Dagster: a late entry and a lost one are found, and repaired by nobody."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from dicom_assets.defs.checks.service import AUDIT_CHECK, RECONCILIATION_CHECK
from dicom_assets.defs.pool import OWNER_TAG, owner_of
from dicom_assets.defs.run_tags import tags_of
from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import CHANGE, INSTANCE, STUDY
from dicom_assets.window import HOUR, Span
from dicom_assets_tests.adversary import Faults, Hide, breakable, serve
from dicom_assets_tests.support.history import (
    FIRST,
    LAST,
    START,
    alive,
    at,
    header,
    study_uid,
    tell,
)
from dicom_assets_tests.support.names import AUDIT, REOPENED
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

LATE = 2
LATE_HOUR = Span(START + LATE * HOUR, START + LATE * HOUR)
EARLIER = Span(START, START + HOUR)


def _audited(
    world: World, instance: dg.DagsterInstance, name: str = AUDIT_CHECK.name
) -> dg.AssetCheckEvaluation:
    """The check as its job runs it."""
    job = world.definitions.resolve_job_def(AUDIT.job)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    by_name = {e.check_name: e for e in result.get_asset_check_evaluations()}
    return by_name[name]


def _asked(world: World, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensor asks for."""
    repository = world.definitions.get_repository_def()
    sensor = repository.get_sensor_def(REOPENED)
    with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
        return list(sensor.evaluate_tick(context).run_requests or ())


def _repair(world: World, instance: dg.DagsterInstance) -> list[str]:
    """The runs that the sensor asks for are carried out; the hour of each."""
    requests = _asked(world, instance)
    job = world.definitions.resolve_job_def("dicom_tables")
    for request in requests:
        key, tags = request.partition_key, dict(request.tags)
        assert job.execute_in_process(instance=instance, partition_key=key, tags=tags).success
    return [str(request.partition_key) for request in requests]


def test_tables_that_are_in_step_pass(followed: World, instance: dg.DagsterInstance) -> None:
    """The six hours before the end are compared, and no hour is asked for."""
    told = _audited(followed, instance)
    assert told.passed
    assert told.metadata["hours_compared"].value == 6
    assert _asked(followed, instance) == []


def test_a_late_entry_is_found_and_repaired_without_a_person(
    followed: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """The check fails and names the hour; the sensor asks for it; the next audit passes."""
    own_service.archive.store(header(9), at=at(LATE, 30))
    told = _audited(followed, instance)
    assert not told.passed
    assert told.metadata["entries_late"].value == 1
    assert told.metadata["reopened"].value == ["2024-03-01-02:00"]
    assert _repair(followed, instance) == ["2024-03-01-02:00"]
    assert followed.alive() == alive(own_service.archive)
    assert _audited(followed, instance).passed
    assert _asked(followed, instance) == []


def test_an_entry_that_a_page_did_not_show_is_found_and_repaired(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """It was there all along, and the pages that were read did not hold it."""
    archive = tell(Archive(tmp_path / "archive"))
    faults = Faults(Hide(frozenset({5})))
    with serve(breakable(archive, faults)) as running:
        made = world(Service(archive, running.url), tmp_path / "tables")
        made.run(FIRST, LAST)
        assert 5 not in {row["sequence"] for row in made.rows(CHANGE)}
        faults.clear()
        told = _audited(made, instance)
        assert told.metadata["reopened"].value == [FIRST]
        assert _repair(made, instance) == [FIRST]
        assert made.alive() == alive(archive)
        assert _audited(made, instance).passed


def test_a_failed_audit_tells_no_uid(
    followed: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """Counts and hours; who needs the UIDs asks on the terminal."""
    own_service.archive.store(header(9), at=at(LATE, 30))
    told = _audited(followed, instance)
    assert "1.2.826" not in f"{told.description} {told.metadata}"
    assert told.description is not None
    assert "1 of 6 hours differ from their seals: 1 entries came late" in told.description


def test_studies_of_the_size_that_the_service_says_pass(
    followed: World, instance: dg.DagsterInstance
) -> None:
    """The search is asked for each study of both sides."""
    told = _audited(followed, instance, RECONCILIATION_CHECK.name)
    assert told.passed, told.description
    assert told.metadata["studies_compared"].value == len(followed.rows(STUDY))


def test_a_study_that_the_tables_lost_is_drift_with_its_hours_and_without_its_uid(
    followed: World, instance: dg.DagsterInstance
) -> None:
    """Somebody has deleted rows: the hours to run again are named."""
    for table, column in ((INSTANCE, "studyinstanceuid"), (STUDY, "studyInstanceUid")):
        followed.store.delta(table).delete(f"\"{column}\" = '{study_uid(1)}'")
    told = _audited(followed, instance, RECONCILIATION_CHECK.name)
    assert not told.passed
    assert told.metadata["studies_missing"].value == 1
    assert FIRST in str(told.metadata["hours"].value)
    assert study_uid(1) not in f"{told.description} {told.metadata}"


def test_a_search_that_does_not_answer_is_not_agreement(
    followed: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """A warning that says so."""
    own_service.answer = (403, b"Authorization failed.")
    job = followed.definitions.resolve_job_def(AUDIT.job)
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success


def test_an_hour_that_a_run_left_open_is_asked_for_again(
    followed: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """The log has it, and the run ended before the other tables: nobody has to notice."""
    own_service.archive.store(header(9), at=at(LATE, 30))
    followed.run("2024-03-01-02:00", only=[CHANGE])
    assert _repair(followed, instance) == ["2024-03-01-02:00"]
    assert followed.alive() == alive(own_service.archive)
    assert _asked(followed, instance) == []


def test_the_sensor_waits_for_a_run_that_is_not_over(
    followed: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """An hour in flight is not asked for twice."""
    own_service.archive.store(header(9), at=at(LATE, 30))
    _audited(followed, instance)
    job = followed.definitions.resolve_job_def("dicom_tables")
    run = instance.create_run_for_job(job, tags=tags_of(LATE_HOUR))
    assert _asked(followed, instance) == []
    instance.report_run_failed(run)
    assert _asked(followed, instance) == [], "it rests after a failure"
    instance.report_run_failed(instance.create_run_for_job(job, tags=tags_of(EARLIER)))
    assert _asked(followed, instance) == [], "others do not shorten that"


def test_the_sensor_does_not_wait_for_a_run_whose_process_is_gone(
    followed: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """Killed, it looks as if it ran: the hours that it left open are asked for all the same."""
    own_service.archive.store(header(9), at=at(LATE, 30))
    _audited(followed, instance)
    job = followed.definitions.resolve_job_def("dicom_tables")
    status = dg.DagsterRunStatus.STARTED
    run = instance.create_run_for_job(job, tags=tags_of(LATE_HOUR), status=status)
    assert _asked(followed, instance) == []
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        owner = owner_of(run.run_id, process.pid)
    instance.add_run_tags(run.run_id, {OWNER_TAG: owner})
    assert len(_asked(followed, instance)) == 1


def test_hours_outside_start_and_end_are_not_asked_for(
    followed: World, own_service: Service, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """They are no partitions any more."""
    own_service.archive.store(header(9), at=at(LATE, 30))
    _audited(followed, instance)
    start = datetime(2024, 3, 1, 3, tzinfo=UTC)
    assert _asked(world(own_service, tmp_path / "tables", start_time=start), instance) == []
