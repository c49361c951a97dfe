"""Parts of the tests of backfills: a small table of headers, and columns added to it.

A header here is a JSON object by column name. Run as a module, it fills the table at a path and
kills itself where it is told to.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.schema import Field

from dicom_assets.schema import INT64, STRING, TIMESTAMP, Column, Table
from dicom_assets.tables.delta.arrow import Values
from dicom_assets.tables.delta.commit import FILLED
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.outcome import Outcome
from dicom_assets.tables.upkeep import column_backfill

Row = dict[str, Any]

DAY = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
PARTITION = "Microsoft.Default"
ADDED = ("age", "room")
"""The columns that come later."""

NARROW = Table(
    "kept",
    key=("partitionName", "sequence"),
    partition_column="partitionName",
    columns=(
        Column("partitionName", STRING, "data partition"),
        Column("sequence", INT64, "key"),
        Column("metadata_string", STRING, "header"),
        Column("name", STRING, "a column as old as the table"),
        Column("moment", TIMESTAMP, "another"),
    ),
)
WIDE = Table(
    NARROW.name,
    NARROW.key,
    (
        *NARROW.columns,
        Column("age", INT64, "number", added=True),
        Column("room", STRING, "text", added=True),
    ),
    partition_column=NARROW.partition_column,
)


def row(sequence: int, *, header: str | None = "", **values: object) -> Row:
    """A row of the narrow table; its header holds the values of the added columns."""
    said = {"age": sequence * 10, "room": f"room {sequence % 3}"} | values
    return {
        "partitionName": PARTITION,
        "sequence": sequence,
        "metadata_string": json.dumps(said) if header == "" else header,
        "name": f"name {sequence}",
        "moment": DAY.replace(microsecond=sequence),
    }


def filled(row: Row) -> Row:
    """The same row as a fresh sync writes it into the wide table."""
    try:
        said = json.loads(row["metadata_string"] or "")
    except ValueError:
        said = {}
    return {**dict.fromkeys(ADDED), **row, **{n: v for n, v in said.items() if n in ADDED}}


def store_at(root: Path) -> Store:
    """The store that has the table under the folder."""
    return Store({WIDE.name: str(root / WIDE.name)}, {WIDE.name: WIDE}, 720)


def opened(store: Store) -> Snapshot:
    """The newest version of the table, under its present columns."""
    return store.open(WIDE)


def append(store: Store, rows: Iterable[Row], table: Table = NARROW, **how: Any) -> None:  # noqa: ANN401 - the engine's own
    """Another process appends rows, as one file of each data partition."""
    given = pa.Table.from_pylist(list(rows), schema=table.arrow())
    write_deltalake(
        store.urls[WIDE.name], given, mode="append", partition_by=["partitionName"], **how
    )


def widen(store: Store) -> None:
    """The table has the added columns, which are null and marked."""
    delta = DeltaTable(store.urls[WIDE.name])
    fields = [WIDE[name].field() for name in ADDED]
    marked = [f.with_metadata({"told": f.name, FILLED: "false"}) for f in fields]
    delta.alter.add_columns([Field.from_arrow(f) for f in marked])


def held(store: Store, where: str = "") -> list[Row]:
    """The rows of the table as the engine reads them, in order."""
    delta = DeltaTable(store.urls[WIDE.name])
    sql = f'SELECT * FROM t {where} ORDER BY "partitionName", sequence'  # noqa: S608 - constants
    found = QueryBuilder().register("t", delta).execute(sql).read_all()
    return sorted(pa.table(found).to_pylist(), key=_order)


def _order(row: Row) -> tuple[str, int]:
    return str(row["partitionName"]), row["sequence"]


def read(piece: pa.RecordBatch, columns: Sequence[str]) -> tuple[pa.Table, Values]:
    """The added columns from headers; what is no JSON of an object is not usable."""
    headers = [_header(text) for text in piece.column("metadata_string").to_pylist()]
    values = {n: pa.array([(h or {}).get(n) for h in headers], WIDE[n].type) for n in columns}
    return pa.table(values), pa.array([header is not None for header in headers])


def _header(text: object) -> Row | None:
    try:
        found = json.loads(str(text))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


EXTRACT = column_backfill.Extract(read)


def fill(store: Store, extract: column_backfill.Extract = EXTRACT, run_id: str = "r") -> Outcome:
    """The table is filled by one run."""
    return column_backfill.fill(store, WIDE, extract, Run(run_id, NOW))


def _killed(step: Callable[..., Any], number: int, *, after: bool) -> Callable[..., Any]:
    """The step, of which the process does not survive the numbered call."""
    calls = 0

    def stepped(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the step takes
        nonlocal calls
        calls += 1
        if calls == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = step(*given, **named)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return stepped


def main(root: str, when: str, step: str, number: str) -> None:
    """Fill the table under the root, and die before or after a call of `rewrite` or `commit`."""
    column_backfill.GROUP_ROWS = 20  # type: ignore[misc]  # several commits of a small table
    killed = _killed(getattr(column_backfill, step), int(number), after=when == "after")
    setattr(column_backfill, step, killed)
    fill(store_at(Path(root)))


if __name__ == "__main__":
    main(*sys.argv[1:])
