"""Tables whose folder is gone: something says so, and what it says fills them again."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.defs.schedules import slices
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets_tests.support.history import FIRST, HOURS, LAST, alive
from dicom_assets_tests.support.names import HOURLY, JOB, MAINTENANCE_JOB
from dicom_assets_tests.support.processes import copy_home
from dicom_assets_tests.support.ticks import carry_out, evaluate, span_of, tick
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

NOTHING = "all tables show every hour that is closed"
FOUR = (CHANGE.name, INSTANCE.name, SERIES.name, STUDY.name)
LOST = {name: (name,) for name in FOUR} | {"all four": FOUR}


@pytest.fixture(scope="module")
def template(service: Service, fresh_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables and the home that knows every hour of them."""
    folder = tmp_path_factory.mktemp("loaded")
    with dg.DagsterInstance.from_config(str(copy_home(fresh_home, folder))) as instance:
        world(service, folder / "tables").run(FIRST, LAST, instance=instance)
    return folder


@pytest.fixture
def loaded(
    template: Path, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The same for one test; hours do not rest after a failure."""
    monkeypatch.setattr(slices, "FIRST_REST", timedelta(0))
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return world(service, tmp_path / "tables")


@pytest.fixture
def home_instance(loaded: World, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that knows every hour."""
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        yield instance


def lose(made: World, *names: str) -> None:
    """The folders are gone."""
    for name in names:
        shutil.rmtree(made.store.urls[name])


def freshness(made: World, instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """The result of the hourly check."""
    job = made.definitions.resolve_job_def(HOURLY.job)
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    return next(e for e in result.get_asset_check_evaluations() if e.check_name == "freshness")


def errors_of(instance: dg.DagsterInstance) -> str:
    """The errors of the steps of the newest run of the job that failed."""
    filters = dg.RunsFilter(job_name=JOB, statuses=[dg.DagsterRunStatus.FAILURE])
    (run,) = instance.get_runs(filters, limit=1)
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return "\n".join(str(e.get_dagster_event().step_failure_data.error) for e in entries)


def carried_out(made: World, instance: dg.DagsterInstance) -> list[tuple[bool, set[str] | None]]:
    """Ticks until nothing is asked for: of each run, whether it was green, and its tables."""
    runs: list[tuple[bool, set[str] | None]] = []
    while requests := tick(made, instance):
        assert len(runs) < 2 * HOURS
        for request in requests:
            chosen = request.asset_selection
            names = None if chosen is None else {key.path[-1] for key in chosen}
            runs.append((carry_out(made, instance, request), names))
    assert evaluate(made, instance) == NOTHING
    return runs


@pytest.mark.parametrize("names", LOST.values(), ids=LOST)
def test_a_table_that_is_gone_is_told_and_filled_again(
    loaded: World,
    service: Service,
    home_instance: dg.DagsterInstance,
    names: Sequence[str],
) -> None:
    """A failed check and a red run name it and the page; the next run fills it."""
    before, asked = loaded.contents(), len(service.asked)
    lose(loaded, *names)
    found = freshness(loaded, home_instance)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    told = ", ".join(f"{name} at {loaded.store.urls[name]}" for name in names)
    assert told in str(found.description)
    assert found.metadata["hours_followed"].value == 0
    runs = carried_out(loaded, home_instance)
    # What failed is asked for in halves.
    assert [is_green for is_green, _ in runs] == [False, True, True]
    error = errors_of(home_instance)
    assert "DamagedTableError" in error
    assert told in error
    assert "docs/operate/repair.md" in error
    assert loaded.contents() == before
    assert loaded.alive() == alive(service.archive)
    if not {CHANGE.name, INSTANCE.name} & {*names}:
        assert [tables for _, tables in runs] == [{*names}] * 3
        # A tick asks for single entries, to know how many an hour has.
        pages = [a for a in service.asked[asked:] if a.parameters.get("limit") != "1"]
        assert [a for a in pages if a.bounds] == []
    assert freshness(loaded, home_instance).passed


def test_a_run_by_hand_does_not_derive_from_a_table_that_is_gone(loaded: World) -> None:
    """`series` alone, over an `instance` that is gone, would lose all of its rows."""
    before = loaded.rows(SERIES)
    lose(loaded, INSTANCE.name)
    assert not loaded.run(FIRST, LAST, only=[SERIES], raise_on_error=False).success
    assert loaded.rows(SERIES) == before
    assert loaded.run(FIRST, LAST).success
    assert loaded.rows(SERIES) == before


def test_hours_without_sync_are_read_again(
    loaded: World, service: Service, home_instance: dg.DagsterInstance
) -> None:
    """Its loss is told once, and costs light reads only: no header is read again."""
    before, loading = loaded.contents(), loaded.rows(INSTANCE)
    lose(loaded, SYNC.name)
    assert "sync at" in str(freshness(loaded, home_instance).description)
    assert [green for green, _ in carried_out(loaded, home_instance)] == [False, True, True]
    assert "sync at" in errors_of(home_instance)
    assert (loaded.contents(), loaded.rows(INSTANCE)) == (before, loading)


def test_a_table_that_never_had_a_row_may_be_absent(
    loaded: World, home_instance: dg.DagsterInstance
) -> None:
    """As in a root of a release before: `rejected`, or all, after hours without entries."""
    lose(loaded, REJECTED.name)
    assert evaluate(loaded, home_instance) == NOTHING
    assert freshness(loaded, home_instance).passed
    assert loaded.run(FIRST, instance=home_instance).success
    assert Path(loaded.store.urls[REJECTED.name]).exists()


def test_a_root_that_is_gone_is_told(
    loaded: World, home_instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    """It starts over, and the log of the tick says what Dagster counts."""
    before = loaded.contents()
    lose(loaded, *before)
    (request,) = tick(loaded, home_instance)
    assert span_of(request).count == HOURS
    assert f"Dagster counts {HOURS} hours as materialized" in capfd.readouterr().err
    assert carry_out(loaded, home_instance, request)
    assert loaded.contents() == before


@pytest.mark.parametrize("name", FOUR)
def test_the_night_names_it_too(loaded: World, name: str) -> None:
    """The step of that table alone is red, and makes nothing."""
    lose(loaded, name)
    job = loaded.definitions.resolve_job_def(MAINTENANCE_JOB)
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    failed = {e.step_key for e in result.all_events if e.is_step_failure}
    assert failed == {f"maintain_{name}"}
    assert not Path(loaded.store.urls[name]).exists()
