"""Why the project has a type handler of its own: the one of dagster-deltalake loses hours."""

from datetime import datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from dagster_deltalake import DeltaLakePyarrowIOManager, LocalConfig
from deltalake import DeltaTable, QueryBuilder

from dicom_assets.defs.partitions import hourly
from dicom_assets.schema import CHANGE
from dicom_assets_tests.support.history import END, ENTRIES, KEYS, START
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import world


def _rows_with_theirs(root: Path, kind: pa.DataType, as_text: bool) -> tuple[list[bool], list[int]]:
    """Return the success of two hours with dagster-deltalake's handler, and the rows left."""

    def value(hour: datetime) -> datetime | str:
        return f"{hour:%Y-%m-%d %H:%M:%S}" if as_text else hour

    @dg.asset(
        partitions_def=hourly(START, END), metadata={"partition_expr": "hour"}, key_prefix="root"
    )
    def theirs(context: dg.AssetExecutionContext) -> pa.Table:
        start = context.partition_time_window.start
        return pa.table({"hour": pa.array([value(start)], kind), "number": [start.hour]})

    manager = DeltaLakePyarrowIOManager(root_uri=str(root), storage_options=LocalConfig())
    green = [
        dg.materialize(
            [theirs],
            resources={"io_manager": manager},
            partition_key=key,
            raise_on_error=False,
        ).success
        for key in KEYS[:2]
    ]
    table = DeltaTable(root / "root" / "theirs")
    rows = QueryBuilder().register("t", table).execute("SELECT number FROM t ORDER BY number")
    numbers: list[int] = pa.table(rows.read_all()).to_pydict()["number"]
    return green, numbers


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # theirs, in its logging
def test_theirs_loses_hours_and_ours_keeps_them(
    service: Service, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """Two hours through theirs leave one of them; through ours, both.

    The first two assertions hold the state of dagster issue #34064. The day one of them fails,
    theirs is mended: read the issue, and look whether `io_manager.TableHandler` is still needed.
    """
    text = _rows_with_theirs(tmp_path / "text", pa.string(), as_text=True)
    assert text == ([True, True], [1]), "the second hour overwrites the first, both green"
    utc = _rows_with_theirs(tmp_path / "utc", pa.timestamp("us", "UTC"), as_text=False)
    assert utc == ([True, False], [0]), "a UTC timestamp fails the second hour"

    ours = world(service, tmp_path / "ours")
    for key in KEYS[:2]:
        ours.run(key, instance=instance)
    hours = [row["timestamp"].hour for row in ours.rows(CHANGE)]
    assert sorted(hours) == [0] * ENTRIES[0].total() + [1] * ENTRIES[1].total()
