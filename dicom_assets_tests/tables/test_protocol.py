"""Every table is plain Delta after all that is done to it, and what is not plain is seen."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, TableFeatures

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep import compaction
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets_tests.support.maintained import age, filled
from dicom_assets_tests.support.protocol import violations
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import instances, row

HEADER = [("00100010", {"vr": "PN", "Value": ["PHI-Doe"]})]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables after four hours of inserts, updates and deletes, with headers in both forms."""
    root = tmp_path_factory.mktemp("grown")
    filled(root, 4)
    store = store_in(root)
    headed = row(10_000, "9", metadata=HEADER, metadata_string="PHI-Doe")
    difference = Difference(INSTANCE, inserts=instances(headed))
    store.open(INSTANCE).commit(difference, {"run_id": "given"})
    changed = Difference(INSTANCE, updates=instances(headed | {"sequence": 10_001}))
    store.open(INSTANCE).commit(changed, {"run_id": "given"})
    return root


@pytest.fixture
def table(grown: Path, tmp_path: Path) -> Path:
    """The table `instance`, for one test to spoil."""
    return shutil.copytree(grown / "instance", tmp_path / "instance")


def test_every_table_is_plain(grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, compacted, with a checkpoint, and after the old files have gone."""
    monkeypatch.setattr(compaction, "LEAST_FILES", 2)
    root = shutil.copytree(grown, tmp_path / "tables")
    store = store_in(root)
    for days in (0, 8, 40):
        for table in TABLES:
            age(store, table, days)
            if days:
                maintain(store, table, Run("night", datetime.now(UTC)))
            assert violations(root / table.name) == []
    assert list((root / "instance" / "_delta_log").glob("*.checkpoint.parquet"))


def _newest(table: Path, kind: str) -> tuple[Path, list[dict[str, Any]], dict[str, Any]]:
    """The newest commit that has an action of a kind, its actions, and that one."""
    for commit in sorted((table / "_delta_log").glob("*.json"), reverse=True):
        actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
        for action in actions:
            if kind in action:
                return commit, actions, action[kind]
    raise AssertionError


def _say(table: Path, kind: str, change: Callable[[dict[str, Any]], None]) -> None:
    commit, actions, told = _newest(table, kind)
    change(told)
    commit.write_text("\n".join(map(json.dumps, actions)), encoding="utf-8")


def _field(table: Path, name: str, **told: object) -> None:
    def change(metadata: dict[str, Any]) -> None:
        schema = json.loads(metadata["schemaString"])
        next(f for f in schema["fields"] if f["name"] == name).update(told)
        metadata["schemaString"] = json.dumps(schema)

    _say(table, "metaData", change)


def _property(table: Path, name: str, value: str) -> None:
    _say(table, "metaData", lambda told: told["configuration"].update({name: value}))


def _statistics(table: Path, part: str) -> None:
    def change(added: dict[str, Any]) -> None:
        told = json.loads(added["stats"])
        told[part]["metadata_string"] = "PHI-Doe"
        added["stats"] = json.dumps(told)

    _say(table, "add", change)


def _written(
    table: Path,
    schema: Callable[[pa.Schema], pa.Schema] = lambda schema: schema,
    **how: Any,  # noqa: ANN401 - pyarrow's own
) -> None:
    """The newest file is written otherwise, by Arrow, and without statistics unless asked."""
    path = table / _newest(table, "add")[2]["path"]
    held = pq.ParquetFile(path).read()
    given: Any = {"compression": "zstd", "write_statistics": False} | how
    pq.write_table(held.cast(schema(held.schema)), path, **given)


def _as(type_: pa.DataType) -> Callable[[pa.Schema], pa.Schema]:
    name = "lastModifiedTimestamp"
    return lambda schema: schema.set(schema.get_field_index(name), pa.field(name, type_))


def _feature(table: Path) -> None:
    DeltaTable(str(table)).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )


PLANTED: dict[str, Callable[[Path], None]] = {
    "protocol: ": _feature,
    "property: delta.columnMapping.mode = name": lambda t: _property(
        t, "delta.columnMapping.mode", "name"
    ),
    "property: delta.enableDeletionVectors = true": lambda t: _property(
        t, "delta.enableDeletionVectors", "true"
    ),
    "type: created_date is timestamp_ntz": lambda t: _field(
        t, "created_date", type="timestamp_ntz"
    ),
    "column mapping: modality": lambda t: _field(
        t, "modality", metadata={"delta.columnMapping.id": 7}
    ),
    "a deletion vector": lambda t: _say(
        t, "add", lambda told: told.update(deletionVector={"storageType": "u"})
    ),
    "statistics: minValues of metadata_string": lambda t: _statistics(t, "minValues"),
    "statistics: nullCount of metadata_string": lambda t: _statistics(t, "nullCount"),
    "statistics: of metadata": lambda t: _written(t, write_statistics=True),
    "statistics: of metadata_string in a file": lambda t: _written(
        t, write_statistics=["metadata_string"]
    ),
    "compression: snappy": lambda t: _written(t, compression="snappy"),
    "INT96: ": lambda t: _written(t, use_deprecated_int96_timestamps=True),
    "time: lastModifiedTimestamp is INT64": lambda t: _written(t, _as(pa.timestamp("us"))),
    "time: lastModifiedTimestamp is INT64 {": lambda t: _written(t, _as(pa.timestamp("ms", "UTC"))),
}


@pytest.mark.parametrize("told", PLANTED)
def test_what_is_not_plain_is_seen(table: Path, told: str) -> None:
    """Each way in which another engine could not read a table, or the log would tell a patient."""
    assert violations(table) == []
    PLANTED[told](table)
    found = violations(table)
    assert found
    assert all(line.startswith(told) for line in found)


def test_a_checkpoint_is_looked_at_too(table: Path) -> None:
    """When the commits that it holds are gone."""
    _feature(table)
    DeltaTable(str(table)).create_checkpoint()
    for commit in (table / "_delta_log").glob("*.json"):
        commit.unlink()
    (found,) = violations(table)
    assert found.startswith("protocol: ")
