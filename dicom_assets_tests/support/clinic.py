"""The demo's archive, with what pydicom's files lack: days at a scanner, and what goes wrong.

Two patients under one ID, one of them under a second ID; a hand without a side; two studies made
one; a study that is corrected a day later.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
from deltalake import DeltaTable
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_assets.emulator import claim, sample
from dicom_assets.window import ticks_of
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.command import told

NAMES: Final = ("change", "sync", "instance", "series", "study")
ROOT_UID: Final = "1.2.826.0.1.3680043.10.78"
_DELAY: Final = timedelta(minutes=15)
_COLUMNS_FILE: Final = 'packs = ["dose"]\n'

_JANE: Final = {"PatientName": f"{MARK}Roe^Jane", "PatientID": "4711"}
_EDGAR: Final = {"PatientName": f"{MARK}Poe^Edgar", "PatientBirthDate": "19500101"}
_HEAD: Final = {"ProtocolName": "Head", "BodyPartExamined": "HEAD", "KVP": 120}
_SCANNER: Final = {"Modality": "CT", "StationName": "CT-7", "Manufacturer": "Acme", **_HEAD}
_HAND: Final = {"Modality": "CR", "BodyPartExamined": "HAND", "Manufacturer": "Acme"}


@dataclass(frozen=True)
class Clinic:
    """A folder in which the demo has run, with columns of the pack `dose` and a time zone."""

    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        """The environment of every command in the folder."""
        return {
            "DICOM_COLUMNS_FILE": str(self.folder / "columns.toml"),
            "DICOM_SITE_TIME_ZONE": "Europe/Vienna",
        }

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        return [*_dataset(self.folder, table).to_table().to_pylist()]

    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the tables under their names, as the page of questions opens them."""
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        for name in NAMES:
            connection.register(name, _dataset(self.folder, name))
        return connection


def _dataset(folder: Path, table: str) -> Any:  # noqa: ANN401 - a data set of pyarrow's
    return DeltaTable(folder / "data" / "dicom" / table).to_pyarrow_dataset()


def open_in(folder: Path) -> None:
    """The archive is filled, with the stories below, and the demo has run."""
    clinic = Clinic(folder)
    (folder / "columns.toml").write_text(_COLUMNS_FILE, encoding="utf-8")
    directory = folder / "data" / "archive"
    first = claim.first_hour(directory, now=datetime.now(UTC), delay=_DELAY)
    archive = sample.prepare_archive(directory, first_hour=first)
    for minutes, header in _stories(first):
        archive.store(header, at=ticks_of(first + timedelta(minutes=minutes)))
    corrected = {"00081030": {"vr": "LO", "Value": ["Head, corrected"]}}
    at = ticks_of(first + timedelta(hours=40))
    archive.update([f"{ROOT_UID}.1"], corrected, at=at)
    archive.close()
    told(folder, "demo", **clinic.settings)


def _stories(first: datetime) -> Iterator[tuple[int, dict[str, Any]]]:
    """Headers, each with the minute in which it is stored; those of a study a minute apart."""
    days_ago = f"{first - timedelta(days=10):%Y%m%d}"
    yield from _study(1, 60, ("080000", "081200"), **_SCANNER, **_JANE, SliceThickness=5)
    yield from _study(
        2, 90, ("083000", "084000.5"), **_SCANNER, **_EDGAR, PatientID="4711", SliceThickness=1.25
    )
    yield from _study(3, 120, ("090000",), **_HAND, **_EDGAR, PatientID="99", ImageLaterality="R")
    dose = {"CTDIvol": 12.5, "KVP": 55}
    yield from _study(4, 130, ("091000",), **_HAND, **_JANE, **dose, StudyDate=days_ago)
    many = {"Modality": "MR", "NumberOfFrames": 20, "Rows": 256, "Columns": 128}
    many |= {"SamplesPerPixel": 1, "BitsAllocated": 16}
    yield from _study(5, 150, ("100000",), **many, PatientID="5", StudyDescription="Knee")
    many |= {"StudyTime": "100000", "StudyDescription": "Head"}
    yield 155, _header(5, 2, "100500", **many, PatientID="6")
    known = {"PatientID": "88", "IssuerOfPatientID": "Two hospitals", "Modality": "XA"}
    yield from _study(6, 160, ("110000",), **known, PatientName="Ash^Ann")
    yield from _study(7, 165, ("120000",), **known, PatientName="Elm^Eve")


def _study(
    study: int, minute: int, times: tuple[str, ...], **attributes: object
) -> Iterator[tuple[int, dict[str, Any]]]:
    for place, time in enumerate(times, 1):
        yield minute + place, _header(study, place, time, StudyTime=times[0], **attributes)


def _header(study: int, sop: int, time: str, **attributes: object) -> dict[str, Any]:
    uids = (f"{ROOT_UID}.{study}", f"{ROOT_UID}.{study}.1", f"{ROOT_UID}.{study}.1.{sop}")
    named = {
        "StudyInstanceUID": uids[0],
        "SeriesInstanceUID": uids[1],
        "SOPInstanceUID": uids[2],
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
        "StudyDate": "20260105",
        "AcquisitionDate": "20260105",
        "AcquisitionTime": time,
    }
    return dict(_element(keyword, value) for keyword, value in (named | attributes).items())


def _element(keyword: str, value: object) -> tuple[str, dict[str, Any]]:
    tag = tag_for_keyword(keyword) or 0
    vr = dictionary_VR(tag)
    return f"{tag:08X}", {"vr": vr, "Value": [{"Alphabetic": value} if vr == "PN" else value]}
