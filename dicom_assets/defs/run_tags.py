"""What a Dagster run says about itself: for which hours it is, and which attempt at them."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from dicom_assets.defs.partitions import KEY_FORMAT, hour_key
from dicom_assets.window import Span

# With which attempt at its hours a run began, from 1; runs that a person starts have none.
ATTEMPT_TAG = "dicom_assets/attempt"
# From this attempt on a person has to look: what passes by itself has passed by then.
LAST_ATTEMPT = 4
# The tags with which Dagster runs one partition, and a range of partitions as one.
PARTITION_TAG = "dagster/partition"
RANGE_TAG = "dagster/asset_partition_range_{}"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def tags_of(hours: Span) -> dict[str, str]:
    """Return the tags with which Dagster runs hours as one."""
    return range_tags(hour_key(hours.first), hour_key(hours.last))


def range_tags(first: str, last: str) -> dict[str, str]:
    """Return the tags with which Dagster runs a range of partitions, given by its keys, as one."""
    return {RANGE_TAG.format("start"): first, RANGE_TAG.format("end"): last}


def tagged_hours(tags: Mapping[str, str]) -> Span | None:
    """Return the hours of a run, None when it is for none or for somebody else's partitions."""
    one = tags.get(PARTITION_TAG, "")
    keys = [tags.get(RANGE_TAG.format(name), one) for name in ("start", "end")]
    try:
        first, last = (datetime.strptime(key, KEY_FORMAT).replace(tzinfo=UTC) for key in keys)
    except ValueError:
        return None
    return Span(first, last)


def attempt_of(tags: Mapping[str, str]) -> int:
    """Return which attempt at its hours a run is, from 1; 0 when nobody counts them."""
    told = tags.get(ATTEMPT_TAG, "")
    return int(told) if told.isdecimal() else 0
