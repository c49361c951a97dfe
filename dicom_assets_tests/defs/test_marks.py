"""The marks of a run: one commit in the end, and none is lost with a step that fails."""

import pytest

from dicom_assets.errors import TableUnavailableError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.tables import rollup
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.outcome import Outcome
from dicom_assets.tables.sync import open_hours
from dicom_assets_tests.support.history import FIRST, START, at, header
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World


def test_a_run_in_one_process_commits_to_sync_twice(followed: World, own_service: Service) -> None:
    """The seal, because the other steps need it, and the marks of all tables."""
    own_service.archive.store(header(9), at=at(0, 30))
    before = followed.store.version(SYNC)
    followed.run(FIRST)
    # Once more for the late entry, before it is in the log: its hour is not sealed meanwhile.
    assert followed.store.version(SYNC) == before + 3
    assert open_hours(followed.store) == {}


@pytest.mark.parametrize("only", [[CHANGE, INSTANCE], [CHANGE, INSTANCE, SERIES]], ids=len)
def test_the_last_selected_step_sets_the_marks(
    followed: World, own_service: Service, only: list[Table]
) -> None:
    """Whatever else there is."""
    own_service.archive.store(header(9), at=at(0, 30))
    followed.run(FIRST, only=only)
    missing = {SERIES.name, STUDY.name} - {table.name for table in only}
    assert open_hours(followed.store) == {START: missing}


@pytest.mark.parametrize("failing", [INSTANCE, SERIES, STUDY], ids=lambda t: t.name)
def test_a_step_that_fails_takes_no_mark_of_another_one(
    followed: World, own_service: Service, monkeypatch: pytest.MonkeyPatch, failing: Table
) -> None:
    """Those that came before it, or do without it, have their marks in the end."""
    own_service.archive.store(header(9), at=at(0, 30))
    attempt = rollup._attempt

    def fail(store: Store, table: Table, *given: object) -> Outcome:
        if table.name == failing.name:
            raise TableUnavailableError("no such luck")
        return attempt(store, table, *given)  # type: ignore[arg-type]  # as it was given

    def fail_instance(store: Store, *_: object) -> Outcome:
        return fail(store, INSTANCE)

    if failing is INSTANCE:
        monkeypatch.setattr("dicom_assets.tables.instance._attempt", fail_instance)
    monkeypatch.setattr(rollup, "_attempt", fail)
    assert not followed.run(FIRST, raise_on_error=False).success
    missing = {
        INSTANCE.name: {INSTANCE.name, SERIES.name, STUDY.name},
        SERIES.name: {SERIES.name},
        STUDY.name: {STUDY.name},
    }
    assert open_hours(followed.store) == {START: missing[failing.name]}
