"""Names of one set of definitions: those of today by default, and of one word else."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.names import Names
from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings

TODAY = {
    "asset dicom_service",
    "asset dicom_quality",
    "asset change",
    "asset instance",
    "asset series",
    "asset study",
    "resource dicom_service",
    "resource dicom_tables",
    "job dicom_tables",
    "job dicom_hourly_checks",
    "job dicom_audit",
    "job dicom_daily_checks",
    "asset dicom_report",
    "job dicom_daily_report",
    "job dicom_columns",
    "job dicom_maintenance",
    "schedule dicom_tables_schedule",
    "schedule dicom_hourly_checks_schedule",
    "schedule dicom_audit_schedule",
    "schedule dicom_daily_checks_schedule",
    "schedule dicom_daily_report_schedule",
    "schedule dicom_maintenance_schedule",
    "sensor dicom_reopened_hours",
    "sensor dicom_dead_runs",
    "sensor dicom_unfilled_tables",
    "sensor dicom_alerts",
    "op fill_columns",
    "op maintain_change",
    "op maintain_sync",
    "op maintain_instance",
    "op maintain_series",
    "op maintain_study",
    "op maintain_rejected",
    "pool dicom_tables",
    "group dicom",
    "owner team:dicom",
}
"""Switches, cursors, alert policies and limits of people who upgrade belong to these names."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A service that is not asked."""
    given = {"DICOM_SERVICE_URL": "http://127.0.0.1:9", "DICOM_TABLES_URL": str(tmp_path)}
    return Settings.from_environment(given | {"DICOM_START_TIME": "2026-01-01T00:00:00Z"})


def names_in(made: dg.Definitions) -> set[str]:
    """Every name that Dagster knows something of the definitions by."""
    jobs: list[Any] = list(made.jobs or ())
    graphs = [job.graph for job in jobs if isinstance(job, dg.JobDefinition)]
    ops: list[Any] = [op for graph in graphs for op in graph.node_defs]
    assets = [asset for asset in made.assets or () if isinstance(asset, dg.AssetsDefinition)]
    specs = [spec for asset in assets for spec in asset.specs]
    specs += [spec for spec in made.assets or () if isinstance(spec, dg.AssetSpec)]
    pools = {one.pool for one in (*ops, *(asset.op for asset in assets))}
    return {
        *(f"asset {spec.key.to_user_string()}" for spec in specs),
        *(f"resource {key}" for key in made.resources or {}),
        *(f"job {job.name}" for job in jobs),
        *(f"schedule {schedule.name}" for schedule in made.schedules or ()),
        *(f"sensor {sensor.name}" for sensor in made.sensors or ()),
        *(f"op {op.name}" for op in ops),
        *(f"pool {pool}" for pool in pools if pool),
        *(f"group {spec.group_name}" for spec in specs),
        *(f"owner {owner}" for spec in specs for owner in spec.owners),
    }


def test_the_names_of_every_release_so_far_stay(settings: Settings) -> None:
    """Where no name is given."""
    assert names_in(build_definitions(settings)) == TODAY


def test_every_name_begins_with_the_word_that_is_given(settings: Settings) -> None:
    """But the assets of the tables, which a prefix tells apart; the default's names are gone."""
    found = names_in(build_definitions(settings, "north", name="north"))
    told = {name.replace("north/", "").replace("north_", "dicom_") for name in found}
    told = {name.replace("op dicom_", "op ").replace("team:north", "team:dicom") for name in told}
    assert {name.replace("group north", "group dicom") for name in told} == TODAY
    assert not {name for name in found if "dicom" in name}


def test_two_sets_load_in_one_code_location(settings: Settings) -> None:
    """Nothing of one is taken for something of the other."""
    both = dg.Definitions.merge(
        build_definitions(settings, "north", name="north"),
        build_definitions(settings, "south", name="south"),
    )
    repository = both.get_repository_def()
    keys = {key.to_user_string() for key in repository.asset_graph.executable_asset_keys}
    assert keys == {
        f"{place}/{name}"
        for place in ("north", "south")
        for name in ("change", "instance", "series", "study", f"{place}_report")
    }
    assert repository.get_job("north_tables").name == "north_tables"


@pytest.mark.parametrize("word", ["", "north clinic", "1st", "nord-klinik"])
def test_a_word_that_dagster_takes_for_no_name_is_refused(word: str) -> None:
    """At start, with an example."""
    with pytest.raises(SettingsError, match="such as north_clinic"):
        Names(word)
