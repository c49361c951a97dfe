"""Histories through Dagster: `materialize` in this process, and its command line in another."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from hypothesis import given, settings

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.partitions import hour_key
from dicom_assets.settings import Settings
from dicom_assets.window import datetime_of
from dicom_assets_tests.property import world
from dicom_assets_tests.property.histories import START
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR
from dicom_assets_tests.property.test_core import EACH
from dicom_assets_tests.property.world import Hours, Scenario, World, scenarios
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.samples import TIMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

# dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")
EXAMPLES = 2 * TIMES
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
ROOT = Path(__file__).parents[2]


def _key(hour: int) -> str:
    return hour_key(datetime_of(START + hour * TICKS_PER_HOUR))


def _moment(ticks: int) -> datetime:
    return datetime_of(ticks)


def _settings(world: World) -> Settings:
    scenario = world.scenario
    span = scenario.span()
    return Settings(
        service_url=world.url,
        batch_size=scenario.batch_size,
        start_time=_moment(span.start),
        end_time=_moment(span.end) if scenario.clip else None,
        tables_url=str(world.root),
        retry_seconds=5,
        data_partitions=scenario.partitions,
    )


def _materializing(world: World) -> Callable[[Hours, dg.DagsterInstance], None]:
    """One run over hours: a single one as a partition, several as a range."""
    definitions = build_definitions(_settings(world))
    job = definitions.resolve_implicit_global_asset_job_def()

    def materialize(hours: Hours, instance: dg.DagsterInstance) -> None:
        first, last = _key(hours[0]), _key(hours[1] - 1)
        tags = {RANGE_START: first, RANGE_END: last} if first != last else {}
        result = job.execute_in_process(
            instance=instance, tags=tags, partition_key=None if tags else first
        )
        assert result.success

    return materialize


@pytest.mark.timeout(600 * TIMES)  # histories, each with several Dagster runs
@settings(EACH, max_examples=EXAMPLES)
@given(scenario=scenarios(moves=False))
def test_materialized_hours_are_the_archive(scenario: Scenario) -> None:
    """Hours and ranges, in any order, each in a run of its own."""
    with dg.DagsterInstance.ephemeral() as instance, World(scenario) as world:
        materialize = _materializing(world)
        for hours in scenario.runs:
            materialize(hours, instance)
        world.check(world.url)


@pytest.mark.timeout(600)  # two starts of Dagster's command line
def test_the_command_line_brings_a_range_of_hours(tmp_path: Path) -> None:
    """Plain `dagster asset materialize`, with the environment of the Contract and nothing else."""
    scenario = world.scenario_of(Random(11), moves=False)
    with World(replace(scenario, clip=True, partitions=None)) as made:
        span = made.scenario.span()
        environment = {
            "PATH": os.environ["PATH"],
            "DAGSTER_HOME": str(tmp_path),
            "DICOM_SERVICE_URL": made.url,
            "DICOM_BATCH_SIZE": "7",
            "DICOM_TABLES_URL": str(made.root),
            "DICOM_START_TIME": f"{_moment(span.start):%Y-%m-%dT%H:%M:%SZ}",
            "DICOM_END_TIME": f"{_moment(span.end):%Y-%m-%dT%H:%M:%SZ}",
        }
        hours = f"{_key(0)}...{_key(made.scenario.history.hours - 1)}"
        command = [sys.executable, "-m", "dagster", "asset", "materialize"]
        command += ["-m", "dicom_assets.definitions", "--select", "change,instance,series,study"]
        done = subprocess.run(
            [*command, "--partition-range", hours],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        overhear(done.stdout, done.stderr)
        assert done.returncode == 0, done.stderr[-2000:]
        made.check(made.url)
