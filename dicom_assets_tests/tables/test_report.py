"""The table for reports: `instance` without headers, in large row groups."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.commit import ROW_GROUP_ROWS, Difference
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.report import INSTANCE_REPORT
from dicom_assets.tables.rollup import refill
from dicom_assets.tables.upkeep.compaction import compact
from dicom_assets_tests.support.maintained import LATER, tell
from dicom_assets_tests.support.steps import derive, store_in
from dicom_assets_tests.support.tables import Bench, hours, insert, key, run

WITH_REPORT = (*TABLES, INSTANCE_REPORT)


def bench_in(root: Path, *, settled: int = 2) -> Bench:
    """A root with the report after four hours of creates, updates and deletes."""
    bench = Bench(store_in(root, WITH_REPORT))
    for hour in range(4):
        tell(bench.archive, hour, settled)
        bench.sync(hours(hour))
        derive(bench.store, INSTANCE_REPORT, hours(hour), run())
    return bench


def is_right(bench: Bench) -> bool:
    """Return True if the report holds the rows of `instance`, and some."""
    names = INSTANCE_REPORT.names
    rows, live = (
        sorted(bench.store.open(table).rows(names).to_pylist(), key=repr)
        for table in (INSTANCE_REPORT, INSTANCE)
    )
    return rows == live != []


def test_it_follows_every_hour(tmp_path: Path) -> None:
    """Updates and deletes of old instances, too; it has all columns but three."""
    assert is_right(bench_in(tmp_path))
    left_out = {"metadata", "metadata_string", "created_date"}
    assert set(INSTANCE.names) - set(INSTANCE_REPORT.names) == left_out


def test_it_is_filled_from_instance_alone(tmp_path: Path) -> None:
    """Where it is declared later."""
    bench = Bench(store_in(tmp_path))
    tell(bench.archive, 0, 1)
    bench.sync(hours(0))
    later = Bench(store_in(tmp_path, WITH_REPORT), bench.archive)
    refill(later.store, INSTANCE_REPORT, run())
    assert is_right(later)


def test_what_rests_is_one_row_group_and_stays_one(tmp_path: Path) -> None:
    """Larger than those of other tables, also after an hour has changed a row of it."""
    table, count = replace(INSTANCE_REPORT, file_rows=ROW_GROUP_ROWS + 5_000), 24_000
    store = store_in(tmp_path, (*TABLES, table))
    named = [dict(zip(table.key, key(str(n)), strict=True)) for n in range(count)]
    for start in range(0, count, 2_000):
        insert(store, table, named[start : start + 2_000])
    assert compact(store, table, Run("night", LATER))["written"] == 1
    assert row_groups(store) == [count]
    gone = store.open(table).rows([*table.key]).slice(5, 1)
    store.open(table).commit(Difference(table, deletes=gone), {"run_id": "writer"})
    assert row_groups(store) == [count - 1]


def row_groups(store: Store) -> list[int]:
    """The rows of each row group of the newest version."""
    snapshot = store.open(INSTANCE_REPORT)
    told = [pq.read_metadata(Path(snapshot.url) / file.path) for file in data_files(snapshot)]
    return [one.row_group(n).num_rows for one in told for n in range(one.num_row_groups)]
