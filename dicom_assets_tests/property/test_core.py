"""Histories through `log.add`, `instance.apply` and `rollups.apply`: Delta tables, real HTTP.

An example costs about a second, so shrinking is off: a failure prints the whole scenario and the
blob that replays it. `world.play(world.scenario_of(Random(seed), moves=…))` replays a seeded one.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from dicom_assets_tests.property import world
from dicom_assets_tests.property.histories import History, history_of
from dicom_assets_tests.property.world import Scenario, World, scenarios
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.samples import TIMES

if TYPE_CHECKING:
    from dicom_assets.window import Window

EACH = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
EXAMPLES = 4 * TIMES


@pytest.mark.timeout(600 * TIMES)  # histories, each with half a dozen runs over real tables
@settings(EACH, max_examples=EXAMPLES)
@given(scenario=scenarios(moves=False))
def test_an_archive_at_rest_is_in_the_tables_once_every_hour_has_run(scenario: Scenario) -> None:
    """In any order, in ranges, repeated, clipped, one run inside another: no hour runs twice."""
    world.play(scenario)


@pytest.mark.timeout(600 * TIMES)  # as above
@settings(EACH, max_examples=EXAMPLES)
@given(scenario=scenarios(moves=True))
def test_an_archive_that_moved_is_in_the_tables_once_every_hour_has_run_again(
    scenario: Scenario,
) -> None:
    """Operations between any two requests; after the last, each hour is run once more."""
    world.play(scenario)


@pytest.mark.parametrize("name", world.duels())
def test_a_run_that_is_overtaken_looks_again(name: str) -> None:
    """Wherever the other run comes between, what it has changed is not undone."""
    world.play(world.duels()[name])


def _busy(seed: int) -> Scenario:
    history: History = history_of(Random(seed), hours=4, operations=30)
    count = len(history.operations)
    return Scenario(history, count, 0, (), batch_size=7)


def _windows(world: World, seed: int) -> list[Window]:
    hours = list(range(world.scenario.history.hours))
    Random(seed).shuffle(hours)
    return [world.window((hour, hour + 1)) for hour in hours]


@pytest.mark.timeout(600)  # runs that wait for one another
@pytest.mark.parametrize("seed", range(1, 1 + TIMES))
def test_threads_that_run_the_same_hours_leave_one_truth(seed: int) -> None:
    """Three at once, each through every hour in its own order: no hour needs to be run again."""
    with World(_busy(seed)) as world:
        with ThreadPoolExecutor(3) as threads:
            works = [
                threads.submit(_run_all, world.url, world.root, _windows(world, number))
                for number in range(3)
            ]
        for work in works:
            work.result()
        world.check()


@pytest.mark.timeout(600)  # processes start slowly
def test_processes_that_run_the_same_hours_leave_one_truth() -> None:
    """Two at once; the tables do not exist when they begin."""
    context = multiprocessing.get_context("spawn")  # Delta's threads do not survive a fork
    with World(_busy(3)) as world:
        works = [
            context.Process(target=_run_all, args=(world.url, world.root, _windows(world, number)))
            for number in range(2)
        ]
        for work in works:
            work.start()
        for work in works:
            work.join(300)
        assert [work.exitcode for work in works] == [0, 0]
        world.check()


def _run_all(url: str, root: world.Root, windows: list[Window]) -> None:
    store = steps.store_of(world.urls(root))
    with feed_of(url, batch_size=7, retry_seconds=5, in_flight=2) as feed:
        for number, window in enumerate(windows):
            world.carry_out(store, feed, window, f"run-{number}")


@pytest.mark.timeout(600)  # three times the same history
@pytest.mark.parametrize("seed", range(5, 5 + TIMES))
def test_neither_page_size_nor_the_cut_of_the_hours_matters(seed: int) -> None:
    """One run over all hours with pages of 200, four over one hour each with 7, and with 1."""
    base, hours = _busy(seed), ((3, 4), (1, 2), (0, 1), (2, 3))
    for runs, batch_size in ((((0, 4),), 200), (hours, 7), (hours[::-1], 1)):
        world.play(replace(base, runs=runs, batch_size=batch_size))
