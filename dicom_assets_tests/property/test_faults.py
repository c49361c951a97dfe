"""Histories under faults: whatever the service answers, the tables are those of the replay.

A third of all answers, or one in twenty, is a refusal, cut, false, short, doubled or out of order.
`world.play(faulty(seed, rate, moves=…))` replays a failure; FAULTS=20 gives twenty times the seeds.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from dicom_assets_tests.adversary import random_faults
from dicom_assets_tests.property import world
from dicom_assets_tests.support.samples import SOAK, TIMES, crossed

if TYPE_CHECKING:
    from dicom_assets_tests.property.world import Scenario

SEEDS = range(8 * TIMES)
RATES = (0.05, 0.3)


def faulty(seed: int, rate: float, *, moves: bool) -> Scenario:
    """The scenario of a seed, with faults of the same seed; short pages are among the faults."""
    scenario = world.scenario_of(Random(seed), moves=moves)
    return replace(scenario, short=0, faults=random_faults(seed, rate))


@pytest.mark.timeout(300)  # a request is answered at the fifth attempt, some even later
# Each second seed moves, so two neighbours have one rate.
@pytest.mark.parametrize(
    ("seed", "rate"), crossed(SEEDS, RATES) if SOAK else [(n, RATES[n // 2 % 2]) for n in SEEDS]
)
def test_no_fault_of_the_service_loses_or_doubles_a_change(seed: int, rate: float) -> None:
    """At rest or moving: no row is missing, none is twice, and a second run reads no header."""
    world.play(faulty(seed, rate, moves=seed % 2 == 1))
