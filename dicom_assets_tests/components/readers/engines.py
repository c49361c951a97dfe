"""One engine, asked line by line: run with its name, by the interpreter that has it.

A request is a JSON object: `url` and `options` of a table, and either `rows`, the file that all
rows are written to (Arrow IPC), or `question`. Each engine reads in its own way: DuckDB, ClickHouse
and Sail by SQL (Sail's rows by Spark's DataFrames), Polars lazily. Nothing of the project is used.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATORS = {"=": "eq", ">=": "ge", "<": "lt"}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class Engine:
    """What every engine can be asked; those that speak SQL say how they spell a moment."""

    def rows(self, url: str, options: dict[str, str]) -> pa.Table:
        """Every column of every row."""
        raise NotImplementedError

    def ask(self, url: str, options: dict[str, str], question: dict[str, Any]) -> list[list[Any]]:
        """Values of a column and their counts."""
        where = " AND ".join(f'"{c}" {o} {self.literal(v)}' for c, o, v in question["where"])
        by = f'"{question["by"]}"'
        sql = f"SELECT {by} AS v, count(*) AS n FROM {{t}} WHERE {where or '1 = 1'} GROUP BY {by}"  # noqa: S608 - of tests
        return [[row["v"], row["n"]] for row in self.sql(url, options, sql).to_pylist()]

    def sql(self, url: str, options: dict[str, str], text: str) -> pa.Table:
        """What SQL finds, in which `{t}` is the table."""
        raise NotImplementedError

    def literal(self, value: Any) -> str:  # noqa: ANN401 - a value of JSON
        """A value as SQL spells it."""
        if isinstance(value, dict):
            day = value.get("day")
            return f"DATE '{day}'" if day else self.moment(value["moment"])
        return _quoted(value) if isinstance(value, str) else str(value)

    def moment(self, text: str) -> str:
        """A moment in UTC as SQL spells it."""
        return f"TIMESTAMP '{text}+00:00'"


class DuckDB(Engine):
    """Log: delta-kernel-rs in DuckDB's extension. Parquet: DuckDB."""

    def __init__(self) -> None:
        import duckdb
        import duckdb_extension_delta  # type: ignore[import-not-found]  # of the other environment

        self.version = f"DuckDB {duckdb.__version__}"
        (extension,) = Path(duckdb_extension_delta.__file__).parent.rglob("*.duckdb_extension")
        self.connection = duckdb.connect()
        self.connection.load_extension(str(extension))
        self.connection.execute("SET TimeZone = 'UTC'")

    def rows(self, url: str, options: dict[str, str]) -> pa.Table:
        """Every column of every row."""
        return self.sql(url, options, "SELECT * FROM {t}")

    def sql(self, url: str, options: dict[str, str], text: str) -> pa.Table:
        """What SQL finds, in which `{t}` is the table."""
        t = f"delta_scan({_quoted(url)})"
        found: pa.Table = self.connection.sql(text.format(t=t)).to_arrow_table()
        return found

    def moment(self, text: str) -> str:
        """A moment in UTC as SQL spells it."""
        return f"TIMESTAMPTZ '{text}+00:00'"


class ClickHouse(Engine):
    """Log: delta-kernel-rs in ClickHouse. Parquet: ClickHouse."""

    def __init__(self) -> None:
        import chdb  # type: ignore[import-not-found]  # of the other environment

        os.chdir("/")  # it reads no file outside the folder it was started in
        self.chdb = chdb
        self.version = f"chdb {chdb.__version__}"

    def rows(self, url: str, options: dict[str, str]) -> pa.Table:
        """Every column of every row."""
        return self.sql(url, options, "SELECT * FROM {t}")

    def sql(self, url: str, options: dict[str, str], text: str) -> pa.Table:
        """What SQL finds, in which `{t}` is the table."""
        limits = " SETTINGS max_threads = 2"  # on a small machine threads cost more than they bring
        found: pa.Table = self.chdb.query(
            text.format(t=self._table(url, options)) + limits, "ArrowTable"
        )
        return found

    def _table(self, url: str, options: dict[str, str]) -> str:
        if not options:
            return f"deltaLakeLocal({_quoted(url)})"
        given = [options[name] for name in ("connection_string", "container")]
        return f"deltaLakeAzure({', '.join(map(_quoted, [*given, url]))})"

    def moment(self, text: str) -> str:
        """A moment in UTC as SQL spells it."""
        return f"toDateTime64('{text}', 6, 'UTC')"


class Sail(Engine):
    """Log: Sail's own. Parquet: arrow-rs under DataFusion. The client is Apache Spark's."""

    def __init__(self) -> None:
        import pysail  # type: ignore[import-not-found]  # of the other environment
        from pysail.spark import SparkConnectServer  # type: ignore[import-not-found]  # the same
        from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # the same

        self.version = f"pysail {pysail.__version__}"
        self.server = SparkConnectServer("127.0.0.1", 0)
        self.server.start(background=True)
        _, port = self.server.listening_address
        self.spark = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
        self.spark.conf.set("spark.sql.session.timeZone", "UTC")

    def rows(self, url: str, options: dict[str, str]) -> pa.Table:
        """Every column of every row."""
        found: pa.Table = self.spark.read.format("delta").load(url).toArrow()
        return found

    def sql(self, url: str, options: dict[str, str], text: str) -> pa.Table:
        """What SQL finds, in which `{t}` is the table."""
        self.spark.read.format("delta").load(url).createOrReplaceTempView("t")
        found: pa.Table = self.spark.sql(text.format(t="t").replace('"', "`")).toArrow()
        return found

    def close(self) -> None:
        """The client first: it waits for a server that is gone."""
        self.spark.stop()
        self.server.stop()


class Kernel(Engine):
    """Log and Parquet: delta-kernel-rs with its default engine, which is arrow-rs."""

    def __init__(self) -> None:
        import delta_kernel_rust_sharing_wrapper as kernel  # type: ignore[import-not-found]  # of the other environment

        self.kernel = kernel
        self.version = _installed("delta-kernel-rust-sharing-wrapper")

    def rows(self, url: str, options: dict[str, str]) -> pa.Table:
        """Every column of every row."""
        address = Path(url).as_uri()
        interface = self.kernel.PythonInterface(address)
        snapshot = self.kernel.Table(address).snapshot(interface)
        found: pa.Table = self.kernel.ScanBuilder(snapshot).build().execute(interface).read_all()
        return found


class Polars(Engine):
    """Log: delta-rs, which is `deltalake`. Parquet: Polars."""

    def __init__(self) -> None:
        import polars as pl

        self.polars = pl
        self.version = f"polars {pl.__version__}"
        self.scan: Callable[..., pl.LazyFrame] = pl.scan_delta

    def rows(self, url: str, options: dict[str, str]) -> pa.Table:
        """Every column of every row."""
        return self.scan(url, storage_options=options or None).collect().to_arrow()

    def ask(self, url: str, options: dict[str, str], question: dict[str, Any]) -> list[list[Any]]:
        """Values of a column and their counts."""
        by, frame = question["by"], self.scan(url, storage_options=options or None)
        for column, operator, value in question["where"]:
            given = value
            if isinstance(value, dict):
                day, moment = value.get("day"), value.get("moment")
                given = (
                    date.fromisoformat(day) if day else datetime.fromisoformat(f"{moment}+00:00")
                )
            frame = frame.filter(getattr(self.polars.col(column), OPERATORS[operator])(given))
        found = frame.group_by(by).len("n").collect()
        return [list(row) for row in found.iter_rows()]


class PolarsKernel(Polars):
    """Log: delta-kernel-rs in a plugin. Parquet: Polars."""

    def __init__(self) -> None:
        super().__init__()
        import polars_deltalake  # type: ignore[import-not-found]  # of the other environment

        self.version = _installed("polars-deltalake")
        self.scan = polars_deltalake.scan_delta


ENGINES: dict[str, Callable[[], Any]] = {
    "duckdb": DuckDB,
    "clickhouse": ClickHouse,
    "sail": Sail,
    "kernel": Kernel,
    "polars": Polars,
    "polars_kernel": PolarsKernel,
}


def _installed(name: str) -> str:
    from importlib.metadata import version

    return f"{name} {version(name)}"


def _answer(engine: Any, request: dict[str, Any]) -> object:  # noqa: ANN401 - one of ENGINES
    if "version" in request:
        return engine.version
    url, options = request["url"], request["options"]
    if "question" in request:
        return engine.ask(url, options, request["question"])
    found = engine.rows(url, options)
    with pa.OSFile(request["rows"], "wb") as sink, pa.ipc.new_file(sink, found.schema) as writer:
        writer.write_table(found)
    return found.num_rows


def main(name: str) -> None:
    """Answer until nobody asks any more."""
    engine = ENGINES[name]()
    for line in sys.stdin:
        try:
            told = {"answer": _answer(engine, json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is its answer
            told = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
    if hasattr(engine, "close"):
        engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
