"""Commits of others are seen once they are there, and until a repair; so are commits lost."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from dicom_assets.schema import CHANGE, INSTANCE, STUDY, SYNC
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.foreign import TAKEN_OVER_AT
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.commits import Look, look_at
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets.tables.upkeep.repair import find_foreign_rows, repair_table
from dicom_assets_tests.support.tables import Bench, hours, key


@pytest.fixture
def filled(bench: Bench) -> Bench:
    """Two hours of one study."""
    bench.archive.create(10, of=key("1"), patientname="Doe")
    bench.archive.create(70, of=key("2"), patientname="Doe")
    bench.sync(hours(0))
    return bench


def mend(store: Store) -> None:
    """Somebody has run the command."""
    now = datetime.now(UTC)
    repair_table(store, find_foreign_rows(store, INSTANCE, everything=True), Run("repair", now))


def update(store: Store) -> None:
    """Somebody has written to `instance`."""
    store.delta(INSTANCE).update(updates={"patientname": "'Impostor'"})


def test_the_first_look_is_a_baseline_and_ours_are_no_fault(filled: Bench) -> None:
    """Whatever a run or a night commits, and whatever others did before."""
    update(filled.store)
    looks = {table.name: look_at(filled.store, table, None) for table in TABLES}
    filled.sync(hours(0, 2))
    for table in TABLES:
        maintain(filled.store, table, Run("night", datetime.now(UTC)))
        look = look_at(filled.store, table, looks[table.name])
        assert (look.faults, look.unknown) == ((), 0)


def test_commits_of_others_stay_until_a_repair(filled: Bench) -> None:
    """Each is named once, with its operation, and without a value."""
    first = look_at(filled.store, INSTANCE, None)
    update(filled.store)
    look = look_at(filled.store, INSTANCE, first)
    assert len(look.faults) == 1
    assert f"version {first.version + 1} (UPDATE of 20" in look.faults[0]
    assert "1 files added, 1 removed)" in look.faults[0]
    assert "Impostor" not in look.faults[0]
    again = look_at(filled.store, INSTANCE, look)
    assert again == look
    filled.store.delta(INSTANCE).delete("sequence = 1")
    assert len(look_at(filled.store, INSTANCE, again).faults) == 2
    mend(filled.store)
    mended = look_at(filled.store, INSTANCE, again)
    assert mended.faults == ()
    assert look_at(filled.store, INSTANCE, mended).faults == ()
    filled.sync(hours(0))
    update(filled.store)
    assert len(look_at(filled.store, INSTANCE, mended).faults) == 1


def test_what_changes_no_data_is_no_fault_but_a_restore_is(filled: Bench) -> None:
    """Compaction, vacuum, properties, columns."""
    filled.sync(hours(1))
    look = look_at(filled.store, INSTANCE, None)
    delta = filled.store.delta(INSTANCE)
    assert delta.optimize.compact()["numFilesAdded"] == 1
    delta.vacuum(1, dry_run=False, enforce_retention_duration=False)
    delta.alter.set_table_properties({"delta.appendOnly": "false"})
    look = look_at(filled.store, INSTANCE, look)
    assert look.faults == ()
    filled.store.delta(INSTANCE).restore(1)
    assert "(RESTORE of" in look_at(filled.store, INSTANCE, look).faults[0]


@pytest.mark.parametrize("rewritten", [False, True], ids=["lost", "another"])
def test_newest_commits_that_are_lost_are_a_fault_until_a_repair(
    filled: Bench, tmp_path: Path, rewritten: bool
) -> None:
    """The version is lower, or the same with another content."""
    root = Path(filled.store.urls[INSTANCE.name])
    shutil.copytree(root, tmp_path / "older")
    filled.sync(hours(1))
    look = look_at(filled.store, INSTANCE, None)
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "older", root)
    if rewritten:
        filled.archive.create(20, of=key("3"), patientname="Roe")
        filled.sync(hours(0))
        assert filled.store.version(INSTANCE) >= look.version
    found = look_at(filled.store, INSTANCE, look)
    assert "its newest commits" in found.faults[0]
    assert look_at(filled.store, INSTANCE, found).faults == found.faults
    mend(filled.store)
    assert look_at(filled.store, INSTANCE, found).faults == ()
    # The repair has asked for all hours, and the lost row comes back.
    filled.instance(hours(0, 2))
    assert {row["sopinstanceuid"] for row in filled.store.open(INSTANCE).rows().to_pylist()} >= {
        key("1")[3],
        key("2")[3],
    }


def test_a_table_that_is_created_anew_begins_anew(filled: Bench) -> None:
    """That it was gone is said by `freshness`."""
    look = look_at(filled.store, INSTANCE, None)
    shutil.rmtree(filled.store.urls[INSTANCE.name])
    assert look_at(filled.store, INSTANCE, look) == look
    filled.store.create(INSTANCE)
    anew = look_at(filled.store, INSTANCE, look)
    assert (anew.version, anew.faults) == (0, ())


def test_a_table_taken_over_begins_at_the_take_over(bench: Bench) -> None:
    """The template's own commits are no fault, also where the table was not there before."""
    last = look_at(bench.store, STUDY, None)
    assert last == Look(-1, "", "", "")
    row = pa.Table.from_pylist([{"studyInstanceUid": "1.1"}], schema=STUDY.arrow())
    for _ in range(2):
        url = bench.store.urls[STUDY.name]
        write_deltalake(url, row, mode="append", partition_by=["partitionName"])
    assert len(look_at(bench.store, STUDY, last).faults) == 2
    bench.store.open(STUDY).set_property(TAKEN_OVER_AT, "1", {"migrate": "properties"})
    assert look_at(bench.store, STUDY, last).faults == ()
    assert find_foreign_rows(bench.store, STUDY).is_empty


def test_commits_that_left_the_log_are_not_known(filled: Bench) -> None:
    """That is said, and is no fault."""
    look = look_at(filled.store, SYNC, None)
    filled.sync(hours(1))
    filled.store.delta(SYNC).create_checkpoint()
    filled.store.open(SYNC).set_property("dicom_assets.a", "b", {})
    log = Path(filled.store.urls[SYNC.name]) / "_delta_log"
    for path in sorted(log.glob("*.json"))[:-1]:
        path.unlink()
    found = look_at(filled.store, SYNC, look)
    assert found.faults == ()
    assert found.unknown == found.version - look.version - 1
    assert look_at(filled.store, CHANGE, look_at(filled.store, CHANGE, None)).unknown == 0
