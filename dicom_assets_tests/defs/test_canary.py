"""No value of a patient, and no UID, leaves the tables: not by logs, errors, or Dagster's storage.

Every text attribute of the archive holds a canary. Then runs and checks go well and go wrong in
every way in which a text of somebody else's could be passed on, and all that was written outside
the tables is searched. What all other tests leave is searched by the plugin `canary`.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

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
from dicom_assets_tests.support.canary import MARK, hits_in_home
from dicom_assets_tests.support.history import (
    END,
    FIRST,
    KEYS,
    LAST,
    ROOT_UID,
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

CANARY = f"{MARK}{uuid4()}"
OTHERS = study_uid(90)


@pytest.fixture(scope="module")
def singing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose every text is the canary, and three headers out of the ordinary.

    One is another instance's, one no text that UTF-8 can hold, one has the canary for a date.
    """
    archive = tell(Archive(tmp_path_factory.mktemp("canary")), CANARY)
    archive.store(header(5, name=CANARY), at=at(0, 30))
    archive.store(header(6, name=f"\ud800{CANARY}"), at=at(0, 31))
    archive.store(header(7, name=CANARY), at=at(0, 32))
    wrong = {sop_uid(5, 1, 1): (study_uid(5), OTHERS), sop_uid(7, 1, 1): ("20240229", CANARY)}
    with closing(sqlite3.connect(archive.path)) as database, database:
        for sop, (right, spoiled) in wrong.items():
            database.execute(
                "UPDATE instance SET header = replace(header, ?, ?) WHERE sop = ?",
                (right, spoiled, sop),
            )
    with serving(archive) as service:
        yield service


def _hits(texts: dict[str, bytes]) -> list[str]:
    """Where the canary or a UID of the archive stands."""
    wanted = [CANARY.encode(), ROOT_UID.encode()]
    return [f"{place}: {w.decode()}" for place, text in texts.items() for w in wanted if w in text]


def _written(home: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, bytes]:
    """All that Dagster keeps in its home, and what was printed."""
    printed = capfd.readouterr()
    assert "STEP_START" in printed.err, "Dagster's own log is not searched"
    kept = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return kept | {"stdout": printed.out.encode(), "stderr": printed.err.encode()}


@pytest.fixture(scope="module")
def home(fresh_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one DAGSTER_HOME of all runs here: each search finds what any run before has left."""
    return copy_home(fresh_home, tmp_path_factory.mktemp("searched"))


def _run(made: World, home: Path, first: str, last: str | None = None) -> bool:
    """A run whose log and events are kept in the home; whether it was green."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return made.run(first, last, instance=instance, raise_on_error=False).success


def test_a_search_would_find_it(
    singing: Service, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The search is no good if it finds nothing where the canary is: in the tables' files."""
    made = world(singing, tmp_path / "tables")
    assert _run(made, home, FIRST, LAST)
    assert any(CANARY in str(row["patientname"]) for row in made.rows(INSTANCE))
    assert any(CANARY in str(row["patientName"]) for row in made.rows(STUDY))
    assert _hits({"printed": str(made.contents()).encode()})
    assert "header is of another instance" in {row["reason"] for row in made.rows(REJECTED)}
    assert _hits(_written(home, capfd)) == []
    assert _hits({"rejected": str(made.rows(REJECTED)).encode()}) == []


def test_two_green_hours_one_by_one_tell_nothing(
    singing: Service, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two runs of an hour, whose metadata is the richest, with rejections among them."""
    made = world(singing, tmp_path / "tables")
    assert [_run(made, home, key) for key in KEYS[:2]] == [True, True]
    assert made.alive()
    assert _hits(_written(home, capfd)) == []


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


SPOILT = pytest.mark.parametrize("spoil", [_a_file_for_a_table, _a_foreign_table, _a_broken_log])


@SPOILT
def test_a_table_that_fails_tells_nothing(
    singing: Service,
    home: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[World, Table], None],
) -> None:
    """Delta's and the storage's own texts are not passed on, nor kept as causes."""
    made = world(singing, tmp_path / "tables")
    spoil(made, INSTANCE)
    assert not _run(made, home, FIRST)
    assert _hits(_written(home, capfd)) == []


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
    capfd: pytest.CaptureFixture[str],
    answer: tuple[int, str],
) -> None:
    """The body of an answer stays where it is, whatever the status."""
    made = world(singing, tmp_path / "tables")
    singing.answer = (answer[0], answer[1].encode())
    try:
        assert not _run(made, home, FIRST)
    finally:
        singing.answer = None
    assert _hits(_written(home, capfd)) == []
    assert set(made.versions().values()) == {-1}


def test_an_entry_that_cannot_be_used_tells_its_sequence_only(
    singing: Service, home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An entry whose fields hold what they should not is set aside, without what they hold."""
    made = world(singing, tmp_path / "tables")
    entry = f'{{"sequence": 77, "timestamp": "{CANARY}", "action": "{study_uid(1)}"}}'
    singing.answer = (200, f"[{entry}]".encode())
    try:
        assert _run(made, home, FIRST)
    finally:
        singing.answer = None
    (rejected,) = made.rows(REJECTED)
    assert rejected["sequence"] == 77
    assert _hits({"rejected": str(rejected).encode()}) == []
    assert _hits(_written(home, capfd)) == []


@pytest.fixture
def spoiled(tmp_path: Path) -> Iterator[tuple[Service, Faults]]:
    """A service of the test's own whose every text is the canary, and what goes wrong with it."""
    archive, faults = tell(Archive(tmp_path / "archive"), CANARY), Faults()
    with serve(breakable(archive, faults)) as running:
        yield Service(archive, running.url), faults
    archive.close()


def _checked(made: World, home: Path) -> tuple[bool, bool]:
    """All checks have run as their jobs run them; whether audit and reconciliation passed."""
    passed: dict[str, bool] = {}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for look in (AUDIT, HOURLY, DAILY):
            job = made.definitions.resolve_job_def(look.job)
            ended = job.execute_in_process(instance=instance, raise_on_error=False)
            passed |= {told.check_name: told.passed for told in ended.get_asset_check_evaluations()}
    return passed[of_service.AUDIT_CHECK.name], passed[of_service.RECONCILIATION_CHECK.name]


def _ticked(made: World, home: Path) -> str:
    """What the daemon keeps of a tick of the sensor and of each schedule; the asked runs have run.

    Skip reasons, cursors, run keys and tags are in it.
    """
    repository = made.definitions.get_repository_def()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
            asked = repository.get_sensor_def(REOPENED).evaluate_tick(context)
        for request in asked.run_requests or ():
            assert carry_out(made, instance, request)
        return "\n".join([dg.serialize_value(asked), *_scheduled(repository, instance)])


def _scheduled(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance) -> Iterator[str]:
    """A tick of every schedule within the history, and one after its end."""
    for schedule in repository.schedule_defs:
        for moment in (START + timedelta(hours=2), END + timedelta(hours=2)):
            with dg.build_schedule_context(
                instance, scheduled_execution_time=moment, repository_def=repository
            ) as context:
                yield dg.serialize_value(schedule.evaluate_tick(context))


def _drift(made: World, archive: Archive) -> None:
    """An instance has come late, with a date that is none; somebody has deleted a study's rows."""
    late = header(2, sop=2, name=CANARY) | {"00080020": {"vr": "DA", "Value": [CANARY]}}
    archive.store(late, at=at(2, 30))
    for table, column in ((INSTANCE, "studyinstanceuid"), (STUDY, "studyInstanceUid")):
        made.store.delta(table).delete(f"\"{column}\" = '{study_uid(1)}'")


def test_a_check_and_a_tick_tell_nothing_whatever_they_find(
    spoiled: tuple[Service, Faults],
    home: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A late entry and a lost study, then a search that is refused."""
    service, faults = spoiled
    made = world(service, tmp_path / "tables")
    assert _run(made, home, FIRST, LAST)
    ticks = _ticked(made, home)
    _drift(made, service.archive)
    assert _checked(made, home) == (False, False)
    ticks += _ticked(made, home)
    faults.replace(Rule(Status(403, body=f"{CANARY} {study_uid(1)}"), "query"))
    assert _checked(made, home) == (False, False)
    for said in ("all tables show every hour", ATTEMPT_TAG):
        assert said in ticks
    kept = _written(home, capfd)
    for told in (b"1 entries came late", b"1 are missing", b"Could not look"):
        assert any(told in content for content in kept.values()), "it was evaluated elsewhere"
    assert _hits(kept | {"ticks": ticks.encode()}) == []
    assert hits_in_home(home) == []


@SPOILT
def test_a_tick_that_fails_tells_nothing(
    singing: Service, home: Path, tmp_path: Path, spoil: Callable[[World, Table], None]
) -> None:
    """The daemon keeps the error of a tick, its causes and its contexts."""
    made = world(singing, tmp_path / "tables")
    spoil(made, SYNC)
    with pytest.raises(TableError) as raised:
        _ticked(made, home)
    error = serializable_error_info_from_exc_info((raised.type, raised.value, raised.tb))
    assert _hits({"tick": dg.serialize_value(error).encode()}) == []
