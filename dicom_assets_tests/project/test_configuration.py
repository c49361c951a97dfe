"""The configuration files agree with one another, and Dagster takes them."""

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.instance.config import PoolGranularity

from dicom_assets_tests.support.layout import PACKAGE, ROOT, pyproject, sources

DEFINITIONS = "dicom_assets.definitions"
LOCATION = "dicom_assets"
POOL = "dicom_tables"


def load(name: str) -> Any:  # noqa: ANN401 - YAML may hold anything
    """The content of a YAML file of the project."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance whose home holds the project's dagster.yaml."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_the_version_has_one_home() -> None:
    """pyproject.toml, the installed package and the changelog agree; no module repeats it."""
    declared = pyproject()["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert newest is not None
    assert version("dicom-assets") == declared == newest[1]
    assert [p for p in sources(PACKAGE) if f'"{declared}"' in p.read_text(encoding="utf-8")] == []


def test_every_file_names_the_same_definitions() -> None:
    """Whoever loads the project, by whatever file, loads the same module."""
    tool = pyproject()["tool"]
    assert tool["dagster"]["module_name"] == DEFINITIONS
    assert tool["dg"]["project"]["code_location_target_module"] == DEFINITIONS
    (local,) = load("workspace.yaml")["load_from"]
    (cloud,) = load("dagster_cloud.yaml")["locations"]
    assert local["python_module"]["module_name"] == DEFINITIONS
    assert cloud["code_source"]["module_name"] == DEFINITIONS


def test_every_file_gives_the_location_the_same_name() -> None:
    """The history of a location follows its name, so it has one."""
    tool = pyproject()["tool"]
    (local,) = load("workspace.yaml")["load_from"]
    (cloud,) = load("dagster_cloud.yaml")["locations"]
    assert tool["dagster"]["code_location_name"] == LOCATION
    assert tool["dg"]["project"]["code_location_name"] == LOCATION
    assert local["python_module"]["location_name"] == LOCATION
    assert cloud["location_name"] == LOCATION


def test_the_definitions_module_is_there() -> None:
    """What the files name exists."""
    assert PACKAGE.parent.joinpath(*DEFINITIONS.split(".")).with_suffix(".py").is_file()


def test_a_pool_lets_one_run_work_at_a_time(instance: DagsterInstance) -> None:
    """The pool of the tables gets the limit 1 without anybody setting it, run by run."""
    pools = instance.get_concurrency_config().pool_config
    assert pools.pool_granularity is PoolGranularity.RUN
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default(POOL)
    assert storage.get_concurrency_info(POOL).slot_count == 1


def test_the_slot_of_a_finished_run_is_free_within_a_minute(instance: DagsterInstance) -> None:
    """Run monitoring is on, and looks often enough."""
    assert instance.run_monitoring_enabled
    wait = instance.run_monitoring_settings["free_slots_after_run_end_seconds"]
    assert 0 < wait + 2 * instance.run_monitoring_poll_interval_seconds <= 60


def test_nothing_is_reported_to_anybody(instance: DagsterInstance) -> None:
    """Dagster sends no telemetry and its web page asks for no address."""
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled
    assert pyproject()["tool"]["dg"]["cli"]["telemetry"]["enabled"] is False


@pytest.mark.parametrize("name", ["dagster.yaml", "workspace.yaml", "dagster_cloud.yaml"])
def test_every_setting_says_why(name: str) -> None:
    """Each value in dagster.yaml has a comment beside it, and the other files are explained."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r"\s*[\w-]+: \S", line)]
    bare = [line for line in values if " # " not in line]
    assert any(" # " in line for line in lines)
    assert name != "dagster.yaml" or bare == []
