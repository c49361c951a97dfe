"""Headers become columns by their paths, whatever form the attributes on the way have."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_assets.header import values as v
from dicom_assets.header.extraction import Extraction, extraction, header_map
from dicom_assets.schema import (
    DOUBLE,
    INSTANCE,
    INT64,
    STRING,
    TIMESTAMP,
    Column,
    Step,
    Table,
)
from dicom_assets.schema.attributes import ALL, path
from dicom_assets.schema.columns import Form, form_of

Json = dict[str, Any]

REGION, PROCEDURE, REQUEST = "00082218", "00081032", "00400275"
SPACING, NAME, ROWS, ID = "00280030", "00100010", "00280010", "00100020"
MEANING = "00080104"


def attribute(vr: str, *values: object) -> Json:
    """An attribute as the standard has it: without values it has no `Value`."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def item(meaning: object) -> Json:
    """An item of a code sequence."""
    return {MEANING: attribute("LO", meaning)}


def column(
    text: str,
    type_: pa.DataType = STRING,
    *,
    vr: str | None = None,
    form: Form | None = None,
) -> Column:
    """A column of what lies at a path, which is its name."""
    way = path(text, vr)
    return Column(text, type_, text, None, (way,), form or form_of(way.attribute, type_))


def table(*columns: Column) -> Table:
    """A table of columns alone."""
    return Table("instance", (), columns)


def read(
    header: Json | bytes, *columns: Column, zone: str | None = None
) -> tuple[Json, dict[str, int]]:
    """The values in the columns (all of `instance` if none are named), and what did not parse."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    made = extraction(table(*columns) if columns else INSTANCE, zone)
    decoded = made.decode(raw)
    assert decoded is not None
    found, unparsable = made.columns([decoded])
    return {name: values[0] for name, values in found.items()}, dict(unparsable)


def at(text: str, header: Json, type_: pa.DataType = STRING, vr: str | None = None) -> object:
    """The value of the column of a path in a header in which all parse."""
    found, unparsable = read(header, column(text, type_, vr=vr))
    assert unparsable == {}
    return found[text]


STANDARD: Json = {
    "00080005": attribute("CS", "", "ISO 2022 IR 87"),
    "00080008": attribute("CS", "ORIGINAL", "PRIMARY", "AXIAL "),
    "00080016": attribute("UI", "1.2.840.10008.5.1.4.1.1.2"),
    "00080018": attribute("UI", "1.2.3.4"),
    "00080020": attribute("DA", "20240229"),
    "00080021": attribute("DA", "2024.02.29"),
    "00080022": attribute("DA", "20240229"),
    "0008002A": attribute("DT", "20240229101112.5+0000"),
    "00080030": attribute("TM", "101112"),
    "00080031": attribute("TM", "1012"),
    "00080032": attribute("TM", "235959"),
    "00080060": attribute("CS", "CT"),
    "00080090": attribute("PN", {"Alphabetic": "Doc^Tor"}),
    "00080201": attribute("SH", "+0100"),
    "00081032": attribute(
        "SQ",
        {
            "00080100": attribute("SH", "24627-2"),
            "00080102": attribute("SH", "LN"),
            "00080104": attribute("LO", "Chest CT"),
        },
        {"00080100": attribute("SH", "of the second item")},
    ),
    "00081070": attribute("PN", {"Alphabetic": "A^B"}, {"Alphabetic": "C^D"}),
    "00082218": attribute(
        "SQ", {"00080119": attribute("UC", "a long code value"), MEANING: attribute("LO")}
    ),
    "00100010": attribute("PN", {"Alphabetic": "Doe^Jane", "Ideographic": "山田"}),
    "00100020": attribute("LO", "ID 1 "),
    "00100030": attribute("DA", "19840301"),
    "00100040": attribute("CS"),
    "00180050": attribute("DS", 1.25),
    "0020000D": attribute("UI", "1.2.3"),
    "0020000E": attribute("UI", "1.2.3.1"),
    "00200011": attribute("IS", 3),
    "00200012": attribute("IS", "4"),
    "00280010": attribute("US", 40_000),
    "00280030": attribute("DS", 0.5, 0.75),
}


def test_every_column_of_a_header_as_the_standard_has_it() -> None:
    """Missing attributes are null and are not counted."""
    found, unparsable = read(STANDARD)
    assert unparsable == {}
    assert {name: value for name, value in found.items() if value is not None} == {
        "studyinstanceuid": "1.2.3",
        "seriesinstanceuid": "1.2.3.1",
        "sopinstanceuid": "1.2.3.4",
        "sopclassuid": "1.2.840.10008.5.1.4.1.1.2",
        "modality": "CT",
        "studydate": "20240229",
        "studydate_formatted": date(2024, 2, 29),
        "studytime": "101112",
        "study_timestamp": datetime(2024, 2, 29, 9, 11, 12, tzinfo=UTC),
        "seriesdate": "2024.02.29",
        "seriestime": "1012",
        "series_timestamp": datetime(2024, 2, 29, 9, 12, tzinfo=UTC),
        "acquisition_timestamp": datetime(2024, 2, 29, 10, 11, 12, 500_000, tzinfo=UTC),
        "timezoneoffsetfromutc": "+0100",
        "patientname": "Doe^Jane",
        "patientid": "ID 1",
        "patientbirthdate": "19840301",
        "patientbirthdate_formatted": date(1984, 3, 1),
        "patientage_years": 14_609 / 365.2425,
        "referringphysicianname": "Doc^Tor",
        "operatorsname": "A^B\\C^D",
        "procedure_code": "LN:24627-2",
        "procedure_code_meaning": "Chest CT",
        "anatomic_region_code": "a long code value",
        "seriesnumber": "3",
        "acquisitionnumber": 4,
        "slicethickness": 1.25,
        "rows": 40_000,
        "pixelspacing_row": 0.5,
        "pixelspacing_column": 0.75,
        "imagetype": "ORIGINAL\\PRIMARY\\AXIAL",
        "specificcharacterset": "\\ISO 2022 IR 87",
    }


def test_the_columns_are_those_with_paths() -> None:
    """Columns of the entry or of this project are not made of the header."""
    found, _ = read({})
    assert list(found) == [c.name for c in INSTANCE.columns if c.paths]
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"5", b'"x"', b"null", b"{", b"{} {}", b"\xff", b'{"a":}']
)
def test_what_is_no_object_is_no_header(raw: bytes) -> None:
    """None, and no error."""
    assert extraction(INSTANCE).decode(raw) is None


# --- odd forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [5, 1.5, "text", True, [], [5], [{"Value": ["x"]}]])
def test_what_is_no_object_is_no_attribute(odd: object) -> None:
    """Null and counted, whatever the column makes of an attribute. The others are read."""
    columns = [column("PatientID"), column("PatientName"), column("Rows", pa.int32())]
    header = {ID: odd, NAME: odd, ROWS: odd, "00080060": attribute("CS", "CT")}
    found, unparsable = read(header, *columns, column("Modality"))
    assert list(found.values()) == [None, None, None, "CT"]
    assert unparsable == {
        "PatientID: not text": 1,
        "PatientName: not text": 1,
        "Rows: not a number": 1,
    }


@pytest.mark.parametrize(
    "empty",
    [
        None,
        {},
        {"vr": "LO"},
        {"Value": None},
        {"Value": []},
        {"Value": [None]},
        {"vr": "LO", "BulkDataURI": "bulk"},
        {"vr": "OB", "InlineBinary": "AAAA"},
    ],
)
def test_what_holds_no_value_is_null(empty: object) -> None:
    """And nothing that did not parse."""
    tags = (ID, NAME, ROWS, "00080020", "00080030", "00080201", "00101010", REGION, SPACING)
    found, unparsable = read(dict.fromkeys(tags, empty))
    assert set(found.values()) == {None}
    assert unparsable == {}


@pytest.mark.parametrize(
    ("text", "element", "value"),
    [
        ("PatientID", {"vr": "LO", "Value": "no list"}, "no list"),
        ("PatientID", {"vr": "LO", "Value": 12}, "12"),
        ("PatientID", {"Value": ["no VR"]}, "no VR"),
        ("PatientID", {"vr": 5, "Value": ["VR of a wrong type"]}, "VR of a wrong type"),
        ("PatientID", {"vr": "XX", "Value": ["wrong VR"]}, "wrong VR"),
        ("PatientID", {"vr": "LO", "Value": ["a"], "more": {"of": ["it"]}}, "a"),
        ("PatientName", {"vr": "PN", "Value": ["plain text"]}, "plain text"),
        ("PatientName", {"vr": "PN", "Value": "plain text"}, "plain text"),
        ("PatientName", {"vr": "PN", "Value": {"Alphabetic": "A^B"}}, "A^B"),
        ("PatientName", {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Other": [5]}]}, "A^B"),
        ("PatientName", {"vr": "PN", "Value": [{"Alphabetic": "A", "Phonetic": 5}]}, "A"),
        ("PatientName", {"vr": "PN", "Value": [None, {"Alphabetic": "B"}]}, "\\B"),
        ("PatientName", {"vr": "PN", "Value": [{"Ideographic": "山田"}]}, "山田"),
        ("PixelSpacing[0]", {"vr": "DS", "Value": 0.5}, "0.5"),
        ("PixelSpacing[1]", {"vr": "DS", "Value": [None, "0.5"]}, "0.5"),
        ("PixelSpacing[1]", {"vr": "DS", "Value": ["0.5\\0.7"]}, "0.7"),
        ("PixelSpacing[2]", {"vr": "DS", "Value": ["0.5\\0.7"]}, None),
        ("ImageComments[0]", {"vr": "LT", "Value": ["one\\two"]}, "one\\two"),
        (f"{REGION}[0].{MEANING}", {"vr": "SQ", "Value": item("no list")}, "no list"),
        (f"{REGION}[0].{MEANING}", {"Value": [{MEANING: {"Value": "x"}}]}, "x"),
    ],
)
def test_an_odd_form_that_can_be_read_is_read(text: str, element: Json, value: object) -> None:
    """A missing or wrong VR, values in no list, a name as text."""
    tag = path(text).steps[0].attribute.tag
    assert at(text, {tag: element}) == value


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("PatientID", attribute("LO", True)),
        ("PatientID", attribute("LO", ["x"])),
        ("PatientID", attribute("LO", "a", {"b": 1})),
        ("PatientID", {"vr": "LO", "Value": {"a": 1}}),
        ("PatientName", attribute("PN", {"Alphabetic": 5})),
        ("PatientName", attribute("PN", 5, True)),
        (f"{REGION}[0].{MEANING}", attribute("SQ", "no object")),
        (f"{REGION}[0].{MEANING}", attribute("SQ", 5)),
        (f"{REGION}[0].{MEANING}", attribute("SQ", [item("in a list")])),
        (f"{REGION}[0].{MEANING}", attribute("SQ", {MEANING: "no attribute"})),
        (f"{REGION}[0].{MEANING}", attribute("SQ", {MEANING: attribute("LO", False)})),
        (f"{REGION}[*].{MEANING}", attribute("SQ", item("x"), 5)),
        (REGION + "[0]." + MEANING, "no attribute"),
    ],
)
def test_an_odd_form_that_cannot_be_read_is_null_and_counted(text: str, element: object) -> None:
    """An item of a sequence that is no object, an attribute in it that is none."""
    found, unparsable = read({path(text).steps[0].attribute.tag: element}, column(text))
    assert found == {text: None}
    assert unparsable == {f"{text}: not text": 1}


def test_of_a_tag_given_twice_the_last_counts() -> None:
    """As in every JSON reader, also where the first is of no form at all."""
    raw = b'{"00100020":5,"00100020":{"vr":"LO","Value":["A"]},"00100020":{"Value":["B"]}}'
    assert read(raw, column("PatientID")) == ({"PatientID": "B"}, {})


def test_tags_in_small_letters_are_not_the_standards() -> None:
    """PS3.18 F.2.2."""
    assert at("0008103E", {"0008103e": attribute("LO", "x")}) is None


@pytest.mark.parametrize("depth", [50, 5_000])
def test_what_is_nested_deeply_breaks_nothing(depth: int) -> None:
    """Either the header cannot be decoded, or the attribute is none."""
    raw = b'{"00100020":' + b'{"Value":[' * depth + b"]}" * depth + b"}"
    made = extraction(INSTANCE)
    header = made.decode(raw)
    if header is not None:
        found, unparsable = made.columns([header])
        assert found["patientid"] == [None]
        assert unparsable == {"patientid: not text": 1}
    assert (header is None) == (depth > 1_000)


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ImageType", "A\\B\\C"),
        ("ImageType[*]", "A\\B\\C"),
        ("ImageType[0]", "A"),
        ("ImageType[2]", "C"),
        ("ImageType[3]", None),
        ("(0008,0008)[1]", "B"),
        ("00080008[1]", "B"),
    ],
)
def test_an_index_chooses_one_of_several_values(text: str, value: object) -> None:
    """From 0. Beyond the last there is none."""
    assert at(text, {"00080008": attribute("CS", "A", "B", "C")}) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("AnatomicRegionSequence[0].CodeMeaning", "first"),
        ("AnatomicRegionSequence[1].CodeMeaning", None),
        ("AnatomicRegionSequence[2].CodeMeaning", "third\\of two"),
        ("AnatomicRegionSequence[2].CodeMeaning[1]", "of two"),
        ("AnatomicRegionSequence[3].CodeMeaning", None),
        ("AnatomicRegionSequence[4].CodeMeaning", None),
        ("AnatomicRegionSequence[*].CodeMeaning", "first\\third\\of two"),
        ("AnatomicRegionSequence.CodeMeaning", "first\\third\\of two"),
        ("AnatomicRegionSequence[*].CodeMeaning[0]", "first\\third"),
        ("AnatomicRegionSequence[0].CodeValue", None),
    ],
)
def test_a_path_leads_into_the_items_of_a_sequence(text: str, value: object) -> None:
    """An item that is null or lacks the attribute gives nothing."""
    third = {MEANING: attribute("LO", "third", "of two")}
    header = {REGION: attribute("SQ", item("first"), None, third, {})}
    assert at(text, header) == value


def test_a_path_leads_through_sequences_in_sequences() -> None:
    """Each step has its own index."""
    inner = attribute("SQ", item("a"), item("b"))
    header = {
        REQUEST: attribute("SQ", {"00400008": inner}, {"00400008": attribute("SQ", item("c"))})
    }
    way = "RequestAttributesSequence[{}].ScheduledProtocolCodeSequence[{}].CodeMeaning"
    assert at(way.format(0, 1), header) == "b"
    assert at(way.format(1, 0), header) == "c"
    assert at(way.format(1, 1), header) is None
    assert at(way.format("*", 0), header) == "a\\c"
    assert at(way.format("*", "*"), header) == "a\\b\\c"


def test_names_in_items_are_names() -> None:
    """A group of theirs is asked for, not their JSON."""
    named = attribute("PN", {"Alphabetic": "A^B", "Ideographic": "山田", "Phonetic": "やまだ"})
    header = {REGION: attribute("SQ", {NAME: named})}
    text = f"{REGION}[0].PatientName"
    assert at(text, header) == "A^B"
    assert read(header, column(text, form="ideographic")) == ({text: "山田"}, {})
    assert read(header, column(text, form="phonetic")) == ({text: "やまだ"}, {})


def test_numbers_in_items_have_their_types() -> None:
    """And several where one is wanted are none."""
    header = {
        REGION: attribute("SQ", {SPACING: attribute("DS", "0.5", 2)}, {ROWS: attribute("US", 7)})
    }
    assert at(f"{REGION}[0].{SPACING}[0]", header, DOUBLE) == 0.5
    assert at(f"{REGION}[0].{SPACING}[1]", header, DOUBLE) == 2.0
    assert at(f"{REGION}[1].{ROWS}", header, pa.int32()) == 7
    assert at(f"{REGION}[*].{SPACING}", header) == "0.5\\2"
    text = f"{REGION}[0].{SPACING}"
    assert read(header, column(text, DOUBLE)) == ({text: None}, {f"{text}: several values": 1})


def test_a_whole_number_has_the_width_of_its_column() -> None:
    """Too wide a number is null, and never another number."""
    header = {"00480006": attribute("UL", 2**31), "00200012": attribute("IS", 2**31)}
    assert at("TotalPixelMatrixColumns", header, INT64) == 2**31
    found, unparsable = read(header, column("AcquisitionNumber", pa.int32()))
    assert (found, unparsable) == (
        {"AcquisitionNumber": None},
        {"AcquisitionNumber: out of range": 1},
    )


def test_a_moment_of_one_attribute() -> None:
    """Its own offset counts, else that of the instance."""
    paths = (path("StartAcquisitionDateTime"), path("TimezoneOffsetFromUTC"))
    asked = Column("started", TIMESTAMP, "", None, paths, "datetime")
    own = {"00189516": attribute("DT", "20240102030405+0100")}
    bare = {"00189516": attribute("DT", "20240102030405")}
    offset = {"00080201": attribute("SH", "-0100")}
    assert read(own | offset, asked)[0]["started"] == datetime(2024, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert read(bare | offset, asked)[0]["started"] == datetime(2024, 1, 2, 4, 4, 5, tzinfo=UTC)
    assert read(bare, asked) == ({"started": None}, {})


# --- private attributes ---------------------------------------------------------------------------

PRIVATE = '(0019,"ACME 1",0C)'


def creator(*names: object) -> Json:
    """The attribute by which a creator reserves a block."""
    return attribute("LO", *names)


@pytest.mark.parametrize("block", ["10", "11", "AB", "FF"])
def test_a_private_attribute_lies_in_its_creators_block(block: str) -> None:
    """Its block differs from file to file (PS3.5 7.8.1)."""
    header = {
        f"001900{block}": creator("ACME 1"),
        f"0019{block}0C": attribute("LO", "mine"),
        f"0019{block}0D": attribute("LO", "another"),
        f"0021{block}0C": attribute("LO", "another group"),
    }
    assert at(PRIVATE, header) == "mine"


def test_each_creator_has_its_own_block() -> None:
    """The same element of another creator is another attribute."""
    header = {
        "00190010": creator("OTHER"),
        "00190011": creator("ACME 1 "),
        "0019100C": attribute("DS", 1),
        "0019110C": attribute("DS", 2),
    }
    columns = [
        column(PRIVATE, DOUBLE, vr="DS"),
        column('(0019,"OTHER",0c)', DOUBLE, vr="DS"),
        column('(0019,"NOBODY",0C)', DOUBLE, vr="DS"),
        column('(0021,"OTHER",0C)', DOUBLE, vr="DS"),
    ]
    found, unparsable = read(header, *columns)
    assert list(found.values()) == [2.0, 1.0, None, None]
    assert unparsable == {}


@pytest.mark.parametrize(
    "odd", [5, None, [], {}, creator(), creator(None), creator(5), creator({})]
)
def test_a_creator_of_no_form_reserves_nothing(odd: object) -> None:
    """The one after it is found all the same."""
    header = {
        "00190010": odd,
        "0019100C": attribute("LO", "nobody's"),
        "00190011": creator("ACME 1"),
        "0019110C": attribute("LO", "mine"),
    }
    assert at(PRIVATE, header) == "mine"


def test_a_creator_may_reserve_several_blocks() -> None:
    """The first that has the attribute counts. No block is below 10."""
    blocks = {f"001900{block}": creator("ACME 1") for block in ("01", "10", "11")}
    elements = {"0019010C": attribute("LO", "no block"), "0019110C": attribute("LO", "mine")}
    assert at(PRIVATE, blocks | elements) == "mine"
    assert at(PRIVATE, blocks | {"0019010C": attribute("LO", "no block")}) is None


def test_a_creator_without_the_attribute_gives_null() -> None:
    """So does an attribute without its creator."""
    assert at(PRIVATE, {"00190010": creator("ACME 1")}) is None
    assert at(PRIVATE, {"0019100C": attribute("LO", "nobody's")}) is None


def test_creators_in_an_item_count_for_the_item() -> None:
    """Blocks are reserved in each item anew (PS3.5 7.8.1)."""
    inside = {"00190020": creator("ACME 1"), "0019200C": attribute("LO", "in the item")}
    header = {
        "00190010": creator("ACME 1"),
        "0019100C": attribute("LO", "outside"),
        REGION: attribute("SQ", {"0019100C": attribute("LO", "nobody's")}, inside),
    }
    assert at(f"{REGION}[1].{PRIVATE}", header) == "in the item"
    assert at(f"{REGION}[0].{PRIVATE}", header) is None
    assert at(f"{REGION}[*].{PRIVATE}", header) == "in the item"
    assert at(PRIVATE, header) == "outside"


def test_a_private_sequence_holds_public_attributes() -> None:
    """And is stepped through like any other."""
    header = {"00190030": creator("ACME 1"), "0019300C": attribute("SQ", item("a"), item("b"))}
    assert at(f"{PRIVATE}[1].CodeMeaning", header) == "b"
    assert at(f"{PRIVATE}.CodeMeaning", header) == "a\\b"


def test_private_and_other_columns_are_read_of_one_header() -> None:
    """Each in its way."""
    header = STANDARD | {"00190010": creator("ACME 1"), "0019100C": attribute("LO", "mine")}
    found, _ = read(header, *INSTANCE.columns, column(PRIVATE))
    plain, _ = read(STANDARD)
    assert found == plain | {PRIVATE: "mine"}


# --- many headers ---------------------------------------------------------------------------------


def decoded(made: Extraction, *headers: Json) -> list[Any]:
    """Headers as they are decoded."""
    return [made.decode(json.dumps(header).encode()) for header in headers]


def test_each_header_gives_its_own_values_in_order() -> None:
    """Also where there are more different ones than could be kept in mind, and the first again."""
    made = extraction(table(column("PatientID"), column("Rows", pa.int32())))
    numbers = [*range(3_000), *range(10)]
    headers = [{ID: attribute("LO", f"P{n}"), ROWS: attribute("US", n % 5)} for n in numbers]
    found, _ = made.columns(decoded(made, *headers))
    assert found["PatientID"] == [f"P{n}" for n in numbers]
    assert found["Rows"] == [n % 5 for n in numbers]


def test_what_does_not_parse_is_counted_each_time() -> None:
    """By column and reason, over all headers, and again for the next ones."""
    made = extraction(table(column("PatientID"), column("Rows", pa.int32())))
    bad, good = {ID: 5, ROWS: attribute("US", "x")}, {ID: attribute("LO", "A")}
    for _ in range(2):
        found, unparsable = made.columns(decoded(made, bad, good, bad))
        assert found == {"PatientID": [None, "A", None], "Rows": [None, None, None]}
        assert unparsable == {"PatientID: not text": 2, "Rows: not a number": 2}
    assert made.columns(decoded(made, good))[1] == {}


def test_equal_bytes_of_different_attributes_are_told_apart() -> None:
    """A date of birth is no date of the study, though both are the same text."""
    same = attribute("DA", "20240101")
    header = {"00080020": same, "00100030": attribute("DA", "19240101")}
    first, _ = read(header)
    second, _ = read({"00080020": attribute("DA", "19240101"), "00100030": same})
    assert (first["studydate"], first["patientbirthdate"]) == ("20240101", "19240101")
    assert first["patientage_years"] > 99
    assert second["patientage_years"] is None


def test_no_headers_give_no_values() -> None:
    """But every column."""
    made = extraction(INSTANCE)
    found, unparsable = made.columns([])
    assert found == {c.name: [] for c in INSTANCE.columns if c.paths}
    assert unparsable == {}


def test_an_extraction_is_compiled_once() -> None:
    """For each table and zone."""
    assert extraction(INSTANCE) is extraction(INSTANCE)
    assert extraction(INSTANCE, "Europe/Vienna") is not extraction(INSTANCE)


# --- times, ages ----------------------------------------------------------------------------------


def test_a_zone_places_times_without_offset() -> None:
    """Not those that have one."""
    times = {"00080020": attribute("DA", "20240701"), "00080030": attribute("TM", "120000")}
    offset = {"00080201": attribute("SH", "-0500")}
    assert read(times)[0]["study_timestamp"] is None
    found, _ = read(times, zone="Europe/Vienna")
    assert found["study_timestamp"] == datetime(2024, 7, 1, 10, 0, tzinfo=UTC)
    found, _ = read(times | offset, zone="Europe/Vienna")
    assert found["study_timestamp"] == datetime(2024, 7, 1, 17, 0, tzinfo=UTC)


ACQUIRED = {
    "0008002A": attribute("DT", "20240102030405+0000"),
    "00080022": attribute("DA", "20230101"),
    "00080032": attribute("TM", "000000"),
    "00080201": attribute("SH", "+0000"),
}
INSTEAD = datetime(2023, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "value", "counted"),
    [
        ({}, datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), {}),
        ({"0008002A": None}, INSTEAD, {}),
        ({"0008002A": attribute("DT", "202401")}, INSTEAD, {}),
        ({"0008002A": attribute("DT", "x")}, INSTEAD, {}),
        (
            {"0008002A": attribute("DT", "x"), "00080022": None},
            None,
            {"acquisition_timestamp: not a moment": 1},
        ),
        (
            {"0008002A": None, "00080032": attribute("TM", "x")},
            None,
            {"acquisition_timestamp: not a time": 1},
        ),
    ],
)
def test_a_date_and_time_stand_in_for_a_moment(
    changed: Json, value: object, counted: dict[str, int]
) -> None:
    """Where AcquisitionDateTime is missing, coarse, or none."""
    found, unparsable = read(ACQUIRED | changed)
    assert found["acquisition_timestamp"] == value
    assert unparsable == counted


@pytest.mark.parametrize(
    ("age", "birth", "value", "counted"),
    [
        ("052Y", "20000101", 52.0, {}),
        ("006M", None, 0.5, {}),
        (None, "20230701", 184 / 365.2425, {}),
        ("x", "20230701", 184 / 365.2425, {}),
        ("x", None, None, {"patientage_years: not an age": 1}),
        (None, "20250101", None, {"patientage_years: before birth": 1}),
        (None, None, None, {}),
    ],
)
def test_the_date_of_birth_stands_in_for_an_age(
    age: str | None, birth: str | None, value: object, counted: dict[str, int]
) -> None:
    """Where PatientAge is missing or none."""
    header = {
        "00080020": attribute("DA", "20240101"),
        "00101010": attribute("AS", age),
        "00100030": attribute("DA", birth),
    }
    found, unparsable = read(header)
    assert found["patientage_years"] == value
    assert unparsable == counted


# --- the UIDs -------------------------------------------------------------------------------------

UIDS = ("1.2.3", "1.2.3.1", "1.2.3.4")


@pytest.mark.parametrize("made", [extraction(INSTANCE), extraction(table(column("Rows")))])
def test_a_header_is_of_its_instance(made: Extraction) -> None:
    """Whatever columns are asked for, and with padding too."""
    padded = STANDARD | {"0020000D": {"Value": "1.2.3\0"}, "0020000E": attribute("UI", "1.2.3.1 ")}
    for header in decoded(made, STANDARD, padded):
        assert made.is_of(header, UIDS)
        assert not made.is_of(header, ("1.2.3", "1.2.3.1", "1.2.3.40"))
        assert not made.is_of(header, ("1.2.3.1", "1.2.3", "1.2.3.4"))


@pytest.mark.parametrize("tag", ["0020000D", "0020000E", "00080018"])
@pytest.mark.parametrize(
    "odd", [None, 5, {}, attribute("UI"), attribute("UI", *UIDS), {"Value": {}}]
)
def test_a_header_without_its_uids_is_of_no_instance(tag: str, odd: object) -> None:
    """Each of the three is needed, once."""
    made = extraction(INSTANCE)
    [header] = decoded(made, STANDARD | {tag: odd})
    assert not made.is_of(header, UIDS)


# --- the header as a map --------------------------------------------------------------------------


def test_the_map_of_a_header() -> None:
    """It has by tag the VR and the values as text. A value that is not text is its JSON."""
    raw = (
        '{"00080005":{"vr":"CS","Value":["ISO_IR 192"]},"00080050":{"vr":"SH"},'
        '"00100010":{"vr":"PN","Value":[{"Alphabetic":"Dö^J"},null]},'
        '"00280030":{"vr":"DS","Value":[0.5,1.0,"2"]},'
        '"00091001":{"vr":"LO","Value":["a\\"b\\u00e4",true]},'
        '"00082218":{"vr":"SQ","Value":[{"00080104":{"vr":"LO","Value":["x"]}}]},'
        '"00081030":{"vr":"LO","Value":[]}}'
    ).encode()
    assert header_map(raw) == [
        ("00080005", {"vr": "CS", "Value": ["ISO_IR 192"]}),
        ("00080050", {"vr": "SH", "Value": None}),
        ("00100010", {"vr": "PN", "Value": ['{"Alphabetic":"Dö^J"}', None]}),
        ("00280030", {"vr": "DS", "Value": ["0.5", "1.0", "2"]}),
        ("00091001", {"vr": "LO", "Value": ['a"bä', "true"]}),
        ("00082218", {"vr": "SQ", "Value": ['{"00080104":{"vr":"LO","Value":["x"]}}']}),
        ("00081030", {"vr": "LO", "Value": []}),
    ]


@pytest.mark.parametrize("odd", [5, "x", None, [], {"vr": 5}, {"Value": "x"}, {"Value": {}}])
def test_in_the_map_what_is_no_attribute_is_empty(odd: object) -> None:
    """Its tag is there, so that it can be looked for."""
    raw = json.dumps({ID: odd, ROWS: attribute("US", 5)}).encode()
    empty = {"vr": None, "Value": None}
    assert header_map(raw) == [(ID, empty), (ROWS, {"vr": "US", "Value": ["5"]})]


def test_in_the_map_a_tag_is_once() -> None:
    """Arrow and Spark want a key once. The last counts."""
    raw = b'{"00100020":{"vr":"LO","Value":["A"]},"00100020":{"vr":"LO","Value":["B"]}}'
    assert header_map(raw) == [(ID, {"vr": "LO", "Value": ["B"]})]


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff"])
def test_what_is_no_object_has_no_map(raw: bytes) -> None:
    """None, and no error."""
    assert header_map(raw) is None


# --- whatever stands in a header ------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["20240101", "101112", "+0100", "034Y", "1.5", " 12 ", "ACME 1", "A\\B", ""])
)
TAGS = st.sampled_from(
    (
        f"{ID} {NAME} {ROWS} {SPACING} {REGION} {MEANING} 00080100 00080102 00080020 00080030 "
        "00080201 00101010 00100030 0008002A 00200013 00190010 00190011 0019100C 0019110C vr Value"
    ).split()
)


def attributes(inner: "st.SearchStrategy[Any]") -> "st.SearchStrategy[Any]":
    """Attributes of the usual form, and of others."""
    names = st.fixed_dictionaries({"Alphabetic": st.text(max_size=5)})
    listed = st.lists(inner | SCALARS | names, max_size=3)
    usual = st.fixed_dictionaries({"vr": st.just("LO"), "Value": listed})
    return usual | listed | st.dictionaries(TAGS, inner, max_size=4)


JSON_VALUES = st.recursive(SCALARS, attributes, max_leaves=12)
HEADERS = st.dictionaries(TAGS, JSON_VALUES, max_size=8)

ASKED = (
    column(f"{REGION}[0].CodeMeaning"),
    column(f"{REGION}[2].CodeMeaning"),
    column(f"{REGION}[*].CodeMeaning"),
    column(f"{REGION}[*].PatientName"),
    column(f"{REGION}[0].{REGION}[*].CodeMeaning[0]"),
    column(f"{REGION}[0].Rows", INT64),
    column("PixelSpacing"),
    column("PatientName[1]"),
    column("PatientName", form="ideographic"),
    column(PRIVATE),
    column(f"{REGION}[0].{PRIVATE}", DOUBLE, vr="DS"),
    column(f"{PRIVATE}[0].CodeMeaning"),
)
EVERYTHING = table(*(c for c in INSTANCE.columns if c.paths), *ASKED)
SINGLE: Mapping[str, Callable[[v.AttributeValues], object]] = {
    "text": v.text,
    "number_text": v.number_text,
    "real": v.real,
    "day": v.day,
    "name": v.person_name,
    "ideographic": lambda values: v.person_name(values, "Ideographic"),
}


def plainly(column: Column, header: Json) -> object:
    """The value of a column the slow way: a walk over the header whole, from its top."""
    found = [_walked(header, p.steps) for p in column.paths]
    if column.form == "whole":
        return v.whole(found[0], 64 if column.type == INT64 else 32)
    if column.form == "moment":
        return v.moment(found[0], found[1], found[2], None)
    if column.form == "instant":
        first = v.instant(found[0], found[3], None)
        return _for_want(first, v.moment(found[1], found[2], found[3], None))
    if column.form == "years":
        return _for_want(v.years(found[0]), v.years_between(found[1], found[2]))
    if column.form == "code":
        return v.code_of(*found)
    return SINGLE[column.form or ""](found[0])


def _for_want(first: object, second: object) -> object:
    is_good = first is not None and not isinstance(first, v.Unparsable)
    return first if is_good or second is None else second


def _walked(item: object, steps: Sequence[Step]) -> v.AttributeValues:
    if not isinstance(item, dict):
        return v.values_of(item)
    first, *rest = steps
    values = v.values_of(item.get(_tag(item, first)))
    if values is None:
        return None
    if first.index != ALL and first.attribute.vr not in {"LT", "ST", "UR", "UT"}:
        values = [o for v in values for o in (v.split("\\") if isinstance(v, str) else [v])]
    chosen = values if first.index == ALL else values[first.index : first.index + 1]
    if not rest:
        return chosen
    return [value for inner in chosen for value in _walked(inner, rest) or ()]


def _tag(item: Json, step: Step) -> str:
    tag = step.attribute.tag
    if step.creator is None:
        return tag
    blocks = [t for t in sorted(item) if re.fullmatch(f"{tag[:4]}00[1-9A-F][0-9A-F]", t)]
    mine = [t for t in blocks if v.text(v.values_of(item[t])) == step.creator]
    found = [f"{tag[:4]}{block[6:]}{tag[6:]}" for block in mine]
    return next((t for t in found if t in item), "")


@settings(max_examples=300)
@given(st.lists(HEADERS, min_size=1, max_size=3))
def test_whatever_stands_in_headers_the_values_are_those_of_a_plain_walk(
    headers: list[Json],
) -> None:
    """Nothing raises, Arrow takes every value, and what does not parse is counted."""
    made = extraction(EVERYTHING)
    found, unparsable = made.columns(decoded(made, *headers))
    expected = {c.name: [plainly(c, header) for header in headers] for c in EVERYTHING.columns}
    counted = Counter(
        f"{name}: {value.value}"
        for name, values in expected.items()
        for value in values
        if isinstance(value, v.Unparsable)
    )
    assert unparsable == counted
    assert found == {
        name: [None if isinstance(value, v.Unparsable) else value for value in values]
        for name, values in expected.items()
    }
    schema = EVERYTHING.arrow()
    assert pa.Table.from_pydict(found, schema).to_pydict() == found


@given(HEADERS)
def test_whatever_stands_in_a_header_its_map_holds_every_tag(header: Json) -> None:
    """And Arrow takes it."""
    made = header_map(json.dumps(header).encode())
    assert made is not None
    assert [tag for tag, _ in made] == list(header)
    schema = pa.schema([INSTANCE["metadata"].field()])
    assert pa.Table.from_pydict({"metadata": [made]}, schema).to_pydict() == {"metadata": [made]}


@given(st.binary(max_size=40) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_bytes_a_header_is_nothing_raises(raw: bytes) -> None:
    """It is a header or it is none, for the columns and for the map alike."""
    made = extraction(EVERYTHING)
    header = made.decode(raw)
    assert (header is None) == (header_map(raw) is None)
    if header is not None:
        made.columns([header])
        assert not made.is_of(header, UIDS)
