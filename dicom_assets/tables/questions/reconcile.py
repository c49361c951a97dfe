"""Reconciliation of the numbers of instances and series per study: the service against the tables.

`feed.search` asks the service. Here its numbers are compared with `study` and `instance`. A
difference without a reason is drift. Entries that the tables were not asked to read are a reason:
those later than the newest seal, in an hour without a seal, in an hour that the tables have not
followed, or before the first seal. The result names counts and the hours to run again, and no UID.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from dicom_assets.schema import CHANGE, INSTANCE, INT64, SERIES, STRING, STUDY, SYNC
from dicom_assets.schema.columns import DEFAULT_PARTITION
from dicom_assets.tables.delta.arrow import (
    filter_in,
    filter_out,
    is_in,
    joined_key,
    looked_up,
    pc,
    texts,
)
from dicom_assets.tables.delta.snapshot import VALUES_PER_QUERY, Store
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, newest_of
from dicom_assets.tables.sync import PARTITIONS, covers
from dicom_assets.window import TICKS_PER_HOUR, Partitions, Window, datetime_of, ticks_of

SAMPLE = 100
# The entries read to explain differences, and again to find lost ones: a thousand requests each.
# Differences that would need more are not judged.
MOST_ENTRIES = 200_000
# Up to this number, differing studies are requested again one by one, because studies move while
# they are listed.
MOST_CONFIRMED = 200
# A service's clock may be ahead of ours.
MARGIN = timedelta(days=1)
StudyKey: TypeAlias = tuple[str, str]
_KEY = STUDY.key
_LOGGED_KEY = ("partitionName", "studyinstanceuid")
_COUNTS = ("instances", "series")
_ROLLED_UP = (*_KEY, "instanceCount", "seriesCount")


class StudySize(Protocol):
    """The numbers of instances and series in a study."""

    @property
    def instances(self) -> int:
        """Its instances."""

    @property
    def series(self) -> int | None:
        """Its series, None where the service does not count them."""


class Counts(Protocol):
    """Requests to the service, sent by `feed.search.StudyCounts`.

    `partition` is None for a service without data partitions. All but `partitions` raise
    ServiceError when the service does not search.
    """

    def partitions(self) -> Partitions:
        """Return the data partitions that the service shows, None when it has or shows none."""

    def studies(self, partition: str | None) -> Iterable[Mapping[str, StudySize]]:
        """Yield all studies by UID, page by page."""

    def page(self, partition: str | None, offset: int) -> Mapping[str, StudySize]:
        """Return the study at a place in the service's list, or none beyond its end."""

    def study(self, partition: str | None, uid: str) -> StudySize | None:
        """Return the size of one study, None when the service does not have it."""

    def first(self) -> int | None:
        """Return the ticks of the feed's first entry."""

    def changes(
        self, window: Window, progress: Callable[[int], None] | None = None
    ) -> Iterable[pa.Table]:
        """Yield the feed's entries of a window in pieces, with the columns of the log."""


@dataclass(frozen=True)
class Reconciliation:
    """Numbers of studies in a comparison, and the `hours` to run again.

    `missing` studies are in the service only, `surplus` studies in the tables only, and `different`
    ones have another size. `not_due` studies differ because of entries that the tables were not
    asked to read.
    """

    compared: int
    missing: int = 0
    surplus: int = 0
    different: int = 0
    not_due: int = 0
    hours: tuple[datetime, ...] = ()

    @property
    def drift(self) -> int:
        """The number of studies that differ without a reason."""
        return self.missing + self.surplus + self.different

    @property
    def passed(self) -> bool:
        """True when no study differs without a reason."""
        return not self.drift


def reconcile(  # noqa: PLR0913 - one argument per choice
    store: Store,
    counts: Counts,
    now: datetime,
    *,
    kept: Partitions = None,
    sample: int | None = SAMPLE,
    seed: int = 0,
) -> Reconciliation:
    """Compare all studies if `sample` is None, else a sample of that size, chosen by the seed.

    Compared are the data partitions that the service shows and that are kept. A service that shows
    none is asked for those of the tables. Seals are read first, then the tables, then the service:
    changes meanwhile lie in hours that have no seal yet. Raises ServiceError when the service does
    not answer.
    """
    followed = Followed(store, kept)
    listed = store.open(STUDY).rows(_ROLLED_UP)
    if kept is not None:
        listed = filter_in(listed, "partitionName", pa.array(sorted(kept), STRING))
    shown = counts.partitions()
    if shown is not None:
        service = _Service(counts, shown if kept is None else shown & kept, is_divided=True)
    else:
        ours = frozenset(texts(pc.unique(listed["partitionName"])) or [DEFAULT_PARTITION])
        service = _Service(counts, ours, is_divided=ours != {DEFAULT_PARTITION})
    served = service.all() if sample is None else service.sample(listed, sample, seed)
    stored = _stored(store, served, listed if sample is None else None)
    differing = differing_studies(served, stored)
    differing = differing_studies(service.again(differing), differing)
    drifting, hours = _judge(store, counts, differing, followed, now)
    rows = drifting.to_pylist()
    missing = sum(not row["instances"] and not row["instanceCount"] for row in rows)
    surplus = sum(not row["served_instances"] for row in rows)
    return Reconciliation(
        compared=_union(served, stored).num_rows,
        missing=missing,
        surplus=surplus,
        different=len(rows) - missing - surplus,
        not_due=differing.num_rows - len(rows),
        hours=hours,
    )


def differing_studies(served: pa.Table, stored: pa.Table) -> pa.Table:
    """Return the studies whose sizes differ between the service, `instance` and `study`.

    `served` has the key, `instances` and `series` (null: not counted). `stored` has the key,
    `instances` and `series` by `instance`, `instanceCount` and `seriesCount` by `study`. The result
    has the columns of both, those of `served` named `served_…`, with 0 for a side that lacks the
    study.
    """
    theirs = served.rename_columns([*_KEY, *(f"served_{name}" for name in _COUNTS)])
    ours = stored.select([*_ROLLED_UP, *_COUNTS])
    both = theirs.join(ours, list(_KEY), join_type="full outer", use_threads=False)
    # Null series of a study that is served: the service does not count them.
    uncounted = pc.if_else(pc.is_valid(both["served_instances"]), both["series"], 0)
    series = pc.coalesce(both["served_series"], uncounted)
    both = both.drop_columns("served_series").append_column("served_series", series)
    sides = {name: pc.fill_null(both[name], 0) for name in both.column_names[len(_KEY) :]}
    pairs = (
        ("served_instances", "instances"),
        ("served_series", "series"),
        ("instances", "instanceCount"),
        ("series", "seriesCount"),
    )
    unequal = (pc.not_equal(sides[one], sides[other]) for one, other in pairs)
    return pa.table({n: both[n] for n in _KEY} | sides).filter(reduce(pc.or_, unequal))


def _union(served: pa.Table, stored: pa.Table) -> pa.Table:
    keys = pa.concat_tables([served.select(list(_KEY)), stored.select(list(_KEY))])
    return keys.group_by(list(_KEY), use_threads=False).aggregate([])


def _stored(store: Store, served: pa.Table, listed: pa.Table | None) -> pa.Table:
    """Return the sizes of studies in both tables: of the served ones, and of all that are listed.

    `instance` is read in pieces of some thousand studies, because all of it may not fit in memory.
    """
    keys = served.select(list(_KEY)) if listed is None else _union(served, listed)
    uids = sorted(set(texts(keys["studyInstanceUid"])))
    live = store.open(INSTANCE)
    pieces = [uids[i : i + VALUES_PER_QUERY] for i in range(0, len(uids), VALUES_PER_QUERY)]
    sizes = [_sizes(live.rows_of("studyinstanceuid", p, list(INSTANCE.key[:3]))) for p in pieces]
    sizes.append(_sizes(INSTANCE.arrow(list(INSTANCE.key[:3])).empty_table()))
    if listed is None:
        listed = store.open(STUDY).rows_of("studyInstanceUid", uids, _ROLLED_UP)
    at = joined_key(keys, _KEY)
    for side in (pa.concat_tables(sizes), listed):
        for name in side.column_names[len(_KEY) :]:
            values = looked_up(at, joined_key(side, _KEY), side[name])
            keys = keys.append_column(name, pc.fill_null(values.cast(INT64), 0))
    is_stored = pc.or_(pc.greater(keys["instances"], 0), pc.greater(keys["instanceCount"], 0))
    return keys.filter(is_stored)


def _sizes(live: pa.Table) -> pa.Table:
    counted = live.group_by(list(_LOGGED_KEY), use_threads=False).aggregate(
        [("seriesinstanceuid", "count"), ("seriesinstanceuid", "count_distinct")]
    )
    return counted.rename_columns([*_KEY, *_COUNTS])


@dataclass(frozen=True)
class _Service:
    """The sizes of studies in the service, as tables, in some data partitions.

    A service that is not divided has the default one only, and no path with its name.
    """

    counts: Counts
    partitions: frozenset[str]
    is_divided: bool

    def _place(self, partition: str) -> str | None:
        return partition if self.is_divided else None

    def _study(self, key: StudyKey) -> StudySize | None:
        if key[0] not in self.partitions:
            return None
        return self.counts.study(self._place(key[0]), key[1])

    def all(self) -> pa.Table:
        return _table(
            ((partition, uid), size)
            for partition in sorted(self.partitions)
            for page in self.counts.studies(self._place(partition))
            for uid, size in page.items()
        )

    def sample(self, listed: pa.Table, count: int, seed: int) -> pa.Table:
        """Return a sample: half by UIDs of our tables, half by places in the service's list.

        A study that the service lacks has size 0. A place beyond the end of the list adds none.
        """
        choice = random.Random(seed)  # noqa: S311 - a sample, no secret
        known = sorted(_keys(listed))
        ours = choice.sample(known, min(len(known), (count + 1) // 2))
        sizes = {key: self._study(key) for key in ours}
        for partition, offset in _places(known, self.partitions, count // 2, choice):
            for uid, size in self.counts.page(self._place(partition), offset).items():
                sizes[partition, uid] = size
        return _table(sizes.items())

    def again(self, differing: pa.Table) -> pa.Table:
        """Return the differing studies as served now, if they are few, else as before."""
        if len(differing) > MOST_CONFIRMED:
            rows = differing.select([*_KEY, "served_instances", "served_series"])
            return rows.rename_columns([*_KEY, *_COUNTS])
        keys = _keys(differing)
        return _table((key, self._study(key)) for key in keys)


def _places(
    known: Sequence[StudyKey], partitions: frozenset[str], count: int, choice: random.Random
) -> Iterator[tuple[str, int]]:
    """Yield `count` places in the lists of the service, one list per data partition.

    Each list is taken to be one longer than ours: a study that we lack is newest and comes first.
    """
    lengths = Counter(dict.fromkeys(partitions, 0))
    lengths.update(partition for partition, _ in known if partition in partitions)
    total = lengths.total() + len(lengths)
    for place in choice.sample(range(total), min(total, count)):
        offset = place
        for partition, length in sorted(lengths.items()):
            if offset <= length:
                yield partition, offset
                break
            offset -= length + 1


def _keys(table: pa.Table) -> list[StudyKey]:
    return list(zip(*(texts(table[name]) for name in _KEY), strict=True))


def _table(sizes: Iterable[tuple[StudyKey, StudySize | None]]) -> pa.Table:
    """Return sizes as a table with one row per study, because a study may move between pages."""
    known = dict(sizes)
    columns = [
        pa.array([partition for partition, _ in known], STRING),
        pa.array([uid for _, uid in known], STRING),
        pa.array([size.instances if size else 0 for size in known.values()], INT64),
        pa.array([size.series if size else 0 for size in known.values()], INT64),
    ]
    return pa.table(columns, names=[*_KEY, *_COUNTS])


class Followed:
    """The spans of time that are `sealed`, and those that all tables have followed: `done`.

    An hour that was read with fewer data partitions than are kept is in neither.
    """

    def __init__(self, store: Store, kept: Partitions) -> None:
        """Read the spans from `sync`, in order."""
        marks = [table.mark for table in (CHANGE, INSTANCE, SERIES, STUDY)]
        columns = ["hour", "windowStart", "windowEnd", PARTITIONS, *marks]
        rows = [
            r for r in store.open(SYNC).rows(columns).to_pylist() if covers(r[PARTITIONS], kept)
        ]
        sealed = [row for row in rows if row[CHANGE.mark] is not None]
        done = [row for row in sealed if all(row[mark] is not None for mark in marks)]
        self.sealed, self.done = _merged(map(_span, sealed)), _merged(map(_span, done))

    def unread(self, now: datetime) -> list[Window]:
        """Return the spans without a seal from the first seal until MARGIN after `now`."""
        ends = [w.end for w in self.sealed]
        starts = [*(w.start for w in self.sealed[1:]), ticks_of(now + MARGIN)]
        return [Window(*gap) for gap in zip(ends, starts, strict=True) if gap[0] < gap[1]]


def _span(row: Mapping[str, Any]) -> Window:
    start, end = row["windowStart"], row["windowEnd"]
    hour = Window.between(row["hour"], row["hour"] + timedelta(hours=1))
    return hour if start is None or end is None else Window.between(start, end)


def _merged(spans: Iterable[Window]) -> tuple[Window, ...]:
    merged: list[Window] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Window(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


def _judge(
    store: Store, counts: Counts, differing: pa.Table, followed: Followed, now: datetime
) -> tuple[pa.Table, tuple[datetime, ...]]:
    """Return the differing studies without a reason, and the hours of their entries."""
    if not differing.num_rows or not followed.sealed:
        return differing.slice(0, 0), ()
    uids = sorted(set(texts(differing["studyInstanceUid"])))
    log = store.open(CHANGE).rows_of("studyinstanceuid", uids, LOG_COLUMNS)
    log = log.filter(is_in(joined_key(log, _LOGGED_KEY), joined_key(differing, _KEY)))
    keys = zip(texts(joined_key(log, _LOGGED_KEY)), log["timestamp_ticks"].to_pylist(), strict=True)
    placed = ((key, t) for key, t in keys if t is not None)
    open_ = {key for key, t in placed if not any(w.holds(t) for w in followed.done)}
    rest = _without(differing, open_)
    unread = Reading(counts, followed.unread(now))
    rest = _without(rest, unread.meet(rest))
    known, lost = _by_reason(rest, log, is_cut=unread.is_cut)
    first = counts.first() if len(lost) else None
    if first is not None and first < followed.sealed[0].start:
        lost = lost.slice(0, 0)  # entries before the first seal may explain them
    return pa.concat_tables([known, lost]), _hours(counts, known, lost, log, followed)


def _by_reason(rest: pa.Table, log: pa.Table, *, is_cut: bool) -> tuple[pa.Table, pa.Table]:
    """Return the studies that differ from the log, and those of which the service has more.

    Log and tables agree on the latter. When the search was cut, entries that were not read may
    explain every study on which log and tables agree, and none of them is returned.
    """
    newest = newest_of(log)
    live = _sizes(newest.filter(pc.invert(is_gone(newest))))
    expected = looked_up(joined_key(rest, _KEY), joined_key(live, _KEY), live["instances"])
    agrees = pc.and_(
        pc.equal(pc.fill_null(expected, 0), rest["instances"]),
        pc.equal(rest["instances"], rest["instanceCount"]),
    )
    if is_cut:
        return rest.filter(pc.invert(agrees)), rest.slice(0, 0)
    is_lost = pc.and_(agrees, pc.greater(rest["served_instances"], rest["instances"]))
    return rest.filter(pc.invert(is_lost)), rest.filter(is_lost)


def _without(studies: pa.Table, explained: Collection[str]) -> pa.Table:
    is_explained = is_in(joined_key(studies, _KEY), pa.array(sorted(explained), STRING))
    return studies.filter(pc.invert(is_explained))


@dataclass
class Reading:
    """A search through spans of the feed. It is cut (`is_cut`) after MOST_ENTRIES entries."""

    counts: Counts
    spans: Iterable[Window]
    progress: Callable[[int], None] | None = None
    is_cut: bool = False

    def pieces(self) -> Iterator[pa.Table]:
        """Yield entries in pieces, until MOST_ENTRIES were read."""
        read = 0
        for piece in (p for span in self.spans for p in self.counts.changes(span, self.progress)):
            yield piece
            read += piece.num_rows
            if read >= MOST_ENTRIES:
                self.is_cut = True
                return

    def meet(self, studies: pa.Table) -> set[str]:
        """Return the keys of the studies that have an entry in the spans."""
        wanted, met = joined_key(studies, _KEY), set[str]()
        for piece in self.pieces() if len(studies) else ():
            keys = joined_key(piece, _LOGGED_KEY)
            met |= set(texts(pc.unique(keys.filter(is_in(keys, wanted)))))
            if len(met) == len(studies):
                break
        return met


def _hours(
    counts: Counts, known: pa.Table, lost: pa.Table, log: pa.Table, followed: Followed
) -> tuple[datetime, ...]:
    """Return the hours of the studies' entries, those in the log and those that it lacks."""
    entries = log.filter(is_in(joined_key(log, _LOGGED_KEY), joined_key(known, _KEY)))
    ticks, met = {*entries["timestamp_ticks"].to_pylist()}, set[str]()
    for span in backwards(followed.sealed) if len(lost) else ():
        wanted = joined_key(lost, _KEY)
        for piece in Reading(counts, [span]).pieces():
            entries = piece.filter(is_in(joined_key(piece, _LOGGED_KEY), wanted))
            entries = filter_out(entries, "sequence", log["sequence"])
            ticks |= {*entries["timestamp_ticks"].to_pylist()}
            met |= {*texts(joined_key(entries, _LOGGED_KEY))}
        lost = _without(lost, met)
        if not len(lost):
            break
    starts = {t // TICKS_PER_HOUR * TICKS_PER_HOUR for t in ticks if t is not None}
    return tuple(map(datetime_of, sorted(starts)))


def backwards(sealed: Sequence[Window]) -> Iterator[Window]:
    """Yield the sealed time from the newest hour back, in spans that double: losses are recent."""
    first, end, length = sealed[0].start, sealed[-1].end, 24 * TICKS_PER_HOUR
    while end > first:
        start = max(first, end - length)
        yield Window(start, end)
        end, length = start, 2 * length
