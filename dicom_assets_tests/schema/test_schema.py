"""The columns: the template's byte for byte, ours after them, each with its DICOM attribute."""

from typing import get_args

import pyarrow as pa
import pytest
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword

from dicom_assets.schema import (
    CHANGE,
    INSTANCE,
    REJECTED,
    SERIES,
    STUDY,
    SYNC,
    Aggregate,
    Attribute,
    Column,
    Table,
)
from dicom_assets.schema.attributes import ATTRIBUTES, path
from dicom_assets.schema.columns import Form, camel
from dicom_assets.tables.catalogue import TABLES

TIMESTAMP = "timestamp[us, tz=UTC]"
MAP = "map<string, struct<vr: string, Value: list<item: string>>>"  # map<keys, struct<vr, Value>>
TEMPLATE_INSTANCE: list[tuple[str, str | None, str | None, str | None, str]] = [
    ("partitionName", None, None, None, "string"),
    ("studyinstanceuid", "StudyInstanceUID", "0020000D", "UI", "string"),
    ("seriesinstanceuid", "SeriesInstanceUID", "0020000E", "UI", "string"),
    ("sopinstanceuid", "SOPInstanceUID", "00080018", "UI", "string"),
    ("lastModifiedTimestamp", None, None, None, TIMESTAMP),
    ("studydate", "StudyDate", "00080020", "DA", "string"),
    ("studydate_formatted", "StudyDate", "00080020", "DA", "date32[day]"),
    ("studydescription", "StudyDescription", "00081030", "LO", "string"),
    ("issuerofpatientid", "IssuerOfPatientID", "00100021", "LO", "string"),
    ("patientid", "PatientID", "00100020", "LO", "string"),
    ("patientname", "PatientName", "00100010", "PN", "string"),
    ("modality", "Modality", "00080060", "CS", "string"),
    ("sopclassuid", "SOPClassUID", "00080016", "UI", "string"),
    ("filepath", None, None, None, "string"),
    ("metadata", None, None, None, MAP),
    ("metadata_string", None, None, None, "string"),
    ("created_date", None, None, None, TIMESTAMP),
    ("patientbirthdate", "PatientBirthDate", "00100030", "DA", "string"),
    ("accessionnumber", "AccessionNumber", "00080050", "SH", "string"),
    ("referringphysicianname", "ReferringPhysicianName", "00080090", "PN", "string"),
    ("modalitiesinstudy", "ModalitiesInStudy", "00080061", "CS", "string"),
    (
        "performedprocedurestepstartdate",
        "PerformedProcedureStepStartDate",
        "00400244",
        "DA",
        "string",
    ),
    ("manufacturermodelname", "ManufacturerModelName", "00081090", "LO", "string"),
    ("studytime", "StudyTime", "00080030", "TM", "string"),
    ("timezoneoffsetfromutc", "TimezoneOffsetFromUTC", "00080201", "SH", "string"),
    ("numberofstudyrelatedseries", "NumberOfStudyRelatedSeries", "00201206", "IS", "string"),
    ("numberofstudyrelatedinstances", "NumberOfStudyRelatedInstances", "00201208", "IS", "string"),
    ("seriesnumber", "SeriesNumber", "00200011", "IS", "string"),
    ("seriesdescription", "SeriesDescription", "0008103E", "LO", "string"),
    (
        "numberofseriesrelatedinstances",
        "NumberOfSeriesRelatedInstances",
        "00201209",
        "IS",
        "string",
    ),
    ("bodypartexamined", "BodyPartExamined", "00180015", "CS", "string"),
    ("laterality", "Laterality", "00200060", "CS", "string"),
    ("seriesdate", "SeriesDate", "00080021", "DA", "string"),
    ("seriestime", "SeriesTime", "00080031", "TM", "string"),
    ("instancenumber", "InstanceNumber", "00200013", "IS", "string"),
    ("documenttitle", "DocumentTitle", "00420010", "ST", "string"),
]
# name, column of `instance`, type
TEMPLATE_SERIES = [
    ("partitionName", "partitionName", "string"),
    ("studyInstanceUid", "studyinstanceuid", "string"),
    ("seriesInstanceUid", "seriesinstanceuid", "string"),
    ("lastModifiedTimestamp", "lastModifiedTimestamp", TIMESTAMP),
    ("studyDate", "studydate_formatted", "date32[day]"),
    ("studyDescription", "studydescription", "string"),
    ("issuerOfPatientId", "issuerofpatientid", "string"),
    ("patientId", "patientid", "string"),
    ("patientName", "patientname", "string"),
    ("modality", "modality", "string"),
    ("instanceCount", "sopinstanceuid", "int64"),
]
TEMPLATE_STUDY = [
    *TEMPLATE_SERIES[:2],
    *TEMPLATE_SERIES[3:9],
    ("seriesCount", "seriesinstanceuid", "int64"),
    ("instanceCount", "sopinstanceuid", "int64"),
]
ROLLUPS = [(SERIES, TEMPLATE_SERIES), (STUDY, TEMPLATE_STUDY)]


# name, type, and the paths that its value is made of. None for one that is not in the header
ADDED_INSTANCE: list[tuple[str, str, str | None]] = [
    ("sequence", "int64", None),
    ("received_timestamp", TIMESTAMP, None),
    ("study_timestamp", TIMESTAMP, "StudyDate StudyTime TimezoneOffsetFromUTC"),
    ("series_timestamp", TIMESTAMP, "SeriesDate SeriesTime TimezoneOffsetFromUTC"),
    (
        "acquisition_timestamp",
        TIMESTAMP,
        "AcquisitionDateTime AcquisitionDate AcquisitionTime TimezoneOffsetFromUTC",
    ),
    ("content_timestamp", TIMESTAMP, "ContentDate ContentTime TimezoneOffsetFromUTC"),
    ("patientsex", "string", "PatientSex"),
    ("patientage", "string", "PatientAge"),
    ("patientage_years", "double", "PatientAge PatientBirthDate StudyDate"),
    ("patientbirthdate_formatted", "date32[day]", "PatientBirthDate"),
    ("studyid", "string", "StudyID"),
    ("manufacturer", "string", "Manufacturer"),
    ("institutionname", "string", "InstitutionName"),
    ("institutionaldepartmentname", "string", "InstitutionalDepartmentName"),
    ("stationname", "string", "StationName"),
    ("deviceserialnumber", "string", "DeviceSerialNumber"),
    ("softwareversions", "string", "SoftwareVersions"),
    ("operatorsname", "string", "OperatorsName"),
    ("performingphysicianname", "string", "PerformingPhysicianName"),
    ("protocolname", "string", "ProtocolName"),
    ("requestedproceduredescription", "string", "RequestedProcedureDescription"),
    ("performedprocedurestepdescription", "string", "PerformedProcedureStepDescription"),
    ("performedprocedurestepstarttime", "string", "PerformedProcedureStepStartTime"),
    (
        "procedure_code",
        "string",
        (
            "ProcedureCodeSequence[0].CodingSchemeDesignator ProcedureCodeSequence[0].CodeValue "
            "ProcedureCodeSequence[0].LongCodeValue ProcedureCodeSequence[0].URNCodeValue"
        ),
    ),
    ("procedure_code_meaning", "string", "ProcedureCodeSequence[0].CodeMeaning"),
    (
        "anatomic_region_code",
        "string",
        (
            "AnatomicRegionSequence[0].CodingSchemeDesignator AnatomicRegionSequence[0].CodeValue "
            "AnatomicRegionSequence[0].LongCodeValue AnatomicRegionSequence[0].URNCodeValue"
        ),
    ),
    ("anatomic_region_code_meaning", "string", "AnatomicRegionSequence[0].CodeMeaning"),
    ("patientposition", "string", "PatientPosition"),
    ("viewposition", "string", "ViewPosition"),
    ("imagelaterality", "string", "ImageLaterality"),
    ("frameofreferenceuid", "string", "FrameOfReferenceUID"),
    ("acquisitionnumber", "int32", "AcquisitionNumber"),
    ("imagetype", "string", "ImageType"),
    ("numberofframes", "int32", "NumberOfFrames"),
    ("rows", "int32", "Rows"),
    ("columns", "int32", "Columns"),
    ("bitsallocated", "int32", "BitsAllocated"),
    ("bitsstored", "int32", "BitsStored"),
    ("samplesperpixel", "int32", "SamplesPerPixel"),
    ("photometricinterpretation", "string", "PhotometricInterpretation"),
    ("pixelspacing_row", "double", "PixelSpacing[0]"),
    ("pixelspacing_column", "double", "PixelSpacing[1]"),
    ("slicethickness", "double", "SliceThickness"),
    ("lossyimagecompression", "string", "LossyImageCompression"),
    ("burnedinannotation", "string", "BurnedInAnnotation"),
    ("patientidentityremoved", "string", "PatientIdentityRemoved"),
    ("presentationintenttype", "string", "PresentationIntentType"),
    ("contrastbolusagent", "string", "ContrastBolusAgent"),
    ("specificcharacterset", "string", "SpecificCharacterSet"),
]
# name, type, aggregate, columns of `instance`
ACQUIRED = "acquisition_timestamp content_timestamp"
ADDED_SERIES = [
    ("sequence", "int64", "max", "sequence"),
    ("seriesNumber", "int32", "latest", "seriesnumber"),
    ("seriesDescription", "string", "latest", "seriesdescription"),
    ("protocolName", "string", "latest", "protocolname"),
    ("bodyPartExamined", "string", "latest", "bodypartexamined"),
    ("laterality", "string", "latest", "laterality"),
    ("patientPosition", "string", "latest", "patientposition"),
    ("frameOfReferenceUid", "string", "latest", "frameofreferenceuid"),
    ("seriesTimestamp", TIMESTAMP, "latest", "series_timestamp"),
    ("manufacturer", "string", "latest", "manufacturer"),
    ("manufacturerModelName", "string", "latest", "manufacturermodelname"),
    ("stationName", "string", "latest", "stationname"),
    ("deviceSerialNumber", "string", "latest", "deviceserialnumber"),
    ("softwareVersions", "string", "latest", "softwareversions"),
    ("institutionName", "string", "latest", "institutionname"),
    ("institutionalDepartmentName", "string", "latest", "institutionaldepartmentname"),
    ("operatorsName", "string", "latest", "operatorsname"),
    ("performedProcedureStepDescription", "string", "latest", "performedprocedurestepdescription"),
    ("performedProcedureStepStartDate", "string", "latest", "performedprocedurestepstartdate"),
    ("sopClassUids", "string", "distinct", "sopclassuid"),
    ("sopClassNames", "string", "names", "sopclassuid"),
    ("frameCount", "int64", "frames", "numberofframes"),
    ("firstAcquisitionTimestamp", TIMESTAMP, "min", ACQUIRED),
    ("lastAcquisitionTimestamp", TIMESTAMP, "max", ACQUIRED),
    ("firstReceivedTimestamp", TIMESTAMP, "min", "received_timestamp"),
    ("rows", "int32", "same", "rows"),
    ("columns", "int32", "same", "columns"),
    ("sliceThickness", "double", "same", "slicethickness"),
    ("accessionNumber", "string", "latest", "accessionnumber"),
    ("patientSex", "string", "latest", "patientsex"),
    ("patientBirthDate", "date32[day]", "latest", "patientbirthdate_formatted"),
    ("patientAge", "string", "latest", "patientage"),
    (
        "conflictCount",
        "int32",
        "conflicts",
        (
            "modality seriesnumber seriesdescription protocolname bodypartexamined laterality "
            "patientposition frameofreferenceuid manufacturer manufacturermodelname stationname "
            "deviceserialnumber softwareversions institutionname institutionaldepartmentname "
            "operatorsname performedprocedurestepdescription performedprocedurestepstartdate"
        ),
    ),
]
ADDED_STUDY = [
    ("sequence", "int64", "max", "sequence"),
    ("accessionNumber", "string", "latest", "accessionnumber"),
    ("studyId", "string", "latest", "studyid"),
    ("referringPhysicianName", "string", "latest", "referringphysicianname"),
    ("requestedProcedureDescription", "string", "latest", "requestedproceduredescription"),
    ("procedureCode", "string", "latest", "procedure_code"),
    ("procedureCodeMeaning", "string", "latest", "procedure_code_meaning"),
    ("studyTime", "string", "latest", "studytime"),
    ("studyTimestamp", TIMESTAMP, "latest", "study_timestamp"),
    ("patientBirthDate", "date32[day]", "latest", "patientbirthdate_formatted"),
    ("patientSex", "string", "latest", "patientsex"),
    ("patientAge", "string", "latest", "patientage"),
    ("patientAgeYears", "double", "latest", "patientage_years"),
    ("modalitiesInStudy", "string", "distinct", "modality"),
    ("sopClassesInStudy", "string", "distinct", "sopclassuid"),
    ("bodyPartsExamined", "string", "distinct", "bodypartexamined"),
    ("manufacturers", "string", "distinct", "manufacturer"),
    ("stationNames", "string", "distinct", "stationname"),
    ("institutionNames", "string", "distinct", "institutionname"),
    ("frameCount", "int64", "frames", "numberofframes"),
    ("firstAcquisitionTimestamp", TIMESTAMP, "min", ACQUIRED),
    ("lastAcquisitionTimestamp", TIMESTAMP, "max", ACQUIRED),
    ("acquisitionDurationSeconds", "double", "span", ACQUIRED),
    ("firstReceivedTimestamp", TIMESTAMP, "min", "received_timestamp"),
    ("wadoRsUri", "string", "address", "studyinstanceuid"),
    ("patientIdCount", "int32", "count_distinct", "patientid"),
    (
        "conflictCount",
        "int32",
        "conflicts",
        (
            "studydate_formatted studydescription issuerofpatientid patientid patientname "
            "accessionnumber studyid referringphysicianname requestedproceduredescription "
            "procedure_code procedure_code_meaning studytime patientbirthdate_formatted patientsex "
            "patientage"
        ),
    ),
]
ADDED = [(SERIES, ADDED_SERIES), (STUDY, ADDED_STUDY)]
# PS3.15 Table E.1-1. Every other attribute of the catalogue is not in it.
CLASSES = {
    "U": "StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID",
    "Z": "PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime "
    "ReferringPhysicianName",
    "Z/D": "PatientID ContentDate ContentTime ContrastBolusAgent",
    "X": "IssuerOfPatientID PatientAge StudyDescription SeriesDescription PerformingPhysicianName "
    "PerformedProcedureStepStartDate PerformedProcedureStepStartTime "
    "PerformedProcedureStepDescription InstitutionalDepartmentName TimezoneOffsetFromUTC "
    "DocumentTitle",
    "X/D": "SeriesDate SeriesTime ProtocolName",
    "X/Z": "AcquisitionDate AcquisitionTime RequestedProcedureDescription",
    "X/Z/D": "InstitutionName StationName DeviceSerialNumber OperatorsName AcquisitionDateTime",
}


def typed(table: Table, start: int, end: int | None = None) -> list[tuple[str, str]]:
    """Name and Arrow type of some columns of a table."""
    return [(f.name, type_name(f.type)) for f in list(table.arrow())[start:end]]


def type_name(type_: pa.DataType) -> str:
    """The type as the reference writes it, for a map without Arrow's names of its parts."""
    if isinstance(type_, pa.MapType):
        return f"map<{type_.key_type}, {type_.item_type}>"
    return str(type_)


def lower_camel(keyword: str) -> str:
    """The template's name of an attribute in `series` and `study`."""
    renamed = keyword.replace("UID", "Uid").replace("ID", "Id")
    return renamed[0].lower() + renamed[1:]


def shown(keyword: str | None, *paths: str) -> dict[bytes, bytes] | None:
    """The facts in a field's metadata of an attribute, by PS3.6 and PS3.15."""
    if keyword is None:
        return None
    known = {
        "keyword": keyword,
        "tag": f"{tag_for_keyword(keyword):08X}",
        "vr": dictionary_VR(keyword),
        "vm": dictionary_VM(keyword),
        "ps315": class_of(keyword),
    }
    told = known | ({"path": paths[0]} if len(paths) == 1 else {})
    return {f"dicom.{name}".encode(): value.encode() for name, value in told.items()}


def class_of(keyword: str) -> str:
    """The class of an attribute in Table E.1-1, "-" where the table does not have it."""
    return next((name for name, listed in CLASSES.items() if keyword in listed.split()), "-")


def columns_with_paths() -> list[Column]:
    """The columns that are made of a header."""
    return [column for column in INSTANCE.columns if column.paths]


def test_instance_begins_with_the_templates_36_columns() -> None:
    """Name, case, order and type: Fabric's SQL endpoint is case-sensitive."""
    assert len(TEMPLATE_INSTANCE) == 36
    assert typed(INSTANCE, 0, 36) == [(name, type_) for name, *_, type_ in TEMPLATE_INSTANCE]


@pytest.mark.parametrize(("name", "keyword", "tag", "vr", "type_"), TEMPLATE_INSTANCE)
def test_a_column_of_the_template_shows_its_attribute(
    name: str, keyword: str | None, tag: str | None, vr: str | None, type_: str
) -> None:
    """Keyword, tag and VR. The field's metadata have VM, PS3.15 class and path too."""
    column, field = INSTANCE[name], INSTANCE.arrow().field(name)
    of = column.attribute
    assert (column.keyword, of and of.tag, of and of.vr) == (keyword, tag, vr)
    assert (field.metadata or None) == shown(keyword, keyword or "")
    assert [p.text for p in column.paths] == ([keyword] if keyword else [])
    assert not column.added
    assert type_name(field.type) == type_


@pytest.mark.parametrize(("table", "template"), ROLLUPS, ids=["series", "study"])
def test_a_rollup_begins_with_the_templates_columns(
    table: Table, template: list[tuple[str, str, str]]
) -> None:
    """Eleven in series, ten in study, each from its column of `instance`."""
    assert len(template) == {"series": 11, "study": 10}[table.name]
    assert typed(table, 0, len(template)) == [(name, type_) for name, _, type_ in template]
    assert [(n, table[n].sources) for n, _, _ in template] == [(n, (s,)) for n, s, _ in template]
    assert not any(table[name].added for name, _, _ in template)


def test_what_is_ours_in_instance_comes_after_the_templates() -> None:
    """So `SELECT *` and positions stay as they were. Name, order and type are held here."""
    assert typed(INSTANCE, 36) == [(name, type_) for name, type_, _ in ADDED_INSTANCE]
    assert len(INSTANCE.columns) == 85


@pytest.mark.parametrize(("table", "added"), ADDED, ids=["series", "study"])
def test_what_is_ours_in_a_rollup_comes_after_the_templates(
    table: Table, added: list[tuple[str, str, str, str]]
) -> None:
    """Name, order and type, and of which columns of `instance` each is made how."""
    start = {"series": 11, "study": 10}[table.name]
    assert typed(table, start) == [(name, type_) for name, type_, _, _ in added]
    made = [(c.name, c.aggregate, " ".join(c.sources)) for c in table.columns[start:]]
    assert made == [(name, aggregate, sources) for name, _, aggregate, sources in added]
    assert len(table.columns) == {"series": 44, "study": 37}[table.name]


@pytest.mark.parametrize(("name", "_type", "paths"), ADDED_INSTANCE)
def test_a_column_of_ours_is_made_of_its_paths(name: str, _type: str, paths: str | None) -> None:
    """In this order, which its form relies on."""
    assert [p.text for p in INSTANCE[name].paths] == (paths.split() if paths else [])
    assert (INSTANCE[name].form is None) == (paths is None)


@pytest.mark.parametrize("table", [INSTANCE, SERIES, STUDY], ids=lambda table: table.name)
def test_only_columns_that_rows_cannot_be_without_are_not_added(table: Table) -> None:
    """A table of the first version has them. Later ones are null in old rows."""
    start = {"instance": 36, "series": 11, "study": 10}[table.name]
    required = [c.name for c in table.columns[start:] if not c.added]
    both = ["sequence", "received_timestamp"]
    assert required == (both if table is INSTANCE else ["sequence"])


def test_what_the_address_of_the_service_decides_is_not_compared() -> None:
    """Else a new address would write every study anew."""
    columns = [column for table in TABLES for column in table.columns]
    assert [c.name for c in columns if not c.compared] == ["wadoRsUri"]


def test_the_type_of_sequence_is_wide_enough() -> None:
    """The template reads it as a 16-bit integer."""
    for table in (INSTANCE, SERIES, STUDY, CHANGE, REJECTED):
        assert table["sequence"].type == pa.int64()
    assert str(INSTANCE["received_timestamp"].type) == TIMESTAMP


@pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_tag_vr_and_vm_are_the_dictionarys(attribute: Attribute) -> None:
    """PS3.6 as pydicom has it."""
    keyword = attribute.keyword
    assert f"{tag_for_keyword(keyword):08X}" == attribute.tag
    assert dictionary_VR(keyword) == attribute.vr
    assert dictionary_VM(keyword) == attribute.vm


@pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_the_class_is_the_tables(attribute: Attribute) -> None:
    """PS3.15 Table E.1-1. DocumentTitle, which it lacks, can hold free text and counts as X."""
    assert attribute.ps315 == class_of(attribute.keyword)


def test_every_class_is_of_an_attribute_of_ours() -> None:
    """Nothing is in the list above for nothing."""
    assert {k for listed in CLASSES.values() for k in listed.split()} <= ATTRIBUTES.keys()


def test_every_attribute_is_at_some_path_or_shown() -> None:
    """No attribute is listed for nothing."""
    at_paths = {s.attribute.keyword for c in columns_with_paths() for p in c.paths for s in p.steps}
    assert at_paths == set(ATTRIBUTES)


@pytest.mark.parametrize("column", columns_with_paths(), ids=lambda column: column.name)
def test_every_path_resolves(column: Column) -> None:
    """From its text alone it is the same. One step inside another is in a sequence."""
    for held in column.paths:
        assert path(held.text) == held
        assert [step.attribute.vr for step in held.steps[:-1]] == ["SQ"] * (len(held.steps) - 1)
        assert all(step.attribute is ATTRIBUTES[step.attribute.keyword] for step in held.steps)
        assert held.attribute.vr != "SQ"


@pytest.mark.parametrize("column", columns_with_paths(), ids=lambda column: column.name)
def test_a_field_tells_what_dicom_says_of_it(column: Column) -> None:
    """Only columns that show one attribute have them, and a path if there is one."""
    found = column.field().metadata or None
    assert found == shown(column.keyword, *(p.text for p in column.paths))


@pytest.mark.parametrize("column", columns_with_paths(), ids=lambda column: column.name)
def test_the_form_of_a_column_fits_its_type(column: Column) -> None:
    """Times in UTC are timestamps, and so on."""
    types = {
        "text": "string",
        "number_text": "string",
        "name": "string",
        "code": "string",
        "whole": "int32",
        "real": "double",
        "years": "double",
        "day": "date32[day]",
        "moment": TIMESTAMP,
        "instant": TIMESTAMP,
    }
    assert str(column.type) == types[column.form or ""]
    vr = column.attribute.vr if column.attribute else None
    assert (column.form in {"whole", "real", "number_text"}) == (vr in {"IS", "US", "DS"})
    assert (column.form == "name") == (vr == "PN")


def test_a_name_in_instance_is_the_keyword_in_lower_case() -> None:
    """An underscore marks what is derived from it, or lies inside it."""
    named = [(c.name, c.keyword.lower()) for c in INSTANCE.columns if c.keyword]
    assert [pair for pair in named if pair[0] != pair[1]] == [
        ("studydate_formatted", "studydate"),
        ("patientbirthdate_formatted", "patientbirthdate"),
        ("procedure_code", "procedurecodesequence"),
        ("procedure_code_meaning", "codemeaning"),
        ("anatomic_region_code", "anatomicregionsequence"),
        ("anatomic_region_code_meaning", "codemeaning"),
        ("pixelspacing_row", "pixelspacing"),
        ("pixelspacing_column", "pixelspacing"),
    ]


def test_what_no_attribute_gives_has_an_underscore_in_instance() -> None:
    """But for the feed's own fields, which the template named."""
    plain = [c.name for c in INSTANCE.columns if not c.keyword and "_" not in c.name]
    feed = ["partitionName", "lastModifiedTimestamp", "filepath", "metadata", "sequence"]
    assert plain == feed


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_a_name_in_a_rollup_is_the_keyword_in_lower_camel(table: Table) -> None:
    """With Uid and Id, as the template writes them. Codes are named after their sequence."""
    shown = [c for c in table.columns if c.keyword and c.aggregate in {"latest", "same"}]
    codes = {"procedureCode", "procedureCodeMeaning"}
    plain = [c for c in shown if c.name not in codes]
    assert [c.name for c in plain] == [lower_camel(c.keyword) for c in plain if c.keyword]
    assert {c.name for c in shown} & codes == (codes if table is STUDY else set())


@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("SeriesInstanceUID", "seriesInstanceUid"),
        ("IssuerOfPatientID", "issuerOfPatientId"),
        ("OtherPatientIDs", "otherPatientIds"),
        ("Rows", "rows"),
        ("KVP", "kvp"),
        ("SOPClassUID", "sopClassUid"),
        ("PatientID", "patientId"),
        ("MRAcquisitionType", "mrAcquisitionType"),
    ],
)
def test_camel(keyword: str, name: str) -> None:
    """A keyword that begins with an abbreviation does so in small letters."""
    assert camel(keyword) == name


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (CHANGE, ("sequence",)),
        (SYNC, ("hour",)),
        (INSTANCE, ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid")),
        (SERIES, ("partitionName", "studyInstanceUid", "seriesInstanceUid")),
        (STUDY, ("partitionName", "studyInstanceUid")),
        (REJECTED, ("sequence",)),
    ],
    ids=[table.name for table in (CHANGE, SYNC, INSTANCE, SERIES, STUDY, REJECTED)],
)
def test_a_table_has_its_key(table: Table, key: tuple[str, ...]) -> None:
    """And it is made of its own columns."""
    assert table.key == key
    assert set(key) <= set(table.names)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_partition_columns_are_the_templates(table: Table) -> None:
    """Its three tables by data partition, ours by nothing."""
    templates = table.name in {"instance", "series", "study"}
    assert table.partition_columns == (["partitionName"] if templates else [])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_instance_alone_is_guarded_by_sequence(table: Table) -> None:
    """The others are derived anew, whole."""
    assert table.is_guarded == (table.name == "instance")
    assert not table.is_guarded or "sequence" in table.names


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_two_columns_have_one_name(table: Table) -> None:
    """Without case too: Delta compares names so."""
    assert len({name.lower() for name in table.names}) == len(table.names)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_engine_reads_every_type(table: Table) -> None:
    """No unsigned number, no time of day, no timestamp without zone."""
    types = {str(f.type) for f in table.arrow() if not isinstance(f.type, pa.MapType)}
    assert types <= {"string", "int32", "int64", "double", "date32[day]", TIMESTAMP}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_says_what_it_means(table: Table) -> None:
    """The generated reference has no empty cell."""
    assert all(column.meaning for column in table.columns)


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_every_rollup_column_reads_columns_of_instance(table: Table) -> None:
    """And a value of one of them has the type of what it reads, or of the number it is."""
    for column in table.columns:
        assert column.sources
        assert set(column.sources) <= set(INSTANCE.names)
        if column.aggregate in {"latest", "same", "min", "max", "distinct"}:
            source = INSTANCE[column.sources[0]]
            vr = source.attribute.vr if source.attribute else None
            is_number = (vr, column.type) == ("IS", pa.int32())
            assert column.type == source.type or is_number


def test_forms_and_aggregates_are_all_used_or_for_a_users_columns() -> None:
    """No word of the catalogue stands for nothing."""
    forms = {column.form for column in columns_with_paths()}
    assert set(get_args(Form)) - forms == {"datetime", "ideographic", "phonetic"}
    aggregates = {c.aggregate for table in (SERIES, STUDY) for c in table.columns}
    assert set(get_args(Aggregate)) - aggregates == {"sum", "mean"}


def test_a_choice_of_columns_keeps_the_tables_order() -> None:
    """Whatever order they were named in."""
    assert INSTANCE.arrow(["sequence", "modality", "partitionName"]).names == [
        "partitionName",
        "modality",
        "sequence",
    ]


def test_sync_says_how_far_each_table_is() -> None:
    """Counts, digest and window of an hour, and the marks of those who followed."""
    assert SYNC.names == [
        "hour",
        "creates",
        "updates",
        "deletes",
        "rejected",
        "firstSequence",
        "lastSequence",
        "digest",
        "windowStart",
        "windowEnd",
        "sealedAt",
        "dataPartitions",
    ]
    marks = TABLES[1].columns[len(SYNC.columns) :]
    assert [column.name for column in marks] == ["instanceAt", "seriesAt", "studyAt"]
    assert all(column.mark for column in marks)


def test_change_and_rejected_have_the_designs_columns() -> None:
    """The log in lower case, as in instance. A rejection holds no value."""
    assert CHANGE.names == [
        "sequence",
        "partitionName",
        "studyinstanceuid",
        "seriesinstanceuid",
        "sopinstanceuid",
        "action",
        "timestamp",
        "timestamp_ticks",
        "filepath",
        "state",
    ]
    assert REJECTED.names == [
        "sequence",
        "timestamp_ticks",
        "reason",
        "window_start",
        "run_id",
        "attempts",
        "next_attempt",
    ]
