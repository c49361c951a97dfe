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
from typing import Literal, Protocol, TypeAlias

import pyarrow as pa

from dicom_assets.errors import ServiceError
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Table
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
    known = _Known.of(store, asked)
    facts = known.facts(asked)
    if service is not None:
        try:
            facts = _ask(service, known, facts, limits, progress)
        except ServiceError as error:
            facts = replace(facts, failure=str(error))
    hours = {e.hour for e in (*facts.entries, *facts.fresh)} | {r.hour for r in facts.rejected}
    return replace(facts, seals=tuple(_seals(store, sorted(hours))))


@dataclass(frozen=True)
class _Known:
    """The rows of a UID in the log and in `instance`, and of its entries in `rejected`."""

    store: Store
    level: Level | None
    uid: str
    log: pa.Table
    stored: pa.Table
    rejected: pa.Table

    @classmethod
    def of(cls, store: Store, asked: str) -> "_Known":
        """Read the tables for a UID, or for a sequence, which stands for its instance."""
        uid, sequences = asked, list[int]()
        if is_sequence(asked):
            sequences = [int(asked)]
            logged = store.open(CHANGE).rows_of("sequence", sequences, ["sopinstanceuid"])
            uid = next(iter(texts(logged["sopinstanceuid"])), "")
        for level, column in _COLUMN.items() if uid else ():
            log = store.open(CHANGE).rows_of(column, [uid], LOG_COLUMNS)
            names = [*INSTANCE.key, "sequence", "received_timestamp"]
            stored = store.open(INSTANCE).rows_of(column, [uid], names)
            if log.num_rows or stored.num_rows:
                rejected = store.open(REJECTED).rows_of("sequence", ints(log["sequence"]))
                return cls(store, level, uid, log, stored, rejected)
        rejected = store.open(REJECTED).rows_of("sequence", sequences)
        nothing = CHANGE.arrow(LOG_COLUMNS).empty_table()
        return cls(store, None, "", nothing, INSTANCE.arrow().empty_table(), rejected)

    def facts(self, asked: str) -> Facts:
        newest = newest_of(self.log)
        plan = make_plan(self.log, self.stored, pc.unique(key_of(self.log)))
        behind = {*ints(plan.read["sequence"]), *ints(plan.deletes["sequence"])}
        entries = _entries(self.log)
        names = ("sequence", "reason", "attempts", "next_attempt", "window_start")
        return Facts(
            asked,
            self.level,
            entries,
            expected=newest.num_rows - newest.filter(is_gone(newest)).num_rows,
            rows={
                "instance": self.stored.num_rows,
                "series": self._count(SERIES),
                "study": self._count(STUDY),
            },
            behind=tuple(e for e in entries if e.sequence in behind),
            stale=tuple(t.name for t in filled_derived(self.store) if self._is_stale(t)),
            rejected=tuple(
                Rejected(*(row[name] for name in names)) for row in self.rejected.to_pylist()
            ),
        )

    def values(self, column: str) -> list[str]:
        """Return the values of a column in the log and in `instance`, in order."""
        return sorted({*distinct(self.log[column]), *distinct(self.stored[column])})

    def _count(self, table: Table) -> int:
        """Return the number of rows of `series` or `study`."""
        uids = self.values(table.key[-1].lower())
        return self.store.open(table).rows_of(table.key[-1], uids, table.key).num_rows

    def _is_stale(self, table: Table) -> bool:
        studies = self.values(_COLUMN["study"])
        return not difference_of(self.store, self.store.open(table), studies).is_empty


def _entries(log: pa.Table) -> tuple[KnownEntry, ...]:
    names = ("sequence", "action", "state", "timestamp_ticks", "partitionName")
    rows = ({**row, "state": row["state"] or ""} for row in log.to_pylist())
    return tuple(sorted(KnownEntry(*(row[name] for name in names)) for row in rows))


def _seals(store: Store, hours: list[datetime]) -> Iterator[Seal]:
    sync = store.open(SYNC)
    marks = marks_of(store, sync)
    rows = {row["hour"]: row for row in sync.rows().to_pylist()} if hours else {}
    for hour in hours:
        row = rows.get(hour, {})
        is_sealed = row.get("sealedAt") is not None
        lagging = tuple(table for table, mark in marks.items() if is_sealed and row[mark] is None)
        yield Seal(hour, is_sealed, lagging)


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
        fresh = _entries(service.entry(int(facts.asked)))
        return replace(facts, fresh=fresh, is_searched=True)
    level, served = _served(service, known, facts, _places(known, limits))
    facts = replace(facts, level=level, served=served)
    if (facts.entries or facts.stored) and served <= max(facts.stored, facts.live):
        return facts
    followed = Followed.of(known.store)
    if followed.sealed:
        spans = [*followed.unread(limits.now), *backwards(followed.sealed)]
    else:
        start = limits.start or limits.now - _RECENT
        spans = [Window.between(start, limits.now + timedelta(days=1))]
    reading = Reading(service, spans, progress)
    fresh = _entries(_unlogged(reading, known.uid or facts.asked, known.log))
    begins = service.first()
    return replace(
        facts,
        fresh=fresh,
        is_searched=bool(fresh) or not reading.is_cut,
        begins=None if begins is None else datetime_of(begins),
    )


def _places(known: _Known, limits: Limits) -> list[str | None]:
    """Return the data partitions to ask: those of the known rows, else all that are kept."""
    met = known.values("partitionName")
    listed = distinct(known.store.open(STUDY).rows(["partitionName"])["partitionName"])
    kept = {*listed, *met, *(limits.data_partitions or ())}
    return [*(met or sorted(kept))] if kept - {DEFAULT_PARTITION} else [None]


def _served(
    service: Lookups, known: _Known, facts: Facts, places: list[str | None]
) -> tuple[Level | None, int]:
    """Return the level of the UID in the service, and the number of its instances there."""
    uid = known.uid or facts.asked
    if facts.level in {None, "study"}:
        sizes = [service.study(place, uid) for place in places]
        count = sum(size.instances for size in sizes if size is not None)
        if count or facts.level == "study":
            return "study", count
    for level, resource in _RESOURCE.items():
        if facts.level in {None, level} and any(
            service.holders(place, resource, uid) for place in places
        ):
            return level, 1
    return facts.level, 0


def _unlogged(reading: Reading, uid: str, log: pa.Table) -> pa.Table:
    """Return the entries of the UID that are not in the log, of the first piece that has any."""
    wanted = pa.array([uid], pa.string())
    for piece in reading.pieces():
        study, series, sop = (is_in(piece[column], wanted) for column in _COLUMN.values())
        entries = piece.filter(pc.or_(study, pc.or_(series, sop)))
        entries = filter_out(entries, "sequence", log["sequence"])
        if entries.num_rows:
            return entries
    return CHANGE.arrow(LOG_COLUMNS).empty_table()


def judge_facts(facts: Facts, limits: Limits) -> Verdict:
    """Return the verdict of the first rule that applies."""
    return (
        _is_rejected(facts, limits)
        or _has_no_seal(facts)
        or _is_left_out(facts, limits)
        or _is_not_read(facts, limits)
        or _is_behind(facts)
        or _is_stale(facts)
        or _differs(facts, limits)
        or _is_removed(facts)
        or _is_unknown(facts)
        or _is_in_step(facts)
    )


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _hours(entries: Iterable[KnownEntry | Rejected]) -> tuple[datetime, ...]:
    return tuple(sorted({entry.hour for entry in entries}))


def _is_rejected(facts: Facts, limits: Limits) -> Verdict | None:
    if not facts.rejected:
        return None
    last = max(facts.rejected, key=lambda entry: entry.next_attempt)
    is_due = last.next_attempt <= limits.now
    when = "next run of any hour" if is_due else f"first run after {_at(last.next_attempt)}"
    more = f" ({len(facts.rejected)} entries in all)" if len(facts.rejected) > 1 else ""
    return Verdict(
        "rejected",
        f"entry {last.sequence} was rejected: {last.reason}. It was tried {last.attempts} "
        f"time{'s' if last.attempts > 1 else ''} and is retried by the {when}{more}",
        hours=_hours(facts.rejected),
    )


def _has_no_seal(facts: Facts) -> Verdict | None:
    logged = {entry.hour for entry in facts.entries}
    hours = tuple(s.hour for s in facts.seals if not s.is_sealed and s.hour in logged)
    if not hours:
        return None
    first = _at(hours[0])
    sentence = (
        f"the hour {first} has no seal (any more): run it again"
        if len(hours) == 1
        else f"{len(hours)} hours, the first {first}, have no seal (any more): run them again"
    )
    return Verdict("no seal", sentence, hours=hours)


def _is_left_out(facts: Facts, limits: Limits) -> Verdict | None:
    if not facts.fresh:
        return None
    entry = facts.fresh[-1]
    moment, hour = datetime_of(entry.ticks), _at(entry.hour)
    if limits.data_partitions is not None and entry.partition not in limits.data_partitions:
        return Verdict(
            "data partition not kept",
            f"entry {entry.sequence} of {hour} belongs to the data partition {entry.partition}, "
            "which is not kept. Add it to DICOM_DATA_PARTITIONS, then run its hour",
            hours=(entry.hour,),
        )
    if limits.start is not None and moment < limits.start:
        return Verdict(
            "before the start",
            f"entry {entry.sequence} lies before DICOM_START_TIME ({_at(limits.start)}). Set it to "
            f"{hour} or earlier, then run that hour",
            hours=(entry.hour,),
        )
    if limits.end is not None and moment >= limits.end:
        return Verdict(
            "after the end",
            f"entry {entry.sequence} lies after DICOM_END_TIME ({_at(limits.end)}). Move or unset "
            "it, then run its hour",
            hours=(entry.hour,),
        )
    return None


def _is_not_read(facts: Facts, limits: Limits) -> Verdict | None:
    if not facts.fresh:
        return None
    entry, hours = facts.fresh[-1], _hours(facts.fresh)
    due = entry.hour + HOUR + limits.delay
    if entry.hour in {seal.hour for seal in facts.seals if seal.is_sealed}:
        return Verdict(
            "late",
            f"entry {entry.sequence} is not in the log, though its hour {_at(entry.hour)} is "
            "sealed: it came late. Run the hour again",
            hours=hours,
        )
    lies = f"entry {entry.sequence} lies in the hour {_at(entry.hour)}, which"
    if limits.now < due:
        sentence = f"{lies} is read after {_at(due)}. Wait until then, then run it"
        return Verdict("too young", sentence, hours=hours)
    return Verdict("no seal", f"{lies} has no seal: run it", hours=hours)


def _is_behind(facts: Facts) -> Verdict | None:
    if not facts.behind:
        return None
    hours, count = _hours(facts.behind), len(facts.behind)
    lagging = {s.hour for s in facts.seals if "instance" in s.lagging}
    differs = f"instance does not show {count} instance{'s' if count > 1 else ''} as the log does"
    if set(hours) <= lagging:
        return Verdict(
            "not followed",
            f"{differs}, because it has not followed the hour {_at(hours[0])} yet: run it",
            hours=hours,
        )
    return Verdict(
        "behind",
        f"{differs}, though it has followed the hour {_at(hours[0])}. A later entry replaces it, "
        "or the table was changed by somebody else: run the hour again",
        hours=hours,
    )


def _is_stale(facts: Facts) -> Verdict | None:
    if not facts.stale:
        return None
    hours = _hours(facts.entries[-1:])
    return Verdict(
        "not rolled up",
        f"instance is right, and {' and '.join(facts.stale)} differ from it: run "
        f"{'their newest hour' if hours else 'an hour that touches the study'} again",
        hours=hours,
        select=("series", "study"),
    )


def _differs(facts: Facts, limits: Limits) -> Verdict | None:
    """Judge another number in the service than in the tables, without an entry that explains it."""
    if facts.served is None or facts.served == facts.stored:
        return None
    if facts.served < facts.stored:
        return Verdict(
            "expired unseen",
            f"the tables hold {facts.stored}, the service {facts.served}. The rest expired without "
            "an entry, or is deleted in an hour that is not read yet: run the hours again",
            hours=_hours(facts.entries),
        )
    holds = f"the service holds {facts.served}, the tables {facts.stored}, and "
    return Verdict("not in the feed", holds + _search_result(facts, limits))


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


def _is_removed(facts: Facts) -> Verdict | None:
    if not facts.entries or facts.expected or facts.rows.get("instance"):
        return None
    last = facts.entries[-1]
    if last.action == "Delete":
        sentence = f"deleted in the service in the hour {_at(last.hour)} (entry {last.sequence})"
        return Verdict("deleted", f"{sentence}: nothing to do", is_fine=True)
    return Verdict(
        "expired",
        "the service has removed it without a Delete entry, as it does when a study expires. Its "
        f"last entry is {last.sequence} of the hour {_at(last.hour)}: nothing to do",
        is_fine=True,
    )


def _is_unknown(facts: Facts) -> Verdict | None:
    if facts.entries or facts.rows.get("instance"):
        return None
    if facts.failure is not None:
        sentence = (
            "the tables do not know it, and the service could not be asked: remove the cause "
            "above, then ask again"
        )
    elif is_sequence(facts.asked):
        sentence = (
            "neither the log nor the feed has an entry with this sequence. Sequences have gaps: "
            "ask by the StudyInstanceUID"
        )
    else:
        sentence = (
            "neither the tables nor the service know it: check the UID, and whether the PACS has "
            "sent it to this service"
        )
    return Verdict("unknown", sentence)


def _is_in_step(facts: Facts) -> Verdict:
    same = "as the service does" if facts.failure is None else "as the log says"
    return Verdict("in step", f"the tables hold it {same}: nothing to do", is_fine=True)
