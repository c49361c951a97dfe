"""Do the tables hold as many instances of each study as the service? The difference is drift.

What the service has been asked, `feed.counts` knows; here it is compared with `study` and
`instance`. A difference that comes of entries which the tables were not asked to read is none:
later than the newest seal, in an hour without one, in an hour that the tables have not followed
yet, or before the first. Drift is told in counts and hours, so that these can be run again; a UID
is used inside and never told.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from dicom_assets.schema import CHANGE, INSTANCE, INT64, STRING, STUDY, SYNC
from dicom_assets.schema.columns import DEFAULT_PARTITION
from dicom_assets.tables.delta.arrow import (
    Values,
    filter_out,
    is_in,
    joined_key,
    looked_up,
    pc,
    texts,
)
from dicom_assets.tables.delta.snapshot import VALUES_PER_QUERY, Store
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, newest_of
from dicom_assets.tables.sync import marks_of
from dicom_assets.window import TICKS_PER_HOUR, Window, datetime_of, ticks_of

SAMPLE = 100
# Of entries that the tables have not read, and of those in which a lost one is looked for: a
# thousand requests. What lies beyond is not judged.
MOST_ENTRIES = 200_000
# Differences that are asked for once more, one by one: studies move while they are listed.
MOST_CONFIRMED = 200
# A service's clock may be ahead of ours.
MARGIN = timedelta(days=1)
KEY = STUDY.key
StudyKey: TypeAlias = tuple[str, str]
_LOGGED_KEY = ("partitionName", "studyinstanceuid")
_COUNTS = ("instances", "series")


class Size(Protocol):
    """How much a study holds; None where the service does not say."""

    @property
    def instances(self) -> int:
        """Its instances."""

    @property
    def series(self) -> int | None:
        """Its series."""


class Counts(Protocol):
    """What is asked of the service; `feed.counts.StudyCounts` answers over HTTP.

    Raises ServiceError when the service does not search: then nothing was compared. `partition`
    is None where the tables know of no data partition but the default one.
    """

    def studies(self, partition: str | None) -> Iterable[Mapping[str, Size]]:
        """Yield all studies by UID, page by page."""

    def page(self, partition: str | None, offset: int) -> Mapping[str, Size]:
        """Return the study at a place in the service's list, or none beyond its end."""

    def study(self, partition: str | None, uid: str) -> Size | None:
        """Return what one study holds."""

    def first(self) -> int | None:
        """Return the ticks of the feed's first entry."""

    def changes(
        self, window: Window, progress: Callable[[int], None] | None = None
    ) -> Iterable[pa.Table]:
        """Yield the feed's entries of a window, in pieces, with the columns of the log."""


@dataclass(frozen=True)
class Reconciliation:
    """What a comparison came to, in studies; `hours` are those to run again.

    Of `compared` studies only the service has those `missing`, only the tables those in `surplus`,
    and `different` ones are of another size; `not_due` differ because of entries that the tables
    were not asked to read.
    """

    compared: int
    missing: int = 0
    surplus: int = 0
    different: int = 0
    not_due: int = 0
    hours: tuple[datetime, ...] = ()

    @property
    def drift(self) -> int:
        """The studies that differ without a reason."""
        return self.missing + self.surplus + self.different

    @property
    def passed(self) -> bool:
        """Whether the tables hold what the service holds."""
        return not self.drift


def reconcile(
    store: Store, counts: Counts, now: datetime, *, sample: int | None = SAMPLE, seed: int = 0
) -> Reconciliation:
    """Compare all studies (`sample` is None), or so many of both sides, chosen by the seed.

    Seals are looked at before the tables, and these before the service: what the service tells
    later than they do lies in hours that have no seal yet. Raises ServiceError when the service
    cannot be looked at.
    """
    followed = Followed.of(store)
    listed = store.open(STUDY).rows([*KEY, "instanceCount", "seriesCount"])
    service = _Service(counts, frozenset(texts(pc.unique(listed["partitionName"]))))
    served = service.all() if sample is None else service.sample(listed, sample, seed)
    held = _held(store, served, listed if sample is None else None)
    differing = differences(served, held)
    differing = differences(service.again(differing), differing)
    judged = _judge(store, counts, differing, followed, now)
    return Reconciliation(
        compared=_union(served, held).num_rows,
        **_by_kind(judged.drifting),
        not_due=differing.num_rows - judged.drifting.num_rows,
        hours=judged.hours,
    )


def differences(served: pa.Table, held: pa.Table) -> pa.Table:
    """Return the studies that are not of one size on both sides.

    `served` has the key, `instances` and `series` (null: not said); `held` the key, `instances`
    and `series` by `instance`, `instanceCount` and `seriesCount` by `study`. The result has the
    columns of both, those of `served` named `served_…`; a side that has no such study counts none.
    """
    keys = _union(served, held)
    at, held_at = joined_key(keys, KEY), joined_key(held, KEY)
    for name in _COUNTS:
        found = looked_up(at, joined_key(served, KEY), served[name])
        keys = keys.append_column(f"served_{name}", found)
    for name in ("instances", "series", "instanceCount", "seriesCount"):
        found = looked_up(at, held_at, held[name])
        keys = keys.append_column(name, pc.fill_null(found, 0))
    is_served = is_in(at, joined_key(served, KEY))
    said = pc.fill_null(keys["served_instances"], 0)
    # Null series of a study that is served: the service does not count them.
    series = pc.if_else(is_served, pc.coalesce(keys["served_series"], keys["series"]), 0)
    keys = keys.set_column(2, "served_instances", said).set_column(3, "served_series", series)
    return keys.filter(pc.invert(_is_equal(keys)))


def _is_equal(keys: pa.Table) -> Values:
    pairs = (
        ("served_instances", "instances"),
        ("served_series", "series"),
        ("instances", "instanceCount"),
        ("series", "seriesCount"),
    )
    same = [pc.equal(keys[one], keys[other]) for one, other in pairs]
    equal: Values = pc.and_(pc.and_(same[0], same[1]), pc.and_(same[2], same[3]))
    return equal


def _union(served: pa.Table, held: pa.Table) -> pa.Table:
    keys = pa.concat_tables([served.select(list(KEY)), held.select(list(KEY))])
    return keys.group_by(list(KEY), use_threads=False).aggregate([])


def _by_kind(drifting: pa.Table) -> dict[str, int]:
    rows = drifting.to_pylist()
    missing = sum(not row["instances"] and not row["instanceCount"] for row in rows)
    surplus = sum(not row["served_instances"] for row in rows)
    return {
        "missing": missing,
        "surplus": surplus,
        "different": len(rows) - missing - surplus,
    }


def _held(store: Store, served: pa.Table, listed: pa.Table | None) -> pa.Table:
    """Return the sizes of studies by both tables; of all that are listed, or only those asked for.

    `instance` is read in pieces of some thousand studies: whole, it may not fit into memory.
    """
    keys = served.select(list(KEY))
    if listed is not None:
        keys = _union(keys, listed)
    uids = sorted(set(texts(keys["studyInstanceUid"])))
    live, rows = store.open(INSTANCE), store.open(STUDY)
    pieces = [uids[i : i + VALUES_PER_QUERY] for i in range(0, len(uids), VALUES_PER_QUERY)]
    sizes = [_sizes(live.rows_of("studyinstanceuid", p, list(INSTANCE.key[:3]))) for p in pieces]
    columns = [*KEY, "instanceCount", "seriesCount"]
    rollups = rows.rows_of("studyInstanceUid", uids, columns) if listed is None else listed
    return _side_by_side(keys, pa.concat_tables([_sizes(_NO_INSTANCES), *sizes]), rollups)


_NO_INSTANCES = INSTANCE.arrow(list(INSTANCE.key[:3])).empty_table()


def _sizes(live: pa.Table) -> pa.Table:
    counted = live.group_by(list(_LOGGED_KEY), use_threads=False).aggregate(
        [("seriesinstanceuid", "count"), ("seriesinstanceuid", "count_distinct")]
    )
    return pa.table(
        [counted[name] for name in counted.column_names[:2]]
        + [counted[f"seriesinstanceuid_{how}"].cast(INT64) for how in ("count", "count_distinct")],
        names=[*KEY, *_COUNTS],
    )


def _side_by_side(keys: pa.Table, sizes: pa.Table, rollups: pa.Table) -> pa.Table:
    at = joined_key(keys, KEY)
    for side in (sizes, rollups):
        for name in side.column_names[len(KEY) :]:
            found = looked_up(at, joined_key(side, KEY), side[name])
            keys = keys.append_column(name, pc.fill_null(found.cast(INT64), 0))
    return keys.filter(
        pc.or_(pc.greater(keys["instances"], 0), pc.greater(keys["instanceCount"], 0))
    )


@dataclass(frozen=True)
class _Service:
    """The service's side, as a table; of the data partitions that the tables know."""

    counts: Counts
    partitions: frozenset[str]

    def _place(self, partition: str) -> str | None:
        return partition if self.partitions - {DEFAULT_PARTITION} else None

    def all(self) -> pa.Table:
        """Return all studies."""
        return _table(
            ((partition, uid), size)
            for partition in sorted(self.partitions or {DEFAULT_PARTITION})
            for page in self.counts.studies(self._place(partition))
            for uid, size in page.items()
        )

    def sample(self, listed: pa.Table, count: int, seed: int) -> pa.Table:
        """Return half of the studies by UIDs of the tables, half by places in the service's list.

        Studies that the service does not have are in it with nothing in them, so that they are
        compared. A place beyond the service's end finds nothing.
        """
        choice = random.Random(seed)  # noqa: S311 - a sample, no secret
        known = sorted(_keys(listed))
        ours = choice.sample(known, min(len(known), (count + 1) // 2))
        found = {key: self.counts.study(self._place(key[0]), key[1]) for key in ours}
        for partition, offset in _places(known, count // 2, choice):
            page = self.counts.page(self._place(partition), offset)
            found |= {(partition, uid): size for uid, size in page.items()}
        return _table(found.items())

    def again(self, differing: pa.Table) -> pa.Table:
        """Return the differing studies as they are served now, asked one by one if they are few."""
        rows = differing.select([*KEY, "served_instances", "served_series"])
        if len(rows) > MOST_CONFIRMED:
            return rows.rename_columns([*KEY, *_COUNTS])
        keys = _keys(differing)
        return _table((key, self.counts.study(self._place(key[0]), key[1])) for key in keys)


def _places(
    known: Sequence[StudyKey], count: int, choice: random.Random
) -> Iterator[tuple[str, int]]:
    """Yield so many places in the lists of the service, which are about as long as ours.

    Each list is taken for one longer: what we lack is newest, and stands at its beginning.
    """
    lengths = Counter(partition for partition, _ in known) or Counter({DEFAULT_PARTITION: 0})
    total = lengths.total() + len(lengths)
    for place in choice.sample(range(total), min(total, count)):
        offset = place
        for partition, length in sorted(lengths.items()):
            if offset <= length:
                yield partition, offset
                break
            offset -= length + 1


def _keys(table: pa.Table) -> list[StudyKey]:
    return list(zip(*(texts(table[name]) for name in KEY), strict=True))


def _table(sizes: Iterable[tuple[StudyKey, Size | None]]) -> pa.Table:
    rows = [
        (*key, size.instances if size else 0, size.series if size else 0) for key, size in sizes
    ]
    names = [*KEY, *_COUNTS]
    types = [STRING] * len(KEY) + [INT64] * len(_COUNTS)
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], names=names)


@dataclass(frozen=True)
class Followed:
    """Which spans of time are sealed, and which of these all tables have followed; in order."""

    sealed: tuple[Window, ...]
    done: tuple[Window, ...]

    @classmethod
    def of(cls, store: Store) -> "Followed":
        """Return what `sync` says."""
        marks = list(marks_of(store).values())
        rows = store.open(SYNC).rows(["hour", "windowStart", "windowEnd", *marks]).to_pylist()
        sealed = [row for row in rows if row["sealedAt"] is not None]
        done = [row for row in sealed if all(row[mark] is not None for mark in marks)]
        return cls(_merged(map(_span, sealed)), _merged(map(_span, done)))

    def unread(self, now: datetime) -> list[Window]:
        """Return what lies between the first seal and a while from now and has none."""
        bounds = [w.end for w in self.sealed]
        nexts = [*(w.start for w in self.sealed[1:]), ticks_of(now + MARGIN)]
        gaps = [Window(end, start) for end, start in zip(bounds, nexts, strict=True)]
        return [gap for gap in gaps if gap.start < gap.end]

    def is_done(self, ticks: int) -> bool:
        """Whether all tables have followed the hour that holds the moment."""
        return any(w.start <= ticks < w.end for w in self.done)


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


@dataclass(frozen=True)
class _Judged:
    drifting: pa.Table
    hours: tuple[datetime, ...]


def _judge(
    store: Store, counts: Counts, differing: pa.Table, followed: Followed, now: datetime
) -> _Judged:
    """Return the differing studies that no unread entry explains, and their hours."""
    if not differing.num_rows or not followed.sealed:
        return _Judged(differing.slice(0, 0), ())
    uids = sorted(set(texts(differing["studyInstanceUid"])))
    log = store.open(CHANGE).rows_of("studyinstanceuid", uids, LOG_COLUMNS)
    log = log.filter(is_in(joined_key(log, _LOGGED_KEY), joined_key(differing, KEY)))
    rest = _without(differing, _unfollowed(log, followed))
    unread = Reading(counts, followed.unread(now))
    rest = _without(rest, unread.meet(rest))
    rest = _with_expected(rest, log)
    rest = rest.filter(pc.invert(_may_be_older(rest, counts, followed, cut=unread.is_cut)))
    return _Judged(rest, _hours(counts, rest, log, followed))


def _without(studies: pa.Table, explained: Collection[str]) -> pa.Table:
    found = is_in(joined_key(studies, KEY), pa.array(sorted(explained), STRING))
    return studies.filter(pc.invert(found))


def _unfollowed(log: pa.Table, followed: Followed) -> set[str]:
    """Return the studies with entries in hours that a table has not followed."""
    rows = zip(texts(joined_key(log, _LOGGED_KEY)), log["timestamp_ticks"].to_pylist(), strict=True)
    return {study for study, ticks in rows if ticks is not None and not followed.is_done(ticks)}


@dataclass
class Reading:
    """Spans of the feed, read for as long as they explain something, and not for ever."""

    counts: Counts
    spans: Iterable[Window]
    progress: Callable[[int], None] | None = None
    is_cut: bool = False

    def pieces(self) -> Iterator[pa.Table]:
        """Yield entries until there are too many."""
        read = 0
        for piece in (p for span in self.spans for p in self.counts.changes(span, self.progress)):
            yield piece
            read += piece.num_rows
            if read >= MOST_ENTRIES:
                self.is_cut = True
                return

    def meet(self, studies: pa.Table) -> set[str]:
        """Return those of the studies that have an entry in the spans."""
        wanted, met = joined_key(studies, KEY), set[str]()
        for piece in self.pieces() if len(studies) else ():
            keys = joined_key(piece, _LOGGED_KEY)
            met |= set(texts(pc.unique(keys.filter(is_in(keys, wanted)))))
            if len(met) == len(studies):
                break
        return met


def _with_expected(studies: pa.Table, log: pa.Table) -> pa.Table:
    """Add to each study how many live instances the log makes: `expected`."""
    newest = newest_of(log)
    live = newest.filter(pc.invert(is_gone(newest))).select(list(INSTANCE.key[:3]))
    sizes = _sizes(live)
    found = looked_up(joined_key(studies, KEY), joined_key(sizes, KEY), sizes["instances"])
    return studies.append_column("expected", pc.fill_null(found, 0))


def _agrees(rest: pa.Table) -> Values:
    """Return which studies stand in both tables as the log says that they should."""
    agrees: Values = pc.and_(
        pc.equal(rest["expected"], rest["instances"]),
        pc.equal(rest["instances"], rest["instanceCount"]),
    )
    return agrees


def _may_be_older(rest: pa.Table, counts: Counts, followed: Followed, *, cut: bool) -> Values:
    """Return which differences may come of entries that nobody has looked at.

    That is more at the service than in the log, where the feed begins before the first seal; or
    any difference, where there was too much to read.
    """
    more = pc.greater(rest["served_instances"], rest["instances"])
    possible = pc.and_(_agrees(rest), pc.or_(more, pa.scalar(cut)))
    if cut or not pc.any(possible).as_py():
        return possible  # type: ignore[no-any-return]  # Arrow's functions are untyped
    first = counts.first()
    is_older = first is not None and first < followed.sealed[0].start
    older: Values = pc.and_(possible, pa.scalar(is_older))
    return older


def _hours(
    counts: Counts, rest: pa.Table, log: pa.Table, followed: Followed
) -> tuple[datetime, ...]:
    """Return the hours of the studies' entries: those in the log, and those that it has lost."""
    is_lost = pc.and_(_agrees(rest), pc.greater(rest["served_instances"], rest["instances"]))
    lost, known = rest.filter(is_lost), rest.filter(pc.invert(is_lost))
    entries = log.filter(is_in(joined_key(log, _LOGGED_KEY), joined_key(known, KEY)))
    ticks = {*entries["timestamp_ticks"].to_pylist()}
    for span in backwards(followed.sealed) if len(lost) else ():
        found = _unlogged(Reading(counts, [span]), lost, log)
        ticks |= {*found["timestamp_ticks"].to_pylist()}
        lost = _without(lost, texts(joined_key(found, _LOGGED_KEY)))
        if not len(lost):
            break
    starts = {t // TICKS_PER_HOUR * TICKS_PER_HOUR for t in ticks if t is not None}
    return tuple(map(datetime_of, sorted(starts)))


def _unlogged(reading: Reading, lost: pa.Table, log: pa.Table) -> pa.Table:
    wanted = joined_key(lost, KEY)
    pieces = [CHANGE.arrow(["sequence", *_LOGGED_KEY, "timestamp_ticks"]).empty_table()]
    for piece in reading.pieces():
        rows = piece.select(pieces[0].column_names)
        rows = rows.filter(is_in(joined_key(rows, _LOGGED_KEY), wanted))
        pieces.append(filter_out(rows, "sequence", log["sequence"]))
    return pa.concat_tables(pieces)


def backwards(sealed: Sequence[Window]) -> Iterator[Window]:
    """Yield what is sealed from the newest hour back, in spans that double: losses are young."""
    first, end, length = sealed[0].start, sealed[-1].end, 24 * TICKS_PER_HOUR
    while end > first:
        start = max(first, end - length)
        yield Window(start, end)
        end, length = start, 2 * length
