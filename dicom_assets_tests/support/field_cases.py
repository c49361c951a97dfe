"""Entries of the feed that people met in the field, as small as they get, each a study of its own.

UIDs begin with 1.2.826.0.1.77 and the number of the case. All personal details are invented.
"""

from typing import Final

from dicom_assets_tests.support.entries import Json, header
from dicom_assets_tests.support.feed_service import HOUR, made

Uids = tuple[str, str, str]
BASE: Final = "1.2.826.0.1.77"
# After the three UIDs, in the entry and in the header.
Pads = tuple[str, str, str]
NONE: Final[Pads] = ("", "", "")
# Whether this is a valid UID or not, people have them (PS3.5 9.1 forbids leading zeros).
LEADING_ZEROS: Final[Uids] = (
    f"{BASE}.014.000{'7' * 42}",
    f"{BASE}.014.000{'8' * 42}",
    f"{BASE}.014.000{'9' * 42}",
)


def uids_of(number: int) -> Uids:
    """Return the UIDs of study, series and instance of a case."""
    return f"{BASE}.{number}", f"{BASE}.{number}.1", f"{BASE}.{number}.1.1"


def field_entry(
    number: int,
    *,
    uids: Uids | None = None,
    entry_pads: Pads = NONE,
    header_pads: Pads = NONE,
    **fields: object,
) -> Json:
    """Return the entry of a case, whose sequence and tick of the hour are its number.

    A field given as None is left out.
    """
    uids = uids or uids_of(number)
    shown, stored = (
        [uid + pad for uid, pad in zip(uids, pads, strict=True)]
        for pads in (entry_pads, header_pads)
    )
    names = ("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")
    told = dict(zip(names, shown, strict=True)) | {"metadata": header(*stored)}
    whole = made(number, HOUR + number) | told | fields
    return {name: value for name, value in whole.items() if value is not None}
