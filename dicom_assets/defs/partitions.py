"""Hours as Dagster partitions: UTC, from the floor of the start to the ceiling of the end.

`DueHours` are those that all tables should show by now, because a tick requested them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from dagster._utils.schedules import get_latest_completed_cron_tick
from pydantic import Field

from dicom_assets.window import HOUR, Window, floor_hour

KEY_FORMAT = "%Y-%m-%d-%H:%M"


def hourly(start: datetime, end: datetime | None = None) -> dg.HourlyPartitionsDefinition:
    """Return the hours from the one of the start to the last one that begins before the end."""
    ceiling = None if end is None else -(-(end - floor_hour(start)) // HOUR) * HOUR
    return dg.HourlyPartitionsDefinition(
        start_date=floor_hour(start),
        end_date=None if ceiling is None else floor_hour(start) + ceiling,
        timezone="UTC",
    )


def closed(partitions: dg.HourlyPartitionsDefinition, moment: datetime, delay: timedelta) -> Window:
    """Return the hours that ended at least the delay before a moment."""
    start, end = partitions.start, floor_hour(moment - delay)
    if partitions.end is not None:
        end = min(end, partitions.end)
    return Window.between(start, max(start, end))


def window_of(span: dg.TimeWindow) -> Window:
    """Return the window of a run's hours, one or a range."""
    return Window.between(span.start.astimezone(UTC), span.end.astimezone(UTC))


def hour_key(moment: datetime) -> str:
    """Return the partition key of the hour that holds the moment."""
    return floor_hour(moment).strftime(KEY_FORMAT)


def materialized(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    keys: Collection[str],
    partitions: dg.HourlyPartitionsDefinition,
) -> set[str]:
    """Return those partition keys that Dagster counts as done for an asset."""
    statuses = instance.get_status_by_partition(asset, list(keys), partitions) if keys else None
    return {k for k, s in (statuses or {}).items() if s is AssetPartitionStatus.MATERIALIZED}


class DueConfig(dg.Config):
    """Configuration of checks on hours that are due."""

    patience_minutes: int = Field(
        default=20, ge=0, description="Minutes that a run requested by the schedule may take."
    )


@dataclass(frozen=True)
class DueHours:
    """The hours of the assets, the cron schedule that requests them, the delay after an hour."""

    partitions: dg.HourlyPartitionsDefinition
    schedule: str
    delay: timedelta

    def window(self, now: datetime, config: DueConfig) -> Window:
        """Return the hours requested by the latest tick whose runs should be over now."""
        before = now - timedelta(minutes=config.patience_minutes)
        tick = get_latest_completed_cron_tick(self.schedule, before, "UTC").astimezone(UTC)
        return closed(self.partitions, tick, self.delay)
