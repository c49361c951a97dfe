"""The harness is tested too: each of these bugs, planted, is caught within a few seeded examples.

A bug is planted by replacing a function of the project. The pure ones must be caught by one sweep,
the others by one of the first scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute
import pytest

from dicom_assets.errors import DicomAssetsError
from dicom_assets.feed import header, light_read, listing
from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables import instance, log, plan, rollup, rollups, store
from dicom_assets.tables.converge import converge
from dicom_assets_tests.property import pure, world

pc: Any = pyarrow.compute
SEED = 20_260_101
GAMES = 200
SCENARIOS = 20
CAUGHT = (AssertionError, DicomAssetsError)

Plant = Callable[[pytest.MonkeyPatch], None]


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
        at = found.schema.get_field_index("held")
        forgotten: pa.Table = found.set_column(at, "held", pa.nulls(len(found), pa.int64()))
        return forgotten

    return unguarded


def _received_by_any(received: Any) -> Any:  # noqa: ANN401 - a function
    def of_any(keys: Any, upto: Any, rows: pa.Table) -> Any:  # noqa: ANN401 - columns
        at = rows.schema.get_field_index("action")
        return received(keys, upto, rows.set_column(at, "action", pa.array(["Create"] * len(rows))))

    return of_any


def _received_unbounded(received: Any) -> Any:  # noqa: ANN401 - a function
    return lambda keys, upto, rows: received(
        keys, pa.chunked_array([pa.array([0] * len(upto), pa.int64())]), rows
    )


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


def _patched_functions(_: object) -> dict[str, str]:
    return {"latest": "first", "max": "max", "count": "count", "count_distinct": "count_distinct"}


def _distinct_as_count(_: object) -> dict[str, str]:
    return {"latest": "last", "max": "max", "count": "count", "count_distinct": "count"}


PURE: dict[str, Plant] = {
    "order by timestamp": _replacing(plan, "newest_of", _newest_by_time),
    "ignore tombstones": _replacing(plan, "is_gone", _nothing_is_gone),
    "no sequence guard": _replacing(plan, "_with_held", _without_guard),
    "received from any entry": _replacing(plan, "_received", _received_by_any),
    "received never found": _replacing(plan, "_received", _received_unbounded),
    "a key without its data partition": _replacing(plan, "key_of", _without_partition),
    "count one too many": _replacing(rollup, "roll_up", _counts_too_many),
    "emptied studies stay": _replacing(rollup, "compare", _keeps_the_empty),
    "the oldest value": _replacing(rollup, "_FUNCTIONS", _patched_functions),
    "series counted by instance": _replacing(rollup, "_FUNCTIONS", _distinct_as_count),
}


def _believes_every_page(_: object) -> Any:  # noqa: ANN401 - a method
    return lambda *_: True


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
        _replacing(light_read.LightRead, "_is_counted", _believes_every_page), first=7
    ),
    "keyset without ties": Planted(_replacing(listing.Position, "after", _without_tie_offset)),
    "expiry is not learnt": Planted(
        _replacing(log, "_tombstones", _no_tombstones), moves=True, first=2
    ),
    "the log is appended to blindly": Planted(_replacing(log, "filter_out", _everything_is_fresh)),
    "a commit moves onto another": Planted(_replacing(store, "_properties", _rebases), first=13),
    "padding stays": Planted(_replacing(header, "PADDING", lambda _: "")),
    "rollups skip studies that died": Planted(
        _replacing(rollups, "touched_studies", _live_studies_only), moves=True, first=16
    ),
}


DUELS: dict[str, tuple[str, Plant]] = {
    "no second look at the log": ("deleted", _replacing(instance, "settle", _looks_once)),
    "no second look at instance": ("counted", _replacing(rollups, "settle", _looks_once)),
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
    for moves in (False, True):
        world.play(world.scenario_of(Random(f"{SEED}/0"), moves=moves))
