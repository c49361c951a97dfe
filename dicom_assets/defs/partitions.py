"""Hours as Dagster partitions: UTC, from the floor of the start to the ceiling of the end."""

from datetime import UTC, datetime, timedelta

import dagster as dg

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
