"""Apache Spark reads Parquet files column by column: run by the interpreter that has it.

On stdin a JSON object, the files of each table by its name. On stdout one too: for each column of
each table its values, or the error's class. Settings of reading are Spark's defaults. Delta's
libraries are in Maven only, so whoever asks reads the log. Nothing of the project is used.
"""

import json
import re
import sys
from typing import Any

from pyspark.sql import DataFrame, SparkSession  # type: ignore[import-not-found]  # of the other environment


def main() -> None:
    """Answer the one question."""
    asked: dict[str, list[str]] = json.load(sys.stdin)
    building = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = building.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    told = {}
    for table, files in asked.items():
        frame = spark.read.parquet(*files)
        told[table] = {name: _read(frame, name) for name in frame.columns}
    spark.stop()
    json.dump({"version": spark.version, "tables": told}, sys.stdout, default=str)


def _read(frame: DataFrame, name: str) -> Any:  # noqa: ANN401 - a list of values, or an error
    try:
        rows = frame.select(f"`{name}`").collect()
    except Exception as error:  # noqa: BLE001 - the answer is that it fails
        found = re.search(r"\[[A-Z_.]+\]", str(error))
        return found[0] if found else type(error).__name__
    return [row.asDict(recursive=True)[name] for row in rows]


main()
