"""Refusals say the fault, the place and the remedy, and nothing is written."""

from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, Table
from dicom_assets_tests.support.failures import complaint
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, at, header
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import world


def test_a_root_that_cannot_be_written(service: Service, tmp_path: Path) -> None:
    """A file stands where the root should be: the table, the path and the remedy are named."""
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    made = world(service, tmp_path / "file" / "tables")
    said = complaint(made.run(FIRST, raise_on_error=False))
    assert "TableUnavailableError" in said
    assert "table change" in said
    assert str(tmp_path / "file") in said
    assert "may be written" in said
    assert (tmp_path / "file").read_text(encoding="utf-8") == "not a folder"


@pytest.mark.parametrize("table", [CHANGE, INSTANCE, SERIES], ids=lambda table: str(table.name))
def test_a_foreign_table_at_a_path(
    service: Service, tmp_path: Path, instance: dg.DagsterInstance, table: Table
) -> None:
    """Another's Delta table is left as it is; the message names it and the settings to change."""
    path = tmp_path / table.name
    write_deltalake(path, pa.table({"sequence": ["not", "ours"]}))
    made = world(service, tmp_path)
    said = complaint(made.run(FIRST, instance=instance, raise_on_error=False))
    assert "ForeignTableError" in said
    assert str(path) in said
    assert f"DICOM_{table.name.upper()}_TABLE_PATH" in said
    foreign = DeltaTable(path)
    assert foreign.version() == 0
    rows = (
        QueryBuilder()
        .register("t", foreign)
        .execute("SELECT sequence FROM t ORDER BY 1")
        .read_all()
    )
    assert pa.table(rows).to_pydict() == {"sequence": ["not", "ours"]}


@pytest.mark.parametrize("same_sequence", [True, False], ids=["another key", "no such entry"])
def test_a_root_of_another_archive(
    service: Service, tmp_path: Path, instance: dg.DagsterInstance, same_sequence: bool
) -> None:
    """A second service on the same root is refused in every step that asks it."""
    first = world(service, tmp_path / "tables")
    first.run(FIRST, LAST, instance=instance)
    before = first.versions()
    other = Archive(tmp_path / "other")
    last = first.rows(CHANGE)[-1]
    if same_sequence:
        other.skip_sequences(max(row["sequence"] for row in first.rows(CHANGE)) - 1)
        other.store(header(99), at=last["timestamp_ticks"])
    else:
        other.store(header(99), at=at(0, 5))
    with serving(other) as another:
        second = world(another, tmp_path / "tables")
        for only in ([CHANGE], [INSTANCE]):
            said = complaint(
                second.run(KEYS[0], instance=instance, only=only, raise_on_error=False)
            )
            assert "ForeignArchiveError" in said
            assert "DICOM_SERVICE_URL" in said
            assert "DICOM_TABLES_URL" in said
        assert second.versions() == before
    assert first.versions() == before


def test_an_hour_that_is_not_in_the_log_is_named(
    service: Service, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """`instance`, `series` and `study` before `change`: told what to materialize first."""
    made = world(service, tmp_path)
    said = complaint(made.run(FIRST, instance=instance, only=[INSTANCE], raise_on_error=False))
    assert "NotYetError" in said
    assert "materialize `change`" in said
    assert not any(made.contents().values())
