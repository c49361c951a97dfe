"""Many thousand histories through the pure plan and fold; a failure names its seed and game."""

from __future__ import annotations

from random import Random  # noqa: TC003 - hypothesis reads the annotations

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dicom_assets_tests.property import pure
from dicom_assets_tests.property.histories import history_of
from dicom_assets_tests.support.samples import TIMES

SWEEPS = 4 * TIMES
GAMES = 400

pytestmark = pytest.mark.timeout(300 * TIMES)  # thousands of histories


@settings(max_examples=SWEEPS, deadline=None, phases=[Phase.generate], database=None)
@given(number=st.integers(0, 2**63 - 1))
def test_whatever_the_order_the_tables_become_the_archive(number: int) -> None:
    """Runs in any order, up to three at once, while the archive moves or rests: I1 to I5, I7.

    To replay a failure: `pure.play_all({game: pure.game_of(number, game)})`.
    """
    pure.sweep(number, GAMES)


@settings(max_examples=30 * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(random=st.randoms(use_true_random=False), hours=st.integers(2, 6), count=st.integers(1, 20))
def test_a_single_history_shrinks(random: Random, hours: int, count: int) -> None:
    """The same, one history at a time, with every choice hypothesis' own."""
    history = history_of(random, hours=hours, operations=count, attributes=1)
    pure.play_all({0: pure.Game(history, random)})


@seed(1)
@settings(max_examples=1, deadline=None, phases=[Phase.generate], database=None)
@given(random=st.randoms(use_true_random=False))
def test_a_sweep_holds_what_it_promises(random: Random) -> None:
    """Most histories delete, expire, update and re-create something, and let rows survive."""
    games = {number: pure.game_of(1, number) for number in range(GAMES)}
    pure.play_all(games)
    survivors = sum(bool(game.tables["study"]) for game in games.values())
    deleted = sum(any(e.action == "Delete" for e in g.replay.entries) for g in games.values())
    assert min(survivors, deleted) > GAMES // 3
    assert sum(_is_recreated(game) for game in games.values()) > GAMES // 10


def _is_recreated(game: pure.Game) -> bool:
    created = [e.key for e in game.replay.entries if e.action == "Create"]
    return len(created) > len(set(created))
