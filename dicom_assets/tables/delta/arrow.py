"""Arrow as the tables use it: columns with a type, masks, look-ups by key.

The stubs of Arrow's compute functions have no overload for columns whose type is known at run
time only; so `pc` is untyped, and what leaves this module is typed again.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate, chain
from typing import Any, TypeAlias, TypeVar, cast

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute
Values: TypeAlias = "pa.Array[Any] | pa.ChunkedArray[Any]"
_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


def ints(column: Values) -> list[int]:
    """Return a column of whole numbers without nulls as a list."""
    return cast("list[int]", column.to_pylist())


def texts(column: Values) -> list[str]:
    """Return a column of texts without nulls as a list."""
    return cast("list[str]", column.to_pylist())


def distinct(column: Values) -> list[str]:
    """Return the different texts of a column, ascending."""
    return sorted(texts(pc.unique(column)))


def flat(column: Values, type_: pa.DataType) -> "pa.Array[Any]":
    """Return a column in one piece; an empty one has the type given, too."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    build: Any = pa.chunked_array
    return cast("pa.Array[Any]", build(chunks, type_).combine_chunks())


def numbers(values: Iterable[int]) -> "pa.Array[Any]":
    """Return whole numbers as a column."""
    return pa.array(list(values), pa.int64())


def packed(column: "pa.Array[Any]") -> bytes:
    """Return numbers without nulls as they lie in memory, little-endian."""
    width, values = column.type.bit_width // 8, column.buffers()[1]
    start = column.offset * width
    return b"" if values is None else values.slice(start, len(column) * width).to_pybytes()


def joined_key(table: pa.Table, names: Iterable[str]) -> "pa.Array[Any]":
    """Return one text per row: the values of some columns, joined."""
    # Neither a UID nor the name of a data partition has this separator.
    joined = pc.binary_join_element_wise(*(table[name] for name in names), "|")
    return flat(joined, pa.string())


def filter_in(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Return the rows whose column holds one of the values."""
    return table.filter(is_in(table[column], values))


def filter_out(table: pa.Table, column: str, values: Values) -> pa.Table:
    """Return the rows whose column holds none of the values."""
    return table.filter(pc.invert(is_in(table[column], values)))


def is_in(column: Values, values: Values) -> Values:
    """Return a mask of the values of a column that are among those given."""
    return cast("Values", pc.is_in(column, value_set=flat(values, column.type)))


def position(column: Values, among: Values) -> "pa.Array[Any]":
    """Return the index of each value of a column among others; null for a value without one."""
    return flat(pc.index_in(column, value_set=flat(among, column.type)), pa.int32())


def looked_up(column: Values, keys: Values, values: Values) -> Values:
    """Return, for each value of a column, the value beside the equal key; null without a key."""
    return values.take(position(column, keys))


def taken(column: "pa.ChunkedArray[Any]", at: "pa.Array[Any]") -> "pa.Array[Any]":
    """Return the values of a column at some places. Only those are copied, whatever its chunks."""
    starts = list(accumulate(map(len, column.chunks), initial=0))
    of_chunk, places = defaultdict[int, list[int]](list), ints(at)
    for place in places:
        of_chunk[bisect_right(starts, place) - 1].append(place)
    parts: Any = [
        column.chunk(n).take(numbers(place - starts[n] for place in own))
        for n, own in of_chunk.items()
    ]
    order = position(numbers(places), numbers(chain(*of_chunk.values())))
    return flat(pa.chunked_array(parts, column.type), column.type).take(order)


def padded(part: _Rows, schema: pa.Schema) -> _Rows:
    """Return rows with all columns of a schema; those that the part lacks are null."""
    if part.schema.equals(schema):
        return part
    columns = [
        part[f.name].cast(f.type) if f.name in part.column_names else pa.nulls(len(part), f.type)
        for f in schema
    ]
    return type(part).from_arrays(columns, schema=schema)
