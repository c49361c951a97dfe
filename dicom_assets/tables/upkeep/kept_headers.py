"""The headers that `instance` keeps, read again: what a sync would make of them now.

`metadata_string` holds a header as it came; a row that the template wrote holds something else
there, which is no header that can be read.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from dicom_assets.header.extraction import EDITION, Header, extraction
from dicom_assets.schema import INSTANCE, SERIES, STUDY, Table
from dicom_assets.tables.delta.arrow import Values, ints
from dicom_assets.tables.delta.snapshot import Snapshot, Store, unfilled
from dicom_assets.tables.upkeep.column_backfill import Extract

HEADER = "metadata_string"


def extract_of(table: Table, zone: str | None) -> Extract:
    """Return how values of the table's columns are made of the headers of rows."""

    def read(rows: pa.RecordBatch, names: Sequence[str]) -> tuple[pa.Table, Values]:
        asked = replace(table, columns=tuple(c for c in table.columns if c.name in set(names)))
        made = extraction(asked, zone)
        headers = [_decoded(made.decode, text) for text in rows.column(HEADER).to_pylist()]
        found, _ = made.columns([header for header in headers if header is not None])
        at = _places(headers)
        columns = [pa.array(found[f.name], f.type).take(at) for f in asked.arrow()]
        return pa.Table.from_arrays(columns, schema=asked.arrow()), at.is_valid()

    makes = frozenset(column.name for column in table.columns if column.paths)
    return Extract(read, (HEADER,), makes, f"{EDITION} {zone}")


def waiting(store: Store) -> dict[str, list[str]]:
    """Return by table the columns that were added and are not filled in its older rows."""
    snapshots = [store.open(table) for table in (INSTANCE, SERIES, STUDY)]
    found = {
        s.table.name: [name for name in unfilled(s.delta) if name in s.table.names]
        for s in snapshots
        if s.delta is not None
    }
    return {name: columns for name, columns in found.items() if columns}


def newest(store: Store, size: int) -> list[str]:
    """Return the headers of the rows with the greatest sequences."""
    snapshot = store.open(INSTANCE)
    return _headers(snapshot, ints(snapshot.greatest_values("sequence", size)["sequence"]))


def newest_of_series(store: Store, size: int, where: str) -> list[str]:
    """Return the newest header of each of so many series, the newest of a SQL condition's rows.

    The table exists. Neighbours in time lie in the same few files.
    """
    snapshot = store.open(INSTANCE)
    greatest = f"""SELECT max("sequence") AS top FROM t WHERE {where} AND "sequence" IS NOT NULL
        GROUP BY "partitionName", "seriesinstanceuid" ORDER BY top DESC LIMIT {size}"""  # noqa: S608 - a condition of constants
    return _headers(snapshot, ints(snapshot.query(greatest)["top"]))


def _headers(snapshot: Snapshot, sequences: list[int]) -> list[str]:
    found: list[str | None] = snapshot.rows_of("sequence", sequences, [HEADER])[HEADER].to_pylist()
    return [text for text in found if text is not None]


def _decoded(decode: Callable[[bytes], Header | None], text: str | None) -> Header | None:
    return None if text is None else decode(text.encode())


def _places(headers: Sequence[Header | None]) -> "pa.Array[pa.Int64Scalar]":
    """Return for each row the place of its header among those that can be read, else null."""
    places, count = [], 0
    for header in headers:
        places.append(None if header is None else count)
        count += header is not None
    return pa.array(places, pa.int64())
