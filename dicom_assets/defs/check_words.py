"""The words that checks, their jobs and alerts share: readers, times, and silent failures.

Checks write them into metadata of Dagster, and alerts read them there, also from results that an
older release has stored. So the values never change.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

# Metadata keys of a check: the role of its reader, and the job that runs it.
READER_KEY: Final = "dicom_assets/reader"
RUNS_KEY: Final = "dicom_assets/runs"
# Metadata keys of a failed result that alerts nobody while true: the tables are loaded for the
# first time, or the difference is repaired without a person.
FIRST_LOAD: Final = "first_load"
REPAIRS_ITSELF: Final = "repairs_itself"
SILENCING_KEYS: Final = (FIRST_LOAD, REPAIRS_ITSELF)
# Metadata key of a failed result: numbers by reason. Each reason is an alert of its own, which is
# sent again when its number grows, and not each day.
BY_REASON: Final = "by_reason"


class ReaderRole(StrEnum):
    """The role of those who read a check and receive its alerts."""

    SERVICE = "service"
    PLATFORM = "platform"
    DATA = "data"


READERS: Final[Mapping[str, str]] = {
    ReaderRole.SERVICE: "PACS administrator",
    ReaderRole.PLATFORM: "data engineer",
    ReaderRole.DATA: "researchers",
}


class Runs(StrEnum):
    """The job that runs a check (`schedules.check_jobs`)."""

    HOURLY = "hourly"
    AUDIT = "audit"
    DAILY = "daily"
