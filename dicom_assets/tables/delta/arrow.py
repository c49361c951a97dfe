"""Arrow as the tables use it: columns with a type, masks, look-ups by key.

The stubs of Arrow's compute functions have no overload for columns whose type is known at run
time only; so `pc` is untyped, and what leaves this module is typed again.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute
Values: TypeAlias = "pa.Array[Any] | pa.ChunkedArray[Any]"

# Stands neither in a UID nor in the name of a data partition.
_SEPARATOR = "|"


def ints(column: Values) -> list[int]:
    """Return a column of whole numbers without nulls as a list."""
    found: list[int] = column.to_pylist()  # type: ignore[assignment]  # the stubs add None
    return found


def texts(column: Values) -> list[str]:
    """Return a column of texts without nulls as a list."""
    found: list[str] = column.to_pylist()  # type: ignore[assignment]  # the stubs add None
    return found


def distinct(column: Values) -> list[str]:
    """Return the different texts of a column, in order."""
    return sorted(texts(pc.unique(column)))


def flat(column: Values, type_: pa.DataType) -> "pa.Array[Any]":
    """Return a column in one piece, of the type given also when it is empty."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    build: Any = pa.chunked_array
    joined: pa.Array[Any] = build(chunks, type_).combine_chunks()
    return joined


def numbers(values: Iterable[int]) -> "pa.Array[Any]":
    """Return whole numbers as a column."""
    return pa.array(list(values), pa.int64())


def joined_key(table: pa.Table, names: Iterable[str]) -> "pa.Array[Any]":
    """Return one text per row that stands for the values of some columns."""
    joined = pc.binary_join_element_wise(*(table[name] for name in names), _SEPARATOR)
    return flat(joined, pa.string())


def filter_in(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Return the rows whose column holds one of the values."""
    return table.filter(is_in(table[column], values))


def filter_out(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Return the rows whose column holds none of the values."""
    return table.filter(pc.invert(is_in(table[column], values)))


def is_in(column: Values, values: Values) -> Values:
    """Return which values of a column are among those given."""
    found: Values = pc.is_in(column, value_set=flat(values, column.type))
    return found


def position(column: Values, among: Values) -> "pa.Array[Any]":
    """Return where each value of a column stands among others; null where it does not."""
    found = pc.index_in(column, value_set=flat(among, column.type))
    return flat(found, pa.int32())


def looked_up(column: Values, keys: Values, found: Values) -> Values:
    """Return, for each value of a column, what stands beside the equal key; null without one."""
    taken: Values = found.take(position(column, keys))
    return taken
