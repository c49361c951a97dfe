"""Whether schedules and sensors run as soon as the definitions are loaded."""

import dagster as dg


def schedule_status(*, running: bool) -> dg.DefaultScheduleStatus:
    """Return what a schedule does when the definitions are loaded for the first time."""
    return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
