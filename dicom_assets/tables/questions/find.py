"""Facts and verdict on a study, series, instance or sequence: is it in the tables, and why not?

`gather_facts` reads the log, the rows, rejections and seals, and asks the service.
`judge_facts` is pure and returns the verdict: a sentence, and as data the tables and hours to run
again. The first rule that applies decides. The rules stand in the order in which an entry moves
from the feed to the tables. UIDs are for the terminal of the person who asked, and never for a log
or metadata: `commands.find` prints them.

| verdict | when | fine |
|---|---|---|
| rejected | an entry of it could not be used, and is retried | no |
| no seal | an hour of its entries has no seal (any more) | no |
| too young | the hour of a new entry is not read yet | no |
| data partition not kept | its new entries belong to a data partition that is left out | no |
| before the start, after the end | its new entries lie outside of the time that is read | no |
| late | its hour was sealed without the entry | no |
| not followed | `instance` lacks it, and has not followed its hours | no |
| behind | `instance` lacks it though it has followed, or still has a deleted row | no |
| not rolled up | `series` or `study` differ from `instance` | no |
| expired unseen | the service holds less than the tables, without an entry for it | no |
| not in the feed | the service holds it, without an entry in the part of the feed searched | no |
| unknown | neither log nor service know it, or the service did not answer | no |
| deleted, expired | the service has removed it, and so have the tables | yes |
| in step | the tables hold it as the service does | yes |
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Literal, Protocol, TypeAlias

import pyarrow as pa

from dicom_assets.errors import ServiceError
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets.schema.columns import DEFAULT_PARTITION
from dicom_assets.tables.delta.arrow import distinct, filter_out, ints, is_in, pc, texts
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, key_of, make_plan, newest_of
from dicom_assets.tables.questions.reconcile import Counts, Followed, Reading, backwards
from dicom_assets.tables.rollup import difference_of, filled_derived
from dicom_assets.tables.sync import marks_of
from dicom_assets.window import HOUR, Window, datetime_of, floor_hour

Level: TypeAlias = Literal["study", "series", "instance"]
_COLUMN: Mapping[Level, str] = {
    "study": "studyinstanceuid",
    "series": "seriesinstanceuid",
    "instance": "sopinstanceuid",
}
# The resource of a level in a search of the service (PS3.18, 10.6).
_RESOURCE: Mapping[Level, str] = {"series": "series", "instance": "instances"}
ALL_TABLES = ("change", "instance", "series", "study")
# Without any seal and without DICOM_START_TIME, this much of the feed is searched.
_RECENT = timedelta(days=30)


class Lookups(Counts, Protocol):
    """Requests to the service, sent by `feed.search.StudyCounts`."""

    def holders(self, partition: str | None, level: str, uid: str) -> int:
        """Return the number of `series` or `instances` with a UID."""

    def entry(self, sequence: int) -> pa.Table:
        """Return the entry of the feed with a sequence, or no row."""


@dataclass(frozen=True, order=True)
class KnownEntry:
    """An entry of the feed, or its row in the log."""

    sequence: int
    action: str
    state: str
    ticks: int
    partition: str

    @property
    def hour(self) -> datetime:
        """The hour of its timestamp."""
        return floor_hour(datetime_of(self.ticks))


@dataclass(frozen=True)
class Rejected:
    """An entry that could not be used, and when it is retried."""

    sequence: int
    reason: str
    attempts: int
    next_attempt: datetime
    hour: datetime


@dataclass(frozen=True)
class Seal:
    """An hour: is it sealed, and which tables have not followed it?"""

    hour: datetime
    is_sealed: bool
    lagging: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The settings that decide which entries are read, and the time."""

    now: datetime
    start: datetime | None
    end: datetime | None
    delay: timedelta
    data_partitions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """Facts on the UID or sequence that was `asked` for.

    | fact | meaning |
    |---|---|
    | `entries`, `fresh` | its entries in the log, and those that only the feed has |
    | `expected` | the number of live instances by the log |
    | `rows` | the number of rows in each table |
    | `behind` | the newest entries of instances that `instance` does not show as the log does |
    | `stale` | the tables that differ from what `instance` derives for them |
    | `served` | the number of instances in the service, 0 or 1 for a series or an instance |
    | `failure` | why `served` is None: the error of the service |
    | `is_searched` | the feed was searched to its end, or an entry was met |
    | `begins` | the time of the feed's first entry |
    """

    asked: str
    level: Level | None = None
    entries: tuple[KnownEntry, ...] = ()
    fresh: tuple[KnownEntry, ...] = ()
    expected: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    behind: tuple[KnownEntry, ...] = ()
    stale: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    seals: tuple[Seal, ...] = ()
    served: int | None = None
    failure: str | None = None
    is_searched: bool = False
    begins: datetime | None = None

    @property
    def stored(self) -> int:
        """The rows of `instance`, comparable with `served`."""
        return self._as_served(self.rows.get("instance", 0))

    @property
    def live(self) -> int:
        """The live instances by the log, comparable with `served`."""
        return self._as_served(self.expected)

    def _as_served(self, count: int) -> int:
        return count if self.level == "study" else min(count, 1)


@dataclass(frozen=True)
class Verdict:
    """The verdict in a word and a sentence. Its remedy: run tables `select` at `hours` again."""

    name: str
    sentence: str
    is_fine: bool = False
    hours: tuple[datetime, ...] = ()
    select: tuple[str, ...] = ALL_TABLES


def is_sequence(asked: str) -> bool:
    """True when the text is a sequence of the feed, and not a UID."""
    return asked.isascii() and asked.isdigit()


def gather_facts(
    store: Store,
    asked: str,
    service: Lookups | None,
    limits: Limits,
    progress: Callable[[int], None] | None = None,
) -> Facts:
    """Return the facts from the tables and the service, without the latter if it does not answer.

    `progress` takes the number of entries of the feed that were searched.
    """
    known = _Known(store, asked)
    facts = known.facts(asked)
    if service is not None:
        try:
            facts = _ask(service, known, facts, limits, progress)
        except ServiceError as error:
            facts = replace(facts, failure=str(error))
    hours = {e.hour for e in (*facts.entries, *facts.fresh)} | {r.hour for r in facts.rejected}
    sync, seals = store.open(SYNC), list[Seal]()
    marks = marks_of(store, sync)
    rows = {row["hour"]: row for row in sync.rows().to_pylist()} if hours else {}
    for hour in sorted(hours):
        row = rows.get(hour, {})
        is_sealed = row.get("sealedAt") is not None
        lagging = (table for table, mark in marks.items() if is_sealed and row[mark] is None)
        seals.append(Seal(hour, is_sealed, tuple(lagging)))
    return replace(facts, seals=tuple(seals))


class _Known:
    """The rows of a UID, or of the instance of a sequence, in the log and in `instance`."""

    def __init__(self, store: Store, asked: str) -> None:
        self.store, self.uid = store, asked
        self.level: Level | None = None
        self.log = CHANGE.arrow(LOG_COLUMNS).empty_table()
        self.stored = INSTANCE.arrow().empty_table()
        uid = asked
        if is_sequence(asked):
            logged = store.open(CHANGE).rows_of("sequence", [int(asked)], ["sopinstanceuid"])
            uid = next(iter(texts(logged["sopinstanceuid"])), "")
        for level, column in _COLUMN.items() if uid else ():
            log = store.open(CHANGE).rows_of(column, [uid], LOG_COLUMNS)
            names = [*INSTANCE.key, "sequence", "received_timestamp"]
            stored = store.open(INSTANCE).rows_of(column, [uid], names)
            if log.num_rows or stored.num_rows:
                self.level, self.uid, self.log, self.stored = level, uid, log, stored
                break

    def facts(self, asked: str) -> Facts:
        newest = newest_of(self.log)
        plan = make_plan(self.log, self.stored, pc.unique(key_of(self.log)))
        behind = {*ints(plan.read["sequence"]), *ints(plan.deletes["sequence"])}
        entries = _entries(self.log)
        sequences = ints(self.log["sequence"])
        if self.level is None and is_sequence(asked):
            sequences = [int(asked)]
        rejected = self.store.open(REJECTED).rows_of("sequence", sequences).to_pylist()
        names = ("sequence", "reason", "attempts", "next_attempt", "window_start")
        rows = {"instance": self.stored.num_rows}
        for table in (SERIES, STUDY):
            uids = self.values(table.key[-1].lower())
            shown = self.store.open(table).rows_of(table.key[-1], uids, table.key)
            rows[table.name] = shown.num_rows
        studies = self.values("studyinstanceuid")
        stale = (
            table.name
            for table in filled_derived(self.store)
            if not difference_of(self.store, self.store.open(table), studies).is_empty
        )
        return Facts(
            asked,
            self.level,
            entries,
            expected=newest.num_rows - newest.filter(is_gone(newest)).num_rows,
            rows=rows,
            behind=tuple(e for e in entries if e.sequence in behind),
            stale=tuple(stale),
            rejected=tuple(Rejected(*(row[name] for name in names)) for row in rejected),
        )

    def values(self, column: str) -> list[str]:
        """Return the values of a column in the log and in `instance`, in order."""
        return sorted({*distinct(self.log[column]), *distinct(self.stored[column])})


def _entries(log: pa.Table) -> tuple[KnownEntry, ...]:
    names = ("sequence", "action", "state", "timestamp_ticks", "partitionName")
    rows = ({**row, "state": row["state"] or ""} for row in log.to_pylist())
    return tuple(sorted(KnownEntry(*(row[name] for name in names)) for row in rows))


def _ask(
    service: Lookups,
    known: _Known,
    facts: Facts,
    limits: Limits,
    progress: Callable[[int], None] | None,
) -> Facts:
    """Return the facts with those of the service.

    The feed is searched only where the log does not explain what the service holds: first the
    hours that were not read, then the sealed hours from the newest back.
    """
    if is_sequence(facts.asked) and not facts.entries:
        return replace(facts, fresh=_entries(service.entry(int(facts.asked))), is_searched=True)
    level, served = _served(service, known, limits)
    facts = replace(facts, level=level, served=served)
    if (facts.entries or facts.stored) and served <= max(facts.stored, facts.live):
        return facts
    kept = limits.data_partitions
    followed = Followed(known.store, None if kept is None else frozenset(kept))
    if followed.sealed:
        spans = [*followed.unread(limits.now), *backwards(followed.sealed)]
    else:
        start = limits.start or limits.now - _RECENT
        spans = [Window.between(start, limits.now + timedelta(days=1))]
    reading, fresh = Reading(service, spans, progress), tuple[KnownEntry, ...]()
    wanted = pa.array([known.uid], pa.string())
    for piece in reading.pieces():
        study, series, sop = (is_in(piece[column], wanted) for column in _COLUMN.values())
        entries = piece.filter(pc.or_(study, pc.or_(series, sop)))
        fresh = _entries(filter_out(entries, "sequence", known.log["sequence"]))
        if fresh:
            break
    begins = service.first()
    return replace(
        facts,
        fresh=fresh,
        is_searched=bool(fresh) or not reading.is_cut,
        begins=None if begins is None else datetime_of(begins),
    )


def _served(service: Lookups, known: _Known, limits: Limits) -> tuple[Level | None, int]:
    """Return the level of the UID in the service, and the number of its instances there.

    Asked are the data partitions of the known rows, else all that are kept.
    """
    met = known.values("partitionName")
    listed = distinct(known.store.open(STUDY).rows(["partitionName"])["partitionName"])
    kept = {*listed, *met, *(limits.data_partitions or ())}
    places = [*(met or sorted(kept))] if kept - {DEFAULT_PARTITION} else [None]
    if known.level in {None, "study"}:
        sizes = [service.study(place, known.uid) for place in places]
        count = sum(size.instances for size in sizes if size is not None)
        if count or known.level == "study":
            return "study", count
    for level, resource in _RESOURCE.items():
        if known.level in {None, level} and any(
            service.holders(place, resource, known.uid) for place in places
        ):
            return level, 1
    return known.level, 0


def judge_facts(facts: Facts, limits: Limits) -> Verdict:
    """Return the verdict of the first rule that applies."""
    same = "as the service does" if facts.failure is None else "as the log says"
    in_step = Verdict("in step", f"the tables hold it {same}: nothing to do", is_fine=True)
    # Each yields its verdicts in the order of the rules, and only the first verdict is taken.
    rules = (_not_in_log(facts, limits), _not_in_tables(facts), _not_as_served(facts, limits))
    return next(chain(*rules), in_step)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _hours(entries: Iterable[KnownEntry | Rejected]) -> tuple[datetime, ...]:
    return tuple(sorted({entry.hour for entry in entries}))


def _not_in_log(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    if facts.rejected:
        last = max(facts.rejected, key=lambda entry: entry.next_attempt)
        is_due = last.next_attempt <= limits.now
        when = "next run of any hour" if is_due else f"first run after {_at(last.next_attempt)}"
        more = f" ({len(facts.rejected)} entries in all)" if len(facts.rejected) > 1 else ""
        yield Verdict(
            "rejected",
            f"entry {last.sequence} was rejected: {last.reason}. It was tried {last.attempts} "
            f"time{'s' if last.attempts > 1 else ''} and is retried by the {when}{more}",
            hours=_hours(facts.rejected),
        )
    logged = {entry.hour for entry in facts.entries}
    hours = tuple(s.hour for s in facts.seals if not s.is_sealed and s.hour in logged)
    if hours:
        first = _at(hours[0])
        sentence = (
            f"the hour {first} has no seal (any more): run it again"
            if len(hours) == 1
            else f"{len(hours)} hours, the first {first}, have no seal (any more): run them again"
        )
        yield Verdict("no seal", sentence, hours=hours)
    if facts.fresh:
        yield from _not_read(facts, limits)


def _not_read(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    entry, hours = facts.fresh[-1], _hours(facts.fresh)
    moment, hour = datetime_of(entry.ticks), _at(entry.hour)
    if limits.data_partitions is not None and entry.partition not in limits.data_partitions:
        yield Verdict(
            "data partition not kept",
            f"entry {entry.sequence} of {hour} belongs to the data partition {entry.partition}, "
            "which is not kept. Add it to DICOM_DATA_PARTITIONS: the schedule then requests "
            "its hours again",
            hours=(entry.hour,),
        )
    if limits.start is not None and moment < limits.start:
        yield Verdict(
            "before the start",
            f"entry {entry.sequence} lies before DICOM_START_TIME ({_at(limits.start)}). Set it to "
            f"{hour} or earlier, then run that hour",
            hours=(entry.hour,),
        )
    if limits.end is not None and moment >= limits.end:
        yield Verdict(
            "after the end",
            f"entry {entry.sequence} lies after DICOM_END_TIME ({_at(limits.end)}). Move or unset "
            "it, then run its hour",
            hours=(entry.hour,),
        )
    if entry.hour in {seal.hour for seal in facts.seals if seal.is_sealed}:
        yield Verdict(
            "late",
            f"entry {entry.sequence} is not in the log, though its hour {hour} is sealed: it came "
            "late. Run the hour again",
            hours=hours,
        )
    due = entry.hour + HOUR + limits.delay
    lies = f"entry {entry.sequence} lies in the hour {hour}, which"
    if limits.now < due:
        sentence = f"{lies} is read after {_at(due)}. Wait until then, then run it"
        yield Verdict("too young", sentence, hours=hours)
    yield Verdict("no seal", f"{lies} has no seal: run it", hours=hours)


def _not_in_tables(facts: Facts) -> Iterator[Verdict]:
    if facts.behind:
        hours, count = _hours(facts.behind), len(facts.behind)
        lagging = {s.hour for s in facts.seals if "instance" in s.lagging}
        shows = f"instance does not show {count} instance{'s' if count > 1 else ''} as the log does"
        if set(hours) <= lagging:
            yield Verdict(
                "not followed",
                f"{shows}, because it has not followed the hour {_at(hours[0])} yet: run it",
                hours=hours,
            )
        yield Verdict(
            "behind",
            f"{shows}, though it has followed the hour {_at(hours[0])}. A later entry replaces it, "
            "or the table was changed by somebody else: run the hour again",
            hours=hours,
        )
    if facts.stale:
        hours = _hours(facts.entries[-1:])
        yield Verdict(
            "not rolled up",
            f"instance is right, and {' and '.join(facts.stale)} differ from it: run "
            f"{'their newest hour' if hours else 'an hour that touches the study'} again",
            hours=hours,
            select=("series", "study"),
        )


def _not_as_served(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    if facts.served is not None and facts.served < facts.stored:
        yield Verdict(
            "expired unseen",
            f"the tables hold {facts.stored}, the service {facts.served}. The rest expired without "
            "an entry, or is deleted in an hour that is not read yet: run the hours again",
            hours=_hours(facts.entries),
        )
    if facts.served is not None and facts.served > facts.stored:
        holds = f"the service holds {facts.served}, the tables {facts.stored}, and "
        yield Verdict("not in the feed", holds + _search_result(facts, limits))
    is_stored = bool(facts.rows.get("instance"))
    if facts.entries and not facts.expected and not is_stored:
        last = facts.entries[-1]
        if last.action == "Delete":
            deleted = f"deleted in the service in the hour {_at(last.hour)} (entry {last.sequence})"
            yield Verdict("deleted", f"{deleted}: nothing to do", is_fine=True)
        yield Verdict(
            "expired",
            "the service has removed it without a Delete entry, as it does when a study expires. "
            f"Its last entry is {last.sequence} of the hour {_at(last.hour)}: nothing to do",
            is_fine=True,
        )
    if not facts.entries and not is_stored:
        yield Verdict("unknown", _unknown(facts))


def _search_result(facts: Facts, limits: Limits) -> str:
    if not facts.is_searched:
        return (
            "the newest entries of the feed do not name it. There are more entries: look in the "
            "service's log when it was stored, and run that hour again"
        )
    if limits.start is not None and facts.begins is not None and facts.begins < limits.start:
        return (
            f"the feed does not name it between DICOM_START_TIME ({_at(limits.start)}) and now: "
            f"it is older. Set DICOM_START_TIME to {_at(facts.begins)}, where the feed begins, and "
            "run the hours before"
        )
    start = "its beginning" if limits.start is None else f"DICOM_START_TIME ({_at(limits.start)})"
    return f"the feed does not name it between {start} and now: tell the service's owner"


def _unknown(facts: Facts) -> str:
    if facts.failure is not None:
        return (
            "the tables do not know it, and the service could not be asked: remove the cause "
            "above, then ask again"
        )
    if is_sequence(facts.asked):
        return (
            "neither the log nor the feed has an entry with this sequence. Sequences have gaps: "
            "ask by the StudyInstanceUID"
        )
    return (
        "neither the tables nor the service know it: check the UID, and whether the PACS has "
        "sent it to this service"
    )
