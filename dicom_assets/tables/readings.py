"""Columns of `instance` as a rollup reads them: converted to its types, text by dictionary.

A text column is a dictionary of the different texts, and a number for each row. So grouping and
comparing rows costs the same as for numbers, and each text is parsed once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias

import pyarrow as pa

from dicom_assets.header.values import Unparsable, day, real, whole
from dicom_assets.schema import DATE, DOUBLE, INT32, INT64, STRING
from dicom_assets.tables.delta.arrow import Values, flat, pc

Array: TypeAlias = "pa.Array[Any]"

# Text of an instance column is parsed as a header's value of that type.
_READERS: Final[dict[pa.DataType, Callable[[list[object]], object]]] = {
    INT32: partial(whole, bits=32),
    INT64: partial(whole, bits=64),
    DOUBLE: real,
    DATE: day,
}


@dataclass(frozen=True)
class Readings:
    """The values of a column, one for each row; null where a row has none.

    `numbers` are the values themselves, or for text the index in `texts`, which has each text once.
    """

    numbers: Array
    texts: Array = field(default_factory=lambda: pa.array([], STRING))
    is_text: bool = False

    @classmethod
    def of(cls, column: Values) -> "Readings":
        """Return the values of a column in its own order."""
        if not pa.types.is_string(column.type):
            return cls(flat(column, column.type))
        # All chunks of a chunked array get the dictionary of the whole.
        coded: Any = pa.chunked_array(column).dictionary_encode()
        numbers = [piece.indices for piece in coded.chunks]
        texts = coded.chunk(0).dictionary if numbers else pa.array([], STRING)
        return cls(flat(pa.chunked_array(numbers, pa.int32()), pa.int32()), texts, is_text=True)

    def shown(self, numbers: Array) -> Array:
        """Return the values of some of the numbers."""
        return self.texts.take(numbers) if self.is_text else numbers

    def take(self, rows: Array) -> "Readings":
        """Return the values of some rows, in their order."""
        return replace(self, numbers=self.numbers.take(rows))

    def converted(self, type_: pa.DataType) -> "Readings":
        """Return the values as another type; null where one cannot be converted."""
        if not self.is_text:
            return Readings.of(converted(self.numbers, type_))
        if pa.types.is_string(type_):
            return self
        return Readings(converted(self.texts, type_).take(self.numbers))

    def ascending(self) -> "Readings":
        """Return the same values, with texts and their numbers in the order of code points."""
        if not self.is_text:
            return self
        order = pc.sort_indices(self.texts).cast(pa.int32())
        numbers = pc.inverse_permutation(order).take(self.numbers)
        return replace(self, numbers=numbers, texts=self.texts.take(order))


def converted(values: Array, type_: pa.DataType) -> Array:
    """Return values as another type, null where one does not parse or does not fit.

    Text becomes numbers or days, numbers become other numbers, and all become text.
    """
    if values.type == type_:
        return values
    if pa.types.is_string(values.type):
        read = [_READERS[type_]([text]) for text in values.to_pylist()]
        return pa.array([None if isinstance(one, Unparsable) else one for one in read], type_)
    if type_ == INT32:
        values = kept(values, pc.and_(pc.greater_equal(values, -(2**31)), pc.less(values, 2**31)))
    # The others fit. A large whole number may lose its last digits as a floating-point number.
    return values.cast(type_, safe=False)


def kept(values: Array, mask: Values) -> Array:
    """Return values with null where the mask is not true."""
    masked: Array = pc.if_else(mask, values, pa.scalar(None, values.type))
    return masked
