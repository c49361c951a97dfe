"""Facts and verdict on a study, series, instance or sequence: is it in the tables, and why not?

`gather_facts` reads the log, the rows, rejections and seals, and asks the service.
`judge_facts` is pure and returns the verdict: a sentence, and as data the tables and hours to run
again. The first rule that applies decides. The rules stand in the order in which an entry moves
from the feed to the tables. UIDs are for the terminal of the person who asked, and never for a log
or metadata: `commands.find` prints them.

| verdict | when | fine |
|---|---|---|
| rejected | an entry of it could not be used, and is retried or has to be corrected | no |
| no seal | an hour of its entries has no seal (any more) | no |
| data partition not kept | its new entries belong to a data partition that is left out | no |
| before the start, after the end | its new entries lie outside of the time that is read | no |
| late | its hour was sealed without the entry | no |
| not followed | `instance` lacks it, and has not followed its hours | no |
| behind | `instance` lacks it though it has followed, or still has a deleted row | no |
| not rolled up | `series` or `study` differ from `instance` | no |
| too young | its newest entry lies in an hour that is not over, or not due yet | yes |
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
from dicom_assets.feed_contract import can_heal
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets.schema.columns import DEFAULT_PARTITION
from dicom_assets.tables.delta.arrow import distinct, filter_out, ints, is_in, pc, texts
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, key_of, make_plan, newest_of
from dicom_assets.tables.questions.reconcile import MARGIN, Counts, Followed, Reading, backwards
from dicom_assets.tables.rollup import difference_of, filled_derived
from dicom_assets.tables.sync import marks_of
from dicom_assets.window import HOUR, Partitions, Window, datetime_of, floor_hour, ticks_of

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
# A person waits for the answer, and the tables' part of it needs no service.
SERVICE_SECONDS = 2.0
# Of the time without a seal, so much before the delay is always searched.
_OPEN = timedelta(days=1)
_EVENTS: Mapping[str, str] = {"Create": "stored", "Update": "updated", "Delete": "deleted"}


HERE, ON_ITS_WAY, DELETED = "HERE", "ON ITS WAY", "DELETED"
REJECTED_WORD, DIFFERS, NOT_IN_FEED = "REJECTED", "DIFFERS", "NOT IN THE FEED"
# The word of each verdict, for people who read one word.
WORDS: Mapping[str, str] = {
    "in step": HERE,
    "rejected": REJECTED_WORD,
    **dict.fromkeys(("no seal", "late", "not followed", "too young"), ON_ITS_WAY),
    **dict.fromkeys(("deleted", "expired"), DELETED),
    **dict.fromkeys(("behind", "not rolled up", "expired unseen"), DIFFERS),
    **dict.fromkeys(("data partition not kept", "before the start", "after the end"), DIFFERS),
    **dict.fromkeys(("not in the feed", "unknown"), NOT_IN_FEED),
}


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

    @property
    def is_gone(self) -> bool:
        """True when the instance is deleted, or served as Deleted."""
        return self.action == "Delete" or self.state == "Deleted"

    @property
    def event(self) -> str:
        """The change and its second, such as `deleted at 10:00:50 UTC (2026-01-31, entry 7)`."""
        moment = datetime_of(self.ticks)
        at = f"at {moment:%H:%M:%S} UTC ({moment:%Y-%m-%d}, entry {self.sequence})"
        since = " and removed since" if self.is_gone and self.action != "Delete" else ""
        return f"{_EVENTS[self.action]} {at}{since}"


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

    @property
    def kept(self) -> Partitions:
        """The data partitions that are kept, None for all."""
        return None if self.data_partitions is None else frozenset(self.data_partitions)

    def keeps(self, entry: KnownEntry) -> bool:
        """True when the data partition of an entry is kept."""
        return self.kept is None or entry.partition in self.kept

    def due(self, hour: datetime) -> datetime:
        """Return the moment at which an hour is read."""
        return hour + HOUR + self.delay

    def reading(self, hour: datetime) -> str:
        """Return when the hour of an entry ends and is read, as a clause."""
        end, due = hour + HOUR, self.due(hour)
        if due <= self.now:
            return f"its hour {_at(hour)} is due and not read yet"
        is_same_day = due.date() == hour.date()
        read = f"{due:%H:%M} UTC" if is_same_day else _at(due)
        return f"its hour ends at {end:%H:%M} and is read at {read} (DICOM_DELAY_MINUTES)"


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

    @property
    def word(self) -> str:
        """The verdict as one of a closed list of words."""
        return WORDS[self.name]


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


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
    known = Known(store, asked)
    facts = known.facts(asked)
    if service is not None:
        try:
            # First the feed: a service need not offer the search that the rest asks.
            facts = replace(facts, fresh=open_entries(service, known, limits, progress))
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


class Known:
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
        """Return the facts of the tables, for the text that was asked."""
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

    def fresh(self, piece: pa.Table) -> tuple[KnownEntry, ...]:
        """Return the entries of it in a piece of the feed that the log lacks."""
        wanted = pa.array([self.uid], pa.string())
        study, series, sop = (is_in(piece[column], wanted) for column in _COLUMN.values())
        entries = piece.filter(pc.or_(study, pc.or_(series, sop)))
        return _entries(filter_out(entries, "sequence", self.log["sequence"]))


def _entries(log: pa.Table) -> tuple[KnownEntry, ...]:
    names = ("sequence", "action", "state", "timestamp_ticks", "partitionName")
    rows = ({**row, "state": row["state"] or ""} for row in log.to_pylist())
    return tuple(sorted(KnownEntry(*(row[name] for name in names)) for row in rows))


def open_entries(
    service: Counts,
    known: Known,
    limits: Limits,
    progress: Callable[[int], None] | None = None,
) -> tuple[KnownEntry, ...]:
    """Return the entries after the newest seal, of the hours that are not over and of a day before.

    Only those that are read in time are searched: inside the start and the end, in data partitions
    that are kept.
    """
    sealed = [span.end for span in Followed(known.store, limits.kept).sealed]
    first = max([ticks_of(floor_hour(limits.now - limits.delay) - _OPEN), *sealed])
    span = Window(first, ticks_of(limits.now + MARGIN)).clip(limits.start, limits.end)
    pieces = Reading(service, [span] if span.start < span.end else [], progress).pieces()
    return tuple(e for piece in pieces for e in known.fresh(piece) if limits.keeps(e))


def _ask(
    service: Lookups,
    known: Known,
    facts: Facts,
    limits: Limits,
    progress: Callable[[int], None] | None,
) -> Facts:
    """Return the facts with those of the service.

    The feed is searched only where log and open hours do not explain what the service holds: first
    the hours that were not read, then the sealed hours from the newest back.
    """
    if is_sequence(facts.asked) and not facts.entries:
        return replace(facts, fresh=_entries(service.entry(int(facts.asked))), is_searched=True)
    level, served = served_of(service, known, limits)
    facts = replace(facts, level=level, served=served)
    is_held = served <= max(facts.stored, facts.live)
    is_known = bool(facts.entries or facts.stored)
    if facts.fresh or (is_known and is_held and served >= min(facts.stored, facts.live)):
        return facts
    followed = Followed(known.store, limits.kept)
    if followed.sealed:
        # An instance that the service has no more is no reason to search hours that were read.
        read = () if is_known and is_held else backwards(followed.sealed)
        spans = [*reversed(followed.unread(limits.now)), *read]
    else:
        start = limits.start or limits.now - _RECENT
        spans = [Window.between(start, limits.now + timedelta(days=1))]
    reading = Reading(service, spans, progress)
    fresh = next(filter(None, map(known.fresh, reading.pieces())), ())
    begins = service.first()
    return replace(
        facts,
        fresh=fresh,
        is_searched=bool(fresh) or not reading.is_cut,
        begins=None if begins is None else datetime_of(begins),
    )


def served_of(service: Lookups, known: Known, limits: Limits) -> tuple[Level | None, int]:
    """Return the level of a UID in the service, and the number of its instances there.

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
    """Return the verdict of the first rule that applies. Its sentence names the time in UTC."""
    same = "as the service does" if facts.failure is None else "as the log says"
    last = f"It was last {facts.entries[-1].event}" if facts.entries else "It has no entry"
    sentence = f"the tables hold it {same}: nothing to do. {last}, by {_at(limits.now)}"
    in_step = Verdict("in step", sentence, is_fine=True)
    # Each yields its verdicts in the order of the rules, and only the first verdict is taken.
    rules = (
        _not_in_log(facts, limits),
        _not_in_tables(facts),
        _not_due(facts, limits),
        _not_as_served(facts, limits),
    )
    return next(chain(*rules), in_step)


def _hours(entries: Iterable[KnownEntry | Rejected]) -> tuple[datetime, ...]:
    return tuple(sorted({entry.hour for entry in entries}))


def _not_in_log(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    if facts.rejected:
        yield _rejected(facts.rejected, limits)
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


def _rejected(rejected: tuple[Rejected, ...], limits: Limits) -> Verdict:
    # First an entry that needs a person.
    last = max(rejected, key=lambda one: (not can_heal(one.reason), one.next_attempt))
    more = f", as one of {len(rejected)}" if len(rejected) > 1 else ""
    lies = f"It lies in the hour {_at(last.hour)}{more}"
    is_due = last.next_attempt <= limits.now
    when = "next run of any hour" if is_due else f"first run after {_at(last.next_attempt)}"
    remedy = (
        f"It was tried {last.attempts} time{'s' if last.attempts > 1 else ''} and is retried by "
        f"the {when}, until the service serves a header that can be used. {lies}"
        if can_heal(last.reason)
        else "No retry can help, because the entry itself cannot be read: the operator of the "
        f"service has to correct it in the feed. {lies}: then run that again"
    )
    sentence = f"entry {last.sequence} was rejected: {last.reason}. {remedy}"
    return Verdict("rejected", sentence, hours=_hours(rejected))


def _not_read(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    entry = facts.fresh[-1]
    moment, hour = datetime_of(entry.ticks), _at(entry.hour)
    if not limits.keeps(entry):
        yield Verdict(
            "data partition not kept",
            f"{entry.event} in the data partition {entry.partition}, which is not kept. Add it to "
            "DICOM_DATA_PARTITIONS: the schedule then requests its hours again",
            hours=(entry.hour,),
        )
    if limits.start is not None and moment < limits.start:
        yield Verdict(
            "before the start",
            f"{entry.event}, before DICOM_START_TIME ({_at(limits.start)}). Set it to {hour} or "
            "earlier, then run that hour",
            hours=(entry.hour,),
        )
    if limits.end is not None and moment >= limits.end:
        yield Verdict(
            "after the end",
            f"{entry.event}, after DICOM_END_TIME ({_at(limits.end)}). Move or unset it, then run "
            "its hour",
            hours=(entry.hour,),
        )
    sealed = {seal.hour for seal in facts.seals if seal.is_sealed}
    if late := [one for one in facts.fresh if one.hour in sealed]:
        yield Verdict(
            "late",
            f"{late[-1].event}. The log lacks it, though its hour {_at(late[-1].hour)} is sealed: "
            "it came late. Run the hour again",
            hours=_hours(late),
        )
    if due := [one for one in facts.fresh if limits.due(one.hour) <= limits.now]:
        lies = f"entry {due[-1].sequence} lies in the hour {_at(due[-1].hour)}"
        sentence = f"{due[-1].event}: {lies}, which has no seal: run it"
        yield Verdict("no seal", sentence, hours=_hours(due))


def _not_due(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    if facts.fresh:
        entry = facts.fresh[-1]
        is_part = entry.is_gone and facts.level in {"study", "series"} and bool(facts.served)
        part = "an instance of it was " if is_part else ""
        sentence = f"{part}{entry.event}; {limits.reading(entry.hour)}; nothing to do"
        yield Verdict("too young", sentence, is_fine=True)


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
        again = f"their newest hour {_at(hours[0])}" if hours else "an hour that touches the study"
        yield Verdict(
            "not rolled up",
            f"instance is right, and {' and '.join(facts.stale)} differ from it: run {again} again",
            hours=hours,
            select=("series", "study"),
        )


def _not_as_served(facts: Facts, limits: Limits) -> Iterator[Verdict]:
    now = _at(limits.now)
    if facts.served is not None and facts.served < facts.stored:
        why = (
            "No entry of an hour that is not read yet deletes the rest, so it has expired"
            if facts.is_searched
            else "The rest expired without an entry, or is deleted in one of the hours that are "
            "not read yet. They have too many entries to look through"
        )
        yield Verdict(
            "expired unseen",
            f"at {now} the tables hold {facts.stored}, the service {facts.served}. {why}: run the "
            "hours again",
            hours=_hours(facts.entries),
        )
    if facts.served is not None and facts.served > facts.stored:
        holds = f"at {now} the service holds {facts.served}, the tables {facts.stored}, and "
        yield Verdict("not in the feed", holds + _search_result(facts, limits))
    is_stored = bool(facts.rows.get("instance"))
    if facts.entries and not facts.expected and not is_stored:
        last = facts.entries[-1]
        if last.action == "Delete":
            deleted = f"deleted in the service in the hour {_at(last.hour)} (entry {last.sequence})"
            at = f"{datetime_of(last.ticks):%H:%M:%S}"
            yield Verdict("deleted", f"{deleted}, at {at}: nothing to do", is_fine=True)
        yield Verdict(
            "expired",
            f"by {now} the service has removed it without a Delete entry, as it does when a study "
            f"expires: nothing to do. It was last {last.event}",
            is_fine=True,
        )
    if not facts.entries and not is_stored:
        yield Verdict("unknown", f"{_unknown(facts)} ({now})")


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
            "that is shown, then ask again"
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
