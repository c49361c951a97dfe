"""Tables that somebody has changed the form of: each way is told, with names only."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import TableFeatures, write_deltalake

from dicom_assets.schema import INSTANCE, STUDY
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.commit import RETENTION
from dicom_assets.tables.questions.conformity import deviations
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, hours


@pytest.fixture
def own(bench: Bench) -> Bench:
    """Tables of this version."""
    bench.archive.create(10)
    bench.sync(hours(0))
    return bench


def told(bench: Bench, table: str = "study") -> str:
    """What is told of a table; of the others nothing is."""
    found = deviations(bench.store)
    assert set(found) <= {table}
    return "; ".join(found.get(table, ()))


def test_tables_of_this_version_differ_in_nothing(own: Bench, tmp_path: Path) -> None:
    """Nor do tables that are not there yet."""
    assert deviations(own.store) == {}
    assert deviations(store_in(tmp_path / "none")) == {}


def test_another_retention_than_the_setting_is_told(own: Bench) -> None:
    """Either side may have changed it."""
    other = steps.store_of(own.store.urls, retention_hours=200)
    found = deviations(other)
    assert set(found) == {t.name for t in TABLES}
    assert found["study"] == [f"{RETENTION} is not interval 200 hours"]


def test_a_feature_that_somebody_switched_on_is_told(own: Bench) -> None:
    """Engines that know reader 1 only cannot read the table any more."""
    own.store.delta(STUDY).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    said = told(own)
    assert "it asks for reader 3 and writer 7, not for reader 1 and writer 2" in said
    assert "deletionVectors" in said


@pytest.mark.parametrize("name", ["delta.enableDeletionVectors", "delta.columnMapping.mode"])
def test_a_property_that_somebody_switched_on_is_told(own: Bench, name: str) -> None:
    """Before the first file is written by it."""
    value = "true" if "Vectors" in name else "name"
    properties = {name: value}
    _rewritten(own, configuration={**_configuration(own), **properties})
    assert f"switched on: {name}" in told(own)


def test_properties_that_are_missing_are_told(own: Bench) -> None:
    """Somebody has made the table anew."""
    _rewritten(own, configuration={})
    assert "properties are missing: delta.checkpointInterval" in told(own)


def test_columns_of_another_form_are_told(own: Bench) -> None:
    """Missing, of another type, in another order, in other folders."""
    rows, configuration = own.store.open(STUDY).rows(), _configuration(own)
    changed = rows.drop_columns(["studyDescription"])
    at = changed.schema.get_field_index("instanceCount")
    changed = changed.set_column(at, "instanceCount", changed["instanceCount"].cast(pa.string()))
    _rewritten(own, changed, partition_by=[], configuration=configuration)
    said = told(own)
    assert "columns are missing: studyDescription" in said
    assert "columns have another type: instanceCount" in said
    assert "the files do not lie by partitionName" in said
    _rewritten(own, rows.select(rows.column_names[::-1]), configuration=configuration)
    assert told(own) == "the columns have another order"


def test_a_column_that_was_added_and_not_yet_written_is_no_difference(own: Bench) -> None:
    """It comes with the next commit."""
    added = [column.name for column in INSTANCE.columns if column.added]
    rows = own.store.open(INSTANCE).rows().drop_columns(added[-1:])
    _rewritten(own, rows, "instance", configuration=_configuration(own))
    assert told(own, "instance") == ""


def _configuration(bench: Bench) -> dict[str, str]:
    return dict(bench.store.delta(STUDY).metadata().configuration)


def _rewritten(
    bench: Bench,
    rows: pa.Table | None = None,
    table: str = "study",
    *,
    configuration: dict[str, str],
    partition_by: list[str] | None = None,
) -> None:
    """Somebody has put a table of their own in the place of ours."""
    url = Path(bench.store.urls[table])
    rows = bench.store.open(STUDY).rows() if rows is None else rows
    by = ["partitionName"] if partition_by is None else partition_by
    for file in sorted(url.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    write_deltalake(str(url), rows, partition_by=by or None, configuration=configuration)
