"""Entries become rows: what is theirs, what their headers show, and what cannot be used."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import INSTANCE
from dicom_assets.schema.columns import attribute
from dicom_assets_tests.support.entries import Json, entry, header, header_with, page

READER = RowReader()


def entries_of(body: bytes) -> list[Entry]:
    """Return the usable entries of a page."""
    return [row for _, row in decode_page(body) if isinstance(row, Entry)]


def row_of(**elements: object) -> Json:
    """Return the row that becomes of a header with these elements."""
    rows, rejections, _ = READER.read(entries_of(page(entry(metadata=header_with(**elements)))))
    assert rejections == []
    [row] = rows.to_pylist()
    return dict(row)


def unparsable_of(**elements: object) -> dict[str, int]:
    """Return how many values of a header with these elements did not parse."""
    _, _, unparsable = READER.read(entries_of(page(entry(metadata=header_with(**elements)))))
    return unparsable


def test_a_row_of_the_captured_form() -> None:
    """Every column has its value, its type and its place."""
    rows, rejections, unparsable = READER.read(entries_of(page(entry(filePath="a/b.dcm"))))
    assert rows.schema == INSTANCE.arrow()
    assert (rejections, unparsable) == ([], {})
    row = rows.to_pylist()[0]
    assert {name: value for name, value in row.items() if value is not None} == {
        "partitionName": "Microsoft.Default",
        "studyinstanceuid": "1.2.826.0.1.3680043.8.498.13",
        "seriesinstanceuid": "1.2.826.0.1.3680043.8.498.77",
        "sopinstanceuid": "1.2.826.9",
        "lastModifiedTimestamp": datetime(2022, 11, 25, 8, 44, 12, 352489, tzinfo=UTC),
        "studydate": "20200922",
        "studydate_formatted": date(2020, 9, 22),
        "patientid": "ID1",
        "patientname": "Anony Mous",
        "modality": "OT",
        "sopclassuid": "1.2.840.10008.5.1.4.1.1.7",
        "filepath": "a/b.dcm",
        "metadata_string": json.dumps(header(), separators=(",", ":")),
        "referringphysicianname": "Doctor Doc",
        "studytime": "120000",
        "seriesnumber": "2",
        "instancenumber": "1",
        "sequence": 1263,
        "imagetype": "DERIVED\\SECONDARY\\OTHER",
        "pixelspacing_row": 1.0,
        "pixelspacing_column": 1.0,
        "specificcharacterset": "ISO_IR 192",
    }


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ({"vr": "LO"}, None),
        ({"vr": "LO", "Value": None}, None),
        ({"vr": "LO", "Value": []}, None),
        ({"vr": "LO", "Value": [None]}, None),
        ({"vr": "LO", "Value": [""]}, None),
        ({"vr": "LO", "Value": ["  \0"]}, None),
        (None, None),
        ({"vr": "LO", "Value": ["A  "]}, "A"),
        ({"vr": "LO", "Value": ["A\0"]}, "A"),
        ({"vr": "LO", "Value": ["A \0 \0"]}, "A"),
        ({"vr": "LO", "Value": [" A"]}, " A"),
        ({"vr": "LO", "Value": ["A\t"]}, "A\t"),
        ({"vr": "LO", "Value": ["Ä\u0000B"]}, "Ä\u0000B"),
        ({"vr": "LO", "Value": ["A ", "B "]}, "A\\B"),
        ({"vr": "LO", "Value": ["A", None, "B"]}, "A\\\\B"),
        ({"vr": "LO", "Value": [None, "B"]}, "\\B"),
        ({"vr": "LO", "Value": [None, " "]}, None),
        ({"Value": ["no vr"]}, "no vr"),
        ({"vr": "XX", "Value": ["wrong vr"]}, "wrong vr"),
        ({"vr": 5, "Value": ["vr of a wrong type"]}, "vr of a wrong type"),
        ({"vr": "LO", "Value": "not in a list "}, "not in a list"),
        ({"vr": "LO", "Value": 12}, "12"),
        ({"vr": "LO", "BulkDataURI": "http://x"}, None),
        ({"vr": "LO", "InlineBinary": "AAAA"}, None),
        ({"vr": "LO", "Value": [1, "b", 2.5]}, "1\\b\\2.5"),
    ],
)
def test_text(element: object, text: str | None) -> None:
    """Padding goes, empty is null, several values are joined by a backslash."""
    assert row_of(t00100020=element)["patientid"] == text
    assert unparsable_of(t00100020=element) == {}


@pytest.mark.parametrize(
    ("element", "name"),
    [
        ({"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane "}]}, "Doe^Jane"),
        ({"vr": "PN", "Value": [{"Alphabetic": "A^B", "Ideographic": "山田"}]}, "A^B"),
        ({"vr": "PN", "Value": [{"Ideographic": "山田"}]}, "山田"),
        ({"vr": "PN", "Value": [{"Alphabetic": None}]}, None),
        ({"vr": "PN", "Value": [{}]}, None),
        ({"vr": "PN", "Value": [None]}, None),
        ({"vr": "PN", "Value": ["Doe^Jane"]}, "Doe^Jane"),
        ({"vr": "PN", "Value": "Doe^Jane"}, "Doe^Jane"),
        ({"vr": "PN", "Value": {"Alphabetic": "Doe^Jane"}}, "Doe^Jane"),
        ({"vr": "PN", "Value": [{"Alphabetic": "A"}, {"Alphabetic": "B"}]}, "A\\B"),
        ({"vr": "PN"}, None),
    ],
)
def test_names(element: object, name: str | None) -> None:
    """Of a name the alphabetic group is read, also where it is plain text."""
    assert row_of(t00100010=element)["patientname"] == name
    assert unparsable_of(t00100010=element) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2"),
        (2.0, "2"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (9007199254740993, "9007199254740993"),
        (18446744073709551616, "18446744073709551616"),
        (" 12 ", "12"),
        ("+5", "+5"),
        ("   ", None),
        (None, None),
    ],
)
def test_numbers(value: object, text: str | None) -> None:
    """An integral number has no fraction, any other its shortest digits."""
    assert row_of(t00200013={"vr": "IS", "Value": [value]})["instancenumber"] == text


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20230203", date(2023, 2, 3)),
        ("2023.02.03", date(2023, 2, 3)),
        (" 20230203 ", date(2023, 2, 3)),
        ("20000229", date(2000, 2, 29)),
        ("00010101", None),
        ("99991231", date(9999, 12, 31)),
        ("", None),
        ("   ", None),
    ],
)
def test_dates(text: str, day: date | None) -> None:
    """Both forms of DICOM are dates. The text stays beside it, without its padding."""
    row = row_of(t00080020={"vr": "DA", "Value": [text]})
    assert row["studydate_formatted"] == day
    assert row["studydate"] == (text.rstrip(" ") or None)


@pytest.mark.parametrize(
    "text",
    ["00000000", "19000229", "20231301", "2023-02-03", "2023.0203", "20230203-20230301", "2023",
     "x", "20230203\\20230204", "²0230203", "२०२३०२०३"],
)  # fmt: skip
def test_what_is_no_date_is_null_and_counted(text: str) -> None:
    """The text is kept, so that it can be looked at."""
    element = {"vr": "DA", "Value": [text]}
    row = row_of(t00080020=element)
    assert row["studydate_formatted"] is None
    assert row["studydate"] == text
    why = "no such day" if text in {"00000000", "19000229", "20231301"} else "not a date"
    counted = {f"studydate_formatted: {why}": 1, f"study_timestamp: {why}": 1}
    assert unparsable_of(t00080020=element) == counted


@pytest.mark.parametrize(
    "element",
    [
        "text instead of an element",
        5,
        ["list"],
        True,
        {"vr": "LO", "Value": [True]},
        {"vr": "LO", "Value": [{"a": 1}]},
        {"vr": "LO", "Value": {"a": 1}},
        {"vr": "LO", "Value": [["x"]]},
        {"vr": "LO", "Value": ["a", {"b": 1}]},
        {"vr": "PN", "Value": [{"Alphabetic": "a name where none belongs"}]},
    ],
)
def test_what_is_no_text_is_null_and_counted(element: object) -> None:
    """Whatever stands in one attribute, the others and the row are not the worse for it."""
    row = row_of(t00100020=element)
    assert row["patientid"] is None
    assert row["patientname"] == "Anony Mous"
    assert unparsable_of(t00100020=element) == {"patientid: not text": 1}


def test_a_name_that_is_no_name_is_null_and_counted() -> None:
    """The group of a name is text."""
    element = {"vr": "PN", "Value": [{"Alphabetic": 5}]}
    assert unparsable_of(t00100010=element) == {"patientname: not text": 1}


def test_unparsable_values_are_counted_by_column_and_reason() -> None:
    """Over all the rows of a page."""
    bad = header_with(t00080020={"vr": "DA", "Value": ["x"]}, t00100020=5)
    entries = entries_of(page(entry(1, metadata=bad), entry(2), entry(3, metadata=bad)))
    rows, _, unparsable = READER.read(entries)
    assert unparsable == {
        "studydate_formatted: not a date": 2,
        "study_timestamp: not a date": 2,
        "patientid: not text": 2,
    }
    assert rows["patientid"].to_pylist() == [None, "ID1", None]


@pytest.mark.parametrize("tag", ["0020000D", "0020000E", "00080018"])
@pytest.mark.parametrize(
    "element",
    [{"vr": "UI", "Value": ["9.9"]}, {"vr": "UI"}, None, {"vr": "UI", "Value": [["x"]]}],
)
def test_a_header_of_another_instance_is_a_rejection(tag: str, element: object) -> None:
    """The UIDs inside the header are those of the entry, or the header is not believed."""
    wrong = header_with(**{f"t{tag}": element})
    rows, rejections, _ = READER.read(entries_of(page(entry(1, metadata=wrong), entry(2))))
    assert [(r.sequence, r.reason) for r in rejections] == [(1, "header is of another instance")]
    assert rows["sequence"].to_pylist() == [2]


def test_padding_of_a_uid_is_no_difference() -> None:
    """The service keeps null padding."""
    padded = header(study="1.2.3\0", series="1.2.3 ", sop="1.2.3")
    made = entry(
        metadata=padded, studyInstanceUid="1.2.3", seriesInstanceUid="1.2.3", sopInstanceUid="1.2.3"
    )
    rows, rejections, _ = READER.read(entries_of(page(made)))
    assert rejections == []
    assert rows["studyinstanceuid"].to_pylist() == ["1.2.3"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"00100020":{"vr":"LO","Value":["\xff"]}}',
        b'{"00091001":{"vr":"LO","Value":["\xff"]}}',
        b"[]",
        b"5",
        b'"text"',
    ],
    ids=["UTF-8", "UTF-8 elsewhere", "array", "number", "text"],
)
def test_a_header_that_cannot_be_decoded_is_a_rejection(raw: bytes) -> None:
    """The others of the page land."""
    body = page(entry(1), entry(2, metadata="HERE"), entry(3)).replace(b'"HERE"', raw)
    rows, rejections, _ = READER.read(entries_of(body))
    assert [(r.sequence, r.reason) for r in rejections] == [(2, "header cannot be decoded")]
    assert rows["sequence"].to_pylist() == [1, 3]


@pytest.mark.parametrize("number", ["1e999", "9" * 5_000], ids=["1e999", "5,000 digits"])
def test_a_number_that_no_machine_holds_is_null_and_counted(number: str) -> None:
    """The rest of its header is not the worse for it."""
    body = page(entry(metadata=header_with(t00280010={"vr": "US", "Value": ["HERE"]})))
    rows, rejections, unparsable = READER.read(entries_of(body.replace(b'"HERE"', number.encode())))
    assert (rejections, rows["rows"].to_pylist()) == ([], [None])
    assert unparsable == {"rows: not a number": 1}
    assert number in rows["metadata_string"][0].as_py()


def test_a_header_with_lower_case_tags_is_named_as_such() -> None:
    """The reason leads to the service that writes them, and not to another instance."""
    lower = {tag.lower(): element for tag, element in header().items()}
    _, rejections, _ = READER.read(entries_of(page(entry(metadata=lower))))
    assert [r.reason for r in rejections] == ["header has lower-case tags"]


def test_an_entry_without_header_is_a_rejection() -> None:
    """A Current entry has one. If not, something is wrong with it."""
    _, rejections, _ = READER.read(entries_of(page(entry(1, metadata=None))))
    assert [(r.sequence, r.reason) for r in rejections] == [(1, "header absent")]


def test_large_things_land() -> None:
    """A string of ten megabytes, an array of 100,000, private and duplicate tags."""
    made = header_with(
        t00100020={"vr": "LO", "Value": ["x" * 10_000_000]},
        t00080061={"vr": "CS", "Value": ["CT"] * 100_000},
        t00091001={"vr": "LO", "Value": ["private"]},
    )
    rows, rejections, _ = READER.read(entries_of(page(entry(metadata=made))))
    assert rejections == []
    assert len(rows["patientid"][0].as_py()) == 10_000_000
    assert rows["modalitiesinstudy"][0].as_py().count("\\") == 99_999


def test_of_a_tag_given_twice_the_last_counts() -> None:
    """As in every JSON reader. The header keeps both."""
    raw = json.dumps(header()).replace(
        '"00100020"', '"00100020":{"vr":"LO","Value":["A"]},"00100020"'
    )
    body = page(entry(metadata="HERE")).replace(b'"HERE"', raw.encode())
    rows, _, _ = READER.read(entries_of(body))
    assert rows["patientid"].to_pylist() == ["ID1"]
    assert rows["metadata_string"].to_pylist() == [raw]


def test_lower_case_tags_are_not_the_standards() -> None:
    """PS3.18 F.2.2: tags are upper case. Any other key is ignored."""
    assert row_of(t0020000d={"vr": "UI", "Value": ["9.9"]})["studyinstanceuid"] is not None


def test_no_entries_are_an_empty_table() -> None:
    """It has every column all the same."""
    rows, rejections, unparsable = READER.read([])
    assert (rows.num_rows, rejections, unparsable) == (0, [], {})
    assert rows.schema == INSTANCE.arrow()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
MEMBERS = st.sampled_from(["vr", "Value", "Alphabetic", "x"])
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["00100010", "00080061", "00200013"]), JSON_VALUES))
def test_whatever_stands_in_a_header_the_page_lands(elements: dict[str, object]) -> None:
    """An odd header gives a row or a rejection, never an error, and its neighbour a row."""
    odd = header() | elements
    rows, rejections, unparsable = READER.read(entries_of(page(entry(1, metadata=odd), entry(2))))
    assert rows["sequence"].to_pylist()[-1] == 2
    assert rows.num_rows + len(rejections) == 2
    columns = {counted.split(":")[0] for counted in unparsable}
    assert columns <= {"patientname", "modalitiesinstudy", "instancenumber"}
    assert all(isinstance(rejection, Rejection) for rejection in rejections)


@pytest.mark.parametrize(
    ("kept", "filled"),
    [
        ("string", {"metadata_string"}),
        ("map", {"metadata"}),
        ("both", {"metadata", "metadata_string"}),
    ],
)
def test_the_header_is_kept_in_the_form_that_is_asked_for(kept: str, filled: set[str]) -> None:
    """As text, as the template's map, or both. The columns are there in any case."""
    rows, _, _ = RowReader(header_columns=kept).read(entries_of(page(entry())))
    [row] = rows.select(["metadata", "metadata_string"]).to_pylist()
    assert {name for name, value in row.items() if value is not None} == filled
    if "metadata" in filled:
        assert dict(row["metadata"])["00200011"] == {"vr": "IS", "Value": ["2"]}


def test_a_time_without_offset_is_that_of_the_site() -> None:
    """Without a zone there is no time at all."""
    entries = entries_of(page(entry()))
    vienna, _, _ = RowReader(zone="Europe/Vienna").read(entries)
    nowhere, _, _ = READER.read(entries)
    assert vienna["study_timestamp"].to_pylist() == [datetime(2020, 9, 22, 10, 0, tzinfo=UTC)]
    assert nowhere["study_timestamp"].to_pylist() == [None]


def test_a_column_that_a_user_added_is_read_too() -> None:
    """It comes last, and an attribute that stands beside the others is not lost."""
    added = replace(INSTANCE, columns=(*INSTANCE.columns, attribute("PatientSex", "sex")))
    made = header_with(t00100040={"vr": "CS", "Value": ["F "]})
    rows, _, _ = RowReader(added).read(entries_of(page(entry(metadata=made))))
    assert rows.column_names == [*INSTANCE.names, "sex"]
    assert (rows["sex"].to_pylist(), rows["patientsex"].to_pylist()) == (["F"], ["F"])


def test_types_of_the_columns_hold_for_delta() -> None:
    """No naive time, no unsigned number."""
    rows, _, _ = READER.read(entries_of(page(entry())))
    assert rows.schema.field("lastModifiedTimestamp").type == pa.timestamp("us", "UTC")
    assert rows.schema.field("sequence").type == pa.int64()
