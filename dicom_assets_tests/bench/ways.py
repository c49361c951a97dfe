"""Ways to bring hours into a Delta table of `instance`, each run as a process of its own.

Run with the name of a way, the folder of the table and folders of hours (`Hour.save`). It prints
JSON: CPU seconds of each hour, and the most memory of the process in MB. Only `ours` imports the
project: the others run by the interpreter of the environment that has them.

Importing and reading the hour are not counted, and everything that a way does at its first call is.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Parts = Mapping[str, pa.Table]
    # Brings the parts of an hour into the table.
    Way = Callable[[Parts], object]

pc: Any = pyarrow.compute
KEY: Final = ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid")
_SAME: Final = " AND ".join(f"t.{name} = s.{name}" for name in KEY)


def ours(table: Path) -> Way:
    """Look rows of the touched studies up, and commit the difference."""
    from dicom_assets.schema import INSTANCE
    from dicom_assets.tables.delta.commit import Difference
    from dicom_assets.tables.plan import STORED_COLUMNS
    from dicom_assets_tests.support.steps import store_in

    def hour(parts: Parts) -> None:
        store = store_in(table.parent)
        keys = pa.chunked_array([c for p in parts.values() for c in p["studyinstanceuid"].chunks])
        snapshot = store.open(INSTANCE)
        snapshot.rows_of("studyinstanceuid", pc.unique(keys).to_pylist(), STORED_COLUMNS)
        difference = Difference(INSTANCE, parts["inserts"], parts["updates"], parts["deletes"])
        snapshot.commit(difference, {"run_id": "bench"})

    return hour


def append(table: Path) -> Way:
    """Append the rows, whatever is there: the floor."""
    from deltalake import write_deltalake

    return lambda parts: write_deltalake(str(table), _rows(parts), mode="append")


def merge(table: Path) -> Way:
    """Merge by key, deletes too."""
    from deltalake import DeltaTable

    def hour(parts: Parts) -> None:
        rows, gone = _rows(parts), parts["deletes"]
        nulls = [
            gone[f.name] if f.name in gone.column_names else pa.nulls(len(gone), f.type)
            for f in rows.schema
        ]
        gone = pa.Table.from_arrays(nulls, schema=rows.schema)
        gone = gone.append_column("is_gone", pa.array([True] * len(gone), pa.bool_()))
        rows = rows.append_column("is_gone", pa.array([False] * len(rows), pa.bool_()))
        all_of = {name: f"s.{name}" for name in parts["inserts"].column_names}
        merging = DeltaTable(str(table)).merge(
            pa.concat_tables([rows, gone]), _SAME, source_alias="s", target_alias="t"
        )
        merging = merging.when_matched_delete("s.is_gone").when_matched_update(all_of)
        merging.when_not_matched_insert(all_of, "NOT s.is_gone").execute()

    return hour


def delete_append(table: Path) -> Way:
    """Delete what changes, and append: two commits, and rows are missing between them."""
    from deltalake import DeltaTable, write_deltalake

    def hour(parts: Parts) -> None:
        if uids := _changed(parts).to_pylist():
            named = ", ".join(f"'{uid}'" for uid in uids)
            DeltaTable(str(table)).delete(f"sopinstanceuid IN ({named})")
        write_deltalake(str(table), _rows(parts), mode="append")

    return hour


def dlt(table: Path) -> Way:
    """Upsert as dlt's Delta destination does, the step of the storage alone. It deletes nothing."""
    from deltalake import DeltaTable
    from dlt.common.libs.deltalake import (  # type: ignore[import-not-found] # of the other environment
        merge_delta_table,
    )

    columns = {name: {"name": name, "data_type": "text", "primary_key": True} for name in KEY}
    schema = {"name": "instance", "columns": columns, "x-merge-strategy": "upsert"}
    return lambda parts: merge_delta_table(
        DeltaTable(str(table)), _rows(parts), schema, "instance", streamed_exec=True
    )


def polars(table: Path) -> Way:
    """Read the table, leave the old rows out, write all anew: Polars has no upsert of its own."""
    pl: Any = import_module("polars")

    def hour(parts: Parts) -> None:
        new = pl.from_arrow(_rows(parts))
        gone = pl.DataFrame({"sopinstanceuid": pl.from_arrow(_changed(parts))})
        kept = pl.scan_delta(str(table)).join(gone.lazy(), on="sopinstanceuid", how="anti")
        whole = pl.concat([kept.collect(), new], how="vertical_relaxed")
        whole.write_delta(str(table), mode="overwrite")

    return hour


def duckdb(table: Path) -> Way:
    """Upsert in DuckDB's own file, which is no Delta table: another engine cannot read it."""
    import duckdb  # of the other environment

    file = Path(tempfile.mkdtemp(dir=table.parent)) / "t.duckdb"
    database: Any = duckdb.connect(str(file))
    files = f"'{table}/*/*.parquet', union_by_name=true, hive_partitioning=true"
    database.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet({files})")  # noqa: S608 - a path

    def hour(parts: Parts) -> None:
        gone, rows = pa.table({"uid": _changed(parts)}), _rows(parts)
        database.register("gone", gone)
        database.register("new", rows)
        database.execute("DELETE FROM t WHERE sopinstanceuid IN (SELECT uid FROM gone)")
        database.execute("INSERT INTO t BY NAME SELECT * FROM new")
        database.execute("CHECKPOINT")

    return hour


def sail(table: Path) -> Way:
    """MERGE by Spark's SQL, which Sail answers."""
    from pysail.spark import (  # type: ignore[import-not-found] # of the other environment
        SparkConnectServer,
    )
    from pyspark.sql import SparkSession  # type: ignore[import-not-found] # the same

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    spark = SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}")
    session = spark.getOrCreate()

    def hour(parts: Parts) -> None:
        session.createDataFrame(_rows(parts)).createOrReplaceTempView("s")
        session.sql(
            f"MERGE INTO delta.`{table}` t USING s ON {_SAME} "
            "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
        ).collect()

    return hour


WAYS: Final[dict[str, Callable[[Path], Way]]] = {
    way.__name__: way for way in (ours, append, merge, delete_append, dlt, polars, duckdb, sail)
}
# What is not in the project's own environment.
FOREIGN: Final = frozenset({"dlt", "polars", "duckdb", "sail"})


def _rows(parts: Parts) -> pa.Table:
    return pa.concat_tables([parts["inserts"], parts["updates"]])


def _changed(parts: Parts) -> Any:  # noqa: ANN401 - a column
    changed = [parts[name].select(["sopinstanceuid"]) for name in ("updates", "deletes")]
    return pa.concat_tables(changed).combine_chunks()["sopinstanceuid"]


def load(folder: Path) -> dict[str, pa.Table]:
    """Return the parts of an hour that was saved."""
    return {p.stem: pa.ipc.open_file(str(p)).read_all() for p in sorted(folder.glob("*.arrow"))}


def peak_mb() -> float:
    """Return the most memory that this process has held."""
    # Not what getrusage tells: that begins with what the process had before it was this one.
    told = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", told)[0]) / 1024


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _main(name: str, table: str, *folders: str) -> None:
    way, seconds = WAYS[name](Path(table)), []
    if name == "duckdb":
        # What loading took is none of the hour's.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for folder in folders:
        parts = load(Path(folder))
        began = _cpu()
        way(parts)
        seconds.append(_cpu() - began)
    sys.stdout.write(json.dumps({"cpu": seconds, "peak_mb": peak_mb()}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
