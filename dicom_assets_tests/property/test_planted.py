"""The harness is tested too: each of these bugs, planted, is caught within a few seeded examples.

A bug is planted by replacing a function of the project. The pure ones must be caught by one sweep,
those of a column by one sweep of headers, the others by one of the first scenarios.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import UTC, timezone, tzinfo
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute
import pytest

from dicom_assets.errors import DicomAssetsError
from dicom_assets.feed import light_read, listing
from dicom_assets.header import extraction, values
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables import (
    aggregates,
    instance,
    plan,
    readings,
    rollup,
)
from dicom_assets.tables import change as log
from dicom_assets.tables.aggregates import Groups, Measure, Part
from dicom_assets.tables.delta import files
from dicom_assets.tables.delta.retry import converge
from dicom_assets_tests.property import pure, test_columns, world

pc: Any = pyarrow.compute
SEED = 20_260_101
GAMES = 200
SCENARIOS = 20
CAUGHT = (AssertionError, DicomAssetsError)

Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _forgetting() -> Iterator[None]:
    """What was made of values by a planted bug is remembered by nobody."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    for module in (values, extraction):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


def _replacing(module: Any, name: str, make: Callable[[Any], Any]) -> Plant:  # noqa: ANN401 - any of them
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(module, name, make(getattr(module, name)))

    return plant


def _newest_by_time(_: object) -> Any:  # noqa: ANN401 - a function
    def newest_of(rows: pa.Table) -> pa.Table:
        keyed = rows.append_column("key", plan.key_of(rows))
        keyed = keyed.sort_by([("timestamp_ticks", "descending"), ("sequence", "descending")])
        first = keyed.group_by("key", use_threads=False).aggregate([("sequence", "first")])
        wanted = first["sequence_first"].combine_chunks()
        kept: pa.Table = rows.filter(pc.is_in(rows["sequence"], value_set=wanted))
        return kept

    return newest_of


def _nothing_is_gone(_: object) -> Any:  # noqa: ANN401 - a function
    return lambda rows: pa.chunked_array([pa.array([False] * len(rows), pa.bool_())])


def _without_guard(with_held: Any) -> Any:  # noqa: ANN401 - a function
    def unguarded(newest: pa.Table, stored: pa.Table) -> pa.Table:
        found = with_held(newest, stored)
        at = found.schema.get_field_index("stored")
        forgotten: pa.Table = found.set_column(at, "stored", pa.nulls(len(found), pa.int64()))
        return forgotten

    return unguarded


def _received_by_any(with_received: Any) -> Any:  # noqa: ANN401 - a function
    def of_any(rows: pa.Table, logged: pa.Table, upto: str) -> pa.Table:
        at = logged.schema.get_field_index("action")
        creates = logged.set_column(at, "action", pa.array(["Create"] * len(logged)))
        added: pa.Table = with_received(rows, creates, upto)
        return added

    return of_any


def _received_unbounded(with_received: Any) -> Any:  # noqa: ANN401 - a function
    return lambda rows, logged, upto: with_received(rows, logged.slice(0, 0), upto)


def _without_partition(_: object) -> Any:  # noqa: ANN401 - a function
    return lambda rows: pc.binary_join_element_wise(*(rows[name] for name in INSTANCE.key[1:]), "|")


def _counts_too_many(roll_up: Any) -> Any:  # noqa: ANN401 - a function
    def one_more(live: pa.Table, table: Any) -> pa.Table:  # noqa: ANN401 - of the schema
        rows = roll_up(live, table)
        at = rows.schema.get_field_index("instanceCount")
        more: pa.Table = rows.set_column(
            at, rows.schema.field(at), pc.add(rows["instanceCount"], 1)
        )
        return more

    return one_more


def _keeps_the_empty(compare: Any) -> Any:  # noqa: ANN401 - a function
    return lambda old, new, table: compare(old.slice(0, 0), new, table)


def _aggregating(name: Any, make: Callable[[Any], Any]) -> Plant:  # noqa: ANN401 - an aggregate
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setitem(aggregates.PARTS, name, make(aggregates.PARTS[name]))

    return plant


def _as(name: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - an aggregate
    return lambda _: aggregates.PARTS[name]


def _oldest(latest: Any) -> Any:  # noqa: ANN401 - a function
    def first(groups: Groups, column: Any) -> Part:  # noqa: ANN401 - of the schema
        part = latest(groups, column)
        wanted: Any = "first"
        return Part([Measure(m.values, wanted) for m in part.measures], part.combine)

    return first


PURE: dict[str, Plant] = {
    "order by timestamp": _replacing(plan, "newest_of", _newest_by_time),
    "ignore tombstones": _replacing(plan, "is_gone", _nothing_is_gone),
    "no sequence guard": _replacing(plan, "_with_stored", _without_guard),
    "received from any entry": _replacing(plan, "_with_received", _received_by_any),
    "received never found": _replacing(plan, "_with_received", _received_unbounded),
    "a key without its data partition": _replacing(plan, "key_of", _without_partition),
    "count one too many": _replacing(rollup, "roll_up", _counts_too_many),
    "emptied studies stay": _replacing(rollup, "compare", _keeps_the_empty),
    "the oldest value": _aggregating("latest", _oldest),
    "series counted by instance": _aggregating("count_distinct", _as("count")),
}


def _reversed(offset_of: Any) -> Any:  # noqa: ANN401 - a function
    def behind(found: str) -> object:
        offset = offset_of(found)
        return timezone(-offset.utcoffset(None)) if isinstance(offset, timezone) else offset

    return behind


def _in_utc(placed: Any) -> Any:  # noqa: ANN401 - a function
    return lambda on, at, zone: placed(on, at, UTC if isinstance(zone, tzinfo) else zone)


def _without_own_offset(parts_of: Any) -> Any:  # noqa: ANN401 - a function
    def unplaced(found: str) -> object:
        parts = parts_of(found)
        return (*parts[:2], None) if isinstance(parts, tuple) else parts

    return unplaced


def _first_number(number: Any) -> Any:  # noqa: ANN401 - a function
    return lambda several, of_text: number(several and several[:1], of_text)


def _without_scheme(code_of: Any) -> Any:  # noqa: ANN401 - a function
    return lambda _, *rest: code_of(None, *rest)


def _whole_names(split: Any) -> Any:  # noqa: ANN401 - a function
    return lambda text, delimiter: [text] if delimiter == "=" else split(text, delimiter)


def _any_item(inside: Any) -> Any:  # noqa: ANN401 - a function
    def anywhere(found: Any, steps: Any) -> Any:  # noqa: ANN401 - passed on
        return inside(found and [one for one in found if one] if len(steps) > 1 else found, steps)

    return anywhere


EXTRACTION: dict[str, Plant] = {
    "padding stays": _replacing(values, "PADDING", lambda _: ""),
    "an offset with its sign reversed": _replacing(values, "_offset_of", _reversed),
    "local time taken for UTC": _replacing(values, "_placed", _in_utc),
    "an instant without its own offset": _replacing(values, "_parts_of", _without_own_offset),
    "no date in the older form": _replacing(
        values, "_DATE", lambda _: re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)
    ),
    "days before the calendar": _replacing(
        values, "FIRST_DAY", lambda first: first.replace(year=1)
    ),
    "moments before 1900": _replacing(values, "FIRST_MOMENT", lambda first: first.replace(year=2)),
    "names not split at =": _replacing(values, "_split", _whole_names),
    "months taken for years": _replacing(values, "_YEARS", lambda years: years | {"M": (1, 1)}),
    "an age that is told only": _replacing(values, "years_between", lambda _: lambda *_: None),
    "the first of several numbers": _replacing(values, "_number", _first_number),
    "a code without its scheme": _replacing(values, "code_of", _without_scheme),
    "the code of a later item": _replacing(extraction, "_inside", _any_item),
}


def _unsplit(_: object) -> Any:  # noqa: ANN401 - a function
    return lambda texts, _: pa.array([[one] for one in texts.to_pylist()], pa.list_(pa.string()))


def _frames_as_told(_: object) -> Any:  # noqa: ANN401 - a function
    def told(groups: Groups, column: Any) -> Part:  # noqa: ANN401 - of the schema
        frames = pc.fill_null(groups.read(column.sources).numbers, 1)
        return Part([Measure(frames, "sum")], lambda found: found)

    return told


def _null_as_value(conflicts: Any) -> Any:  # noqa: ANN401 - a function
    def counted(groups: Groups, column: Any) -> Part:  # noqa: ANN401 - of the schema
        part = conflicts(groups, column)
        filled = [pc.fill_null(m.values.cast(pa.int32()), -1) for m in part.measures]
        return Part([Measure(found, "min_max") for found in filled], part.combine)

    return counted


def _content_first(read: Any) -> Any:  # noqa: ANN401 - a method
    return lambda self, sources: read(self, sources[::-1])


ROLLUP: dict[str, Plant] = {
    "the oldest value": _aggregating("latest", _oldest),
    "the latest of what differs": _aggregating("same", _as("latest")),
    "several values not split": _replacing(pc, "split_pattern", _unsplit),
    "different values in any order": _replacing(
        readings.Readings, "ascending", lambda _: lambda self: self
    ),
    "a class by its UID": _aggregating("names", _as("distinct")),
    "frames as they are told": _aggregating("frames", _frames_as_told),
    "no value taken for one": _aggregating("conflicts", _null_as_value),
    "content before acquisition": _replacing(Groups, "read", _content_first),
    "a span in milliseconds": _replacing(aggregates, "_MICROSECONDS", lambda _: 1e3),
    "every data partition the default": _replacing(
        aggregates, "DEFAULT_PARTITION", lambda _: "clinic-b"
    ),
}


def _believes_every_page(_: object) -> Any:  # noqa: ANN401 - a method
    def believe(*_: object) -> Generator[Any, Any, bool]:
        yield from ()
        return True

    return believe


def _without_tie_offset(_: object) -> Any:  # noqa: ANN401 - a method
    return lambda self, rows: listing.Position(
        max([self.ticks, *(row.ticks + 1 for row in rows)]), 0
    )


def _looks_once(_: object) -> Any:  # noqa: ANN401 - a function
    return lambda _version, attempt: [converge(attempt)]


def _no_tombstones(_: object) -> Any:  # noqa: ANN401 - a function
    return lambda *_: CHANGE.arrow(["sequence", "state"]).empty_table()


def _everything_is_fresh(_: object) -> Any:  # noqa: ANN401 - a function
    return lambda changes, *_: changes


def _rebases(properties: Any) -> Any:  # noqa: ANN401 - a function
    def patient(*of: Any) -> Any:  # noqa: ANN401 - passed on
        made = properties(*of)
        made.max_commit_retries = 15
        return made

    return patient


def _live_studies_only(touched: Any) -> Any:  # noqa: ANN401 - a function
    def alive(tables: Any, window: Any) -> list[str]:  # noqa: ANN401 - passed on
        found = tables.open(INSTANCE).rows(["studyinstanceuid"])
        return sorted(set(found["studyinstanceuid"].to_pylist()) & set(touched(tables, window)))

    return alive


class Planted(NamedTuple):
    """A bug, the kind of scenario that meets it, and the number of the first one that does."""

    plant: Plant
    moves: bool = False
    first: int = 0


CORE: dict[str, Planted] = {
    "stop at a short page": Planted(
        _replacing(light_read.LightRead, "_is_counted", _believes_every_page), moves=True, first=14
    ),
    "keyset without ties": Planted(_replacing(listing.Position, "after", _without_tie_offset)),
    "expiry is not learnt": Planted(
        _replacing(log, "_tombstones", _no_tombstones), moves=True, first=17
    ),
    "the log is appended to blindly": Planted(_replacing(log, "filter_out", _everything_is_fresh)),
    "a commit moves onto another": Planted(_replacing(files, "once", _rebases)),
    "padding stays": Planted(_replacing(values, "PADDING", lambda _: "")),
    "rollups skip studies that died": Planted(
        _replacing(rollup, "touched_studies", _live_studies_only), moves=True, first=48
    ),
}


DUELS: dict[str, tuple[str, Plant]] = {
    "no second look at the log": ("deleted", _replacing(instance, "settle", _looks_once)),
    "no second look at instance": ("counted", _replacing(rollup, "settle", _looks_once)),
}


@pytest.mark.parametrize("name", DUELS)
def test_a_duel_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that does not look again undoes what overtook it, at one of the points at least."""
    which, plant = DUELS[name]
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        _play_all(of for name, of in world.duels().items() if name.startswith(which))


@pytest.mark.parametrize("name", PURE)
def test_one_sweep_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the plan or in the fold fails the first sweep."""
    PURE[name](monkeypatch)
    with pytest.raises(CAUGHT):
        pure.sweep(SEED, GAMES)


@pytest.mark.parametrize("name", EXTRACTION)
def test_one_sweep_of_headers_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in what is made of one header."""
    EXTRACTION[name](monkeypatch)
    with pytest.raises(AssertionError):
        test_columns.sweep_extraction(SEED, GAMES)


@pytest.mark.parametrize("name", ROLLUP)
def test_one_sweep_of_rows_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in what is made of the rows of several."""
    ROLLUP[name](monkeypatch)
    with pytest.raises(AssertionError):
        test_columns.sweep_rollup(SEED, GAMES)


@pytest.mark.parametrize("name", CORE)
def test_a_few_scenarios_catch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in reading or committing fails one of so many scenarios: here, the first."""
    plant, moves, first = CORE[name]
    plant(monkeypatch)
    randoms = (Random(f"{SEED}/{number}") for number in range(first, first + SCENARIOS))
    with pytest.raises(CAUGHT):
        _play_all(world.scenario_of(random, moves=moves) for random in randoms)


def _play_all(scenarios: Iterable[world.Scenario]) -> None:
    for scenario in scenarios:
        world.play(scenario)


def test_nothing_planted_nothing_caught() -> None:
    """The same seeds pass when the project is as it is."""
    pure.sweep(SEED, GAMES)
    test_columns.sweep_extraction(SEED, GAMES)
    test_columns.sweep_rollup(SEED, GAMES)
    for moves in (False, True):
        world.play(world.scenario_of(Random(f"{SEED}/0"), moves=moves))
