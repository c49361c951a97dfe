"""Which hours the tables should show by now: those that a tick of the schedule has asked for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._utils.schedules import get_latest_completed_cron_tick

from dicom_assets.defs.partitions import closed
from dicom_assets.window import Window


@dataclass(frozen=True)
class Due:
    """The hours of the assets, when they are asked for, and how long after their end at least."""

    partitions: dg.HourlyPartitionsDefinition
    schedule: str
    delay: timedelta

    def window(self, now: datetime, patience: timedelta) -> Window:
        """Return the hours that were asked for so long ago that their run should be over."""
        tick = get_latest_completed_cron_tick(self.schedule, now - patience, "UTC").astimezone(UTC)
        return closed(self.partitions, tick, self.delay)
