"""The policies for Dagster+ name what exists, and keep the rules that can be checked without it."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from dagster_rest_resources.__generated__.enums import AlertPolicyEventType
from dagster_rest_resources.schemas.alert_policy import DgApiAlertPolicyOptions

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.alerts.silent_ticks import FAILED_TICKS
from dicom_assets.defs.run_tags import ATTEMPT_TAG, LAST_ATTEMPT
from dicom_assets.settings import Settings
from dicom_assets_tests.project.test_configuration import LOCATION, load
from dicom_assets_tests.support.names import COLUMNS_JOB, JOB, REPORT

Policy = dict[str, Any]
TARGETS = {
    "ASSET": "asset_selection_target",
    "JOB": "run_result_target",
    "TICK": "schedule_or_sensor_target",
    "CODE": "code_location_target",
    "AGENT": None,
}
"""Which target belongs to which events, by how these begin."""


@pytest.fixture(scope="module")
def policies() -> list[Policy]:
    """What the file says."""
    found: list[Policy] = load("alert_policies.yaml")["alert_policies"]
    return found


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    """The definitions for a service."""
    settings = Settings(
        service_url="http://127.0.0.1:9", start_time=datetime(2024, 3, 1, tzinfo=UTC)
    )
    return build_definitions(settings).get_repository_def()


def _targets(policies: list[Policy], name: str) -> list[Policy]:
    return [t[name] for p in policies for t in p["alert_targets"] if name in t]


def test_every_policy_is_whole(policies: list[Policy]) -> None:
    """A name of its own, events of one kind that Dagster+ knows, and the target that fits them."""
    assert len({policy["name"] for policy in policies}) == len(policies)
    for policy in policies:
        assert set(policy) == {
            *("name", "description", "enabled", "event_types", "alert_targets"),
            *("notification_service", "policy_options"),
        }
        events = [AlertPolicyEventType(event).value for event in policy["event_types"]]
        (kind,) = {event.partition("_")[0] for event in events}
        named = {name for target in policy["alert_targets"] for name in target}
        assert named == {TARGETS[kind]} - {None}
        assert set(policy["policy_options"]) <= set(DgApiAlertPolicyOptions.model_fields)


def test_every_asset_with_a_check_is_watched(
    policies: list[Policy], repository: dg.RepositoryDefinition
) -> None:
    """And nothing that does not exist."""
    graph = repository.asset_graph
    (checks, freshness) = (
        dg.AssetSelection.from_string(target["asset_selection"])
        for target in _targets(policies, "asset_selection_target")
    )
    checked = {key.asset_key for key in graph.asset_check_keys}
    report = {dg.AssetKey(REPORT)}  # it has no check, and is made once a day
    assert checks.resolve(graph) == graph.get_all_asset_keys() - report >= checked
    assert freshness.resolve(graph) == graph.materializable_asset_keys - report


def test_every_job_that_nobody_starts_again_is_watched(
    policies: list[Policy], repository: dg.RepositoryDefinition
) -> None:
    """All that have a schedule, and hours from the last attempt on."""
    hours, others = _targets(policies, "run_result_target")
    jobs = [job for target in (hours, others) for job in target["jobs"]]
    assert {job["location_name"] for job in jobs} == {LOCATION}
    assert {job["repo_name"] for job in jobs} == {repository.name}
    assert [job["job_name"] for job in hours["jobs"]] == [JOB]
    assert hours["tags"] == [{"key": ATTEMPT_TAG, "value": str(LAST_ATTEMPT)}]
    scheduled = {schedule.job_name for schedule in repository.schedule_defs}
    named = {job["job_name"] for job in others["jobs"]}
    assert named == scheduled - {JOB}
    assert {*named, JOB, COLUMNS_JOB} == {
        name for name in repository.job_names if not name.startswith("__")
    }


def test_ticks_and_the_code_location_are_watched(policies: list[Policy]) -> None:
    """In our code location, as the sensor watches them."""
    (ticks,) = _targets(policies, "schedule_or_sensor_target")
    (location,) = _targets(policies, "code_location_target")
    assert ticks["location_names"] == location["location_names"] == [LOCATION]
    (options,) = (p["policy_options"] for p in policies if p["event_types"] == ["TICK_FAILURE"])
    assert options["consecutive_failure_threshold"] == FAILED_TICKS
