"""Removal of the rows of data partitions that are not kept any more.

Steps, in this order. Each may end anywhere and be done again, and may run beside a writer:

| step | what is true afterwards |
|---|---|
| seals | no hour counts as read with another data partition, and digests leave its entries out |
| log | `change` and `rejected` have none of its entries |
| seals | the same for hours that were sealed meanwhile |
| tables | `instance` and the tables derived from it have none of its rows |

Seals come first, because an hour must not promise entries that are gone. The log comes before
`instance`, because a run that follows the log would insert the rows again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pyarrow as pa

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SYNC, Table
from dicom_assets.tables import change, rejected
from dicom_assets.tables.delta.arrow import filter_in, filter_out, ints
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.snapshot import Store, literals
from dicom_assets.tables.rollup import rederive
from dicom_assets.tables.sync import (
    PARTITIONS,
    Hour,
    forget_switched_off,
    hours_of,
    narrowed_note,
    sealed_window,
)
from dicom_assets.window import HOUR, Window

_COLUMN: Final = "partitionName"
# Hours whose entries are compared with their seals at once.
_SLICE_HOURS: Final = 720


def unwanted_rows(store: Store, kept: frozenset[str]) -> dict[str, dict[str, int]]:
    """Return by table the number of rows of each data partition that is not kept."""
    counts = {table.name: _unwanted(store, table, kept) for table in (CHANGE, *_followers(store))}
    return {table: listed for table, listed in counts.items() if listed}


def remove_unwanted(store: Store, kept: frozenset[str], run: Run) -> None:
    """Remove all rows of data partitions that are not kept, and keep the seals true."""
    narrow_seals = partial(_narrow_seals, store, kept, run)
    settle(partial(store.version, CHANGE), narrow_seals)
    log = store.open(CHANGE)
    logged = log.rows_of("sequence", rejected.sequences(store), ["sequence", _COLUMN])
    rejected.clear(store, ints(filter_out(logged, _COLUMN, _names(kept))["sequence"]), run)
    _remove(store, CHANGE, kept, run)
    settle(partial(store.version, CHANGE), narrow_seals)
    forget_switched_off(store, run)
    for table in _followers(store):
        # A function may derive rows from several data partitions.
        if table.derive is None:
            _remove(store, table, kept, run)
        else:
            rederive(store, table, run)


def _followers(store: Store) -> list[Table]:
    return [t for t in store.tables.values() if t.name == INSTANCE.name or t.is_derived]


def _names(kept: frozenset[str]) -> "pa.Array[Any]":
    return pa.array(sorted(kept), pa.string())


def _unwanted(store: Store, table: Table, kept: frozenset[str]) -> dict[str, int]:
    if _COLUMN not in table.names:
        return {}
    counts = store.open(table).counts(_COLUMN).to_pylist()
    found = {row[_COLUMN]: row["count"] for row in counts if row[_COLUMN] is not None}
    return {name: count for name, count in sorted(found.items()) if name not in kept}


def _remove(store: Store, table: Table, kept: frozenset[str], run: Run) -> None:
    where = f'"{_COLUMN}" NOT IN ({literals(sorted(kept))})'

    def attempt() -> None:
        if unwanted := _unwanted(store, table, kept):
            run.say(f"{table.name}: {sum(unwanted.values()):,} rows are removed")
            store.open(table).delete(where, {"run_id": run.run_id, "narrowed": len(unwanted)})

    converge(attempt)


def _narrow_seals(store: Store, kept: frozenset[str], run: Run) -> None:
    """Narrow every seal in one commit. Marks stay, because no row that is kept changes.

    An hour whose seal does not agree with the log is opened, so that it is read again.
    """
    sync = store.open(SYNC)
    rows = sync.rows().sort_by("hour").to_pylist()
    changed = []
    for start in range(0, len(rows), _SLICE_HOURS):
        part = [row for row in rows[start : start + _SLICE_HOURS] if row["hour"] is not None]
        changed += list(_changed_seals(store, part, kept))
    names = [column.name for column in SYNC.columns]
    patch = pa.Table.from_pylist(changed, schema=SYNC.arrow(names))
    sync.commit(Difference(SYNC, patches=patch), {"run_id": run.run_id})


def _changed_seals(
    store: Store, rows: list[dict[str, Any]], kept: frozenset[str]
) -> Iterator[Mapping[str, Any]]:
    if not rows:
        return
    window = Window.between(rows[0]["hour"], rows[-1]["hour"] + HOUR)
    columns = ["sequence", "timestamp_ticks", "action", _COLUMN]
    logged = change.rows_in(store.open(CHANGE), window, columns)
    waiting = store.open(REJECTED).rows(["sequence", "timestamp_ticks"]).to_pylist()
    known = set(ints(logged["sequence"]))
    refused = [
        Rejection(row["sequence"], row["timestamp_ticks"], "")
        for row in waiting
        if row["sequence"] is not None and row["sequence"] not in known
    ]
    wanted = filter_in(logged, _COLUMN, _names(kept))
    before, after = (
        {hour.start: hour for hour in hours_of(window, entries, refused)}
        for entries in (logged, wanted)
    )
    for row in rows:
        new = row | _seal_after(row, before[row["hour"]], after[row["hour"]])
        new[PARTITIONS] = narrowed_note(row[PARTITIONS], kept)
        if new != row:
            yield {name: new[name] for name in SYNC.names}


def _seal_after(row: Mapping[str, Any], before: Hour, after: Hour) -> dict[str, Any]:
    """Return the columns of an hour's seal without the entries that are removed."""
    if row["digest"] == after.digest:
        return {}
    if row["digest"] != before.digest:
        return {CHANGE.mark: None}
    return replace(after, window=sealed_window(row)).seal_columns()
