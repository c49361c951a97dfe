"""`series` and `study` made anew in plain Python: what the rollup's Arrow is compared with.

Written from the specification of each aggregate. Rows are dictionaries; a group's rows come in the
order of their sequence, those without one first, and by key where it is the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
from pydicom.uid import UID

from dicom_assets.header.values import whole
from dicom_assets.schema import INSTANCE, Column, Table
from dicom_assets.tables.rollup import columns_read, roll_up
from dicom_assets_tests.support.tables import DEFAULT, Row

Rows: TypeAlias = list[Mapping[str, Any]]

BASE = "https://host/v2"


def arrow(rows: Rows, table: Table) -> pa.Table:
    """Rows of `instance`, with the columns that a rollup reads."""
    return pa.Table.from_pylist([dict(row) for row in rows], INSTANCE.arrow(columns_read(table)))


def by_arrow(rows: Rows, table: Table, base: str | None = BASE) -> list[Row]:
    """The rollup that is tested, in the order of its keys."""
    return in_order(roll_up(arrow(rows, table), table, base).to_pylist(), table)


def by_hand(rows: Rows, table: Table, base: str | None = BASE) -> list[Row]:
    """The same in plain Python."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in sorted(rows, key=_rank):
        names = (table[name].sources[0] for name in table.key)
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    made = ({c.name: value_of(c, group, base) for c in table.columns} for group in groups.values())
    return in_order(made, table)


def in_order(rows: Iterable[Row], table: Table) -> list[Row]:
    """Rows in the order of their keys."""
    return sorted(rows, key=lambda row: [str(row[name]) for name in table.key])


def _rank(row: Mapping[str, Any]) -> tuple[object, ...]:
    sequence = row.get("sequence")
    return (-1 if sequence is None else sequence, *(row[name] for name in INSTANCE.key))


def value_of(column: Column, group: Rows, base: str | None) -> object:
    """The value of a column in the row of a group."""
    if column.aggregate == "conflicts":
        return sum(len(set(_values(group, (name,)))) > 1 for name in column.sources)
    if column.aggregate == "address":
        return _address(group[0], base)
    if column.aggregate == "frames":
        return sum(max(1, row.get(column.sources[0]) or 1) for row in group)
    values = _values(group, column.sources)
    if column.type == pa.int32() and INSTANCE[column.sources[0]].type == pa.string():
        values = list(_numbers(values) if column.aggregate == "latest" else values)
    return _MADE[column.aggregate or ""](values)


def _values(group: Rows, sources: tuple[str, ...]) -> list[Any]:
    """The values of a group; of each row the first of several columns that has one."""
    several = ([row[n] for n in sources if row.get(n) is not None] for row in group)
    return [found[0] for found in several if found]


def _numbers(texts: Iterable[str]) -> Iterator[int]:
    for text in texts:
        number = whole([text], 32)
        if isinstance(number, int):
            yield number


def _address(row: Mapping[str, Any], base: str | None) -> str | None:
    partition, study = row["partitionName"], row["studyinstanceuid"]
    inside = "" if partition == DEFAULT else f"/partitions/{partition}"
    return None if base is None else f"{base}{inside}/studies/{study}"


def _distinct(texts: Iterable[object]) -> str | None:
    parts = {part for text in texts for part in str(text).split("\\")} - {""}
    return "\\".join(sorted(parts)) or None


def _named(texts: Iterable[str]) -> str | None:
    return _distinct(UID(part).name for text in texts for part in text.split("\\") if part)


def _span(moments: list[Any]) -> float | None:
    return (max(moments) - min(moments)).total_seconds() if moments else None


_MADE: dict[str, Callable[[list[Any]], object]] = {
    "latest": lambda values: values[-1] if values else None,
    "same": lambda values: values[0] if len(set(values)) == 1 else None,
    "max": lambda values: max(values, default=None),
    "min": lambda values: min(values, default=None),
    "sum": lambda values: sum(values) if values else None,
    "mean": lambda values: sum(values) / len(values) if values else None,
    "distinct": _distinct,
    "names": _named,
    "count": len,
    "count_distinct": lambda values: len(set(values)),
    "span": _span,
}
