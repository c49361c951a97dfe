"""It is in the PACS, why not here? What is known of a study, series, instance or sequence.

`look` gathers the facts: the log, the rows, rejections and seals, and what the service says now.
`verdict` is pure: it makes of them what is the matter, and what to do next. The first rule that
fits is the answer; they stand in the order in which entries travel. UIDs are for the terminal of
the person who asked: `dicom_assets.commands.find` prints them, and no log or metadata holds them.

| verdict | when | fine |
|---|---|---|
| rejected | an entry of it could not be used, and waits for its next attempt | no |
| no seal | an hour of its entries has no seal (any more) | no |
| too young | the hour of a new entry is not read yet | no |
| data partition not kept | its new entries are of a data partition that is left out | no |
| before the start, after the end | its new entries lie outside what is read | no |
| late | its hour was sealed without the entry | no |
| not followed | `instance` lacks it, and has not followed its hours | no |
| behind | `instance` lacks it though it has followed, or holds what is gone | no |
| not rolled up | `series` or `study` do not show what `instance` holds | no |
| expired unseen | the service holds less than the tables, and no entry says so | no |
| not in the feed | the service holds it, and its feed has no entry that was met | no |
| unknown | neither log nor service know it, or the service could not be asked | no |
| deleted, expired | the service has removed it, and so have the tables | yes |
| in step | the tables hold it as the service does | yes |
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias

import pyarrow as pa

from dicom_assets.errors import ServiceError
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Table
from dicom_assets.schema.columns import DEFAULT_PARTITION
from dicom_assets.tables.delta.arrow import Values, distinct, filter_out, ints, is_in, pc
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.plan import LOG_COLUMNS, is_gone, key_of, make_plan, newest_of
from dicom_assets.tables.questions.reconcile import Counts, Followed, Reading, backwards
from dicom_assets.tables.rollup import difference_of
from dicom_assets.tables.sync import marks_of
from dicom_assets.window import HOUR, TICKS_PER_HOUR, Window, datetime_of

Level: TypeAlias = Literal["study", "series", "instance"]
_COLUMN: Mapping[Level, str] = {
    "study": "studyinstanceuid",
    "series": "seriesinstanceuid",
    "instance": "sopinstanceuid",
}
ALL_TABLES = ("change", "instance", "series", "study")


class Service(Counts, Protocol):
    """What is asked of the service; `feed.counts.StudyCounts` answers over HTTP."""

    def holders(self, partition: str | None, level: str, uid: str) -> int:
        """Return how many `series` or `instances` with that UID the service has."""

    def entry(self, sequence: int) -> pa.Table:
        """Return the feed's entry with a sequence, or no row."""


@dataclass(frozen=True, order=True)
class Entry:
    """An entry of the log or of the feed."""

    sequence: int
    action: str
    state: str
    ticks: int
    partition: str

    @property
    def hour(self) -> datetime:
        """The hour in which it lies."""
        return datetime_of(self.ticks // TICKS_PER_HOUR * TICKS_PER_HOUR)


@dataclass(frozen=True)
class Rejected:
    """An entry that could not be used, and when it is tried again."""

    sequence: int
    reason: str
    attempts: int
    next_attempt: datetime
    hour: datetime


@dataclass(frozen=True)
class Seal:
    """An hour: whether it is sealed, and which tables have not followed it."""

    hour: datetime
    is_sealed: bool
    lagging: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What is read at all: the settings, and the time."""

    now: datetime
    start: datetime | None = None
    end: datetime | None = None
    delay: timedelta = timedelta(minutes=15)
    data_partitions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """All that is known of what was asked for.

    `entries` are the log's, `fresh` those that only the feed has; `expected` is how many live
    instances the log makes, `rows` how many each table holds. `behind` entries are the newest of
    instances that `instance` does not show as the log says; `stale` tables are not what `instance`
    makes of them. `served` is how many instances the service holds (of a series or an instance:
    whether it does), None when it could not be asked, and then `failure` says why. `is_searched`
    says that all of the feed that is read was looked through, `begins` when the feed does.
    """

    asked: str
    level: Level | None = None
    entries: tuple[Entry, ...] = ()
    fresh: tuple[Entry, ...] = ()
    expected: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    behind: tuple[Entry, ...] = ()
    stale: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    seals: tuple[Seal, ...] = ()
    served: int | None = None
    failure: str | None = None
    is_searched: bool = False
    begins: datetime | None = None

    @property
    def held(self) -> int:
        """The rows of `instance`, counted as the service counts."""
        return self._as_served(self.rows.get("instance", 0))

    @property
    def due(self) -> int:
        """The live instances by the log, counted as the service counts."""
        return self._as_served(self.expected)

    def _as_served(self, count: int) -> int:
        return count if self.level == "study" else min(count, 1)


@dataclass(frozen=True)
class Verdict:
    """What is the matter, in one sentence, and what to do: `select` tables at `hours`, again."""

    name: str
    sentence: str
    is_fine: bool = False
    hours: tuple[datetime, ...] = ()
    select: tuple[str, ...] = ALL_TABLES


def is_sequence(asked: str) -> bool:
    """Whether a number is asked for, and not a UID."""
    return asked.isascii() and asked.isdigit()


def look(
    store: Store,
    asked: str,
    service: Service | None,
    limits: Limits,
    progress: Callable[[int], None] | None = None,
) -> Facts:
    """Return the facts; a service that does not answer is one of them.

    `progress` is told how many entries of the feed were looked through.
    """
    known = _Known.of(store, asked)
    facts = known.facts(asked)
    if service is not None:
        try:
            facts = _ask(store, service, known, facts, limits, progress)
        except ServiceError as error:
            facts = replace(facts, failure=str(error))
    hours = {e.hour for e in (*facts.entries, *facts.fresh)} | {r.hour for r in facts.rejected}
    return replace(facts, seals=tuple(_seals(store, sorted(hours))))


@dataclass(frozen=True)
class _Known:
    """What our tables hold of it: its log rows, its rows, the rejections of its entries."""

    store: Store
    level: Level | None
    uid: str
    log: pa.Table
    stored: pa.Table
    rejected: pa.Table

    @classmethod
    def of(cls, store: Store, asked: str) -> "_Known":
        log, level, uid = store.open(CHANGE), None, asked
        sequences: list[int] = []
        if is_sequence(asked):
            sequences, level, uid = [int(asked)], None, ""
            for row in log.rows_of("sequence", sequences, LOG_COLUMNS).to_pylist():
                level, uid = "instance", row["sopinstanceuid"]
        found = _of_uid(store, uid) if uid else None
        if found is None:
            rejected = store.open(REJECTED).rows_of("sequence", sequences)
            nothing = CHANGE.arrow(LOG_COLUMNS).empty_table()
            return cls(store, None, "", nothing, INSTANCE.arrow().empty_table(), rejected)
        level, rows, stored = found
        rejected = store.open(REJECTED).rows_of("sequence", ints(rows["sequence"]))
        return cls(store, level, uid, rows, stored, rejected)

    def facts(self, asked: str) -> Facts:
        newest = newest_of(self.log)
        plan = make_plan(self.log, self.stored, pc.unique(key_of(self.log)))
        late = {*ints(plan.read["sequence"]), *ints(plan.deletes["sequence"])}
        entries = _entries(self.log)
        return Facts(
            asked,
            self.level,
            entries,
            expected=newest.num_rows - newest.filter(is_gone(newest)).num_rows,
            rows={"instance": self.stored.num_rows, **self._rollups()},
            behind=tuple(e for e in entries if e.sequence in late),
            stale=tuple(t.name for t in (SERIES, STUDY) if self._is_stale(t)),
            rejected=tuple(_rejected(row) for row in self.rejected.to_pylist()),
        )

    def _studies(self) -> list[str]:
        return sorted({*distinct(self.log[_STUDY]), *distinct(self.stored[_STUDY])})

    def partitions(self) -> set[str]:
        """Return the data partitions in which it was met."""
        columns = (self.log["partitionName"], self.stored["partitionName"])
        return {name for column in columns for name in distinct(column)}

    def _rollups(self) -> dict[str, int]:
        named = {
            name: {*distinct(self.log[name]), *distinct(self.stored[name])}
            for name in (_STUDY, _COLUMN["series"])
        }
        series = self.store.open(SERIES).rows_of(
            "seriesInstanceUid", sorted(named[_COLUMN["series"]]), list(SERIES.key)
        )
        studies = self.store.open(STUDY).rows_of(
            "studyInstanceUid", sorted(named[_STUDY]), list(STUDY.key)
        )
        return {"series": series.num_rows, "study": studies.num_rows}

    def _is_stale(self, table: Table) -> bool:
        difference = difference_of(self.store, self.store.open(table), self._studies())
        return not difference.is_empty


_STUDY = _COLUMN["study"]


def _of_uid(store: Store, uid: str) -> tuple[Level, pa.Table, pa.Table] | None:
    """Return what a UID names, with its rows in the log and in `instance`; None: nothing."""
    log, instances = store.open(CHANGE), store.open(INSTANCE)
    for level, column in _COLUMN.items():
        rows = log.rows_of(column, [uid], LOG_COLUMNS)
        stored = instances.rows_of(column, [uid], [*INSTANCE.key, "sequence", "received_timestamp"])
        if rows.num_rows or stored.num_rows:
            return level, rows, stored
    return None


def _entries(log: pa.Table) -> tuple[Entry, ...]:
    return tuple(
        sorted(
            Entry(
                row["sequence"],
                row["action"],
                row["state"] or "",
                row["timestamp_ticks"],
                row["partitionName"],
            )
            for row in log.to_pylist()
        )
    )


def _rejected(row: Mapping[str, Any]) -> Rejected:
    names = ("sequence", "reason", "attempts", "next_attempt", "window_start")
    return Rejected(*(row[name] for name in names))


def _seals(store: Store, hours: list[datetime]) -> Iterator[Seal]:
    sync = {row["hour"]: row for row in store.open(SYNC).rows().to_pylist()} if hours else {}
    for hour in hours:
        row = sync.get(hour)
        if row is None or row["sealedAt"] is None:
            yield Seal(hour, is_sealed=False)
        else:
            marks = marks_of(store)
            lagging = tuple(table for table, mark in marks.items() if row[mark] is None)
            yield Seal(hour, is_sealed=True, lagging=lagging)


def _ask(  # noqa: PLR0913, PLR0917 - the facts so far, and whom to ask
    store: Store,
    service: Service,
    known: _Known,
    facts: Facts,
    limits: Limits,
    progress: Callable[[int], None] | None,
) -> Facts:
    """Return the facts with what the service says now."""
    if is_sequence(facts.asked) and not facts.entries:
        fresh = _entries(service.entry(int(facts.asked)))
        return replace(facts, fresh=fresh, is_searched=True)
    level, served = _served(service, known, facts, _places(store, known, limits))
    facts = replace(facts, level=level, served=served)
    if (facts.entries or facts.held) and served <= max(facts.held, facts.due):
        return facts
    followed = Followed.of(store)
    spans = [*_unread(followed, limits), *(backwards(followed.sealed) if followed.sealed else ())]
    reading = Reading(service, spans, progress)
    fresh = _entries(_met(reading, known.uid or facts.asked, known.log))
    begins = service.first()
    return replace(
        facts,
        fresh=fresh,
        is_searched=bool(fresh) or not reading.is_cut,
        begins=None if begins is None else datetime_of(begins),
    )


def _unread(followed: Followed, limits: Limits) -> list[Window]:
    if followed.sealed:
        return followed.unread(limits.now)
    start = limits.start or limits.now - timedelta(days=30)
    return [Window.between(start, limits.now + timedelta(days=1))]


def _places(store: Store, known: _Known, limits: Limits) -> list[str | None]:
    """Return where to ask: the data partitions in which it was met, else all that are kept."""
    listed = distinct(store.open(STUDY).rows(["partitionName"])["partitionName"])
    kept = {*listed, *known.partitions(), *(limits.data_partitions or ())}
    if not kept - {DEFAULT_PARTITION}:
        return [None]
    return [*sorted(known.partitions() or kept)]


def _served(
    service: Service, known: _Known, facts: Facts, places: list[str | None]
) -> tuple[Level | None, int]:
    """Return what the UID names in the service, and how much of it there is."""
    uid = known.uid or facts.asked
    if facts.level in {None, "study"}:
        sizes = [service.study(place, uid) for place in places]
        count = sum(size.instances for size in sizes if size is not None)
        if count or facts.level == "study":
            return "study", count
    for level, path in _PATHS.items():
        if facts.level in {None, level} and any(
            service.holders(place, path, uid) for place in places
        ):
            return level, 1
    return facts.level, 0


_PATHS: Mapping[Level, str] = {"series": "series", "instance": "instances"}


def _met(reading: Reading, uid: str, log: pa.Table) -> pa.Table:
    """Return the entries of the UID that the log does not have; of the first piece that has any."""
    for piece in reading.pieces():
        found = filter_out(piece.filter(_names(piece, uid)), "sequence", log["sequence"])
        if found.num_rows:
            return found
    return CHANGE.arrow(LOG_COLUMNS).empty_table()


def _names(piece: pa.Table, uid: str) -> Values:
    wanted = pa.array([uid], pa.string())
    study, series, sop = (is_in(piece[column], wanted) for column in _COLUMN.values())
    named: Values = pc.or_(study, pc.or_(series, sop))
    return named


def verdict(facts: Facts, limits: Limits) -> Verdict:
    """Return what is the matter and what to do next: the first rule that fits."""
    found = (rule(facts, limits) for rule in _RULES)
    return next(one for one in found if one is not None)


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _hours(entries: Iterable[Entry]) -> tuple[datetime, ...]:
    return tuple(sorted({entry.hour for entry in entries}))


def _is_rejected(facts: Facts, limits: Limits) -> Verdict | None:
    if not facts.rejected:
        return None
    worst = max(facts.rejected, key=lambda one: one.next_attempt)
    hours = tuple(sorted({one.hour for one in facts.rejected}))
    when = "is tried again by the next run of any hour"
    if worst.next_attempt > limits.now:
        when = f"is tried again by the first run after {_at(worst.next_attempt)}"
    more = f" ({len(facts.rejected)} entries in all)" if len(facts.rejected) > 1 else ""
    return Verdict(
        "rejected",
        f"entry {worst.sequence} was rejected: {worst.reason}; it was tried {worst.attempts} "
        f"time{'s' if worst.attempts > 1 else ''} and {when}{more}",
        hours=hours,
    )


def _has_no_seal(facts: Facts, _limits: Limits) -> Verdict | None:
    logged = {entry.hour for entry in facts.entries}
    open_ = tuple(s.hour for s in facts.seals if not s.is_sealed and s.hour in logged)
    if not open_:
        return None
    return Verdict("no seal", f"{_the_hours(open_)} no seal (any more): run again", hours=open_)


def _the_hours(hours: tuple[datetime, ...]) -> str:
    if len(hours) == 1:
        return f"the hour {_at(hours[0])} has"
    return f"{len(hours)} hours, the first {_at(hours[0])}, have"


def _is_new(facts: Facts, limits: Limits) -> Verdict | None:
    """What only the feed has: why the log has it not."""
    if not facts.fresh:
        return None
    return _left_out(facts.fresh[-1], limits) or _not_read(facts, limits)


def _left_out(entry: Entry, limits: Limits) -> Verdict | None:
    kept, moment = limits.data_partitions, datetime_of(entry.ticks)
    if kept is not None and entry.partition not in kept:
        return Verdict(
            "data partition not kept",
            f"entry {entry.sequence} of {_at(entry.hour)} is of the data partition "
            f"{entry.partition}, which is not kept: add it to DICOM_DATA_PARTITIONS, then run "
            "its hour",
            hours=(entry.hour,),
        )
    if limits.start is not None and moment < limits.start:
        return Verdict(
            "before the start",
            f"entry {entry.sequence} lies before DICOM_START_TIME ({_at(limits.start)}): set it to "
            f"{_at(entry.hour)} or earlier, then run that hour",
            hours=(entry.hour,),
        )
    if limits.end is not None and moment >= limits.end:
        return Verdict(
            "after the end",
            f"entry {entry.sequence} lies after DICOM_END_TIME ({_at(limits.end)}): move or unset "
            "it, then run its hour",
            hours=(entry.hour,),
        )
    return None


def _not_read(facts: Facts, limits: Limits) -> Verdict:
    entry, hours = facts.fresh[-1], _hours(facts.fresh)
    due = entry.hour + HOUR + limits.delay
    sealed = {seal.hour for seal in facts.seals if seal.is_sealed}
    if entry.hour in sealed:
        return Verdict(
            "late",
            f"entry {entry.sequence} is not in the log, though its hour {_at(entry.hour)} is "
            "sealed: it came late; run the hour again",
            hours=hours,
        )
    if limits.now < due:
        return Verdict(
            "too young",
            f"entry {entry.sequence} lies in the hour {_at(entry.hour)}, which is read after "
            f"{_at(due)}: wait, then run it",
            hours=hours,
        )
    return Verdict(
        "no seal",
        f"entry {entry.sequence} lies in the hour {_at(entry.hour)}, which has no seal: run it",
        hours=hours,
    )


def _is_behind(facts: Facts, _limits: Limits) -> Verdict | None:
    if not facts.behind:
        return None
    hours, count = _hours(facts.behind), len(facts.behind)
    lagging = {s.hour for s in facts.seals if "instance" in s.lagging}
    what = f"{count} instance{'s are' if count > 1 else ' is'} not in the table as in the log"
    if set(hours) <= lagging:
        return Verdict(
            "not followed",
            f"{what}, because instance has not followed the hour {_at(hours[0])} yet: run it",
            hours=hours,
        )
    return Verdict(
        "behind",
        f"{what}, though instance has followed the hour {_at(hours[0])}: a later entry replaces "
        "it, or the table was changed by somebody else; run the hour again",
        hours=hours,
    )


def _is_stale(facts: Facts, _limits: Limits) -> Verdict | None:
    if not facts.stale:
        return None
    hours = _hours(facts.entries[-1:])
    return Verdict(
        "not rolled up",
        f"instance is right, but {' and '.join(facts.stale)} do not show it: run "
        f"{'their newest hour' if hours else 'an hour that touches the study'} again",
        hours=hours,
        select=("series", "study"),
    )


def _differs(facts: Facts, limits: Limits) -> Verdict | None:
    """The service holds another number than the tables, and no entry was met that says why."""
    if facts.served is None or facts.served == facts.held:
        return None
    if facts.served < facts.held:
        return Verdict(
            "expired unseen",
            f"the tables hold {facts.held}, the service {facts.served}: the rest expired without "
            "an entry, or goes with an hour that is not read yet; run the hours again",
            hours=_hours(facts.entries),
        )
    return Verdict("not in the feed", _not_in_the_feed(facts, limits))


def _not_in_the_feed(facts: Facts, limits: Limits) -> str:
    what = f"the service holds {facts.served}, the tables {facts.held}, and "
    if not facts.is_searched:
        return what + (
            "the newest entries of the feed do not name it, and there are more: ask the service's "
            "log when it was stored, and run that hour again"
        )
    if limits.start is not None and facts.begins is not None and facts.begins < limits.start:
        return what + (
            f"the feed does not name it between DICOM_START_TIME ({_at(limits.start)}) and now: "
            f"it is older; set DICOM_START_TIME to {_at(facts.begins)}, where the feed begins, and "
            "run the hours before"
        )
    start = "its beginning" if limits.start is None else f"DICOM_START_TIME ({_at(limits.start)})"
    return what + f"the feed does not name it between {start} and now: tell the service's owner"


def _is_gone_by(facts: Facts, _limits: Limits) -> Verdict | None:
    if not facts.entries or facts.expected or facts.rows.get("instance"):
        return None
    last = facts.entries[-1]
    if last.action == "Delete":
        sentence = f"deleted in the service in the hour {_at(last.hour)} (entry {last.sequence})"
        return Verdict("deleted", f"{sentence}: nothing to do", is_fine=True)
    return Verdict(
        "expired",
        f"the service has removed it without a Delete entry, as it does when a study expires; its "
        f"last entry is {last.sequence} of the hour {_at(last.hour)}: nothing to do",
        is_fine=True,
    )


def _is_unknown(facts: Facts, _limits: Limits) -> Verdict | None:
    if facts.entries or facts.rows.get("instance"):
        return None
    if facts.failure is not None:
        sentence = (
            "the tables do not know it, and the service could not be asked: see above, then again"
        )
        return Verdict("unknown", sentence)
    if is_sequence(facts.asked):
        return Verdict(
            "unknown",
            "neither the log nor the feed has an entry with this sequence; sequences have gaps: "
            "ask by the StudyInstanceUID",
        )
    return Verdict(
        "unknown",
        "neither the tables nor the service know it: check the UID, and whether the PACS has sent "
        "it to this service",
    )


def _is_in_step(facts: Facts, _limits: Limits) -> Verdict:
    asked = "as the service does" if facts.failure is None else "as the log says"
    return Verdict("in step", f"the tables hold it {asked}: nothing to do", is_fine=True)


_RULES: tuple[Callable[[Facts, Limits], Verdict | None], ...] = (
    _is_rejected,
    _has_no_seal,
    _is_new,
    _is_behind,
    _is_stale,
    _differs,
    _is_gone_by,
    _is_unknown,
    _is_in_step,
)
