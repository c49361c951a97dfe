"""Plain Delta: engines that are not ours read the same rows, after updates and deletes too."""

import json
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets_tests.support.history import KEYS
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import LOADED, Rows, World, world

READ = (CHANGE, SYNC, INSTANCE, SERIES, STUDY)


@pytest.fixture(scope="module")
def grown(service: Service, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tables with many versions: six hours backwards, one by one."""
    made = world(service, tmp_path_factory.mktemp("grown"))
    with dg.DagsterInstance.ephemeral() as instance:
        for key in reversed(KEYS):
            made.run(key, instance=instance)
    return made


def _path(made: World, table: Table) -> str:
    return made.settings.table_path(table.name)


def _ordered(rows: Rows, table: Table) -> Rows:
    loaded = LOADED.get(table.name, set())
    plain = [{name: row[name] for name in table.names if name not in loaded} for row in rows]
    return sorted(plain, key=lambda row: tuple(str(row[name]) for name in table.key))


def _duckdb(path: str) -> Rows:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("t", DeltaTable(path).scan())
        rows: Rows = connection.sql("SELECT * FROM t").to_arrow_table().to_pylist()
        return rows


def _polars(path: str) -> Rows:
    return pl.read_delta(path).to_dicts()


@pytest.mark.parametrize("read", [_duckdb, _polars], ids=["duckdb", "polars"])
@pytest.mark.parametrize("table", READ, ids=lambda table: str(table.name))
def test_another_engine_reads_the_same_rows(
    grown: World, table: Table, read: Callable[[str], Rows]
) -> None:
    """Every column of every row, null where ours is null, times in UTC."""
    assert _ordered(read(_path(grown, table)), table) == grown.contents()[table.name]


def test_a_history_told_backwards_was_updated_and_deleted(grown: World, filled: World) -> None:
    """The rows that the engines read come from merges, and equal those of the range."""
    assert grown.versions()[INSTANCE.name] > filled.versions()[INSTANCE.name]
    assert grown.contents() == filled.contents()


@pytest.mark.parametrize("table", READ, ids=lambda table: str(table.name))
def test_the_log_asks_for_no_feature(grown: World, table: Table) -> None:
    """Reader 1, writer 2; no column mapping, no deletion vectors; zstd."""
    log = Path(_path(grown, table)) / "_delta_log"
    actions = [
        json.loads(line)
        for commit in sorted(log.glob("*.json"))
        for line in commit.read_text(encoding="utf-8").splitlines()
    ]
    (protocol,) = [action["protocol"] for action in actions if "protocol" in action]
    assert protocol == {"minReaderVersion": 1, "minWriterVersion": 2}
    added = [action["add"] for action in actions if "add" in action]
    assert added
    assert all(not add.get("deletionVector") for add in added)
    assert all("zstd" in add["path"] for add in added)
    configurations = [a["metaData"]["configuration"] for a in actions if "metaData" in a]
    assert all("delta.columnMapping.mode" not in each for each in configurations)


def test_times_are_instants_in_utc(grown: World) -> None:
    """No table has a time without zone, in the log's schema or in another engine's eyes."""
    for table in READ:
        fields = pa.schema(DeltaTable(_path(grown, table)).schema().to_arrow())  # type: ignore[arg-type]  # arro3's
        times = [field.type for field in fields if pa.types.is_timestamp(field.type)]
        assert all(kind.tz == "UTC" for kind in times)
        seen = pl.read_delta(_path(grown, table)).schema
        assert {k.time_zone for k in seen.values() if isinstance(k, pl.Datetime)} <= {"UTC"}
    first = grown.rows(CHANGE)[0]["timestamp"]
    assert first.utcoffset() == UTC.utcoffset(None)
