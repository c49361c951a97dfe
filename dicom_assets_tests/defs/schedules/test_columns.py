"""Columns of one's own: asked for in a file, in new rows at once, in old ones after a job.

The header that the archive serves has a private attribute, a sequence, and several values.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dicom_assets.defs.checks.service import PARSING_CHECK
from dicom_assets.defs.checks.upkeep import COLUMNS_CHECK
from dicom_assets.errors import SettingsError
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.commit import Difference, unfilled
from dicom_assets.tables.delta.foreign import TAKEN_OVER_AT
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, at, header
from dicom_assets_tests.support.names import AUDIT as AUDIT_LOOK
from dicom_assets_tests.support.names import COLUMNS_JOB
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

ASKED = """
packs = ["ct", "names"]

[[columns]]
path = '(0043,"GEMS_PARM_01",39)[0]'
name = "slop"
vr = "IS"

[[columns]]
path = "RequestAttributesSequence[*].RequestedProcedureID"
name = "requested"
level = "study"
aggregate = "distinct"

[[columns]]
path = "KVP"
name = "meanKvp"
level = "series"
aggregate = "mean"

[[columns]]
path = "ImageType[2]"
"""
OWN = {
    "00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY", "AXIAL"]},
    "00180060": {"vr": "DS", "Value": [120]},
    "00430011": {"vr": "LO", "Value": ["GEMS_PARM_01"]},
    "00431139": {"vr": "IS", "Value": [7, 8]},
    "00400275": {
        "vr": "SQ",
        "Value": [{"00401001": {"vr": "SH", "Value": [name]}} for name in ("b", "a")],
    },
}


@pytest.fixture
def busy(own_service: Service) -> Service:
    """A service with instances in three of its hours."""
    for number, (hour, kvp) in enumerate([(0, 100), (0, 120), (1, "80"), (3, "much")]):
        own = OWN | {"00180060": {"vr": "DS", "Value": [kvp]}}
        made = header(1 + number // 2, 1, number + 1, name=f"A{number}") | own
        own_service.archive.store(made, at=at(hour, number))
    return own_service


def _with_columns(made: World, folder: Path, asked: str = ASKED) -> World:
    """The same tables with the columns of a file."""
    file = folder / f"columns-{len(asked)}.toml"
    file.write_text(asked, encoding="utf-8")
    return World(replace(made.settings, columns_file=str(file)))


def _contents(made: World) -> dict[str, list[dict[str, Any]]]:
    """The rows of the three tables with all their columns, but the time of loading."""
    tables = made.store.tables
    return {t.name: made.rows(tables[t.name], "created_date") for t in (INSTANCE, SERIES, STUDY)}


def _fill(made: World) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        job = made.definitions.resolve_job_def(COLUMNS_JOB)
        return job.execute_in_process(instance=instance)


def _evaluated(made: World, name: str) -> dg.AssetCheckEvaluation:
    with dg.DagsterInstance.ephemeral() as instance:
        job = made.definitions.resolve_job_def(AUDIT_LOOK.job)
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    return {e.check_name: e for e in result.get_asset_check_evaluations()}[name]


def test_a_column_that_was_added_is_as_if_it_had_always_been_there(
    busy: Service, tmp_path: Path
) -> None:
    """New rows have it, the job fills the old ones without the feed, and the check is content."""
    plain = world(busy, tmp_path / "tables")
    plain.run(FIRST, KEYS[1])
    extended = _with_columns(plain, tmp_path)
    extended.run(KEYS[3])
    fresh = _with_columns(world(busy, tmp_path / "fresh"), tmp_path)
    fresh.run(FIRST, LAST)
    plain.run(KEYS[2])
    assert _contents(extended) != _contents(fresh)
    assert not _evaluated(extended, COLUMNS_CHECK.name).passed
    asked = busy.asked
    assert _fill(extended).success
    assert busy.asked == asked, "the job asked the service"
    assert _contents(extended) == _contents(fresh)
    assert _evaluated(extended, COLUMNS_CHECK.name).passed
    assert unfilled(extended.store.delta(INSTANCE)) == []
    versions = extended.versions()
    assert _fill(extended).success
    assert extended.versions() == versions, "the second time there was something to do"


def test_the_values_are_those_of_the_header(busy: Service, tmp_path: Path) -> None:
    """Private, nested, indexed, several; in rollups too. A value that does not parse is null."""
    made = _with_columns(world(busy, tmp_path / "tables"), tmp_path)
    made.run(FIRST, LAST)
    tables = made.store.tables
    rows = made.rows(tables["instance"])
    nested = "requestattributessequence_requestedprocedureid"
    assert {(r["slop"], r[nested], r["imagetype_2"]) for r in rows} == {(7, "b\\a", "AXIAL")}
    assert [r["kvp"] for r in rows] == [100.0, 120.0, 80.0, None]
    assert [r["patientname_ideographic"] for r in rows] == [None] * 4
    assert [r["meanKvp"] for r in made.rows(tables["series"])] == [110.0, 80.0]
    assert {r["requested"] for r in made.rows(tables["study"])} == {"a\\b"}


def test_keys_of_the_template_are_stripped_by_a_run_that_nobody_starts(
    busy: Service, tmp_path: Path, home_instance: dg.DagsterInstance
) -> None:
    """Once, for tables that an earlier release took over, and without the feed."""
    made = world(busy, tmp_path / "tables")
    made.run(FIRST, LAST, instance=home_instance)
    before, taken = _contents(made), made.store.open(INSTANCE)
    rows = taken.rows()
    place = rows.schema.get_field_index("studyinstanceuid")
    spaced = pc.binary_join_element_wise(rows["studyinstanceuid"], "", " ")
    padded = rows.set_column(place, rows.schema.field(place), spaced)
    where = "sequence IS NOT NULL"
    taken.commit(Difference(INSTANCE, padded, replaced=where), {"run_id": "template"})
    _asked_of_sensor(made, home_instance, "every table is filled")
    made.store.open(INSTANCE).set_property(TAKEN_OVER_AT, "0", {"run_id": "template"})
    made = World(made.settings)  # another process
    asked = busy.asked
    (request,) = _asked_of_sensor(made, home_instance)
    assert request.tags["dicom_assets/tables_only"] == "true"
    job = made.definitions.resolve_job_def(COLUMNS_JOB)
    assert job.execute_in_process(instance=home_instance, tags=request.tags).success
    assert _contents(made) == before
    assert busy.asked == asked, "the job asked the service"
    _asked_of_sensor(made, home_instance, "every table is filled")


def _asked_of_sensor(
    made: World, instance: dg.DagsterInstance, skipped: str | None = None
) -> list[dg.RunRequest]:
    """The runs that the sensor requests, or none for the reason given."""
    repository = made.definitions.get_repository_def()
    with dg.build_sensor_context(instance, repository_def=repository) as context:
        found = repository.get_sensor_def("dicom_unfilled_tables").evaluate_tick(context)
    assert found.skip_message == skipped
    return list(found.run_requests or ())


def test_who_writes_wrong_values_is_noticed(busy: Service, tmp_path: Path) -> None:
    """The check names the column and the reason, and no value."""
    made = _with_columns(world(busy, tmp_path / "tables"), tmp_path)
    made.run(FIRST, LAST)
    found = _evaluated(made, PARSING_CHECK.name)
    assert not found.passed
    assert "kvp" in (found.description or "")
    assert found.metadata["unparsable_kvp: not a number"].value == 1
    assert found.metadata["rate_kvp"].value == 0.25
    assert "much" not in str(found)


def test_a_column_that_is_no_longer_asked_for_stays(busy: Service, tmp_path: Path) -> None:
    """It keeps what it holds, and new rows are null in it."""
    made = _with_columns(world(busy, tmp_path / "tables"), tmp_path)
    made.run(FIRST, KEYS[1])
    plain = World(replace(made.settings, columns_file=None))
    plain.run(KEYS[3])
    assert _kvp(made) == {1: 100.0, 2: 120.0, 3: 80.0, 4: None}


def _kvp(made: World) -> dict[int, float | None]:
    rows = made.rows(made.store.tables["instance"])
    return {row["sequence"]: row["kvp"] for row in rows}


def test_a_column_that_comes_back_is_filled_again(busy: Service, tmp_path: Path) -> None:
    """Rows came while nobody kept it."""
    made = _with_columns(world(busy, tmp_path / "tables"), tmp_path)
    made.run(FIRST)
    plain = World(replace(made.settings, columns_file=None))
    plain.run(KEYS[1])
    assert _kvp(made) == {1: 100.0, 2: 120.0, 3: None}
    assert not _evaluated(made, COLUMNS_CHECK.name).passed
    assert _evaluated(plain, COLUMNS_CHECK.name).passed
    assert _fill(made).success
    assert _kvp(made) == {1: 100.0, 2: 120.0, 3: 80.0}
    assert _evaluated(made, COLUMNS_CHECK.name).passed


def test_a_column_of_another_path_is_filled_anew(busy: Service, tmp_path: Path) -> None:
    """Its name and type are the same, its values are not."""
    asked = '[[columns]]\npath = "ImageType[{}]"\nname = "kind"\n'
    made = _with_columns(world(busy, tmp_path / "tables"), tmp_path, asked.format(2))
    made.run(FIRST)
    other = tmp_path / "other"
    other.mkdir()
    moved = _with_columns(made, other, asked.format(1))
    moved.run(KEYS[1])
    assert not _evaluated(moved, COLUMNS_CHECK.name).passed
    assert _fill(moved).success
    rows = moved.rows(moved.store.tables["instance"])
    assert [row["kind"] for row in rows] == ["PRIMARY"] * 3


def test_another_type_is_refused_with_the_remedy(busy: Service, tmp_path: Path) -> None:
    """Nothing is written."""
    made = _with_columns(world(busy, tmp_path / "tables"), tmp_path)
    made.run(FIRST)
    versions = made.versions()
    other = _with_columns(made, tmp_path, '[[columns]]\npath = "KVP"\ntype = "string"\n')
    result = other.run(KEYS[1], raise_on_error=False)
    assert not result.success
    (failed,) = result.get_step_failure_events()[:1]
    assert "give the new column another name" in str(failed.event_specific_data)
    assert made.versions()["instance"] == versions["instance"]


def test_a_file_that_is_wrong_is_refused_at_start(filled: World, tmp_path: Path) -> None:
    """Before anything is loaded, and with the entry."""
    wrong = _with_columns(filled, tmp_path, '[[columns]]\npath = "KPV"\n')
    with pytest.raises(SettingsError, match="'KPV' is not a DICOM keyword"):
        _ = wrong.definitions
