"""Headers in the column `metadata_string` of `instance`, read into columns again.

The result is what a sync would write now. A row that the template wrote holds another text in
`metadata_string`, which does not decode as a header and is left out.
"""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from dicom_assets.header.extraction import EDITION, extraction
from dicom_assets.header.values import FIRST_DAY, FIRST_MOMENT, person_name
from dicom_assets.schema import DATE, INSTANCE, STRING, TIMESTAMP, Column, Table
from dicom_assets.tables.delta.arrow import Values, ints, pc
from dicom_assets.tables.delta.commit import MADE_BY, unfilled
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.upkeep.column_backfill import Extract

HEADER = "metadata_string"


def extract_of(table: Table, zone: str | None, *, anew: bool = False) -> Extract:
    """Return how the backfill derives the table's columns from the headers of its rows.

    It derives all of them with `anew`, otherwise those that are unfilled.
    """

    def read(rows: pa.RecordBatch, names: Sequence[str]) -> tuple[pa.Table, Values]:
        narrow = replace(table, columns=tuple(c for c in table.columns if c.name in set(names)))
        extract = extraction(narrow, zone)
        headers = [
            None if text is None else extract.decode(text.encode())
            for text in rows.column(HEADER).to_pylist()
        ]
        values, _ = extract.columns([header for header in headers if header is not None])
        numbers = iter(range(len(headers)))
        # For each row the place of its header among the decoded ones, else null.
        at = pa.array([None if h is None else next(numbers) for h in headers], pa.int64())
        columns = [pa.array(values[f.name], f.type).take(at) for f in narrow.arrow()]
        return pa.Table.from_arrays(columns, schema=narrow.arrow()), at.is_valid()

    # The key is the entry's, and stays.
    makes = frozenset(c.name for c in table.columns if c.paths and c.name not in table.key)
    return Extract(read, (HEADER,), makes, f"{EDITION} {zone}", anew, _kept)


def _kept(column: Column, old: Values) -> Values:
    """Return values whose header is not kept, in the form and within the limits of this edition."""
    if column.form in {"name", "ideographic", "phonetic"}:
        return pa.array([person_name([name]) for name in old.to_pylist()], STRING)
    limit = {DATE: FIRST_DAY, TIMESTAMP: FIRST_MOMENT}.get(column.type)
    return old if limit is None else pc.if_else(pc.less(old, pa.scalar(limit, old.type)), None, old)


def is_outdated(store: Store) -> bool:
    """Return whether rows of `instance` may come from another edition of `header`."""
    instance = store.open(INSTANCE)
    return instance.delta is not None and instance.property(MADE_BY) != str(EDITION)


def mark_up_to_date(store: Store, run: Run) -> None:
    """Mark every row of `instance`, and of what is derived from it, as of this edition."""
    note = {"run_id": run.run_id, "properties": 1}
    converge(lambda: store.open(INSTANCE).set_property(MADE_BY, str(EDITION), note))


def unfilled_columns(store: Store) -> dict[str, list[str]]:
    """Return by table the columns that were added and are not filled in its older rows."""
    columns = {}
    for table in store.tables.values():
        delta = store.open(table).delta
        if delta is not None and (names := [n for n in unfilled(delta) if n in table.names]):
            columns[table.name] = names
    return columns


def newest_headers(store: Store, size: int) -> list[str]:
    """Return the headers of the rows with the `size` greatest sequences."""
    snapshot = store.open(INSTANCE)
    return _headers(snapshot, ints(snapshot.greatest_values("sequence", size)["sequence"]))


def newest_headers_of_series(store: Store, size: int, condition: str) -> list[str]:
    """Return the newest header of each of the `size` newest series among a SQL condition's rows.

    The table must exist. Rows that are neighbours in time lie in the same few files.
    """
    snapshot = store.open(INSTANCE)
    greatest = f"""SELECT max("sequence") AS top FROM t
        WHERE {condition} AND "sequence" IS NOT NULL
        GROUP BY "partitionName", "seriesinstanceuid" ORDER BY top DESC LIMIT {size}"""  # noqa: S608 - a condition of constants
    return _headers(snapshot, ints(snapshot.query(greatest)["top"]))


def _headers(snapshot: Snapshot, sequences: list[int]) -> list[str]:
    texts: list[str | None] = snapshot.rows_of("sequence", sequences, [HEADER])[HEADER].to_pylist()
    return [text for text in texts if text is not None]
