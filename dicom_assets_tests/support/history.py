"""Six hours of a small archive, told by rule, and what is alive at their end.

Every way in which an instance comes and goes is among them: updates, deletes at two levels, a
second birth, expiry without a Delete entry, an hour without entries, two data partitions.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dicom_assets.emulator.archive import Archive
from dicom_assets.window import HOUR, ticks_of
from dicom_assets_tests.support.canary import MARK

START: Final = datetime(2024, 3, 1, tzinfo=UTC)
HOURS: Final = 6
END: Final = START + HOURS * HOUR
KEYS: Final = tuple(f"{START + hour * HOUR:%Y-%m-%d-%H:%M}" for hour in range(HOURS))
FIRST, LAST = KEYS[0], KEYS[-1]
OTHER_PARTITION: Final = "clinic-b"
QUIET_HOUR: Final = 2
ROOT_UID: Final = "1.2.826.0.1.3680043.10.77"
NAME: Final = f"{MARK}A^One"


def study_uid(study: int) -> str:
    """The UID of a study of the history."""
    return f"{ROOT_UID}.{study}"


def series_uid(study: int, series: int) -> str:
    """The UID of a series of the history."""
    return f"{study_uid(study)}.{series}"


def sop_uid(study: int, series: int, sop: int) -> str:
    """The UID of an instance of the history."""
    return f"{series_uid(study, series)}.{sop}"


def header(study: int, series: int = 1, sop: int = 1, name: str = NAME) -> dict[str, Any]:
    """The header of an instance; every text attribute but the UIDs holds `name`."""
    texts = {"00081030": "LO", "00100020": "LO", "00080090": "PN", "0008103E": "LO"}
    texts |= {"00100010": "PN", "00080050": "SH", "00081090": "LO", "00420010": "ST"}
    return {
        "00080018": {"vr": "UI", "Value": [sop_uid(study, series, sop)]},
        "0020000D": {"vr": "UI", "Value": [study_uid(study)]},
        "0020000E": {"vr": "UI", "Value": [series_uid(study, series)]},
        "00080020": {"vr": "DA", "Value": ["20240229"]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00200013": {"vr": "IS", "Value": [sop]},
        **{tag: {"vr": vr, "Value": [_text(vr, name)]} for tag, vr in texts.items()},
    }


def _text(vr: str, name: str) -> object:
    return {"Alphabetic": name} if vr == "PN" else name


def renamed(name: str) -> Mapping[str, Any]:
    """The change of a bulk update that gives the patient a name."""
    return {"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}


def at(hour: int, minute: int = 0, second: int = 0) -> int:
    """A moment of the history in ticks, with a seventh digit of its own."""
    return ticks_of(START + timedelta(hours=hour, minutes=minute, seconds=second)) + 7


def tell(archive: Archive, name: str = NAME) -> Archive:
    """The archive has lived through the six hours."""
    for place, (series, sop) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
        archive.store(header(1, series, sop, name), at=at(0, 5, place))
    archive.store(header(2, name=name), at=at(0, 59, 59))
    archive.store(header(3, name=name), partition=OTHER_PARTITION, at=at(1))
    archive.update([study_uid(1)], renamed(f"{name}^Second"), at=at(1, 30))
    archive.delete(study_uid(1), series_uid(1, 2), sop_uid(1, 2, 2), at=at(3, 10))
    archive.delete(study_uid(2), at=at(3, 20))
    archive.store(header(2, name=f"{name}^Reborn"), at=at(4, 1))
    archive.store(header(4, name=name), at=at(4, 2))
    archive.expire(study_uid(4))
    archive.update(
        [study_uid(3)], renamed(f"{name}^Third"), partition=OTHER_PARTITION, at=at(5, 15)
    )
    archive.delete(study_uid(1), series_uid(1, 1), sop_uid(1, 1, 1), at=at(5, 59))
    return archive


ENTRIES: Final = (
    Counter(Create=5),
    Counter(Create=1, Update=4),
    Counter[str](),
    Counter(Delete=2),
    Counter(Create=2),
    Counter(Update=1, Delete=1),
)
"""The entries of each hour, by action."""


def alive(archive: Archive) -> set[tuple[str, str, str, str, int, str]]:
    """Key, sequence and patient's name of each live instance, read from the file by plain SQL."""
    query = "SELECT data_partition, study, series, sop, current, header FROM instance"
    with sqlite3.connect(archive.path) as database:
        rows = database.execute(f"{query} WHERE header IS NOT NULL").fetchall()
    return {(*row[:5], _name_in(row[5])) for row in rows}


def _name_in(text: str) -> str:
    name: str = json.loads(text)["00100010"]["Value"][0]["Alphabetic"]
    return name
