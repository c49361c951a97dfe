"""How rows of `instance` become rows of `series` and `study`: pure functions over Arrow.

Which column is made how stands in `schema`, how each aggregate is computed in `aggregates`.
"""

from itertools import islice

import pyarrow as pa

from dicom_assets.schema import INSTANCE, Table
from dicom_assets.tables.aggregates import Groups, part_of
from dicom_assets.tables.delta.arrow import Values, is_in, joined_key, pc, position
from dicom_assets.tables.delta.snapshot import Difference
from dicom_assets.tables.readings import converted


def columns_read(table: Table) -> list[str]:
    """Return the columns of `instance` that a rollup reads, each once."""
    sources = [source for column in table.columns for source in column.sources]
    return list(dict.fromkeys([*INSTANCE.key, "sequence", *sources]))


def roll_up(live: pa.Table, table: Table, service_base: str | None = None) -> pa.Table:
    """Return the rows of `series` or `study` that the live rows of `instance` make.

    `service_base` is the service's address with its version, None when it has none that lasts.
    """
    keys = tuple(table[name].sources[0] for name in table.key)
    groups = Groups(live, keys, service_base)
    parts = [part_of(groups, column) for column in table.columns]
    measured = iter(groups.measured([measure for part in parts for measure in part.measures]))
    made = [part.made(*islice(measured, len(part.measures))) for part in parts]
    types = [column.type for column in table.columns]
    fitted = [converted(values, type_) for values, type_ in zip(made, types, strict=True)]
    return pa.Table.from_arrays(fitted, schema=table.arrow())


def compare(existing: pa.Table, derived: pa.Table, table: Table) -> Difference:
    """Return what makes the existing rows equal to the derived ones, by key.

    A row that differs only in columns that are not compared stays as it is.
    """
    old_keys, new_keys = joined_key(existing, table.key), joined_key(derived, table.key)
    at = position(new_keys, old_keys)
    is_new = pc.is_null(at)
    compared = [column.name for column in table.columns if column.compared]
    same = _same_rows(existing.take(at), derived, compared)
    return Difference(
        table,
        inserts=derived.filter(is_new),
        updates=derived.filter(pc.and_(pc.invert(is_new), pc.invert(same))),
        deletes=existing.filter(pc.invert(is_in(old_keys, new_keys))).select(list(table.key)),
    )


def _same_rows(left: pa.Table, right: pa.Table, names: list[str]) -> Values:
    """Return which rows are equal in the named columns, null being equal to null alone."""
    same: Values = pa.array([True] * len(right), pa.bool_())
    for name in names:
        equal = pc.fill_null(pc.equal(left[name], right[name]), False)  # noqa: FBT003 - Arrow's own signature
        both_null = pc.and_(pc.is_null(left[name]), pc.is_null(right[name]))
        same = pc.and_(same, pc.or_(equal, both_null))
    return same
