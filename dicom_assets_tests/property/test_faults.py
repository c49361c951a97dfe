"""Histories under faults: whatever the service answers, the tables are those of the replay.

A third of all answers, or one in twenty, is a refusal, cut, false, short, doubled or out of order.
`world.play(faulty(seed, rate, moves=…))` replays a failure; FAULTS=20 gives twenty times the seeds.
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from dicom_assets_tests.adversary import random_faults
from dicom_assets_tests.property import world

if TYPE_CHECKING:
    from dicom_assets_tests.property.world import Scenario

TIMES = int(os.environ.get("FAULTS", "1"))
SEEDS = range(12 * TIMES)


def faulty(seed: int, rate: float, *, moves: bool) -> Scenario:
    """The scenario of a seed, with faults of the same seed; short pages are among the faults."""
    scenario = world.scenario_of(Random(seed), moves=moves)
    return replace(scenario, short=0, faults=random_faults(seed, rate))


@pytest.mark.timeout(300)  # a request is answered at the fifth attempt, some even later
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_no_fault_of_the_service_loses_or_doubles_a_change(seed: int, rate: float) -> None:
    """At rest or moving: no row is missing, none is twice, and a second run reads no header."""
    world.play(faulty(seed, rate, moves=seed % 2 == 1))
