"""Thousands of histories through the pure parts, `tables.plan` and `tables.rollup`, in memory.

The tables are dictionaries, the archive is the oracle's own replay, and nothing is decided but by
the functions under test; `series` and `study` have the template's columns only. Histories share
neither a study nor a sequence, so many are played in step and the plans of all are made by one
call: what Arrow costs is paid once for all of them.

Each history has up to three runs at once, interleaved at every phase (read, log, plan, headers,
commit, look again), and an archive that moves between any two phases.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa

from dicom_assets import schema
from dicom_assets.tables import plan, rollup
from dicom_assets_tests.property.expected import INSTANCE, SERIES, STUDY, Column, Row, roll_up
from dicom_assets_tests.property.histories import (
    START,
    History,
    Imagined,
    Operation,
    history_of,
    perform,
)
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Entry, Key, Replay, Span

if TYPE_CHECKING:
    from dicom_assets.tables.delta.commit import Difference

KEY = schema.INSTANCE.key


def _plain(table: schema.Table) -> schema.Table:
    """The table with the template's columns and `sequence`: enough for what is decided here."""
    return replace(table, columns=tuple(c for c in table.columns if not c.added))


def _expected(columns: tuple[Column, ...], table: schema.Table) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.name in table.names)


ROLLUPS = (_plain(schema.SERIES), _plain(schema.STUDY))
EXPECTED = {
    table.name: (_expected(columns, table), len(table.key))
    for table, columns in zip(ROLLUPS, (SERIES, STUDY), strict=True)
}
_SOURCES = {name for columns, _ in EXPECTED.values() for column in columns for name in column.of}
SHOWN = tuple(column for column in INSTANCE if column.name in _SOURCES)


class Logged(NamedTuple):
    """A row of the log."""

    entry: Entry
    state: str


class AskPlan(NamedTuple):
    """What a run asks of `plan`: the log and the table of some studies, and the touched keys."""

    log: list[Logged]
    stored: list[Row]
    touched: set[Key]


class AskRollup(NamedTuple):
    """What a run asks of `rollup`: the rows that exist, and the live instances of the studies."""

    table: schema.Table
    existing: list[Row]
    live: list[Row]


Ask = AskPlan | AskRollup | None
"""None ends a phase without a question."""
Answer = dict[str, list[Row]] | None
Steps: TypeAlias = Generator[Ask, Answer, None]


@dataclass
class Game:
    """One history being played: the archive, the tables as dictionaries, and their versions."""

    history: History
    random: Random
    above: int = 0
    replay: Replay = field(default_factory=lambda: Replay(columns=SHOWN))
    log: dict[int, Logged] = field(default_factory=dict)
    tables: dict[str, dict[tuple[Any, ...], Row]] = field(
        default_factory=lambda: {"instance": {}, "series": {}, "study": {}}
    )
    versions: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("log", "instance", "series", "study"), 0)
    )
    read: int = 0
    greatest: dict[Key, int] = field(default_factory=dict)

    def span(self, first: int, end: int) -> Span:
        """The span of hours."""
        return Span(START + first * TICKS_PER_HOUR, START + end * TICKS_PER_HOUR)

    # --- one run ---------------------------------------------------------------------------------

    def run(self, span: Span) -> Steps:
        """One run over the hours, as the four assets do it."""
        served = [Logged(entry, self.replay.state(entry)) for entry in self.replay.read(span)]
        yield None
        self._add(served)
        yield None
        yield from self._settled("log", lambda: self._instance(span))
        for table in ROLLUPS:
            yield from self._settled("instance", lambda table=table: self._rollup(table, span))

    def _add(self, served: list[Logged]) -> None:
        fresh = {
            row.entry.sequence: row
            for row in served
            if row.entry.sequence not in self.log or row.state == "Deleted"
        }
        if any(self.log.get(sequence) != row for sequence, row in fresh.items()):
            self.log |= fresh
            self.versions["log"] += 1

    def _settled(self, upstream: str, attempt: Any) -> Steps:  # noqa: ANN401 - makes steps
        """Attempt again for as long as upstream moved, or another run committed first."""
        while True:
            seen = self.versions[upstream]
            while not (yield from attempt()):
                pass
            yield None
            if self.versions[upstream] == seen:
                return

    def _touched(self, span: Span) -> list[Entry]:
        return [row.entry for row in self.log.values() if span.holds(row.entry)]

    def _instance(self, span: Span) -> Generator[Ask, Answer, bool]:
        version, stored = self.versions["instance"], self.tables["instance"]
        touched = {entry.key for entry in self._touched(span)}
        studies = {key.study for key in touched}
        log = [row for row in self.log.values() if row.entry.key.study in studies]
        held = [row for row in stored.values() if row["studyinstanceuid"] in studies]
        planned = yield AskPlan(log, held, touched)
        assert planned is not None
        read = [(row, self._header(row)) for row in planned["read"]]
        yield None
        if self.versions["instance"] != version:
            return False
        self._commit_instance(planned, read)
        return True

    def _header(self, planned: Row) -> tuple[str, Row]:
        """The state of an entry now, and its row when it is Current."""
        self.read += 1
        entry = next(e for e in self.replay.entries if e.sequence == planned["sequence"])
        state = self.replay.state(entry)
        return state, self.replay.row(entry, []) if state == "Current" else {}

    def _commit_instance(
        self, planned: dict[str, list[Row]], read: list[tuple[Row, tuple[str, Row]]]
    ) -> None:
        table = dict(self.tables["instance"])
        changed = {_key(row) for row in (*planned["deletes"], *planned["patches"])}
        assert changed <= table.keys(), "a row is deleted or patched that is not there"
        for row in planned["deletes"]:
            del table[_key(row)]
        for row in planned["patches"]:
            table[_key(row)] = {**table[_key(row)], "received_timestamp": row["received_timestamp"]}
        for row, (state, header) in read:
            if state == "Deleted":
                table.pop(_key(row), None)
            elif state == "Current":
                stamped = {**header, "received_timestamp": row["received_timestamp"]}
                table[_key(row)] = stamped
                self._note(_key(row), row["sequence"])
        self._replace("instance", table)

    def _note(self, key: Key, sequence: int) -> None:
        assert sequence > self.greatest.get(key, 0), f"I5: {key} went down"
        self.greatest[key] = sequence

    def _replace(self, name: str, table: dict[tuple[Any, ...], Row]) -> None:
        if table != self.tables[name]:
            self.tables[name] = table
            self.versions[name] += 1

    def _rollup(self, table: schema.Table, span: Span) -> Generator[Ask, Answer, bool]:
        version, kept = self.versions[table.name], self.tables[table.name]
        studies = {entry.key.study for entry in self._touched(span)}
        existing = [row for row in kept.values() if row["studyInstanceUid"] in studies]
        instances = self.tables["instance"].values()
        live = [row for row in instances if row["studyinstanceuid"] in studies]
        made = yield AskRollup(table, existing, live)
        assert made is not None
        yield None
        if self.versions[table.name] != version:
            return False
        depth = len(table.key)
        gone = {tuple(row.values()) for row in made["deletes"]}
        rows = {key: row for key, row in kept.items() if key not in gone}
        rows |= {
            tuple(row.values())[:depth]: row
            for part in ("updates", "inserts")
            for row in made[part]
        }
        self._replace(table.name, rows)
        return True

    # --- the whole game --------------------------------------------------------------------------

    def play(self) -> Steps:
        """The history meets runs, alone or several at once, moving or at rest; then the check."""
        archive, ahead = Imagined(self.replay, self.above), list(reversed(self.history.operations))
        if self.random.randrange(2):
            yield from self._moving(archive, ahead)
        else:
            yield from self._resting(archive, ahead)
        self.check()
        before = dict(self.versions), self.read
        yield from self._one_by_one([self.span(0, self.history.hours)])
        assert (self.versions, self.read) == before, "I7: a re-run read or committed"

    def _resting(self, archive: Imagined, ahead: list[Operation]) -> Steps:
        """Everything has happened; every hour is run once, and some more than once."""
        while ahead:
            perform(ahead.pop(), archive, self.replay)
        yield from self._interleaved(self._hours() + self._spans(), ahead, archive)

    def _moving(self, archive: Imagined, ahead: list[Operation]) -> Steps:
        """Some happens between the phases of runs; then every hour is run once more."""
        for _ in range(self.random.randrange(len(ahead))):
            perform(ahead.pop(), archive, self.replay)
        yield from self._interleaved(self._spans(), ahead, archive)
        while ahead:
            perform(ahead.pop(), archive, self.replay)
        yield from self._one_by_one(self._hours())

    def _hours(self) -> list[Span]:
        hours = [self.span(hour, hour + 1) for hour in range(self.history.hours)]
        self.random.shuffle(hours)
        return hours

    def _spans(self) -> list[Span]:
        spans = []
        for _ in range(self.random.randrange(1, 4)):
            first = self.random.randrange(self.history.hours)
            spans.append(self.span(first, self.random.randrange(first, self.history.hours) + 1))
        return spans

    def _one_by_one(self, spans: list[Span]) -> Steps:
        for span in spans:
            yield from self._interleaved([span], [], Imagined(self.replay))

    def _interleaved(self, spans: list[Span], ahead: list[Operation], archive: Imagined) -> Steps:
        """Runs over the spans, up to three at once, any of them a phase further each time."""
        waiting: list[tuple[Any, Answer]] = []
        while waiting or spans:
            if ahead and self.random.randrange(4) == 0:
                perform(ahead.pop(), archive, self.replay)
            if spans and len(waiting) < self.random.randrange(1, 4):
                waiting.append((self.run(spans.pop()), None))
            run, answer = waiting.pop(self.random.randrange(len(waiting)))
            try:
                asked = run.send(answer)
            except StopIteration:
                continue
            waiting.append((run, (yield asked) if asked is not None else None))

    def check(self) -> None:
        """The tables are what the oracle says."""
        expected = self.replay.instances(self.span(0, self.history.hours))
        got = list(self.tables["instance"].values())
        assert _sorted(got) == _sorted(expected), f"instance: {_apart(got, expected)}"
        for name, (columns, depth) in EXPECTED.items():
            rows = list(self.tables[name].values())
            wanted = roll_up(expected, columns, depth)
            assert _sorted(rows) == _sorted(wanted), f"{name}: {_apart(rows, wanted)}"


def _key(row: Row) -> Key:
    return Key(*(row[name] for name in KEY))


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=repr)


def _apart(got: list[Row], expected: list[Row]) -> str:
    return f"found only {[r for r in got if r not in expected]}, expected only " + repr(
        [r for r in expected if r not in got]
    )


# --- one call for all -----------------------------------------------------------------------------


def answer_plans(asked: dict[int, AskPlan]) -> dict[int, Answer]:
    """Every plan that is asked for, from one call of `make_plan`."""
    owner = _owners({i: {key.study for key in ask.touched} for i, ask in asked.items()})
    log = [row for ask in asked.values() for row in ask.log]
    stored = [row for ask in asked.values() for row in ask.stored]
    keys = [Key(*key) for ask in asked.values() for key in ask.touched]
    made = plan.make_plan(
        _log_table(log),
        pa.Table.from_pylist(stored, schema.INSTANCE.arrow(plan.STORED_COLUMNS)),
        plan.key_of(_keys_table(keys)),
    )
    parts = {"read": made.read, "deletes": made.deletes, "patches": made.patches}
    return _shared(parts, owner, "studyinstanceuid", asked)


def _log_table(log: list[Logged]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "sequence": [row.entry.sequence for row in log],
        "action": [row.entry.action for row in log],
        "timestamp": [row.entry.ticks // 10 for row in log],
        "timestamp_ticks": [row.entry.ticks for row in log],
        "filepath": [None] * len(log),
        "state": [row.state for row in log],
    }
    columns |= {name: [row.entry.key[at] for row in log] for at, name in enumerate(KEY)}
    types = schema.CHANGE.arrow(plan.LOG_COLUMNS)
    return pa.table([pa.array(columns[f.name], f.type) for f in types], schema=types)


def _keys_table(keys: list[Key]) -> pa.Table:
    return pa.table(
        {name: pa.array([key[at] for key in keys], pa.string()) for at, name in enumerate(KEY)}
    )


def answer_rollups(asked: dict[int, AskRollup]) -> dict[int, Answer]:
    """Every rollup of one table that is asked for, from one call of `roll_up` and `compare`."""
    table = next(iter(asked.values())).table
    studies = {
        i: {r["studyinstanceuid"] for r in ask.live} | {r["studyInstanceUid"] for r in ask.existing}
        for i, ask in asked.items()
    }
    columns = schema.INSTANCE.arrow(rollup.columns_read(table))
    live = pa.Table.from_pylist([row for ask in asked.values() for row in ask.live], columns)
    existing = [row for ask in asked.values() for row in ask.existing]
    made: Difference = rollup.compare(
        pa.Table.from_pylist(existing, table.arrow()), rollup.roll_up(live, table), table
    )
    parts = {n: getattr(made, n) for n in ("inserts", "updates", "deletes")}
    return _shared(parts, _owners(studies), "studyInstanceUid", asked)


def _owners(studies: dict[int, set[str]]) -> dict[str, int]:
    return {study: i for i, of in studies.items() for study in of}


def _shared(
    parts: dict[str, pa.Table], owner: dict[str, int], column: str, asked: dict[int, Any]
) -> dict[int, Answer]:
    answers: dict[int, dict[str, list[Row]]] = {i: {n: [] for n in parts} for i in asked}
    for name, rows in parts.items():
        for row in rows.to_pylist():
            answers[owner[row[column]]][name].append(row)
    return dict(answers)


def play_all(games: dict[int, Game]) -> None:
    """Every game is played to its end, in step; raises AssertionError that names the game."""
    playing = {i: game.play() for i, game in games.items()}
    answers: dict[int, Answer] = dict.fromkeys(games)
    while playing:
        asked: dict[int, Any] = {}
        for i in list(playing):
            try:
                asked[i] = playing[i].send(answers[i])
            except StopIteration:
                del playing[i]
            except AssertionError as error:
                raise AssertionError(f"game {i}: {games[i].history}: {error}") from error
        answers = _answers(asked)


def _answers(asked: dict[int, Any]) -> dict[int, Answer]:
    plans = {i: ask for i, ask in asked.items() if isinstance(ask, AskPlan)}
    answers = answer_plans(plans) if plans else {}
    for table in ROLLUPS:
        of = {i: a for i, a in asked.items() if isinstance(a, AskRollup) and a.table is table}
        answers |= answer_rollups(of) if of else {}
    return answers


def game_of(seed: int, number: int) -> Game:
    """The game of that number in a sweep; its study's UIDs are its own."""
    random = Random(f"{seed}/{number}")
    hours, operations = random.randrange(2, 7), random.randrange(4, 25)
    history = history_of(
        random, hours=hours, operations=operations, root=f"1.5.{number}", attributes=1
    )
    return Game(history, random, above=number << 40)


def sweep(seed: int, count: int) -> None:
    """So many games of a seed, in step."""
    play_all({number: game_of(seed, number) for number in range(count)})
