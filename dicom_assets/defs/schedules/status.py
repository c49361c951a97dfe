"""The default status of schedules and sensors: are they on when they are loaded first?"""

import dagster as dg


def schedule_status(*, running: bool) -> dg.DefaultScheduleStatus:
    """Return the status of a schedule that is loaded for the first time."""
    return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED


def sensor_status(*, running: bool) -> dg.DefaultSensorStatus:
    """Return the status of a sensor that is loaded for the first time."""
    return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
