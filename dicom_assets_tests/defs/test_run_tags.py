"""The tags of a run tell who started it."""

import pytest

from dicom_assets.defs.run_tags import is_by_hand

SCHEDULE, SENSOR = {"dagster/schedule_name": "s"}, {"dagster/sensor_name": "s"}
PARENT, RETRY = {"dagster/parent_run_id": "r"}, {"dagster/retry_number": "1"}


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"dagster/partition": "2026-01-01-00:00"},
        {"dagster/backfill": "b"},
        {"dagster/auto_retry_run_id": "r"},
        PARENT,
        SCHEDULE | PARENT,
    ],
    ids=["launched", "an hour", "backfill", "retried later", "re-executed", "of a schedule, too"],
)
def test_a_person_started_it(tags: dict[str, str]) -> None:
    """Also where Dagster copies the tags of the run that is executed again."""
    assert is_by_hand(tags)


@pytest.mark.parametrize(
    "tags",
    [
        SCHEDULE,
        SENSOR,
        {"dagster/auto_materialize": "true"},
        PARENT | RETRY,
        SENSOR | PARENT | RETRY,
    ],
    ids=["schedule", "sensor", "automation", "retry", "retry of a sensor's"],
)
def test_nobody_started_it(tags: dict[str, str]) -> None:
    """Nor the automatic retry of a run that a person started."""
    assert not is_by_hand(tags)
