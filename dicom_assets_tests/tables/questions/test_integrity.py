"""One row per key, no orphans, counts that are true: found by counting beside the files."""

import pytest
from deltalake import write_deltalake

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Table
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions import integrity
from dicom_assets.tables.questions.integrity import Agreement, agreement, duplicates
from dicom_assets_tests.support.tables import Bench, hours, insert, key


@pytest.fixture
def filled(bench: Bench) -> Bench:
    """Three studies: of three instances in two series, of one, and of one in another hour."""
    for number, series in enumerate(("1", "1", "2")):
        bench.archive.create(10 + number, of=key(str(number), "1", series))
    bench.archive.create(20, of=key("1", "2"))
    bench.archive.create(70, of=key("1", "3"))
    bench.sync(hours(0, 2))
    return bench


def repeat(bench: Bench, table: Table, where: str) -> None:
    """Somebody has written rows of a table once more."""
    rows = bench.store.open(table).rows(where=where)
    write_deltalake(bench.store.urls[table.name], rows, mode="append")


def forget(bench: Bench, table: Table, where: str) -> None:
    """Somebody has deleted rows of a table."""
    bench.store.delta(table).delete(where)


@pytest.mark.parametrize("table", [CHANGE, INSTANCE, SERIES, STUDY], ids=lambda table: table.name)
@pytest.mark.parametrize("at_once", [1, 1_000_000])
def test_a_key_with_several_rows_is_counted_once(
    filled: Bench, table: Table, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every table, in one portion or in several; without it there is none."""
    monkeypatch.setattr(integrity, "ROWS_AT_ONCE", at_once)
    assert duplicates(filled.store, table) == 0
    uid = INSTANCE.key[1] if table in (CHANGE, INSTANCE) else "studyInstanceUid"
    for _ in range(2):
        repeat(filled, table, f"\"{uid}\" = '1.2'")
    assert duplicates(filled.store, table) == 1


@pytest.mark.parametrize("at_once", [1, 1_000_000])
def test_doubled_hours_and_rejections_are_counted(
    filled: Bench, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tables that are no assets, too; rejections without a sequence may be many."""
    monkeypatch.setattr(integrity, "ROWS_AT_ONCE", at_once)
    rejected = [{"sequence": number} for number in (7, 8, None, None)]
    insert(filled.store, REJECTED, rejected)
    assert [duplicates(filled.store, table) for table in (SYNC, REJECTED)] == [0, 0]
    repeat(filled, SYNC, "true")
    repeat(filled, REJECTED, '"sequence" = 7')
    assert [duplicates(filled.store, table) for table in (SYNC, REJECTED)] == [2, 1]


def test_portions_hold_every_row_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are."""
    keys = [dict(zip(INSTANCE.key, key("1", str(study)), strict=True)) for study in range(40)]
    insert(store, INSTANCE, [*keys, *keys])
    for at_once in (1, 3, 40, 80):
        monkeypatch.setattr(integrity, "ROWS_AT_ONCE", at_once)
        assert duplicates(store, INSTANCE) == 40


def test_the_same_uids_in_two_data_partitions_are_two_keys(bench: Bench) -> None:
    """The key begins with the data partition, here and when series and study are compared."""
    for partition in ("a", "b"):
        bench.archive.create(10, of=key(partition=partition))
    bench.sync(hours(0))
    assert duplicates(bench.store, INSTANCE) == 0
    assert agreement(bench.store, STUDY) == Agreement(compared=2)


def test_tables_that_are_not_there_yet_agree(bench: Bench) -> None:
    """There is nothing to compare, and nothing twice."""
    assert agreement(bench.store, SERIES) == Agreement()
    assert duplicates(bench.store, INSTANCE) == 0


def test_tables_in_step_agree(filled: Bench) -> None:
    """All rows are compared."""
    assert agreement(filled.store, SERIES) == Agreement(compared=4)
    assert agreement(filled.store, STUDY) == Agreement(compared=3)


@pytest.mark.parametrize("table", [SERIES, STUDY])
def test_a_row_that_is_missing_is_an_orphan(filled: Bench, table: Table) -> None:
    """Instances have no row in the other table."""
    forget(filled, table, "\"studyInstanceUid\" = '1.2'")
    found = agreement(filled.store, table)
    assert (found.missing, found.surplus, found.different, found.orphans) == (1, 0, 0, 1)


@pytest.mark.parametrize("table", [SERIES, STUDY])
def test_a_row_without_instances_is_an_orphan(filled: Bench, table: Table) -> None:
    """The last instance went, and nobody derived the row anew."""
    forget(filled, INSTANCE, "\"studyinstanceuid\" = '1.2'")
    found = agreement(filled.store, table)
    assert (found.missing, found.surplus, found.different, found.orphans) == (0, 1, 0, 1)


@pytest.mark.parametrize(
    ("table", "column"),
    [(SERIES, "instanceCount"), (STUDY, "instanceCount"), (STUDY, "seriesCount")],
)
@pytest.mark.parametrize("value", ["7", "NULL"])
def test_a_count_that_is_not_true_is_found(
    filled: Bench, table: Table, column: str, value: str
) -> None:
    """Too many, or none at all."""
    where = "\"studyInstanceUid\" = '1.2'"
    filled.store.delta(table).update(updates={f"`{column}`": value}, predicate=where)
    found = agreement(filled.store, table)
    assert (found.orphans, found.different) == (0, 1)


def test_a_study_of_an_open_hour_is_not_compared(filled: Bench) -> None:
    """A run has brought `instance` there, and is on its way to the others."""
    filled.archive.create(80, of=key("7", "3"))
    filled.archive.create(81, of=key("1", "9"))
    filled.change(hours(1))
    filled.instance(hours(1))
    assert agreement(filled.store, STUDY) == Agreement(compared=2)
    forget(filled, STUDY, "\"studyInstanceUid\" = '1.2'")
    assert agreement(filled.store, STUDY).missing == 1
    filled.rollup(SERIES, hours(1))
    filled.rollup(STUDY, hours(1))
    assert agreement(filled.store, STUDY) == Agreement(compared=4, missing=1)
