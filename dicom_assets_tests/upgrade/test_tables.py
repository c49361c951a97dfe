"""Tables that an earlier release has written: they open, go on, and get the columns of this one."""

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.schema import INSTANCE, SYNC
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.questions.seals import compare_seals
from dicom_assets.window import Window
from dicom_assets_tests.support.history import END, FIRST, KEYS, LAST, START, alive
from dicom_assets_tests.support.layout import TESTS
from dicom_assets_tests.support.names import COLUMNS_JOB
from dicom_assets_tests.support.ticks import spans, tick
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import Rows, World, world

RELEASES = sorted((TESTS / "data" / "releases" / "tables").glob("*.zip"))
READ = 4
"""Each release has read the first so many hours of the history."""


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
def earlier(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> World:
    """The tables as the release left them."""
    with zipfile.ZipFile(request.param) as kept:
        kept.extractall(tmp_path / "tables")
    return world(service, tmp_path / "tables")


def test_there_are_some() -> None:
    """One for each release whose tables people may have."""
    assert [path.stem for path in RELEASES] == ["0.1.0", "before-0.1.0"]


def test_they_go_on_and_end_as_tables_of_this_release_do(
    earlier: World, service: Service, filled: World, instance: dg.DagsterInstance
) -> None:
    """After the last hours and the job for added columns, every value of every column is equal."""
    assert len(earlier.rows(SYNC)) == READ
    earlier.run(KEYS[READ], LAST, instance=instance)
    assert earlier.alive() == alive(service.archive)
    job = earlier.definitions.resolve_job_def(COLUMNS_JOB)
    assert job.execute_in_process(instance=instance).success
    assert _comparable(earlier) == _comparable(filled)


def _comparable(made: World) -> dict[str, Rows]:
    """The contents without the service's address, whose port is another one each time."""
    return {
        table: [{name: row[name] for name in row if name != "wadoRsUri"} for row in rows]
        for table, rows in made.contents().items()
    }


def test_hours_that_it_has_read_are_read_again_without_a_header(
    earlier: World, service: Service, instance: dg.DagsterInstance
) -> None:
    """Its rows are known, so the same hour again changes nothing."""
    before, asked = earlier.rows(INSTANCE), service.header_requests()
    earlier.run(FIRST, KEYS[READ - 1], instance=instance)
    assert service.header_requests() == asked
    assert earlier.rows(INSTANCE) == before


def test_the_schedule_asks_for_what_dagster_does_not_know(
    earlier: World, home_instance: dg.DagsterInstance
) -> None:
    """The seals of the release count; `dicom-assets adopt` tells them to a Dagster that is new."""
    assert spans(tick(earlier, home_instance)) == [(0, 5)]


def test_its_log_is_as_it_was_sealed(earlier: World) -> None:
    """So the first night after the upgrade reopens no hour."""
    by = Run("night", datetime.now(UTC))
    compared = compare_seals(earlier.store, Window.between(START, END), by)
    assert (compared.passed, compared.compared, compared.hashed) == (True, READ, READ)
