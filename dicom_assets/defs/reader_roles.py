"""The words that checks and alerts share: readers of a check, and failures that alert nobody.

Checks write them into metadata of Dagster, and alerts read them there, also from results that an
older release has stored. So the values never change.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

# Metadata key of a check: the role of its reader.
READER_KEY: Final = "dicom_assets/reader"
# Metadata keys of a failed result that alerts nobody while true: the tables are loaded for the
# first time, or the difference is repaired without a person.
FIRST_LOAD: Final = "first_load"
REPAIRS_ITSELF: Final = "repairs_itself"
SILENCING_KEYS: Final = (FIRST_LOAD, REPAIRS_ITSELF)


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
