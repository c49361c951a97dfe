"""Every column of every real file is what pydicom says of the file."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, DT, TM, PersonName

from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.header.extraction import extraction
from dicom_assets.schema import INSTANCE, added
from dicom_assets_tests.header.files import DATA, files

ZONES: Final = (None, "Europe/Vienna", "Asia/Kathmandu")
YEAR_DAYS: Final = 365.2425
PER_YEAR: Final = {"D": YEAR_DAYS, "W": YEAR_DAYS / 7, "M": 12, "Y": 1}

Expected = Callable[[Dataset, tzinfo | None], object]


# --- what pydicom says ----------------------------------------------------------------------------


def values(dataset: Dataset, keyword: str) -> list[Any]:
    """The values of an attribute, one by one. None when it is absent or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]


def text(keyword: str) -> Expected:
    """The values as text, joined. Padding is what a file fills up with."""

    def expected(dataset: Dataset, _: tzinfo | None) -> object:
        shown = [str(value).rstrip(" \0") for value in values(dataset, keyword)]
        return "\\".join(shown) if any(shown) else None

    return expected


def digits(keyword: str) -> Expected:
    """Numbers as text, as JSON has them: without a sign and zeros that say nothing."""

    def expected(dataset: Dataset, _: tzinfo | None) -> object:
        return "\\".join(str(int(value)) for value in values(dataset, keyword)) or None

    return expected


def name(keyword: str) -> Expected:
    """The alphabetic groups of names, joined."""

    def expected(dataset: Dataset, _: tzinfo | None) -> object:
        shown = [PersonName(value).alphabetic.rstrip(" \0^") for value in values(dataset, keyword)]
        return "\\".join(shown) if any(shown) else None

    return expected


def number(keyword: str, made: Callable[[Any], object], index: int = 0) -> Expected:
    """One of the values as a number."""

    def expected(dataset: Dataset, _: tzinfo | None) -> object:
        found = values(dataset, keyword)[index : index + 1]
        return made(found[0]) if found and found[0] not in ("", None) else None

    return expected


def coded(keyword: str) -> Expected:
    """The code of the first item of a sequence."""

    def expected(dataset: Dataset, _: tzinfo | None) -> object:
        if not dataset.get(keyword):
            return None
        item = dataset[keyword].value[0]
        long = item.get("LongCodeValue") or item.get("URNCodeValue")
        value, scheme = item.get("CodeValue") or long, item.get("CodingSchemeDesignator")
        return f"{scheme}:{value}" if value and scheme else value or None

    return expected


def meaning(keyword: str) -> Expected:
    """The meaning of the code of the first item of a sequence."""

    def expected(dataset: Dataset, _: tzinfo | None) -> object:
        items = dataset.get(keyword)
        return items[0].get("CodeMeaning") or None if items else None

    return expected


def day_of(dataset: Dataset, keyword: str) -> date | None:
    """A date, if there is one, and Spark can read it."""
    told = dataset.get(keyword)
    try:
        found = DA(told) if told else None
    except ValueError:
        return None
    return found if found and found >= date(1582, 10, 15) else None


def day(keyword: str) -> Expected:
    """A date."""
    return lambda dataset, _: day_of(dataset, keyword)


def zone_of(dataset: Dataset, zone: tzinfo | None) -> tzinfo | None:
    """Where the times of a file were taken."""
    offset = dataset.get("TimezoneOffsetFromUTC")
    if not offset:
        return zone
    hours, minutes = int(offset[1:3]), int(offset[3:5])
    return timezone(int(f"{offset[0]}1") * timedelta(hours=hours, minutes=minutes))


def moment(date_keyword: str, time_keyword: str) -> Expected:
    """A date and a time of day, in UTC."""

    def expected(dataset: Dataset, zone: tzinfo | None) -> object:
        on, at = day_of(dataset, date_keyword), dataset.get(time_keyword)
        where = zone_of(dataset, zone)
        if on is None or not at or where is None:
            return None
        return datetime.combine(on, TM(at), where).astimezone(UTC)

    return expected


def acquired(dataset: Dataset, zone: tzinfo | None) -> object:
    """AcquisitionDateTime, else the date and the time."""
    told = dataset.get("AcquisitionDateTime")
    if told and len(told) >= len("YYYYMMDDHH"):
        made, where = DT(told), zone_of(dataset, zone)
        made_there = made if made.tzinfo or not where else made.replace(tzinfo=where)
        if made_there.tzinfo:
            return made_there.astimezone(UTC)
    return moment("AcquisitionDate", "AcquisitionTime")(dataset, zone)


def years(dataset: Dataset, _: tzinfo | None) -> object:
    """PatientAge, else from birth to the study."""
    age = dataset.get("PatientAge")
    if age:
        return int(age[:3]) / PER_YEAR[age[3]]
    born, on = day_of(dataset, "PatientBirthDate"), day_of(dataset, "StudyDate")
    return (on - born).days / YEAR_DAYS if born and on and born <= on else None


EXPECTED: Final[dict[str, Expected]] = {
    "studyinstanceuid": text("StudyInstanceUID"),
    "seriesinstanceuid": text("SeriesInstanceUID"),
    "sopinstanceuid": text("SOPInstanceUID"),
    "studydate": text("StudyDate"),
    "studydate_formatted": day("StudyDate"),
    "studydescription": text("StudyDescription"),
    "issuerofpatientid": text("IssuerOfPatientID"),
    "patientid": text("PatientID"),
    "patientname": name("PatientName"),
    "modality": text("Modality"),
    "sopclassuid": text("SOPClassUID"),
    "patientbirthdate": text("PatientBirthDate"),
    "accessionnumber": text("AccessionNumber"),
    "referringphysicianname": name("ReferringPhysicianName"),
    "modalitiesinstudy": text("ModalitiesInStudy"),
    "performedprocedurestepstartdate": text("PerformedProcedureStepStartDate"),
    "manufacturermodelname": text("ManufacturerModelName"),
    "studytime": text("StudyTime"),
    "timezoneoffsetfromutc": text("TimezoneOffsetFromUTC"),
    "numberofstudyrelatedseries": digits("NumberOfStudyRelatedSeries"),
    "numberofstudyrelatedinstances": digits("NumberOfStudyRelatedInstances"),
    "seriesnumber": digits("SeriesNumber"),
    "seriesdescription": text("SeriesDescription"),
    "numberofseriesrelatedinstances": digits("NumberOfSeriesRelatedInstances"),
    "bodypartexamined": text("BodyPartExamined"),
    "laterality": text("Laterality"),
    "seriesdate": text("SeriesDate"),
    "seriestime": text("SeriesTime"),
    "instancenumber": digits("InstanceNumber"),
    "documenttitle": text("DocumentTitle"),
    "study_timestamp": moment("StudyDate", "StudyTime"),
    "series_timestamp": moment("SeriesDate", "SeriesTime"),
    "acquisition_timestamp": acquired,
    "content_timestamp": moment("ContentDate", "ContentTime"),
    "patientsex": text("PatientSex"),
    "patientage": text("PatientAge"),
    "patientage_years": years,
    "patientbirthdate_formatted": day("PatientBirthDate"),
    "studyid": text("StudyID"),
    "manufacturer": text("Manufacturer"),
    "institutionname": text("InstitutionName"),
    "institutionaldepartmentname": text("InstitutionalDepartmentName"),
    "stationname": text("StationName"),
    "deviceserialnumber": text("DeviceSerialNumber"),
    "softwareversions": text("SoftwareVersions"),
    "operatorsname": name("OperatorsName"),
    "performingphysicianname": name("PerformingPhysicianName"),
    "protocolname": text("ProtocolName"),
    "requestedproceduredescription": text("RequestedProcedureDescription"),
    "performedprocedurestepdescription": text("PerformedProcedureStepDescription"),
    "performedprocedurestepstarttime": text("PerformedProcedureStepStartTime"),
    "procedure_code": coded("ProcedureCodeSequence"),
    "procedure_code_meaning": meaning("ProcedureCodeSequence"),
    "anatomic_region_code": coded("AnatomicRegionSequence"),
    "anatomic_region_code_meaning": meaning("AnatomicRegionSequence"),
    "patientposition": text("PatientPosition"),
    "viewposition": text("ViewPosition"),
    "imagelaterality": text("ImageLaterality"),
    "frameofreferenceuid": text("FrameOfReferenceUID"),
    "acquisitionnumber": number("AcquisitionNumber", int),
    "imagetype": text("ImageType"),
    "numberofframes": number("NumberOfFrames", int),
    "rows": number("Rows", int),
    "columns": number("Columns", int),
    "bitsallocated": number("BitsAllocated", int),
    "bitsstored": number("BitsStored", int),
    "samplesperpixel": number("SamplesPerPixel", int),
    "photometricinterpretation": text("PhotometricInterpretation"),
    "pixelspacing_row": number("PixelSpacing", float, 0),
    "pixelspacing_column": number("PixelSpacing", float, 1),
    "slicethickness": number("SliceThickness", float),
    "lossyimagecompression": text("LossyImageCompression"),
    "burnedinannotation": text("BurnedInAnnotation"),
    "patientidentityremoved": text("PatientIdentityRemoved"),
    "presentationintenttype": text("PresentationIntentType"),
    "contrastbolusagent": text("ContrastBolusAgent"),
    "specificcharacterset": text("SpecificCharacterSet"),
}


# --- what the columns hold ------------------------------------------------------------------------


@cache
def rows(zone: str | None) -> list[dict[str, object]]:
    """The values of the columns of every file. Unparsable ones are null."""
    return [row_of(file.header, zone) for file in files()]


def row_of(header: bytes, zone: str | None = None) -> dict[str, object]:
    """What the columns hold of a header, as Arrow gives it back."""
    made = extraction(INSTANCE, zone)
    decoded = made.decode(header)
    assert decoded is not None
    found, _ = made.columns([decoded])
    schema = INSTANCE.arrow(list(found))
    [row] = pa.Table.from_pydict(found, schema).to_pylist()
    return dict(row)


def test_every_column_that_a_header_gives_is_looked_at() -> None:
    """In the order of the catalogue."""
    assert list(EXPECTED) == [c.name for c in INSTANCE.columns if c.paths]


def test_there_are_files_enough() -> None:
    """Some 190 of pydicom, the five of the service's project, and one made for the rest."""
    assert len(files()) > 180
    assert len({file.name for file in files()} & {p.name for p in DATA.glob("*.dcm")}) == 6


@pytest.mark.parametrize("column", EXPECTED)
def test_a_column_has_a_value_in_some_file(column: str) -> None:
    """Else nothing would say that it is read at all."""
    assert any(row[column] is not None for row in rows("Europe/Vienna"))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("column", EXPECTED)
def test_a_column_is_what_pydicom_says_of_every_file(column: str, zone: str | None) -> None:
    """Value for value, whatever zone the site names."""
    where = zone and ZoneInfo(zone)
    expected = [EXPECTED[column](file.dataset, where or None) for file in files()]
    found = [row[column] for row in rows(zone)]
    differ = [
        (file.name, got, wanted)
        for file, got, wanted in zip(files(), found, expected, strict=True)
        if got != wanted
    ]
    assert differ == []


# --- what was captured ----------------------------------------------------------------------------


def captured() -> list[Entry]:
    """The entries of the page that was captured from a hosted service."""
    body = (DATA / "captured_page.json").read_bytes()
    return [row for _, row in decode_page(body) if isinstance(row, Entry)]


def test_the_captured_page_has_the_columns_of_its_files() -> None:
    """The service made the headers of three of the files that are here."""
    table, rejections, unparsable = RowReader().read(captured())
    assert (rejections, unparsable) == ([], {})
    assert table["sequence"].to_pylist() == [1263, 1264, 1265]
    for row in table.to_pylist():
        [file] = [f for f in files() if f.dataset.get("SOPInstanceUID") == row["sopinstanceuid"]]
        expected = {name: of_file(file.dataset, None) for name, of_file in EXPECTED.items()}
        assert {name: row[name] for name in EXPECTED} == expected


def test_a_column_of_a_user_is_read_of_the_captured_page(tmp_path: Path) -> None:
    """`Fake DICOM - Blue Circle`, and so on."""
    file = tmp_path / "columns.toml"
    file.write_text('[[columns]]\npath = "ImageComments"\n', encoding="utf-8")
    table, _, _ = RowReader(added.tables(str(file))["instance"]).read(captured())
    assert table["imagecomments"].to_pylist() == [
        f"Fake DICOM - {shape}" for shape in ("Blue Circle", "Green Square", "Red Triangle")
    ]
