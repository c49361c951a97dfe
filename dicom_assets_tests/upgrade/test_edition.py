"""Rows that an earlier edition of the header's code has made are derived anew, by nobody's hand."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from dicom_assets.defs.checks.upkeep import COLUMNS_CHECK
from dicom_assets.header.extraction import EDITION
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.commit import MADE_BY
from dicom_assets.tables.upkeep.kept_headers import is_outdated
from dicom_assets_tests.support.history import FIRST, KEYS, at, header, study_uid
from dicom_assets_tests.support.names import AUDIT, COLUMNS_JOB
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import Rows, World, world

SENSOR = "dicom_unfilled_tables"
OF_EDITION_1 = {
    INSTANCE: {
        "patientname": "'DOE^JANE^^^'",
        "patientbirthdate_formatted": "DATE '0001-01-01'",
        "patientage_years": "2023.16",
        "study_timestamp": "TIMESTAMP '1899-12-31T23:00:00Z'",
    },
    SERIES: {"patientName": "'DOE^JANE^^^'", "patientBirthDate": "DATE '0001-01-01'"},
    STUDY: {"patientName": "'DOE^JANE^^^'", "patientBirthDate": "DATE '0001-01-01'"},
}
"""What it made of the headers below, in SQL."""


def from_the_field(sop: int, name: str) -> dict[str, Any]:
    """A header with a birth date that an anonymizer has blanked, and a moment before 1900."""
    return header(1, 1, sop) | {
        "00080020": {"vr": "DA", "Value": ["19000101"]},
        "00080030": {"vr": "TM", "Value": ["00"]},
        "00080201": {"vr": "SH", "Value": ["+0100"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
        "00100030": {"vr": "DA", "Value": ["00010101"]},
    }


@pytest.fixture
def old(own_service: Service, tmp_path: Path) -> World:
    """Tables as edition 1 has left them, after the first hour of a service."""
    own_service.archive.store(from_the_field(1, "DOE^JANE^^^"), at=at(0, 1))
    own_service.archive.store(header(2), at=at(0, 2))
    own_service.archive.store(from_the_field(2, "DOE^JANE"), at=at(1, 1))
    made = world(own_service, tmp_path / "tables")
    made.run(FIRST)
    for table, values in OF_EDITION_1.items():
        column = made.store.tables[table.name].study_column
        delta = DeltaTable(made.store.urls[table.name])
        delta.update(values, predicate=f"{column} = '{study_uid(1)}'")
        made_by = {MADE_BY: "1"}
        delta.alter.set_table_properties(made_by, raise_if_not_exists=False)
    return made


def requests(made: World, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """What the sensor asks for."""
    repository = made.definitions.get_repository_def()
    with dg.build_sensor_context(instance, repository_def=repository) as context:
        tick = repository.get_sensor_def(SENSOR).evaluate_tick(context)
    return list(tick.run_requests or ())


def carry_out(made: World, instance: dg.DagsterInstance) -> bool:
    """The run that the sensor asks for has ended."""
    [request] = requests(made, instance)
    assert str(request.run_key).startswith("instance/")
    job = made.definitions.resolve_job_def(COLUMNS_JOB)
    return job.execute_in_process(instance=instance, tags=dict(request.tags)).success


def columns_check(made: World, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """The check `columns`, as its job runs it."""
    job = made.definitions.resolve_job_def(AUDIT.job)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    named = {e.check_name: e for e in result.get_asset_check_evaluations()}
    return named[COLUMNS_CHECK.name]


def derived(made: World, service: Service, root: Path) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """The three tables, and those that this edition makes of the same hours at once."""
    fresh = world(service, root)
    fresh.run(FIRST, KEYS[1])
    tables = (INSTANCE, SERIES, STUDY)
    return tuple(  # type: ignore[return-value]  # two of them
        {table.name: one.rows(table, "created_date", "wadoRsUri") for table in tables}
        for one in (made, fresh)
    )


def test_an_upgrade_makes_old_rows_right_by_itself(
    old: World, own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The sensor starts the job, which asks the service nothing, and every value is right then."""
    assert not columns_check(old, home_instance).passed
    asked = len(own_service.asked)
    assert carry_out(old, home_instance)
    assert len(own_service.asked) == asked
    assert requests(old, home_instance) == []
    assert columns_check(old, home_instance).passed
    [row] = [r for r in old.rows(INSTANCE) if r["studyinstanceuid"] == study_uid(1)]
    assert row["patientname"] == "DOE^JANE"
    assert row["patientbirthdate"] == "00010101"
    names = ("patientbirthdate_formatted", "patientage_years", "study_timestamp")
    assert [row[name] for name in names] == [None] * 3
    old.run(KEYS[1])
    found, fresh = derived(old, own_service, tmp_path / "fresh")
    assert found == fresh


def test_hours_before_the_job_are_read_and_do_not_count_as_derived_anew(
    old: World, own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """A new row of the same study is right; the old one waits for the job, and is not forgotten."""
    old.run(KEYS[1])
    rows = [r for r in old.rows(INSTANCE) if r["studyinstanceuid"] == study_uid(1)]
    assert [r["patientname"] for r in rows] == ["DOE^JANE^^^", "DOE^JANE"]
    assert [r["patientbirthdate_formatted"] for r in rows] == [date(1, 1, 1), None]
    assert is_outdated(old.store)
    assert carry_out(old, home_instance)
    found, fresh = derived(old, own_service, tmp_path / "fresh")
    assert found == fresh
    [study] = [r for r in found["study"] if r["studyInstanceUid"] == study_uid(1)]
    assert (study["patientName"], study["conflictCount"]) == ("DOE^JANE", 0)


def test_a_job_that_ends_before_the_derived_tables_is_finished_by_the_next(
    old: World, home_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark comes last."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    job = old.definitions.resolve_job_def(COLUMNS_JOB)
    with monkeypatch.context() as patched:
        patched.setattr("dicom_assets.defs.schedules.columns.rederive", killed)
        with pytest.raises(KeyboardInterrupt):
            job.execute_in_process(instance=home_instance)
    assert is_outdated(old.store)
    assert carry_out(old, home_instance)
    assert {r["patientBirthDate"] for r in old.rows(STUDY)} == {None}
    assert not is_outdated(old.store)


def test_rows_without_a_header_lose_what_spark_cannot_read(
    old: World, home_instance: dg.DagsterInstance
) -> None:
    """Those of the template, and of tables that keep the header as a map."""
    DeltaTable(old.store.urls["instance"]).update({"metadata_string": "'no header'"})
    assert carry_out(old, home_instance)
    [row] = [r for r in old.rows(INSTANCE) if r["studyinstanceuid"] == study_uid(1)]
    assert row["patientname"] == "DOE^JANE"
    assert (row["patientbirthdate_formatted"], row["study_timestamp"]) == (None, None)
    assert (row["studydate_formatted"], row["sopclassuid"]) == (date(1900, 1, 1), None)
    assert row["lastModifiedTimestamp"] > datetime(2024, 1, 1, tzinfo=UTC)


def test_new_tables_are_of_this_edition(
    own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Nothing is derived twice. A table that does not exist is not outdated."""
    own_service.archive.store(header(1), at=at(0, 1))
    made = world(own_service, tmp_path / "tables")
    assert requests(made, home_instance) == []
    made.run(FIRST)
    assert made.store.open(INSTANCE).property(MADE_BY) == str(EDITION)
    assert requests(made, home_instance) == []
