"""A code location like ours that waits for nobody: hours that failed come again at once.

And a run of it kills itself where the file `kill` says, as in `end_to_end.dagster.killed`.
"""

from datetime import timedelta

from dicom_assets.automation import due, hours
from dicom_assets_tests.end_to_end.dagster.killed import defs

__all__ = ["defs"]

due.PAUSE = timedelta()
hours.SENSOR_SECONDS = 5
