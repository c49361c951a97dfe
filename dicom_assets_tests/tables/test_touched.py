"""The rows that an hour touched, as they are now, for assets downstream of ours."""

from dataclasses import replace

import pyarrow as pa
import pytest

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Column, Table
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.touched import touched_rows
from dicom_assets.window import Window
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, at, hours, key, ticks


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two hours, two studies; the instance of the first hour changed in the second.

    One for all tests here, because none of them writes.
    """
    bench = Bench(store_in(tmp_path_factory.mktemp("filled")))
    bench.archive.create(10, patientid="A")
    bench.archive.create(20, of=key("2"), patientid="B")
    bench.archive.create(30, of=key(study="2"))
    bench.archive.unusable = [Rejection(90, ticks(75), "unknown action")]
    bench.archive.update(70, patientid="A2")
    bench.archive.delete(80, of=key(study="2"))
    bench.sync(hours(0, 2))
    return bench


def of(bench: Bench, table: Table, window: Window | None, column: str) -> list[object]:
    """One column of what a window touched, sorted."""
    return sorted(touched_rows(bench.store, table, window, [column])[column].to_pylist(), key=repr)


def test_an_hour_of_instance_is_its_live_instances_as_they_stand_now(filled: Bench) -> None:
    """A later update shows, what was deleted does not, untouched ones of the study neither."""
    assert of(filled, INSTANCE, hours(0), "patientid") == ["A2", "B"]
    assert of(filled, INSTANCE, hours(1), "patientid") == ["A2"]
    assert of(filled, INSTANCE, hours(0), "sequence") == [2, 4]


def test_an_hour_of_instance_has_the_columns_that_were_added(filled: Bench) -> None:
    """A column of DICOM_COLUMNS_FILE, too, although the table here has not got it yet."""
    added = Column("protocolremark", pa.int32(), "", added=True)
    table = replace(INSTANCE, columns=(*INSTANCE.columns, added))
    store = replace(filled.store, tables={**filled.store.tables, INSTANCE.name: table})
    rows = touched_rows(store, table, hours(1))
    assert rows.column_names == table.names
    assert rows["protocolremark"].to_pylist() == [None]


def test_an_hour_of_a_rollup_is_the_touched_studies(filled: Bench) -> None:
    """Those that are left."""
    assert of(filled, SERIES, hours(1), "seriesInstanceUid") == ["1.1.1"]
    assert of(filled, STUDY, hours(1), "studyInstanceUid") == ["1.1"]


def test_an_hour_of_the_other_tables_is_its_rows(filled: Bench) -> None:
    """Log rows by their time, seals and rejections by their hour."""
    assert of(filled, CHANGE, hours(1), "sequence") == [4, 5]
    assert of(filled, SYNC, hours(1), "hour") == [at(60)]
    assert of(filled, REJECTED, hours(1), "sequence") == [90]
    assert of(filled, REJECTED, hours(0), "sequence") == []


@pytest.mark.parametrize(
    ("table", "rows"),
    [(CHANGE, 5), (SYNC, 2), (INSTANCE, 2), (SERIES, 1), (STUDY, 1), (REJECTED, 1)],
)
def test_without_a_window_every_row_is_given(filled: Bench, table: Table, rows: int) -> None:
    """With all columns unless some are chosen."""
    found = touched_rows(filled.store, table, None)
    assert (found.num_rows, found.column_names) == (rows, filled.store.tables[table.name].names)
    assert touched_rows(filled.store, table, None, table.names[:1]).column_names == table.names[:1]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_window_that_touched_nothing_gives_no_rows_in_the_tables_form(
    filled: Bench, table: Table
) -> None:
    """All columns, with their types."""
    found = touched_rows(filled.store, table, hours(7, 9))
    assert found.num_rows == 0
    assert found.schema.equals(table.arrow())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tables_that_do_not_exist_yet_give_no_rows(bench: Bench, table: Table) -> None:
    """Nor do they come into being."""
    assert touched_rows(bench.store, table, hours(0)).num_rows == 0
    assert bench.store.version(table) == -1
