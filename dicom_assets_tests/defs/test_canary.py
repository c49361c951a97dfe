"""No run, check or tick leaves a patient's value or a UID outside the tables, green or red.

Every text of the archive is a mark. The plugin `canary` searches all that a test leaves: its
output, the statements to Dagster's databases, and in the end the one DAGSTER_HOME of all runs here.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from deltalake import write_deltalake

from dicom_assets.defs.checks import service as of_service
from dicom_assets.defs.run_tags import ATTEMPT_TAG
from dicom_assets.emulator.archive import Archive
from dicom_assets.errors import TableError
from dicom_assets.schema import INSTANCE, REJECTED, STUDY, SYNC, Table
from dicom_assets_tests.adversary import Faults, Rule, Status, breakable, serve
from dicom_assets_tests.adversary.canary import mark, marked
from dicom_assets_tests.support.canary import hits
from dicom_assets_tests.support.history import (
    END,
    FIRST,
    KEYS,
    LAST,
    START,
    at,
    header,
    sop_uid,
    study_uid,
    tell,
)
from dicom_assets_tests.support.names import AUDIT, DAILY, HOURLY, REOPENED
from dicom_assets_tests.support.processes import copy_home
from dicom_assets_tests.support.ticks import carry_out
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import World, world

CANARY = mark()
OTHERS = study_uid(90)


@pytest.fixture(scope="module")
def singing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose every text is the canary, and three headers out of the ordinary.

    One is another instance's, one no text that UTF-8 can hold, one has the canary for a date.
    """
    archive = tell(Archive(tmp_path_factory.mktemp("canary")), CANARY)
    archive.store(marked(header(5), CANARY), at=at(0, 30))
    archive.store(header(6, name=f"\ud800{CANARY}"), at=at(0, 31))
    archive.store(marked(header(7), CANARY), at=at(0, 32))
    wrong = {sop_uid(5, 1, 1): (study_uid(5), OTHERS), sop_uid(7, 1, 1): ("20240229", CANARY)}
    with closing(sqlite3.connect(archive.path)) as database, database:
        for sop, (right, spoiled) in wrong.items():
            database.execute(
                "UPDATE instance SET header = replace(header, ?, ?) WHERE sop = ?",
                (right, spoiled, sop),
            )
    with serving(archive) as service:
        yield service


@pytest.fixture(scope="module")
def home(fresh_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one DAGSTER_HOME of all runs here."""
    return copy_home(fresh_home, tmp_path_factory.mktemp("searched"))


def _run(made: World, home: Path, first: str, last: str | None = None) -> bool:
    """Run the hours with the home's instance, and return True for success."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return made.run(first, last, instance=instance, raise_on_error=False).success


def test_green_hours_leave_values_in_the_tables_only(
    singing: Service, home: Path, tmp_path: Path
) -> None:
    """A range, and single hours, whose metadata is the richest, with rejections among them."""
    made, hourly = world(singing, tmp_path / "range"), world(singing, tmp_path / "hours")
    assert _run(made, home, FIRST, LAST)
    assert [_run(hourly, home, key) for key in KEYS[:2]] == [True, True]
    assert any(CANARY in str(row["patientname"]) for row in made.rows(INSTANCE))
    assert any(CANARY in str(row["patientName"]) for row in made.rows(STUDY))
    assert "header is of another instance" in {row["reason"] for row in made.rows(REJECTED)}
    assert hits(str(made.rows(REJECTED))) == []


def _a_file_for_a_table(made: World, table: Table) -> None:
    path = Path(made.settings.table_path(table.name))
    path.parent.mkdir(parents=True)
    path.write_text(CANARY, encoding="utf-8")


def _a_foreign_table(made: World, table: Table) -> None:
    column = pa.table({CANARY: [CANARY]})
    write_deltalake(made.settings.table_path(table.name), column)


def _a_broken_log(made: World, table: Table) -> None:
    log = Path(made.settings.table_path(table.name)) / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020d}.json").write_text(f'{{"add":"{CANARY}"', encoding="utf-8")


@pytest.mark.parametrize("spoil", [_a_file_for_a_table, _a_foreign_table, _a_broken_log])
def test_a_table_that_fails_tells_nothing(
    singing: Service, home: Path, tmp_path: Path, spoil: Callable[[World, Table], None]
) -> None:
    """Texts of Delta and of the storage are in no error of a run or a tick, nor in its causes."""
    made, watched = world(singing, tmp_path / "tables"), world(singing, tmp_path / "watched")
    spoil(made, INSTANCE)
    assert not _run(made, home, FIRST)
    spoil(watched, SYNC)
    with pytest.raises(TableError) as raised:
        _ticked(watched, home)
    error = serializable_error_info_from_exc_info((raised.type, raised.value, raised.tb))
    assert hits(dg.serialize_value(error)) == []


@pytest.mark.parametrize(
    "answer",
    [
        (500, f"<h1>{CANARY} {study_uid(1)}</h1>"),
        (400, f"The query parameter '{CANARY}' is invalid."),
        (404, CANARY),
        (200, f'[{{"sequence": "{CANARY}"'),
        (200, f'{{"error": "{CANARY}"}}'),
        (302, CANARY),
    ],
    ids=["500", "400", "404", "cut", "no array", "redirect"],
)
def test_a_service_that_fails_tells_nothing(
    singing: Service,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, str],
) -> None:
    """The body of an answer stays where it is, whatever the status."""
    made = world(singing, tmp_path / "tables")
    monkeypatch.setattr(singing, "answer", (answer[0], answer[1].encode()))
    assert not _run(made, home, FIRST)
    assert set(made.versions().values()) == {-1}


def test_an_entry_that_cannot_be_used_tells_its_sequence_only(
    singing: Service, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry with wrong fields is set aside, without the values in them."""
    made = world(singing, tmp_path / "tables")
    entry = f'{{"sequence": 77, "timestamp": "{CANARY}", "action": "{study_uid(1)}"}}'
    monkeypatch.setattr(singing, "answer", (200, f"[{entry}]".encode()))
    assert _run(made, home, FIRST)
    (rejected,) = made.rows(REJECTED)
    assert rejected["sequence"] == 77
    assert hits(str(rejected)) == []


def _checked(made: World, home: Path) -> str:
    """Run all checks as their jobs do, and return their evaluations; two have to fail."""
    evaluations: list[dg.AssetCheckEvaluation] = []
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for look in (AUDIT, HOURLY, DAILY):
            job = made.definitions.resolve_job_def(look.job)
            ended = job.execute_in_process(instance=instance, raise_on_error=False)
            evaluations += ended.get_asset_check_evaluations()
    red = {one.check_name for one in evaluations if not one.passed}
    assert red >= {of_service.AUDIT_CHECK.name, of_service.RECONCILIATION_CHECK.name}
    return "\n".join(map(dg.serialize_value, evaluations))


def _ticked(made: World, home: Path) -> str:
    """Tick the sensor and each schedule, run what they request, and return all that is kept of it.

    Skip reasons, cursors, run keys and tags are in it, of ticks in the history and after its end.
    """
    repository = made.definitions.get_repository_def()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
            evaluation = repository.get_sensor_def(REOPENED).evaluate_tick(context)
        for request in evaluation.run_requests or ():
            assert carry_out(made, instance, request)
        ticks = [dg.serialize_value(evaluation)]
        for schedule in repository.schedule_defs:
            for moment in (START + timedelta(hours=2), END + timedelta(hours=2)):
                with dg.build_schedule_context(
                    instance, scheduled_execution_time=moment, repository_def=repository
                ) as context:
                    ticks.append(dg.serialize_value(schedule.evaluate_tick(context)))
    return "\n".join(ticks)


def test_a_check_and_a_tick_tell_nothing_whatever_they_find(home: Path, tmp_path: Path) -> None:
    """A late entry and a lost study, then a search that is refused."""
    archive, faults = tell(Archive(tmp_path / "archive"), CANARY), Faults()
    with serve(breakable(archive, faults)) as running:
        made = world(Service(archive, running.url), tmp_path / "tables")
        assert _run(made, home, FIRST, LAST)
        ticks = _ticked(made, home)
        # An instance comes late, with a date that is none; a study's rows are deleted by hand.
        late = header(2, sop=2, name=CANARY) | {"00080020": {"vr": "DA", "Value": [CANARY]}}
        archive.store(late, at=at(2, 30))
        for table, column in ((INSTANCE, "studyinstanceuid"), (STUDY, "studyInstanceUid")):
            made.store.delta(table).delete(f"\"{column}\" = '{study_uid(1)}'")
        drifted = _checked(made, home)
        ticks += _ticked(made, home)
        faults.replace(Rule(Status(403, body=f"{CANARY} {study_uid(1)}"), "query"))
        refused = _checked(made, home)
    archive.close()
    for text in ("1 entries came late", "1 are missing"):
        assert text in drifted
    assert "Could not look" in refused
    for text in ("all tables show every hour", ATTEMPT_TAG):
        assert text in ticks
    assert hits(ticks + drifted + refused) == []
