"""What the live instances of a series or study make of a column: each aggregate of `schema`.

An aggregate is a `Part`: what it wants measured in every group of rows, and what it makes of that.
So one grouping does for all columns of a table. All of it is Arrow, a column at a time; only the
names of SOP classes are looked up one by one, once each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import pyarrow as pa

from dicom_assets.schema import DOUBLE, INSTANCE, INT32, INT64, STRING, Aggregate, Column
from dicom_assets.schema.columns import DEFAULT_PARTITION, PARTITION_COLUMN
from dicom_assets.tables.delta.arrow import flat, numbers, pc, position
from dicom_assets.tables.readings import Array, Readings, converted, kept

# Between the values of one attribute (PS3.5 6.2), and so between those of several instances.
DELIMITER: Final = "\\"
_MICROSECONDS: Final = 1e6

Function: TypeAlias = Literal[
    "count", "count_distinct", "distinct", "last", "mean", "min_max", "sum"
]


class Measure(NamedTuple):
    """One value for each row, and the function of Arrow's that is wanted of each group's."""

    values: Array
    function: Function


class Part(NamedTuple):
    """What a column wants measured, and what makes its values of that: one for each group."""

    measures: Sequence[Measure]
    made: Callable[..., Array]


@dataclass(frozen=True)
class Groups:
    """Live rows of `instance`, in the order of their sequence, grouped by the columns `keys`.

    A row without a sequence (a table taken over from the template) comes before any other. Groups
    are in the order of their first rows. `service_base` is the service's address, if it has one.
    """

    live: pa.Table
    keys: tuple[str, ...]
    service_base: str | None = None
    _read: dict[tuple[str, ...], Readings] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _order(self) -> Array:
        # By the instance's key too, so that equal or missing sequences give one answer.
        rank = self.live.append_column("_rank", pc.fill_null(self.live["sequence"], -1))
        by = [(name, "ascending") for name in ("_rank", *INSTANCE.key)]
        order: Array = pc.sort_indices(rank, by)
        return order

    @cached_property
    def numbers(self) -> Array:
        """The number of each row's group."""
        found: Array = pa.nulls(self.live.num_rows, INT64).fill_null(0)
        for key in self.keys:
            more = self.read((key,))
            wider = pc.multiply(found.cast(INT64), len(more.texts))
            found = pc.add(wider, more.numbers.cast(INT64)).dictionary_encode().indices
        return found

    def read(self, sources: tuple[str, ...]) -> Readings:
        """Return the values of a column of `instance`: of several, the first that has one."""
        if sources not in self._read:
            columns = [self.live[name] for name in sources]
            column = pc.coalesce(*columns) if len(columns) > 1 else columns[0]
            self._read[sources] = Readings.of(column).take(self._order)
        return self._read[sources]

    def measured(self, measures: Sequence[Measure]) -> list[Array]:
        """Return for each measure what it is in each group, in the order of groups."""
        named = {str(i): measure.values for i, measure in enumerate(measures)}
        wanted = [(str(i), measure.function) for i, measure in enumerate(measures)]
        rows = pa.table({"group": self.numbers, **named})
        # Without threads the order is kept: that of rows in a group, and that of groups.
        found = rows.group_by("group", use_threads=False).aggregate(wanted)
        columns = [found[f"{name}_{function}"] for name, function in wanted]
        return [flat(column, column.type) for column in columns]


def part_of(groups: Groups, column: Column) -> Part:
    """Return what a column of `series` or `study` is made of, and how."""
    return _PARTS[column.aggregate](groups, column)


def _latest(groups: Groups, column: Column) -> Part:
    found = groups.read(column.sources).converted(column.type)
    return Part([Measure(found.numbers, "last")], found.shown)


def _same(groups: Groups, column: Column) -> Part:
    found = groups.read(column.sources).converted(column.type)
    measure = Measure(found.numbers, "min_max")
    return Part([measure], lambda ends: found.shown(kept(_least(ends), _are_one(ends))))


def _min(groups: Groups, column: Column) -> Part:
    found = groups.read(column.sources).converted(column.type).ascending()
    return Part([Measure(found.numbers, "min_max")], lambda ends: found.shown(_least(ends)))


def _max(groups: Groups, column: Column) -> Part:
    found = groups.read(column.sources).converted(column.type).ascending()
    return Part([Measure(found.numbers, "min_max")], lambda ends: found.shown(_greatest(ends)))


def _least(ends: Array) -> Array:
    least: Array = pc.struct_field(ends, "min")
    return least


def _greatest(ends: Array) -> Array:
    greatest: Array = pc.struct_field(ends, "max")
    return greatest


def _are_one(ends: Array) -> Array:
    """Return whether the least and the greatest are the same; null where there is none."""
    equal: Array = pc.equal(_least(ends), _greatest(ends))
    return equal


def _sum(groups: Groups, column: Column) -> Part:
    # Rows being in order, a sum of floating-point numbers is the same after every read.
    wide = INT64 if pa.types.is_integer(column.type) else DOUBLE
    return _as_measured(groups.read(column.sources).converted(wide).numbers, "sum")


def _mean(groups: Groups, column: Column) -> Part:
    return _as_measured(groups.read(column.sources).converted(DOUBLE).numbers, "mean")


def _count(groups: Groups, _: Column) -> Part:
    return _as_measured(groups.numbers, "count")


def _count_distinct(groups: Groups, column: Column) -> Part:
    return _as_measured(groups.read(column.sources).numbers, "count_distinct")


def _frames(groups: Groups, column: Column) -> Part:
    told = groups.read(column.sources).numbers
    return _as_measured(pc.max_element_wise(pc.fill_null(told, 1), 1), "sum")


def _as_measured(values: Array, function: Function) -> Part:
    return Part([Measure(values, function)], lambda found: found)


def _span(groups: Groups, column: Column) -> Part:
    return Part([Measure(groups.read(column.sources).numbers, "min_max")], _seconds)


def _seconds(ends: Array) -> Array:
    micros = pc.subtract(_greatest(ends), _least(ends)).cast(INT64)
    seconds: Array = pc.divide(converted(micros, DOUBLE), _MICROSECONDS)
    return seconds


def _conflicts(groups: Groups, column: Column) -> Part:
    read = [groups.read((source,)).numbers for source in column.sources]
    return Part([Measure(values, "min_max") for values in read], _several)


def _several(*sources: Array) -> Array:
    """Return how many of the sources have several values in a group."""
    several = [pc.fill_null(pc.invert(_are_one(ends)), False) for ends in sources]  # noqa: FBT003 - Arrow's own signature
    count: Array = reduce(pc.add, [found.cast(INT32) for found in several])
    return count


def _distinct(
    groups: Groups, column: Column, named: Callable[[Array], Array] = lambda values: values
) -> Part:
    found = groups.read(column.sources).converted(STRING)
    measure = Measure(found.numbers, "distinct")
    return Part([measure], lambda held: _joined(held, *_pieces(found.texts, named)))


def _pieces(values: Array, named: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return for each text the numbers of the values in it, and the values, ascending."""
    split: pa.ListArray[Any] = pc.split_pattern(values, DELIMITER)
    parts = split.flatten()
    pieces = Readings.of(named(kept(parts, pc.not_equal(parts, "")))).ascending()
    return pa.ListArray.from_arrays(split.offsets, pieces.numbers), pieces.texts


def _joined(held: Array, pieces: Array, values: Array) -> Array:
    """Return for each group the different values of the texts it holds, ascending, joined."""
    found = pieces.take(pc.list_flatten(held))
    groups = pc.list_parent_indices(held).take(pc.list_parent_indices(found))
    pairs = pa.table({"group": groups, "piece": pc.list_flatten(found)}).drop_null()
    alone = pairs.group_by(["group", "piece"], use_threads=False).aggregate([])
    alone = alone.sort_by([("group", "ascending"), ("piece", "ascending")])
    shown = alone.append_column("text", values.take(alone["piece"]))
    lists = shown.group_by("group", use_threads=False).aggregate([("text", "list")])
    joined = flat(pc.binary_join(lists["text_list"], DELIMITER), STRING)
    return joined.take(position(numbers(range(len(held))), lists["group"]))


def _named(uids: Array) -> Array:
    """Return the names of UIDs (PS3.6 A); one that has none stands for itself."""
    if not len(uids):
        return uids
    from pydicom._uid_dict import UID_dictionary  # noqa: PLC0415 - costs as much as all the core

    found = [UID_dictionary[uid][0] if uid in UID_dictionary else uid for uid in uids.to_pylist()]
    return pa.array(found, STRING)


def _address(groups: Groups, column: Column) -> Part:
    read = [groups.read((PARTITION_COLUMN,)), groups.read(column.sources)]

    def made(*found: Array) -> Array:
        partition, study = (r.shown(f) for r, f in zip(read, found, strict=True))
        return _addresses(groups.service_base, partition, study)

    return Part([Measure(found.numbers, "last") for found in read], made)


def _addresses(base: str | None, partition: Array, study: Array) -> Array:
    if base is None:
        return pa.nulls(len(study), STRING)
    of_partition = pc.binary_join_element_wise("/partitions/", partition, "")
    where = pc.if_else(pc.equal(partition, DEFAULT_PARTITION), "", of_partition)
    found: Array = pc.binary_join_element_wise(base, where, "/studies/", study, "")
    return found


_PARTS: Final[dict[Aggregate | None, Callable[[Groups, Column], Part]]] = {
    "latest": _latest,
    "same": _same,
    "max": _max,
    "min": _min,
    "sum": _sum,
    "mean": _mean,
    "distinct": _distinct,
    "names": partial(_distinct, named=_named),
    "count": _count,
    "count_distinct": _count_distinct,
    "frames": _frames,
    "span": _span,
    "conflicts": _conflicts,
    "address": _address,
}
