"""The template's tables compared with ours of the same service: by table, day and cause.

Ours were filled from the feed and have a log, which explains the rows that the template lacks or
has too many of. The result that matters are rows that ours lack without an explanation.

| cause | of `instance` | the row |
|---|---|---|
| lost by the template | only ours | was there to be read |
| update lost by the template | both | ours is newer, and the change was there to be read |
| ghost of the template | only theirs | is deleted, or its hour's feed never had it |
| changed later | any | changed after the moment up to which the template has read |
| written otherwise by the template | both | same change, and each value known in another form |
| differs | both | same change, other values |
| data partition not kept here | only theirs | ours leave it out |
| rejected here | theirs, or theirs is newer | has an entry that could not be used |
| hour not read here | theirs, or theirs is newer | its hour has not run here |
| missing here | theirs, or theirs is newer | has no reason |

A row of `series` or `study` follows its instances if one of them differs; else it is lost, a
ghost, missing, or counted otherwise by the template, which takes any row of a group.
Memory is bounded: the studies are compared part by part.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeAlias, cast

import pyarrow as pa

from dicom_assets.commands.migrate import template
from dicom_assets.commands.migrate.template import StudyPart, TableReader
from dicom_assets.errors import NotYetError
from dicom_assets.header.values import FIRST_DAY
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.tables import rejected as rejections
from dicom_assets.tables.delta.arrow import Values, flat, is_in, joined_key, pc, position
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, key_of, newest_of

LOST: Final = "lost by the template"
UPDATE_LOST: Final = "update lost by the template"
GHOST: Final = "ghost of the template"
LATER: Final = "changed later"
OTHER_FORM: Final = "written otherwise by the template"
COUNTED_OTHERWISE: Final = "counted otherwise by the template"
FOLLOWS: Final = "follows its instances"
DIFFERS: Final = "differs"
NOT_KEPT: Final = "data partition not kept here"
REJECTED_HERE: Final = "rejected here"
NOT_READ: Final = "hour not read here"
MISSING: Final = "missing here"
# Causes that need somebody to act.
UNEXPLAINED: Final = (NOT_READ, MISSING)

# The template's windows are hours, read a quarter of an hour later.
DELAY: Final = timedelta(minutes=15)
COMPARED_ROWS: Final = 200_000
_AT: Final = "lastModifiedTimestamp"
_NOT_COMPARED: Final = (*INSTANCE.key, _AT, "metadata", "metadata_string", "created_date")

# Rows of differences: the key's columns, `day`, `cause`, and `columns` that differ, as text.
Differences: TypeAlias = pa.Table
# Rows that differ, and their number by column and form.
_Compared: TypeAlias = tuple[Differences, Counter[tuple[str, str]]]
# Takes the name of each table and its differences, part by part.
Tell: TypeAlias = Callable[[str, Differences], None]


@dataclass
class Comparison:
    """The differences between the template's tables and ours.

    `until` is the moment up to which the template has read. `counts` are rows by table, day and
    cause, `columns` rows by table, column and form; `rows` are theirs and ours, by table.
    """

    until: datetime
    counts: Counter[tuple[str, date | None, str]] = field(default_factory=Counter)
    columns: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_explained(self) -> bool:
        """True when ours lack nothing without a reason."""
        return not any(cause in UNEXPLAINED for _, _, cause in self.counts)


def compare_tables(
    old: Store,
    new: Store,
    until: datetime | None = None,
    partitions: Collection[str] | None = None,
    tell: Tell | None = None,
) -> Comparison:
    """Return the differences of the template's tables (`old`) and ours (`new`).

    Without `until`, the template has read up to the last hour that had ended a quarter of an hour
    before its newest commit. `partitions` are the data partitions that ours keep. `tell` gets the
    name of each table and its differences, part by part, with their UIDs.
    """
    theirs, ours = _readers(old, "template's"), _readers(new, "own")
    log = new.open(CHANGE)
    if log.delta is None:
        raise NotYetError(
            f"there is no change log at {log.url}: the second root must be one that this "
            "project has filled from the feed. Materialize its hours first"
        )
    comparison = Comparison(until or _read_until(theirs[INSTANCE.name]))
    comparison.rows = {name: (theirs[name].count(), ours[name].count()) for name in ours}
    knowledge = _knowledge(new, comparison.until, partitions)
    for part in template.study_parts(max(comparison.rows[INSTANCE.name]), COMPARED_ROWS):
        newest = newest_of(new.open(CHANGE).rows(LOG_COLUMNS, ours[INSTANCE.name].within(part)))
        for name, (differences, forms) in _compare_part(theirs, ours, part, knowledge(newest)):
            groups = differences.group_by(["day", "cause"]).aggregate([([], "count_all")])
            for row in groups.to_pylist():
                comparison.counts[name, row["day"], row["cause"]] += row["count_all"]
            for (column, form), count in forms.items():
                comparison.columns[name, column, form] += count
            if tell is not None and len(differences):
                tell(name, differences)
    return comparison


def _readers(store: Store, whose: str) -> dict[str, TableReader]:
    readers = {}
    for table in (INSTANCE, SERIES, STUDY):
        reader = template.open_reader(store, table)
        if reader is None:
            raise NotYetError(
                f"there is no {table.name} table at {store.urls[table.name]}, where the {whose} "
                "one is looked for"
            )
        readers[table.name] = reader
    return readers


def _read_until(reader: TableReader) -> datetime:
    newest = reader.newest_of_others()
    if newest is None:
        raise NotYetError(
            f"the log of the table at {reader.snapshot.url} does not say when the template wrote "
            "it last: say up to when it has read, with --until"
        )
    return (newest.at - DELAY).replace(minute=0, second=0, microsecond=0)


def _knowledge(
    new: Store, until: datetime, partitions: Collection[str] | None
) -> "Callable[[pa.Table], Knowledge]":
    """Return what makes the knowledge of a part from the newest entries of its keys."""
    hours = new.open(SYNC).rows(["hour", "instanceAt"])
    followed = hours.filter(pc.is_valid(hours["instanceAt"]))["hour"]
    rejected = new.open(CHANGE).rows_of("sequence", rejections.sequences(new), LOG_COLUMNS)
    return partial(
        Knowledge,
        until=until,
        followed=flat(followed, SYNC["hour"].type),
        rejected=flat(key_of(rejected), pa.string()),
        partitions=partitions,
    )


def _compare_part(
    theirs: dict[str, TableReader],
    ours: dict[str, TableReader],
    part: StudyPart,
    knowledge: "Knowledge",
) -> Iterator[tuple[str, _Compared]]:
    """Yield the differences of the three tables in a part of the studies."""
    compared = _instances(theirs[INSTANCE.name], ours[INSTANCE.name], part, knowledge)
    yield INSTANCE.name, compared
    reader = ours[INSTANCE.name]
    live = reader.rows(INSTANCE.key, reader.within(part))
    for table in (SERIES, STUDY):
        names = [column.name for column in template.template_columns(table)]
        readers = theirs[table.name], ours[table.name]
        left, right = (reader.rows(names, reader.within(part)) for reader in readers)
        yield table.name, _rollups(left, right, table, compared[0], live)


@dataclass(frozen=True)
class Knowledge:
    """Our log's facts about the keys of a part, and those about all hours.

    `newest` are the newest entries of the keys in the log (LOG_COLUMNS). `followed` are the hours
    that have run, `rejected` the keys with unusable entries.
    """

    newest: pa.Table
    until: datetime
    followed: "pa.Array[Any]"
    rejected: "pa.Array[Any]"
    partitions: Collection[str] | None = None

    def lacking(self, rows: pa.Table) -> Values:
        """Return the cause for which ours lack rows of theirs, or have them less new."""
        at = position(key_of(rows), key_of(self.newest))
        newest = self.newest.take(at)
        gone = _filled(is_gone(newest), null=False)
        moment = pc.coalesce(newest["timestamp"], rows[_AT])
        followed = is_in(pc.floor_temporal(moment, unit="hour"), self.followed)
        names = pa.array(sorted(self.partitions or ()), pa.string())
        elsewhere = pc.invert(is_in(rows["partitionName"], names))
        return _first_that_holds(
            (NOT_KEPT, pc.and_(elsewhere, self.partitions is not None)),
            (GHOST, pc.and_(gone, self._readable(moment))),
            (LATER, gone),
            (REJECTED_HERE, is_in(key_of(rows), self.rejected)),
            (MISSING, pc.and_(pc.is_valid(at), followed)),
            (GHOST, followed),
            (NOT_READ, True),
        )

    def exceeding(self, moment: Values, cause: str) -> Values:
        """Return the cause of rows that only ours have: the given one, or LATER."""
        return _first_that_holds((cause, self._readable(moment)), (LATER, True))

    def _readable(self, moment: Values) -> Values:
        early = pc.less(moment, pa.scalar(self.until, INSTANCE[_AT].type))
        return _filled(early, null=True)


def _instances(
    left: TableReader, right: TableReader, part: StudyPart, knowledge: Knowledge
) -> _Compared:
    """Return the rows of `instance` that differ, and the count by column and form."""
    compared = left.layout.own_names.keys() - {*_NOT_COMPARED}
    names = [c.name for c in template.template_columns(INSTANCE) if c.name in compared]
    shown, where = [*INSTANCE.key, _AT, *names], right.within(part)
    only_theirs, only_ours, theirs, ours = _matched(
        left.rows(shown, where), right.rows([*shown, "received_timestamp"], where), INSTANCE.key
    )
    received = pc.coalesce(only_ours["received_timestamp"], only_ours[_AT])
    newer = _filled(_is_later(ours[_AT], theirs[_AT]), null=False)
    older = _filled(_is_later(theirs[_AT], ours[_AT]), null=False)
    same = pc.invert(pc.or_(newer, older))
    ahead, behind = ours.filter(newer), theirs.filter(older)
    valued, forms = _by_value(theirs.filter(same), ours.filter(same), names)
    parts = [
        _differences(only_theirs, knowledge.lacking(only_theirs), INSTANCE),
        _differences(only_ours, knowledge.exceeding(received, LOST), INSTANCE),
        _differences(ahead, knowledge.exceeding(ahead[_AT], UPDATE_LOST), INSTANCE),
        _differences(behind, knowledge.lacking(behind), INSTANCE),
        valued,
    ]
    return pa.concat_tables(parts), forms


def _by_value(theirs: pa.Table, ours: pa.Table, names: Sequence[str]) -> _Compared:
    forms_by_name = {name: _forms(name, theirs[name], ours[name]) for name in names}
    differs = _any(pc.equal(forms, DIFFERS) for forms in forms_by_name.values())
    other = _any(pc.is_valid(forms) for forms in forms_by_name.values())
    cause = _first_that_holds((DIFFERS, differs), (OTHER_FORM, other))
    return _differences(ours, cause, INSTANCE, forms_by_name), _counted(forms_by_name)


def _forms(name: str, theirs: Values, ours: Values) -> Values:
    """Return the other form in which theirs is the value of ours; null for equal values.

    The template takes the first of several values, keeps padding and days that are too early for
    Spark's readers, reads dates in one form only, and finds names by a regular expression that
    stops at a quote, or did not find them at all.
    """
    apart = pc.invert(_equal(theirs, ours))
    absent, given = pc.is_null(theirs), pc.is_valid(ours)
    if not pa.types.is_string(theirs.type):
        early = _filled(pc.less(theirs, FIRST_DAY), null=False)
        return _first_that_holds(
            ("date not read", pc.and_(apart, pc.and_(absent, given))),
            ("date too early", pc.and_(pc.is_null(ours), early)),
            (DIFFERS, apart),
        )
    is_name = name in {"patientname", "referringphysicianname"}
    trimmed = pc.utf8_rtrim(theirs, " \0^" if is_name else " \0")
    empty = _filled(pc.equal(trimmed, ""), null=True)
    first = pc.utf8_rtrim(pc.replace_substring_regex(ours, r"\\.*$", ""), " ")
    cases: list[tuple[str, Any]] = [
        ("padding", pc.or_(_equal(trimmed, ours), pc.and_(pc.is_null(ours), empty))),
        ("first value only", _equal(trimmed, first)),
    ]
    if is_name:
        cut = _filled(pc.match_substring(ours, '"'), null=False)
        cases += [("name not found", empty), ("name cut at a quote", cut)]
    return _first_that_holds(
        *((form, pc.and_(apart, holds)) for form, holds in cases), (DIFFERS, apart)
    )


def _rollups(
    theirs: pa.Table, ours: pa.Table, table: Table, instances: Differences, live: pa.Table
) -> _Compared:
    """Return the rows of `series` or `study` that differ; `live` are keys of our instances."""
    key, above = list(table.key), list(INSTANCE.key[: len(table.key)])
    touched, alive = joined_key(instances, above), joined_key(live, above)
    only_theirs, only_ours, theirs, ours = _matched(theirs, ours, key)

    def cause(rows: pa.Table, *cases: tuple[str, Any]) -> Values:
        return _first_that_holds((FOLLOWS, is_in(joined_key(rows, key), touched)), *cases)

    backed = is_in(joined_key(only_theirs, key), alive)
    moved = {n: _moved(theirs[n], ours[n]) for n in ours.column_names if n not in key}
    apart = _any(pc.is_valid(forms) for forms in moved.values())
    counts = pc.value_counts(alive)
    at = position(joined_key(ours, key), counts.field("values"))
    counted = _equal(ours["instanceCount"], pc.fill_null(counts.field("counts").take(at), 0))
    shared = pc.if_else(apart, cause(ours, (COUNTED_OTHERWISE, counted), (MISSING, True)), None)
    parts = [
        _differences(only_theirs, cause(only_theirs, (MISSING, backed), (GHOST, True)), table),
        _differences(only_ours, cause(only_ours, (LOST, True)), table),
        _differences(ours, shared, table, moved),
    ]
    mine = pc.equal(shared, COUNTED_OTHERWISE)
    forms = {name: pc.if_else(mine, values, None) for name, values in moved.items()}
    return pa.concat_tables(parts), _counted(forms)


def _moved(theirs: Values, ours: Values) -> Values:
    """Return DIFFERS where a value differs, else null; a time differs from a millisecond on."""
    apart = pc.invert(_equal(theirs, ours))
    if pa.types.is_timestamp(ours.type):
        far = pc.or_(_is_later(ours, theirs), _is_later(theirs, ours))
        apart = pc.and_(apart, _filled(far, null=True))
    return _first_that_holds((DIFFERS, apart))


def _matched(
    theirs: pa.Table, ours: pa.Table, key: Sequence[str]
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """Return the rows of theirs only, of ours only, and those of both with the same keys."""
    their_keys, our_keys = joined_key(theirs, key), joined_key(ours, key)
    at = position(their_keys, our_keys)
    only_ours = ours.filter(pc.invert(is_in(our_keys, their_keys)))
    both = theirs.filter(pc.is_valid(at)), ours.take(pc.drop_null(at))
    return theirs.filter(pc.is_null(at)), only_ours, *both


def _is_later(one: Values, other: Values) -> Values:
    # The template cuts the time of a change to milliseconds.
    return cast("Values", pc.greater_equal(pc.subtract(one, other), timedelta(milliseconds=1)))


def _filled(mask: Values, *, null: bool) -> Values:
    return cast("Values", pc.fill_null(mask, null))


def _equal(one: Values, other: Values) -> Values:
    """Return a mask of rows in which two columns are equal; null equals null only."""
    same = _filled(pc.equal(one, other), null=False)
    return cast("Values", pc.or_(same, pc.and_(pc.is_null(one), pc.is_null(other))))


def _any(masks: Any) -> Values:  # noqa: ANN401 - an iterable of what pc gives
    union: Any = False
    for mask in masks:
        union = pc.or_(union, _filled(mask, null=False))
    return cast("Values", union)


def _first_that_holds(*cases: tuple[str, Any]) -> Values:
    """Return for each row the name of the first case that holds, null where none does."""
    names: Any = pa.scalar(None, pa.string())
    for name, holds in reversed(cases):
        names = pc.if_else(holds, name, names)
    return cast("Values", names)


def _counted(forms: dict[str, Values]) -> Counter[tuple[str, str]]:
    counts = Counter[tuple[str, str]]()
    for name, values in forms.items():
        for row in pc.value_counts(pc.drop_null(values)).to_pylist():
            counts[name, row["values"]] = row["counts"]
    return counts


def _differences(
    rows: pa.Table, cause: Values, table: Table, forms: dict[str, Values] | None = None
) -> Differences:
    """Return the rows that have a cause, keys and differing columns under names of `instance`."""
    none: Values = pa.nulls(len(rows), pa.string())
    differing = [pc.if_else(pc.is_valid(v), f"{name} ", "") for name, v in (forms or {}).items()]
    named = dict(zip(INSTANCE.key, table.key, strict=False))
    texts = {name: rows[named[name]] if name in named else none for name in INSTANCE.key}
    texts["cause"] = cause
    texts["columns"] = none
    if differing:
        texts["columns"] = pc.utf8_rtrim(pc.binary_join_element_wise(*differing, ""), " ")
    arrays: dict[str, pa.Array[Any]] = {n: flat(values, pa.string()) for n, values in texts.items()}
    arrays["day"] = flat(pc.cast(rows[_AT], pa.date32()), pa.date32())
    return pa.table(arrays).filter(pc.is_valid(arrays["cause"]))
