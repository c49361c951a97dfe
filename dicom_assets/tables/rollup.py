"""How rows of `instance` become rows of `series` and `study`: pure functions over Arrow.

A value is that of the live instance with the greatest sequence that has one; a row without a
sequence (a table taken over from the template) comes before any other. Which column is made how
stands in `schema`.
"""

from typing import Literal, TypeAlias

import pyarrow as pa

from dicom_assets.schema import INSTANCE, Aggregate, Table
from dicom_assets.tables.arrow import Values, is_in, joined_key, pc, position
from dicom_assets.tables.store import Difference

_Function: TypeAlias = Literal["last", "max", "count", "count_distinct"]
_FUNCTIONS: dict[Aggregate, _Function] = {
    "latest": "last",
    "max": "max",
    "count": "count",
    "count_distinct": "count_distinct",
}


def columns_read(table: Table) -> list[str]:
    """Return the columns of `instance` that a rollup reads, in the order of `instance`."""
    sources = {column.source for column in table.columns} | {"sequence"}
    return [name for name in INSTANCE.names if name in sources]


def roll_up(live: pa.Table, table: Table) -> pa.Table:
    """Return the rows of `series` or `study` that the live rows of `instance` make."""
    keys = [table[name].source or name for name in table.key]
    # Sorted by the instance's key too, so that equal or missing sequences give one answer.
    rank = live.append_column("_rank", pc.fill_null(live["sequence"], -1))
    ordered = rank.sort_by([(name, "ascending") for name in ("_rank", *INSTANCE.key)])
    asked = [(c.source, _FUNCTIONS[c.aggregate]) for c in table.columns if c.aggregate and c.source]
    wanted = [pair for pair in dict.fromkeys(asked) if pair[0] not in keys]
    rows = ordered.group_by(keys, use_threads=False).aggregate(wanted)
    made = [
        rows[c.source if c.source in keys else f"{c.source}_{_FUNCTIONS[c.aggregate]}"]
        for c in table.columns
        if c.aggregate and c.source
    ]
    return pa.Table.from_arrays(made, names=table.names).cast(table.arrow())


def compare(existing: pa.Table, derived: pa.Table, table: Table) -> Difference:
    """Return what makes the existing rows equal to the derived ones, by key."""
    old_keys, new_keys = joined_key(existing, table.key), joined_key(derived, table.key)
    at = position(new_keys, old_keys)
    is_new = pc.is_null(at)
    same = _same_rows(existing.take(at), derived)
    return Difference(
        table,
        inserts=derived.filter(is_new),
        updates=derived.filter(pc.and_(pc.invert(is_new), pc.invert(same))),
        deletes=existing.filter(pc.invert(is_in(old_keys, new_keys))).select(list(table.key)),
    )


def _same_rows(left: pa.Table, right: pa.Table) -> Values:
    """Return which rows are equal in every column, null being equal to null alone."""
    same: Values = pa.array([True] * len(right), pa.bool_())
    for name in right.column_names:
        equal = pc.fill_null(pc.equal(left[name], right[name]), False)  # noqa: FBT003 - Arrow's own signature
        both_null = pc.and_(pc.is_null(left[name]), pc.is_null(right[name]))
        same = pc.and_(same, pc.or_(equal, both_null))
    return same
