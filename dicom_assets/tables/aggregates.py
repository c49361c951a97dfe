"""The aggregates of `schema`: columns of a series or study from its live instances.

One grouping serves all columns of a table. All of it is Arrow, a column at a time. Only the names
of SOP classes are looked up one by one, each once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, reduce
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa

from dicom_assets.schema import DOUBLE, INSTANCE, INT32, INT64, STRING, Aggregate, Column
from dicom_assets.schema.attributes import uid_names
from dicom_assets.schema.columns import DEFAULT_PARTITION, PARTITION_COLUMN
from dicom_assets.tables.delta.arrow import flat, numbers, pc, position
from dicom_assets.tables.readings import Array, Readings, converted, kept

# Separates the values of one attribute (PS3.5 6.2), and so those of several instances.
DELIMITER: Final = "\\"
_MICROSECONDS: Final = 1e6

Function = Literal["count", "count_distinct", "distinct", "last", "mean", "min_max", "sum"]


class Measure(NamedTuple):
    """One value for each row, and the function of Arrow that aggregates those of a group."""

    values: Array
    function: Function


class Part(NamedTuple):
    """The measures of a column, and the function that combines them to one value per group."""

    measures: Sequence[Measure]
    combine: Callable[..., Array]


@dataclass(frozen=True)
class Groups:
    """Live rows of `instance`, in the order of their sequence, grouped by the columns `keys`.

    A row without a sequence (a table taken over from the template) comes before any other. Groups
    are in the order of their first rows. `service_base` is the service's address, None when it has
    no lasting one.
    """

    live: pa.Table
    keys: tuple[str, ...]
    service_base: str | None = None
    _read: dict[tuple[str, ...], Readings] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _order(self) -> Array:
        # By the instance's key too, so that equal or missing sequences give the same order.
        rank = self.live.append_column("_rank", pc.fill_null(self.live["sequence"], -1))
        by = [(name, "ascending") for name in ("_rank", *INSTANCE.key)]
        order: Array = pc.sort_indices(rank, by)
        return order

    @cached_property
    def numbers(self) -> Array:
        """The number of each row's group."""
        groups: Array = pa.nulls(self.live.num_rows, INT64).fill_null(0)
        for key in self.keys:
            more = self.read((key,))
            wider = pc.multiply(groups.cast(INT64), len(more.texts))
            groups = pc.add(wider, more.numbers.cast(INT64)).dictionary_encode().indices
        return groups

    def read(self, sources: tuple[str, ...]) -> Readings:
        """Return the values of a column of `instance`; of several, the first that is not null."""
        if sources not in self._read:
            columns = [self.live[name] for name in sources]
            column = pc.coalesce(*columns) if len(columns) > 1 else columns[0]
            self._read[sources] = Readings.of(column).take(self._order)
        return self._read[sources]

    def measured(self, measures: Sequence[Measure]) -> list[Array]:
        """Return the values of each measure, one per group, in the order of groups."""
        named = {str(i): measure.values for i, measure in enumerate(measures)}
        wanted = [(str(i), measure.function) for i, measure in enumerate(measures)]
        rows = pa.table({"group": self.numbers, **named})
        # Without threads the order of rows in a group, and of groups, is kept.
        groups = rows.group_by("group", use_threads=False).aggregate(wanted)
        columns = [groups[f"{name}_{function}"] for name, function in wanted]
        return [flat(column, column.type) for column in columns]


def _latest(groups: Groups, column: Column) -> Part:
    values = groups.read(column.sources).converted(column.type)
    return Part([Measure(values.numbers, "last")], values.shown)


def _same(groups: Groups, column: Column) -> Part:
    values = groups.read(column.sources).converted(column.type)

    def same(ends: Array) -> Array:
        return values.shown(kept(pc.struct_field(ends, "min"), _are_one(ends)))

    return Part([Measure(values.numbers, "min_max")], same)


def _are_one(ends: Array) -> Array:
    """Return a mask of the groups with one value; null for a group without a value."""
    equal: Array = pc.equal(pc.struct_field(ends, "min"), pc.struct_field(ends, "max"))
    return equal


def _extreme(groups: Groups, column: Column, *, end: Literal["min", "max"]) -> Part:
    values = groups.read(column.sources).converted(column.type).ascending()
    measure = Measure(values.numbers, "min_max")
    return Part([measure], lambda ends: values.shown(pc.struct_field(ends, end)))


def _sum(groups: Groups, column: Column) -> Part:
    # The rows are in order, so a sum of floating-point numbers is the same in every run.
    wide = INT64 if pa.types.is_integer(column.type) else DOUBLE
    return _as_measured(groups.read(column.sources).converted(wide).numbers, "sum")


def _mean(groups: Groups, column: Column) -> Part:
    return _as_measured(groups.read(column.sources).converted(DOUBLE).numbers, "mean")


def _count_distinct(groups: Groups, column: Column) -> Part:
    return _as_measured(groups.read(column.sources).numbers, "count_distinct")


def _frames(groups: Groups, column: Column) -> Part:
    # An instance without a number of frames, or with 0, is one frame.
    frames = pc.fill_null(groups.read(column.sources).numbers, 1)
    return _as_measured(pc.max_element_wise(frames, 1), "sum")


def _as_measured(values: Array, function: Function) -> Part:
    return Part([Measure(values, function)], lambda measured: measured)


def _span(groups: Groups, column: Column) -> Part:
    def seconds(ends: Array) -> Array:
        span = pc.subtract(pc.struct_field(ends, "max"), pc.struct_field(ends, "min"))
        quotient: Array = pc.divide(converted(span.cast(INT64), DOUBLE), _MICROSECONDS)
        return quotient

    return Part([Measure(groups.read(column.sources).numbers, "min_max")], seconds)


def _conflicts(groups: Groups, column: Column) -> Part:
    """Count the sources that have several values in a group."""

    def count(*sources: Array) -> Array:
        several = [pc.fill_null(pc.invert(_are_one(ends)), False) for ends in sources]  # noqa: FBT003 - Arrow's own signature
        counted: Array = reduce(pc.add, [mask.cast(INT32) for mask in several])
        return counted

    read = [groups.read((source,)).numbers for source in column.sources]
    return Part([Measure(values, "min_max") for values in read], count)


def _distinct(
    groups: Groups, column: Column, named: Callable[[Array], Array] = lambda values: values
) -> Part:
    values = groups.read(column.sources).converted(STRING)
    measure = Measure(values.numbers, "distinct")
    return Part([measure], lambda lists: _joined(lists, values.texts, named))


def _joined(lists: Array, texts: Array, named: Callable[[Array], Array]) -> Array:
    """Return one text per group: the different single values in its texts, ascending, joined.

    `lists` has the numbers of the texts of each group.
    """
    split: pa.ListArray[Any] = pc.split_pattern(texts, DELIMITER)
    parts = split.flatten()
    pieces = Readings.of(named(kept(parts, pc.not_equal(parts, "")))).ascending()
    inside = pa.ListArray.from_arrays(split.offsets, pieces.numbers).take(pc.list_flatten(lists))
    groups = pc.list_parent_indices(lists).take(pc.list_parent_indices(inside))
    pairs = pa.table({"group": groups, "piece": pc.list_flatten(inside)}).drop_null()
    single = pairs.group_by(["group", "piece"], use_threads=False).aggregate([])
    single = single.sort_by([("group", "ascending"), ("piece", "ascending")])
    shown = single.append_column("text", pieces.texts.take(single["piece"]))
    of_group = shown.group_by("group", use_threads=False).aggregate([("text", "list")])
    joined = flat(pc.binary_join(of_group["text_list"], DELIMITER), STRING)
    return joined.take(position(numbers(range(len(lists))), of_group["group"]))


def _named(uids: Array) -> Array:
    """Return the names of UIDs (PS3.6 A); a UID without a name stays as it is."""
    names = uid_names()
    return pa.array([uid and names.get(uid, uid) for uid in uids.to_pylist()], STRING)


def _address(groups: Groups, column: Column) -> Part:
    base = groups.service_base
    partition, study = groups.read((PARTITION_COLUMN,)), groups.read(column.sources)

    def addresses(partitions: Array, studies: Array) -> Array:
        if base is None:
            return pa.nulls(len(studies), STRING)
        name = partition.shown(partitions)
        of_partition = pc.binary_join_element_wise("/partitions/", name, "")
        where = pc.if_else(pc.equal(name, DEFAULT_PARTITION), "", of_partition)
        uid = study.shown(studies)
        urls: Array = pc.binary_join_element_wise(base, where, "/studies/", uid, "")
        return urls

    return Part([Measure(values.numbers, "last") for values in (partition, study)], addresses)


# The aggregate of each column of `series` or `study`.
PARTS: Final[dict[Aggregate | None, Callable[[Groups, Column], Part]]] = {
    "latest": _latest,
    "same": _same,
    "max": partial(_extreme, end="max"),
    "min": partial(_extreme, end="min"),
    "sum": _sum,
    "mean": _mean,
    "distinct": _distinct,
    "names": partial(_distinct, named=_named),
    "count": lambda groups, _: _as_measured(groups.numbers, "count"),
    "count_distinct": _count_distinct,
    "frames": _frames,
    "span": _span,
    "conflicts": _conflicts,
    "address": _address,
}
