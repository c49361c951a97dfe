"""A world: one archive over HTTP, one root of Delta tables, runs over hours, and the oracle.

Here: scenarios (a history, and which runs meet it how), the runs, what must hold after each of
them, and the comparison at rest. Runs interleave by points: wherever a run has opened a table,
looked at a version or read the feed, another run may be carried out completely before it goes on.
"""

from __future__ import annotations

import json
import tempfile
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from hypothesis import strategies as st

from dicom_assets import schema
from dicom_assets.emulator.archive import Archive
from dicom_assets.errors import ServiceAnswerError
from dicom_assets.feed.http.timeouts import Timeouts
from dicom_assets.settings import DEFAULTS
from dicom_assets.tables.catalogue import TABLES as CATALOGUE
from dicom_assets.tables.catalogue import catalogue
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.window import Window
from dicom_assets_tests.property.expected import COLUMNS, KEY, Row, series_of, studies_of
from dicom_assets_tests.property.headers import minimal_header
from dicom_assets_tests.property.histories import PARTITIONS, START, History, Operation, history_of
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Key, Span
from dicom_assets_tests.property.service import Told, serve
from dicom_assets_tests.property.values import are_equal
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feeds import feed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from random import Random
    from typing import Self

    from dicom_assets.feed import ChangeFeed
    from dicom_assets.feed_contract import Entries, Headers
    from dicom_assets_tests.adversary import Plan

HALF_HOUR = TICKS_PER_HOUR // 2
MEMORY = Path("/dev/shm")  # noqa: S108 - only a place for directories with names of their own
SEEN_OUTSIDE = ("created_date",)
MARKS = ("sealedAt", "instanceAt", "seriesAt", "studyAt")
TABLES = {table.name: table for table in CATALOGUE}
KEYS = {"change": 1, "sync": 1, "instance": 4, "series": 3, "study": 2}

Hours = tuple[int, int]
"""The first hour of a run, and the hour before which it ends."""


@dataclass(frozen=True)
class Scenario:
    """A history, and the runs that meet it.

    `settled` operations happen before the first run, the others one by one: before every
    `every`-th request, and what is left before the archive rests. `runs` are carried out in this
    order; each of `between` begins inside of them, at the n-th point of its kind, after one more
    operation. What the runs have not seen of an archive that moved is run `again`, hour by hour
    in this order.
    Every `short`-th page that is not tiny holds half of what was asked for; with `capitals` the
    names of an entry's fields begin with one; `faults` are what else goes wrong with the service's
    answers.
    """

    history: History
    settled: int
    every: int
    runs: tuple[Hours, ...]
    between: tuple[tuple[str, int, Hours], ...] = ()
    again: tuple[int, ...] = ()
    batch_size: int = 200
    in_flight: int = 2
    short: int = 0
    clip: bool = False
    partitions: tuple[str, ...] | None = None
    faults: Plan | None = None
    capitals: bool = False

    def span(self) -> Span:
        """What the tables are brought to."""
        end = START + self.history.hours * TICKS_PER_HOUR
        cut = HALF_HOUR if self.clip else 0
        kept = None if self.partitions is None else frozenset(self.partitions)
        return Span(START + cut, end - cut, kept)


def _stretch(random: Random, hours: int) -> Hours:
    first = random.randrange(hours)
    return first, random.randrange(first + 1, hours + 1)


def _shuffled_stretches(random: Random, hours: int) -> tuple[Hours, ...]:
    """All hours in one to three stretches, in any order."""
    cuts = {random.randrange(1, hours) for _ in range(random.randrange(3))} if hours > 1 else set()
    bounds = [0, *sorted(cuts), hours]
    stretches = list(pairwise(bounds))
    random.shuffle(stretches)
    return tuple(stretches)


# The kinds of points, and how many of each a run or two have.
POINTS = {"entries": 3, "headers": 4, "open change": 9, "open instance": 7, "open series": 4}


def _interruption(random: Random, hours: int) -> tuple[str, int, Hours]:
    kind = random.choice((*POINTS, "headers", "entries"))
    whole = random.randrange(2) == 0
    return kind, random.randrange(1, POINTS[kind]), (0, hours) if whole else _stretch(random, hours)


def scenario_of(random: Random, *, moves: bool) -> Scenario:
    """A scenario of an archive that moves while it is read, or of one that rests."""
    hours = random.randrange(2, 5)
    history = history_of(random, hours=hours, operations=random.randrange(4, 15))
    count = len(history.operations)
    some = tuple(_stretch(random, hours) for _ in range(random.randrange(1 if moves else 0, 3)))
    between = (_interruption(random, hours) for _ in range(random.choice((0, 1, 1, 2))))
    return Scenario(
        history,
        settled=random.randrange(count) if moves else count,
        every=random.randrange(1, 6) if moves else 0,
        runs=some if moves else some + _shuffled_stretches(random, hours),
        between=tuple(between),
        again=tuple(random.sample(range(hours), hours)),
        batch_size=random.choice((1, 2, 3, 7, 200)),
        in_flight=random.choice((1, 3)),
        short=random.choice((0, 0, 2, 3)),
        # An end that cuts an hour is no snapshot: only an archive at rest has one answer to it.
        clip=not moves and random.randrange(3) == 0,
        partitions=random.choice((None, None, None, PARTITIONS[:1])),
        capitals=count % 4 == 0,
    )


@st.composite
def scenarios(draw: st.DrawFn, *, moves: bool) -> Scenario:
    """Scenarios whose every choice is hypothesis' own."""
    return scenario_of(draw(st.randoms(use_true_random=False)), moves=moves)


# Pauses for tests: production's defaults are tested under a clock of their own.
QUICK = Timeouts(
    backoff_seconds=0.001,
    backoff_most_seconds=0.01,
    retry_after_most_seconds=0.02,
    spread_seconds=0.001,
    storm_seconds=0.002,
    doubt_seconds=0.2,
)
NEVER = 1_000_000


def duels() -> dict[str, Scenario]:
    """Runs that are overtaken, at each point in turn, by a run that makes their decision stale.

    In the first duel an instance is deleted while its header waits to be committed; in the second
    one goes while its series is counted, so that the other run finds nothing to commit there.
    """
    one, two = Key(PARTITIONS[0], "1.5.0", "1.7.0", "1.8.0"), ("1.5.0", "1.7.0", "1.8.1")
    first, second = _store(one, 0), _store(Key(one.partition, *two), 1)
    gone = Operation("delete", START + TICKS_PER_HOUR, *one)
    ended = Operation("delete", START + 2 * TICKS_PER_HOUR, one.partition, *two)
    deleted = Scenario(History((first, gone), 2), 1, NEVER, ((0, 1),), again=(0, 1))
    counted = Scenario(
        History((first, second, ended), 3), 2, NEVER, ((0, 1), (1, 2)), again=(0, 1, 2)
    )
    points = [("entries", 1), ("headers", 1), *(("open change", n) for n in range(2, 9))]
    found = {f"deleted {k} {n}": replace(deleted, between=((k, n, (0, 2)),)) for k, n in points}
    return found | {
        f"counted {n}": replace(counted, between=(("open instance", n, (2, 3)),))
        for n in range(2, 10)
    }


def _store(key: Key, hour: int) -> Operation:
    header = minimal_header(key)
    return Operation("store", START + hour * TICKS_PER_HOUR, *key, header=header)


# --- points: where another run may come between ---------------------------------------------------


@dataclass
class Between:
    """The runs that are still to come between, each at the n-th point of a kind."""

    ahead: deque[tuple[str, int, Hours]]
    carry_out: Callable[[Hours], None]
    points: int = 0

    def point(self, kind: str) -> None:
        """A run has just looked; perhaps another one is carried out now, before it acts."""
        if not self.ahead or self.ahead[0][0] != kind:
            return
        self.points += 1
        if self.points >= self.ahead[0][1]:
            self.points = 0
            self.carry_out(self.ahead.popleft()[2])


@dataclass(frozen=True)
class WatchedStore(Store):
    """The tables, with a point after each look at one."""

    between: Between = field(kw_only=True, repr=False)

    def open(self, table: schema.Table) -> Snapshot:
        """Open the table; what comes between makes the snapshot an old one."""
        snapshot = super().open(table)
        self.between.point(f"open {table.name}")
        return snapshot


@dataclass
class WatchedFeed:
    """The feed of one run, with a point after each reading, before anything of it is committed.

    `began` is what had happened to the archive when the run began to read it.
    """

    feed: ChangeFeed
    told: Told
    between: Between
    began: int = 0

    def entries(
        self,
        window: Window,
        progress: Callable[[int], None] | None = None,
        take: Callable[[pa.Table], None] | None = None,
    ) -> Entries:
        """Read the entries of the window."""
        self.began = self.told.happened
        entries = self.feed.entries(window, progress, take)
        self.between.point("entries")
        return entries

    def headers(self, log: pa.Table, wanted: Collection[int]) -> Iterable[Headers]:
        """Read all of the headers."""
        headers = list(self.feed.headers(log, wanted))
        self.between.point("headers")
        return headers

    def key_of(self, sequence: int, ticks: int) -> tuple[str, str, str, str] | None:
        """Look for one entry."""
        return self.feed.key_of(sequence, ticks)


# --- the world ------------------------------------------------------------------------------------


class Root(Protocol):
    """Where tables lie: a path, or what is written like one."""

    def __truediv__(self, name: str, /) -> object:
        """The place of a table."""


def urls(root: Root) -> dict[str, str]:
    """Where the tables lie, by name."""
    return {name: str(root / name) for name in TABLES}


def carry_out(
    store: Store,
    feed: Any,  # noqa: ANN401 - the real one or a watched one
    window: Window,
    run_id: str,
    *,
    reads_on: bool = True,
) -> None:
    """One run over a window, as the four assets do it."""
    run = Run(run_id, datetime.now(UTC), seals=True)
    steps.add_entries(store, window, feed, run)
    steps.follow_log(store, window, feed, run, reads_on=reads_on)
    steps.derive(store, schema.SERIES, window, run)
    steps.derive(store, schema.STUDY, window, run)


class World:
    """An archive, its service and its tables, for one scenario; a context manager."""

    def __init__(self, scenario: Scenario, root: Root | None = None) -> None:
        """Nothing has happened yet; the tables will lie under the root, or beside the archive."""
        self.scenario = scenario
        self._root = root
        self.red = 0
        self.runs = 0
        self._seen: dict[int, int] = {}
        self._greatest: dict[Key, int] = {}
        self._left = ExitStack()

    def __enter__(self) -> Self:
        """The world with its service running and its settled operations done."""
        made = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        folder = Path(self._left.enter_context(made))
        self.root: Root = self._root or folder
        scenario = self.scenario
        self.told = Told(
            Archive(folder / "archive"),
            deque(scenario.history.operations),
            scenario.every,
            scenario.short,
            scenario.capitals,
        )
        self.told.happen(self.scenario.settled)
        self.url = self._left.enter_context(serve(self.told, self.scenario.faults))
        self.feed = self._left.enter_context(self.connect())
        self._between = Between(deque(self.scenario.between), self.interrupt)
        self.store = WatchedStore(
            urls(self.root),
            catalogue(),
            DEFAULTS.retention_hours,
            between=self._between,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left of it."""
        self._left.close()

    def connect(self) -> ChangeFeed:
        """A client of the service."""
        return feed_of(
            self.url,
            batch_size=self.scenario.batch_size,
            retry_seconds=20,
            in_flight=self.scenario.in_flight,
            data_partitions=self.scenario.partitions,
            timeouts=QUICK,
        )

    def window(self, hours: Hours) -> Window:
        """The window of hours, cut where the scenario's start or end cuts it."""
        first, end = (START + hour * TICKS_PER_HOUR for hour in hours)
        span = self.scenario.span()
        return Window(max(first, span.start), min(end, span.end))

    def run(self, hours: Hours, store: Store | None = None) -> None:
        """One run over the hours; while the archive moves, its pages may not add up: red."""
        self.runs += 1
        feed = WatchedFeed(self.feed, self.told, self._between)
        try:
            run_id, reads_on = f"run-{self.runs}", not self.scenario.clip
            carry_out(store or self.store, feed, self.window(hours), run_id, reads_on=reads_on)
        except ServiceAnswerError:
            assert self.scenario.every, "the archive rests, and its pages do not add up"
            self.red += 1
        else:
            for hour in range(*hours):
                self._seen[hour] = max(self._seen.get(hour, 0), feed.began)
        self.check_sequences()

    def interrupt(self, hours: Hours) -> None:
        """A run of another process comes between; an archive that moves does so just before it."""
        self.told.happen(1 if self.scenario.every else 0)
        self.run(hours, steps.store_of(urls(self.root)))

    def check_sequences(self) -> None:
        """The stored sequence of a key has not gone down since the last look (I5)."""
        for row in rows(self.root, "instance", [*KEY, "sequence"]):
            *key, sequence = row.values()
            named = Key(*key)
            assert sequence >= self._greatest.get(named, sequence), f"I5: {named} went down"
            self._greatest[named] = sequence

    def play(self) -> None:
        """All runs meet the history; then it rests, and the hours that it touched last run again.

        An hour is touched by each of its new entries; and by an expiry, when it holds the newest
        entry of what expired.
        """
        for hours in self.scenario.runs:
            self.run(hours)
        self.told.every = 0
        self.told.rest()
        for hour in self.scenario.again:
            if self._seen.get(hour, -1) < self.told.touched.get(hour, 0):
                self.run((hour, hour + 1))

    def check(self, service_url: str | None = None) -> None:
        """The tables are what the oracle says, and running again changes nothing (I7).

        The runs knew the service's URL, or none, and so addresses are null.
        """
        compare(self.root, self.told, self.scenario.span(), service_url)
        heavy, versions = self.told.heavy, self.versions()
        hours = (0, self.scenario.history.hours)
        self.run(hours)
        assert self.told.heavy == heavy, "I7: a re-run read headers"
        assert self.versions() == versions, "I7: a re-run committed"

    def versions(self) -> dict[str, int]:
        """The version of each table."""
        return {name: self.store.version(table) for name, table in TABLES.items()}


def play(scenario: Scenario, root: Root | None = None) -> World:
    """The scenario is played and everything that must hold was asserted."""
    with World(scenario, root) as world:
        world.play()
        world.check()
    return world


# --- comparison -----------------------------------------------------------------------------------


def rows(root: Root, name: str, columns: list[str] | None = None) -> list[Row]:
    """The rows of a table, as Delta's own engine reads them; none when there is no table."""
    if not DeltaTable.is_deltatable(str(root / name)):
        return []
    wanted = ", ".join(f'"{column}"' for column in columns) if columns else "*"
    reader = QueryBuilder().register("t", DeltaTable(str(root / name)))
    found: list[Row] = _read(reader, f"SELECT {wanted} FROM t")  # noqa: S608 - constants
    return found


def _read(query: QueryBuilder, sql: str) -> list[Row]:
    # By Arrow, so that a storage in this process can answer meanwhile.
    return pa.RecordBatchReader.from_stream(query.execute(sql)).read_all().to_pylist()


def types(root: Root, name: str) -> list[tuple[str, Any]]:
    """The columns of a table in order, with Delta's types."""
    fields = json.loads(DeltaTable(str(root / name)).schema().to_json())["fields"]
    return [(field["name"], field["type"]) for field in fields]


def by_key(found: list[Row], depth: int) -> dict[tuple[Any, ...], Row]:
    """The rows by their first columns, one row per key (I2)."""
    keyed = {tuple(row.values())[:depth]: row for row in found}
    assert len(keyed) == len(found), "I2: a key has several rows"
    return keyed


def same(name: str, found: list[Row], expected: list[Row]) -> None:
    """Both hold the same rows, type by type, null apart from empty."""
    depth = KEYS[name]
    got, wanted = by_key(found, depth), by_key(_ordered(name, expected), depth)
    assert got.keys() == wanted.keys(), f"{name}: {_keys_apart(got, wanted)}"
    for key, row in wanted.items():
        apart = {
            column: (got[key][column], value)
            for column, value in row.items()
            if not are_equal(got[key][column], value)
        }
        assert not apart, f"{name} {key}: (found, expected) {apart}"


def _ordered(name: str, expected: list[Row]) -> list[Row]:
    if name not in COLUMNS:
        return expected
    names = [column for column, _ in COLUMNS[name] if column not in SEEN_OUTSIDE]
    return [{column: row[column] for column in names} for row in expected]


def _keys_apart(got: dict[tuple[Any, ...], Row], wanted: dict[tuple[Any, ...], Row]) -> str:
    return f"found only {sorted(got.keys() - wanted)}, expected only {sorted(wanted.keys() - got)}"


def compare(root: Root, told: Told, span: Span, service_url: str | None = None) -> None:
    """The tables at rest are what the oracle says (I1 to I4), and so are the log and its seals."""
    expected = told.replay.instances(span)
    found = rows(root, "instance")
    same("instance", found, expected)
    assert all(isinstance(row["created_date"], datetime) for row in found)
    same("series", rows(root, "series"), series_of(expected))
    same("study", rows(root, "study"), studies_of(expected, service_url))
    check_counts(root)
    for name, columns in COLUMNS.items():
        if DeltaTable.is_deltatable(str(root / name)):
            assert types(root, name) == columns, f"the columns of {name}"
    compare_log(root, told, span)


def check_counts(root: Root) -> None:
    """No orphan, and the counts are those of GROUP BY (I3), by SQL over the tables themselves."""
    if not all(DeltaTable.is_deltatable(str(root / n)) for n in ("instance", "series", "study")):
        return
    query = QueryBuilder()
    for name in ("instance", "series", "study"):
        query = query.register(name, DeltaTable(str(root / name)))
    for sql in (_SERIES_COUNTS, _STUDY_COUNTS):
        assert not _read(query, sql), "I3: counts or orphans"


_SERIES_COUNTS = """
SELECT * FROM series s FULL JOIN (
    SELECT "partitionName" p, studyinstanceuid st, seriesinstanceuid se, count(*) n
    FROM instance GROUP BY 1, 2, 3
) i ON s."partitionName" = p AND s."studyInstanceUid" = st AND s."seriesInstanceUid" = se
WHERE s."instanceCount" IS DISTINCT FROM n
"""
_STUDY_COUNTS = """
SELECT * FROM study s FULL JOIN (
    SELECT "partitionName" p, studyinstanceuid st, count(*) n,
           count(DISTINCT seriesinstanceuid) k
    FROM instance GROUP BY 1, 2
) i ON s."partitionName" = p AND s."studyInstanceUid" = st
WHERE (s."instanceCount" IS DISTINCT FROM n) OR (s."seriesCount" IS DISTINCT FROM k)
"""


def compare_log(root: Root, told: Told, span: Span) -> None:
    """The log holds every entry of the span and no other, each hour is sealed and followed."""
    found = rows(root, "change", ["sequence", "timestamp_ticks", *KEY, "action"])
    logged = {
        (row["sequence"], row["timestamp_ticks"], Key(*(row[c] for c in KEY)), a)
        for row in found
        for a in [row["action"]]
    }
    assert len(logged) == len(found)
    assert logged == set(told.replay.read(span)), "the log"
    sync = rows(root, "sync")
    same("sync", sync, told.replay.sync(span))
    assert all(row[mark] is not None for row in sync for mark in MARKS), "an hour is not followed"
    assert rows(root, "rejected") == []
