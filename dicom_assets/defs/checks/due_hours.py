"""The hours that all tables should show by now, because a tick of the schedule requested them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._utils.schedules import get_latest_completed_cron_tick
from pydantic import Field

from dicom_assets.defs.partitions import closed
from dicom_assets.window import Window


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
