"""The audit opens an hour while a run is in it: the run is green, and the hour stays open."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.instance import FollowLog
from dicom_assets.tables.outcome import Outcome, TableUpdate
from dicom_assets.tables.rollup import DeriveStudies
from dicom_assets.tables.sync import open_hours, reopen
from dicom_assets_tests.support.failures import complaint
from dicom_assets_tests.support.history import FIRST, START, alive, at, header
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World

EVERY = frozenset({"change", "instance", "series", "study"})


@pytest.fixture(params=[FollowLog, DeriveStudies])
def opened(
    request: pytest.FixtureRequest, followed: World, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Tables whose first hour the audit opens, once, before the commit of a step."""
    update: type[TableUpdate] = request.param
    commit, steps = update.commit, list[TableUpdate]()

    def reopened(self: TableUpdate, store: Store, run: Run) -> Outcome:
        if not steps:
            reopen(store, [START], Run("audit", datetime.now(UTC)))
        steps.append(self)
        return commit(self, store, run)

    monkeypatch.setattr(update, "commit", reopened)
    return followed


def test_a_run_that_has_sealed_the_hour_is_green(
    opened: World, own_service: Service, instance: dg.DagsterInstance
) -> None:
    """It says so, no table claims to show the hour, and the next run reads what came late."""
    own_service.archive.store(header(9), at=at(0, 30))
    result = opened.run(FIRST, instance=instance)
    assert result.success
    said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("1 hours were opened again meanwhile" in text for text in said)
    assert open_hours(opened.store) == {START: EVERY}
    opened.run(FIRST, instance=instance)
    assert open_hours(opened.store) == {}
    assert opened.alive() == alive(own_service.archive)


def test_a_run_without_change_is_red(opened: World) -> None:
    """Nobody would read the hour in it: a green one would be false."""
    result = opened.run(FIRST, only=[INSTANCE, SERIES, STUDY], raise_on_error=False)
    assert "materialize `change` for them first" in complaint(result)
