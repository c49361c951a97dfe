"""The tags of a Dagster run: its hours, and the number of the attempt at them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from dicom_assets.defs.partitions import KEY_FORMAT, hour_key
from dicom_assets.window import Span

# On a run that fills tables which were switched on later, and no columns.
TABLES_ONLY_TAG = "dicom_assets/tables_only"
# The number of the attempt at its hours with which a run began, from 1. Runs that a person starts
# have none.
ATTEMPT_TAG = "dicom_assets/attempt"
# A failure from this attempt on is an alert: faults that pass by themselves have passed by then.
LAST_ATTEMPT = 4
# The tags with which Dagster runs one partition, and a range of partitions as one.
PARTITION_TAG = "dagster/partition"
RANGE_TAG = "dagster/asset_partition_range_{}"
# On a run of a schedule, of a sensor, or of Dagster's declarative automation.
_AUTOMATIC_TAGS = {"dagster/schedule_name", "dagster/sensor_name", "dagster/auto_materialize"}
# On a run that repeats another one, and only if Dagster's automatic retry started it.
_PARENT_TAG, _RETRY_TAG = "dagster/parent_run_id", "dagster/retry_number"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def tags_of(hours: Span) -> dict[str, str]:
    """Return the tags with which Dagster runs hours in one run."""
    return range_tags(hour_key(hours.first), hour_key(hours.last))


def range_tags(first: str, last: str) -> dict[str, str]:
    """Return the tags with which Dagster runs a range of partition keys in one run."""
    return {RANGE_TAG.format("start"): first, RANGE_TAG.format("end"): last}


def tagged_hours(tags: Mapping[str, str]) -> Span | None:
    """Return the hours of a run; None when it has none, or partitions of another kind."""
    one = tags.get(PARTITION_TAG, "")
    keys = [tags.get(RANGE_TAG.format(name), one) for name in ("start", "end")]
    try:
        first, last = (datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC) for key in keys)
    except ValueError:
        return None
    return Span(first, last)


def attempt_of(tags: Mapping[str, str]) -> int:
    """Return the number of a run's attempt at its hours, from 1; 0 without a tag."""
    attempt = tags.get(ATTEMPT_TAG, "")
    return int(attempt) if attempt.isdecimal() else 0


def is_by_hand(tags: Mapping[str, str]) -> bool:
    """Return True for a run that a person started, a backfill and a re-execution included."""
    # A re-execution has the tags of the run that it repeats, and the number of no retry.
    if _PARENT_TAG in tags:
        return _RETRY_TAG not in tags
    return not _AUTOMATIC_TAGS & tags.keys()
