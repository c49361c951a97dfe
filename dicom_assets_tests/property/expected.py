"""The oracle's columns: what `instance`, `series` and `study` show of headers, and of instances.

Written from the specification, column by column: the name, Delta's type, how the value is made,
and of what. Nothing of the project is imported. How a value is parsed is in `values`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dicom_assets_tests.property import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

STRING, LONG, INTEGER, DOUBLE = "string", "long", "integer", "double"
DATE, TIMESTAMP = "date", "timestamp"

Header = dict[str, Any]
Row = dict[str, Any]

KEY = ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid")
DEFAULT_PARTITION = "Microsoft.Default"
OFFSET = "00080201"


class Column(NamedTuple):
    """A column: `of` holds tags in `instance`, columns of `instance` in the others.

    One of `instance` that is not made `how` the header says comes from the feed.
    """

    name: str
    type: Any
    how: str = ""
    of: tuple[str, ...] = ()


_HEADER_MAP = {
    "type": "map",
    "keyType": "string",
    "valueType": {
        "type": "struct",
        "fields": [
            {"name": "vr", "type": "string", "nullable": True, "metadata": {}},
            {
                "name": "Value",
                "type": {"type": "array", "elementType": "string", "containsNull": True},
                "nullable": True,
                "metadata": {},
            },
        ],
    },
    "valueContainsNull": True,
}

INSTANCE = (
    Column("partitionName", STRING),
    Column("studyinstanceuid", STRING),
    Column("seriesinstanceuid", STRING),
    Column("sopinstanceuid", STRING),
    Column("lastModifiedTimestamp", TIMESTAMP),
    Column("studydate", STRING, "text", ("00080020",)),
    Column("studydate_formatted", DATE, "day", ("00080020",)),
    Column("studydescription", STRING, "text", ("00081030",)),
    Column("issuerofpatientid", STRING, "text", ("00100021",)),
    Column("patientid", STRING, "text", ("00100020",)),
    Column("patientname", STRING, "name", ("00100010",)),
    Column("modality", STRING, "text", ("00080060",)),
    Column("sopclassuid", STRING, "text", ("00080016",)),
    Column("filepath", STRING),
    Column("metadata", _HEADER_MAP),
    Column("metadata_string", STRING),
    Column("created_date", TIMESTAMP),
    Column("patientbirthdate", STRING, "text", ("00100030",)),
    Column("accessionnumber", STRING, "text", ("00080050",)),
    Column("referringphysicianname", STRING, "name", ("00080090",)),
    Column("modalitiesinstudy", STRING, "text", ("00080061",)),
    Column("performedprocedurestepstartdate", STRING, "text", ("00400244",)),
    Column("manufacturermodelname", STRING, "text", ("00081090",)),
    Column("studytime", STRING, "text", ("00080030",)),
    Column("timezoneoffsetfromutc", STRING, "text", (OFFSET,)),
    Column("numberofstudyrelatedseries", STRING, "number", ("00201206",)),
    Column("numberofstudyrelatedinstances", STRING, "number", ("00201208",)),
    Column("seriesnumber", STRING, "number", ("00200011",)),
    Column("seriesdescription", STRING, "text", ("0008103E",)),
    Column("numberofseriesrelatedinstances", STRING, "number", ("00201209",)),
    Column("bodypartexamined", STRING, "text", ("00180015",)),
    Column("laterality", STRING, "text", ("00200060",)),
    Column("seriesdate", STRING, "text", ("00080021",)),
    Column("seriestime", STRING, "text", ("00080031",)),
    Column("instancenumber", STRING, "number", ("00200013",)),
    Column("documenttitle", STRING, "text", ("00420010",)),
    Column("sequence", LONG),
    Column("received_timestamp", TIMESTAMP),
    Column("study_timestamp", TIMESTAMP, "moment", ("00080020", "00080030", OFFSET)),
    Column("series_timestamp", TIMESTAMP, "moment", ("00080021", "00080031", OFFSET)),
    Column(
        "acquisition_timestamp",
        TIMESTAMP,
        "instant",
        ("0008002A", "00080022", "00080032", OFFSET),
    ),
    Column("content_timestamp", TIMESTAMP, "moment", ("00080023", "00080033", OFFSET)),
    Column("patientsex", STRING, "text", ("00100040",)),
    Column("patientage", STRING, "text", ("00101010",)),
    Column("patientage_years", DOUBLE, "years", ("00101010", "00100030", "00080020")),
    Column("patientbirthdate_formatted", DATE, "day", ("00100030",)),
    Column("studyid", STRING, "text", ("00200010",)),
    Column("manufacturer", STRING, "text", ("00080070",)),
    Column("institutionname", STRING, "text", ("00080080",)),
    Column("institutionaldepartmentname", STRING, "text", ("00081040",)),
    Column("stationname", STRING, "text", ("00081010",)),
    Column("deviceserialnumber", STRING, "text", ("00181000",)),
    Column("softwareversions", STRING, "text", ("00181020",)),
    Column("operatorsname", STRING, "name", ("00081070",)),
    Column("performingphysicianname", STRING, "name", ("00081050",)),
    Column("protocolname", STRING, "text", ("00181030",)),
    Column("requestedproceduredescription", STRING, "text", ("00321060",)),
    Column("performedprocedurestepdescription", STRING, "text", ("00400254",)),
    Column("performedprocedurestepstarttime", STRING, "text", ("00400245",)),
    Column("procedure_code", STRING, "code", ("00081032",)),
    Column("procedure_code_meaning", STRING, "meaning", ("00081032",)),
    Column("anatomic_region_code", STRING, "code", ("00082218",)),
    Column("anatomic_region_code_meaning", STRING, "meaning", ("00082218",)),
    Column("patientposition", STRING, "text", ("00185100",)),
    Column("viewposition", STRING, "text", ("00185101",)),
    Column("imagelaterality", STRING, "text", ("00200062",)),
    Column("frameofreferenceuid", STRING, "text", ("00200052",)),
    Column("acquisitionnumber", INTEGER, "whole", ("00200012",)),
    Column("imagetype", STRING, "text", ("00080008",)),
    Column("numberofframes", INTEGER, "whole", ("00280008",)),
    Column("rows", INTEGER, "whole", ("00280010",)),
    Column("columns", INTEGER, "whole", ("00280011",)),
    Column("bitsallocated", INTEGER, "whole", ("00280100",)),
    Column("bitsstored", INTEGER, "whole", ("00280101",)),
    Column("samplesperpixel", INTEGER, "whole", ("00280002",)),
    Column("photometricinterpretation", STRING, "text", ("00280004",)),
    Column("pixelspacing_row", DOUBLE, "first", ("00280030",)),
    Column("pixelspacing_column", DOUBLE, "second", ("00280030",)),
    Column("slicethickness", DOUBLE, "real", ("00180050",)),
    Column("lossyimagecompression", STRING, "text", ("00282110",)),
    Column("burnedinannotation", STRING, "text", ("00280301",)),
    Column("patientidentityremoved", STRING, "text", ("00120062",)),
    Column("presentationintenttype", STRING, "text", ("00080068",)),
    Column("contrastbolusagent", STRING, "text", ("00180010",)),
    Column("specificcharacterset", STRING, "text", ("00080005",)),
)

_READ: dict[str, Callable[..., Any]] = {
    "text": values.text_of,
    "name": values.name_of,
    "number": values.number_text_of,
    "whole": values.whole_of,
    "real": values.real_of,
    "first": values.row_of,
    "second": values.column_of,
    "day": values.date_of,
    "moment": values.moment_of,
    "instant": values.instant_of,
    "years": values.years_of,
    "code": values.code_of,
    "meaning": values.meaning_of,
}


def shown(header: Header, columns: Iterable[Column] = INSTANCE) -> Row:
    """What the columns of `instance` show of a header."""
    return {
        column.name: _READ[column.how](*(values.values_in(header, tag) for tag in column.of))
        for column in columns
        if column.how
    }


# --- series and study -----------------------------------------------------------------------------

_OF_STUDY = (
    Column("lastModifiedTimestamp", TIMESTAMP, "latest", ("lastModifiedTimestamp",)),
    Column("studyDate", DATE, "latest", ("studydate_formatted",)),
    Column("studyDescription", STRING, "latest", ("studydescription",)),
    Column("issuerOfPatientId", STRING, "latest", ("issuerofpatientid",)),
    Column("patientId", STRING, "latest", ("patientid",)),
    Column("patientName", STRING, "latest", ("patientname",)),
)
_ACQUIRED = ("acquisition_timestamp", "content_timestamp")
_TIMES = (
    Column("frameCount", LONG, "frames", ("numberofframes",)),
    Column("firstAcquisitionTimestamp", TIMESTAMP, "min", _ACQUIRED),
    Column("lastAcquisitionTimestamp", TIMESTAMP, "max", _ACQUIRED),
)
_FIRST_RECEIVED = Column("firstReceivedTimestamp", TIMESTAMP, "min", ("received_timestamp",))

SERIES = (
    Column("partitionName", STRING, "latest", ("partitionName",)),
    Column("studyInstanceUid", STRING, "latest", ("studyinstanceuid",)),
    Column("seriesInstanceUid", STRING, "latest", ("seriesinstanceuid",)),
    *_OF_STUDY,
    Column("modality", STRING, "latest", ("modality",)),
    Column("instanceCount", LONG, "count", ("sopinstanceuid",)),
    Column("sequence", LONG, "max", ("sequence",)),
    Column("seriesNumber", INTEGER, "latest number", ("seriesnumber",)),
    Column("seriesDescription", STRING, "latest", ("seriesdescription",)),
    Column("protocolName", STRING, "latest", ("protocolname",)),
    Column("bodyPartExamined", STRING, "latest", ("bodypartexamined",)),
    Column("laterality", STRING, "latest", ("laterality",)),
    Column("patientPosition", STRING, "latest", ("patientposition",)),
    Column("frameOfReferenceUid", STRING, "latest", ("frameofreferenceuid",)),
    Column("seriesTimestamp", TIMESTAMP, "latest", ("series_timestamp",)),
    Column("manufacturer", STRING, "latest", ("manufacturer",)),
    Column("manufacturerModelName", STRING, "latest", ("manufacturermodelname",)),
    Column("stationName", STRING, "latest", ("stationname",)),
    Column("deviceSerialNumber", STRING, "latest", ("deviceserialnumber",)),
    Column("softwareVersions", STRING, "latest", ("softwareversions",)),
    Column("institutionName", STRING, "latest", ("institutionname",)),
    Column("institutionalDepartmentName", STRING, "latest", ("institutionaldepartmentname",)),
    Column("operatorsName", STRING, "latest", ("operatorsname",)),
    Column(
        "performedProcedureStepDescription",
        STRING,
        "latest",
        ("performedprocedurestepdescription",),
    ),
    Column(
        "performedProcedureStepStartDate", STRING, "latest", ("performedprocedurestepstartdate",)
    ),
    Column("sopClassUids", STRING, "distinct", ("sopclassuid",)),
    Column("sopClassNames", STRING, "names", ("sopclassuid",)),
    *_TIMES,
    _FIRST_RECEIVED,
    Column("rows", INTEGER, "same", ("rows",)),
    Column("columns", INTEGER, "same", ("columns",)),
    Column("sliceThickness", DOUBLE, "same", ("slicethickness",)),
    Column("accessionNumber", STRING, "latest", ("accessionnumber",)),
    Column("patientSex", STRING, "latest", ("patientsex",)),
    Column("patientBirthDate", DATE, "latest", ("patientbirthdate_formatted",)),
    Column("patientAge", STRING, "latest", ("patientage",)),
    Column(
        "conflictCount",
        INTEGER,
        "conflicts",
        (
            "modality",
            "seriesnumber",
            "seriesdescription",
            "protocolname",
            "bodypartexamined",
            "laterality",
            "patientposition",
            "frameofreferenceuid",
            "manufacturer",
            "manufacturermodelname",
            "stationname",
            "deviceserialnumber",
            "softwareversions",
            "institutionname",
            "institutionaldepartmentname",
            "operatorsname",
            "performedprocedurestepdescription",
            "performedprocedurestepstartdate",
        ),
    ),
)

STUDY = (
    Column("partitionName", STRING, "latest", ("partitionName",)),
    Column("studyInstanceUid", STRING, "latest", ("studyinstanceuid",)),
    *_OF_STUDY,
    Column("seriesCount", LONG, "count distinct", ("seriesinstanceuid",)),
    Column("instanceCount", LONG, "count", ("sopinstanceuid",)),
    Column("sequence", LONG, "max", ("sequence",)),
    Column("accessionNumber", STRING, "latest", ("accessionnumber",)),
    Column("studyId", STRING, "latest", ("studyid",)),
    Column("referringPhysicianName", STRING, "latest", ("referringphysicianname",)),
    Column("requestedProcedureDescription", STRING, "latest", ("requestedproceduredescription",)),
    Column("procedureCode", STRING, "latest", ("procedure_code",)),
    Column("procedureCodeMeaning", STRING, "latest", ("procedure_code_meaning",)),
    Column("studyTime", STRING, "latest", ("studytime",)),
    Column("studyTimestamp", TIMESTAMP, "latest", ("study_timestamp",)),
    Column("patientBirthDate", DATE, "latest", ("patientbirthdate_formatted",)),
    Column("patientSex", STRING, "latest", ("patientsex",)),
    Column("patientAge", STRING, "latest", ("patientage",)),
    Column("patientAgeYears", DOUBLE, "latest", ("patientage_years",)),
    Column("modalitiesInStudy", STRING, "distinct", ("modality",)),
    Column("sopClassesInStudy", STRING, "distinct", ("sopclassuid",)),
    Column("bodyPartsExamined", STRING, "distinct", ("bodypartexamined",)),
    Column("manufacturers", STRING, "distinct", ("manufacturer",)),
    Column("stationNames", STRING, "distinct", ("stationname",)),
    Column("institutionNames", STRING, "distinct", ("institutionname",)),
    *_TIMES,
    Column("acquisitionDurationSeconds", DOUBLE, "span", _ACQUIRED),
    _FIRST_RECEIVED,
    Column("wadoRsUri", STRING, "address"),
    Column("patientIdCount", INTEGER, "count distinct", ("patientid",)),
    Column(
        "conflictCount",
        INTEGER,
        "conflicts",
        (
            "studydate_formatted",
            "studydescription",
            "issuerofpatientid",
            "patientid",
            "patientname",
            "accessionnumber",
            "studyid",
            "referringphysicianname",
            "requestedproceduredescription",
            "procedure_code",
            "procedure_code_meaning",
            "studytime",
            "patientbirthdate_formatted",
            "patientsex",
            "patientage",
        ),
    ),
)

COLUMNS = {
    name: [(column.name, column.type) for column in columns]
    for name, columns in (("instance", INSTANCE), ("series", SERIES), ("study", STUDY))
}

# PS3.6 Table A-1, the SOP classes that the histories use; the others are taken for unknown.
SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.6.1": "Ultrasound Image Storage",
}


def _distinct(texts: Iterable[str]) -> str | None:
    r"""All different parts between backslashes, ascending by code point, joined by `\`."""
    parts = {part for text in texts for part in text.split("\\")} - {""}
    return "\\".join(sorted(parts)) or None


def _names(uids: Iterable[str]) -> str | None:
    parts = (part for uid in uids for part in uid.split("\\"))
    return _distinct(SOP_CLASSES.get(part, part) for part in parts)


def _span(moments: Sequence[Any]) -> float | None:
    return (max(moments) - min(moments)).total_seconds() if moments else None


def _latest_number(texts: Iterable[str]) -> int | None:
    numbers = (values.whole_of([text]) for text in texts)
    return next((number for number in numbers if number is not None), None)


# What is made of the values of live instances, the newest first, without null.
_AGGREGATES: dict[str, Callable[[Sequence[Any]], object]] = {
    "latest": lambda found: found[0] if found else None,
    "latest number": _latest_number,
    "same": lambda found: found[0] if len(set(found)) == 1 else None,
    "max": lambda found: max(found, default=None),
    "min": lambda found: min(found, default=None),
    "distinct": _distinct,
    "names": _names,
    "count": len,
    "count distinct": lambda found: len(set(found)),
    "span": _span,
}


def _found(rows: list[Row], of: Iterable[str]) -> list[Any]:
    """The values of instances: of each that of its first column that has one."""
    several = ([row[name] for name in of if row[name] is not None] for row in rows)
    return [found[0] for found in several if found]


def _rolled(column: Column, newest_first: list[Row], service_url: str | None) -> object:
    if column.how == "address":
        return _address(newest_first[0], service_url)
    if column.how == "frames":
        return sum(max(1, row["numberofframes"] or 1) for row in newest_first)
    if column.how == "conflicts":
        return sum(len(set(_found(newest_first, [name]))) > 1 for name in column.of)
    return _AGGREGATES[column.how](_found(newest_first, column.of))


def _address(row: Row, service_url: str | None) -> str | None:
    if service_url is None:
        return None
    name = row["partitionName"]
    inside = "" if name == DEFAULT_PARTITION else f"/partitions/{name}"
    return f"{service_url}/v2{inside}/studies/{row['studyinstanceuid']}"


def roll_up(
    instances: list[Row], columns: Iterable[Column], depth: int, service_url: str | None = None
) -> list[Row]:
    """The rows of `series` (depth 3) or `study` (depth 2) that the rows of `instance` make."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(instances, key=lambda row: -row["sequence"]):
        groups.setdefault(tuple(row[name] for name in KEY[:depth]), []).append(row)
    return [
        {column.name: _rolled(column, rows, service_url) for column in columns}
        for rows in groups.values()
    ]


def series_of(instances: list[Row]) -> list[Row]:
    """The rows of `series`."""
    return roll_up(instances, SERIES, 3)


def studies_of(instances: list[Row], service_url: str | None = None) -> list[Row]:
    """The rows of `study`; the service's URL is part of an address there."""
    return roll_up(instances, STUDY, 2, service_url)
