"""The columns: the template's byte for byte, ours after them, each with its DICOM attribute."""

import pyarrow as pa
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, TABLES, Table

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


def typed(table: Table, count: int) -> list[tuple[str, str]]:
    """Name and Arrow type of the first columns of a table."""
    return [(f.name, type_name(f.type)) for f in list(table.arrow())[:count]]


def type_name(type_: pa.DataType) -> str:
    """The type as the reference writes it; a map without Arrow's own names of its parts."""
    if isinstance(type_, pa.MapType):
        return f"map<{type_.key_type}, {type_.item_type}>"
    return str(type_)


def attribute_columns() -> list[tuple[str, str, str, str, str]]:
    """Table, column, keyword, tag and VR of every column that shows a DICOM attribute."""
    return [
        (table.name, column.name, column.keyword, column.tag or "", column.vr or "")
        for table in TABLES
        for column in table.columns
        if column.keyword
    ]


def lower_camel(keyword: str) -> str:
    """The template's name of an attribute in `series` and `study`."""
    renamed = keyword.replace("UID", "Uid").replace("ID", "Id")
    return renamed[0].lower() + renamed[1:]


def test_instance_begins_with_the_templates_36_columns() -> None:
    """Name, case, order and type: Fabric's SQL endpoint is case-sensitive."""
    assert len(TEMPLATE_INSTANCE) == 36
    assert typed(INSTANCE, 36) == [(name, type_) for name, *_, type_ in TEMPLATE_INSTANCE]


@pytest.mark.parametrize(("name", "keyword", "tag", "vr", "type_"), TEMPLATE_INSTANCE)
def test_a_column_of_the_template_shows_its_attribute(
    name: str, keyword: str | None, tag: str | None, vr: str | None, type_: str
) -> None:
    """Keyword, tag and VR, in the field's metadata too."""
    assert (INSTANCE[name].keyword, INSTANCE[name].tag, INSTANCE[name].vr) == (keyword, tag, vr)
    known = {"dicom.keyword": keyword, "dicom.tag": tag, "dicom.vr": vr}
    expected = {k.encode(): v.encode() for k, v in known.items() if v} or None
    assert (INSTANCE.arrow().field(name).metadata or None) == expected
    assert type_name(INSTANCE.arrow().field(name).type) == type_


@pytest.mark.parametrize(("table", "template"), ROLLUPS, ids=["series", "study"])
def test_a_rollup_begins_with_the_templates_columns(
    table: Table, template: list[tuple[str, str, str]]
) -> None:
    """Eleven in series, ten in study, each from its column of `instance`."""
    assert len(template) == {"series": 11, "study": 10}[table.name]
    assert typed(table, len(template)) == [(name, type_) for name, _, type_ in template]
    assert [(n, table[n].source) for n, _, _ in template] == [(n, s) for n, s, _ in template]


@pytest.mark.parametrize(
    ("table", "ours"),
    [(INSTANCE, ["sequence", "received_timestamp"]), (SERIES, ["sequence"]), (STUDY, ["sequence"])],
    ids=lambda value: getattr(value, "name", None),
)
def test_our_columns_come_after_the_templates(table: Table, ours: list[str]) -> None:
    """So `SELECT *` and positions stay as they were."""
    template = {"instance": 36, "series": 11, "study": 10}[table.name]
    assert table.names[template : template + len(ours)] == ours


def test_the_type_of_sequence_is_wide_enough() -> None:
    """The template reads it as a 16-bit integer."""
    for table in (INSTANCE, SERIES, STUDY, CHANGE, REJECTED):
        assert table["sequence"].type == pa.int64()
    assert str(INSTANCE["received_timestamp"].type) == TIMESTAMP


@pytest.mark.parametrize(("table", "column", "keyword", "tag", "vr"), attribute_columns())
def test_tag_and_vr_are_the_dictionarys(
    table: str, column: str, keyword: str, tag: str, vr: str
) -> None:
    """PS3.6 as pydicom has it."""
    assert f"{tag_for_keyword(keyword):08X}" == tag
    assert dictionary_VR(keyword) == vr


def test_a_name_in_instance_is_the_keyword_in_lower_case() -> None:
    """An underscore marks what is derived from it."""
    named = [(c.name, c.keyword.lower()) for c in INSTANCE.columns if c.keyword]
    assert [pair for pair in named if pair[0] != pair[1]] == [("studydate_formatted", "studydate")]


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_a_name_in_a_rollup_is_the_keyword_in_lower_camel(table: Table) -> None:
    """With Uid and Id, as the template writes them."""
    latest = [c for c in table.columns if c.keyword and c.aggregate == "latest"]
    assert [c.name for c in latest] == [lower_camel(c.keyword) for c in latest if c.keyword]
    assert lower_camel("SeriesInstanceUID") == "seriesInstanceUid"
    assert lower_camel("IssuerOfPatientID") == "issuerOfPatientId"


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
    assert types <= {"string", "int64", "date32[day]", TIMESTAMP}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_says_what_it_means(table: Table) -> None:
    """The generated reference has no empty cell."""
    assert all(column.meaning for column in table.columns)


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_every_rollup_column_reads_a_column_of_instance(table: Table) -> None:
    """And the latest value has the type of what it reads."""
    for column in table.columns:
        assert column.source in INSTANCE.names
        if column.aggregate == "latest":
            assert column.type == INSTANCE[column.source].type


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
        "instanceAt",
        "seriesAt",
        "studyAt",
    ]


def test_change_and_rejected_have_the_designs_columns() -> None:
    """The log in lower case, as in instance; a rejection holds no value."""
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
