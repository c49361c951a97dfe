"""A code location like ours that waits for nobody: hours that failed come again at once.

And a run of it kills itself where the file `kill` says, as in `support.locations.killed`.
"""

from datetime import timedelta

from dicom_assets.defs.schedules import missing_hours as hours
from dicom_assets.defs.schedules import slices as due
from dicom_assets_tests.support.locations.killed import defs

__all__ = ["defs"]

due.FIRST_REST = timedelta()
hours.SENSOR_SECONDS = 5
