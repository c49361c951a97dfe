"""The oracle against values worked out by hand, because everything else leans on it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_assets_tests.property import values
from dicom_assets_tests.property.expected import INSTANCE, Header, Row, series_of, shown, studies_of
from dicom_assets_tests.property.headers import item, minimal_header
from dicom_assets_tests.property.histories import START
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Key, Replay, Span

KEY = Key("Microsoft.Default", "1.1", "1.2", "1.3")
OTHER = Key("Microsoft.Default", "1.1", "1.2", "1.4")
DAY = Span(START, START + 24 * TICKS_PER_HOUR)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(hour: int) -> int:
    """The tick of a full hour."""
    return START + hour * TICKS_PER_HOUR


def header(**attributes: Any) -> Header:  # noqa: ANN401 - whatever JSON holds
    """A header: `t00081030="A"` is a StudyDescription; a list stands for several values."""
    return {
        name[1:]: {"vr": "??", "Value": value if isinstance(value, list) else [value]}
        for name, value in attributes.items()
    }


# --- values of attributes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], None),
        ([None], None),
        ([" \0"], None),
        (["A \0"], "A"),
        ([" A"], " A"),
        (["A ", None, "B"], r"A\\B"),
        ([None, "", " "], None),
        ([7, 2.0, 2.5, 1e300], r"7\2\2.5\1e+300"),
        ([True], None),
        (["A", {"a": 1}], None),
    ],
)
def test_text_loses_its_padding_and_nothing_else(found: list[Any], text: str | None) -> None:
    """Trailing spaces and NUL go; several values are joined; only padding is null."""
    assert values.text_of(found) == text


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        (" 20240229 ", date(2024, 2, 29)),
        ("20230229", None),
        ("2024.0229", None),
        ("2024-02-29", None),
        ("", None),
    ],
)
def test_a_day_has_one_of_two_forms(value: str, day: date | None) -> None:
    """Anything else is null, and so are two of them."""
    assert values.date_of([value]) == day
    assert values.date_of([value, value]) is None


@pytest.mark.parametrize(
    ("value", "clock"),
    [
        ("23", time(23)),
        ("0915", time(9, 15)),
        ("101530", time(10, 15, 30)),
        ("101530.5", time(10, 15, 30, 500_000)),
        ("235959.999999", time(23, 59, 59, 999_999)),
        ("10:15:30", time(10, 15, 30)),
        ("10:15:30.25 ", time(10, 15, 30, 250_000)),
        ("235960", time(23, 59, 59, 999_999)),
        ("235960.25", time(23, 59, 59, 999_999)),
        *((text, None) for text in ("24", "1060", "1", "10153", "1015.5", "10:15", "10:1530", "")),
        *(
            (text, None)
            for text in ("101530.", "101530.1234567", "noon", "10:15:3", "٠٩", "101561")
        ),
        *((text, None) for text in ("10:15:30.2:5", "10:15:30.")),
    ],
)
def test_a_time_has_an_hour_and_perhaps_more(value: str, clock: time | None) -> None:
    """The older form with colons has all three parts; a fraction has one to six digits."""
    assert values.time_of([value]) == clock


@pytest.mark.parametrize(
    ("value", "minutes"),
    [
        ("+0000", 0),
        ("+0530", 330),
        ("-0930 ", -570),
        ("+1400", 840),
        ("-1200", -720),
        *((text, None) for text in ("+1401", "-1201", "-0000", "+0160", "+01:00", "0100", "Z", "")),
    ],
)
def test_an_offset_is_hours_and_minutes_ahead(value: str, minutes: int | None) -> None:
    """With a sign, from -12:00 to +14:00 (PS3.3 C.12.1.1.8)."""
    expected = None if minutes is None else timedelta(minutes=minutes)
    assert values.offset_of([value]) == expected


@pytest.mark.parametrize(
    ("found", "whole", "real"),
    [
        ([5], 5, 5.0),
        ([5.0], 5, 5.0),
        (["+5"], 5, 5.0),
        ([" 12 "], 12, 12.0),
        ([-0.75], None, -0.75),
        (["1e-1"], None, 0.1),
        (["1e2"], None, 100.0),
        (["7.00 "], 7, 7.0),
        (["7.5"], None, 7.5),
        ([".5"], None, 0.5),
        ([2**31], None, 2147483648.0),
        ([-(2**31)], -2147483648, -2147483648.0),
        ([10**400], None, None),
        ([1, 2], None, None),
        ([None, 5], None, None),
        ([True], None, None),
        ([], None, None),
        *(
            ([text], None, None)
            for text in ("NaN", "inf", "1e999", "1_0", "٣", "0x1", "1,5", ".", "")
        ),
    ],
)
def test_a_number_stands_alone(found: list[Any], whole: int | None, real: float | None) -> None:
    """As a number or as text; a whole one has no fraction and 32 bits, a real one is finite."""
    assert (values.whole_of(found), values.real_of(found)) == (whole, real)


def test_names_are_their_first_group_and_numbers_are_text() -> None:
    """PN and IS as the template shows them."""
    assert values.name_of([{"Alphabetic": "A^B "}, {"Ideographic": "山"}, {}]) == "A^B\\山\\"
    assert values.name_of([{"Alphabetic": "^ ^=split^", "Ideographic": " "}]) == "split"
    assert values.name_of(["A^B^^=山"]) == "A^B"
    assert values.name_of(["^^^^", "=="]) is None
    assert values.name_of(["A^B "]) == "A^B"
    assert values.number_text_of([7]) == "7"
    assert values.number_text_of([" +5 "]) == "+5"


# --- columns of instance that are made of several attributes --------------------------------------

EAST = {"t00080201": "+0530"}
MOMENTS = {
    "study_timestamp": ("t00080020", "t00080030"),
    "series_timestamp": ("t00080021", "t00080031"),
    "acquisition_timestamp": ("t00080022", "t00080032"),
    "content_timestamp": ("t00080023", "t00080033"),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_has_a_date_a_time_and_an_offset(name: str) -> None:
    """What is five and a half hours ahead of UTC is that much earlier there; else null."""
    day, clock = MOMENTS[name]
    whole = {day: "20260101", clock: "0400", **EAST}
    assert shown(header(**whole))[name] == datetime(2025, 12, 31, 22, 30, tzinfo=UTC)
    west = header(**{**whole, "t00080201": "-0100"})
    assert shown(west)[name] == datetime(2026, 1, 1, 5, tzinfo=UTC)
    for lacking in whole:
        assert shown(header(**{t: v for t, v in whole.items() if t != lacking}))[name] is None
        assert shown(header(**{**whole, lacking: "x"}))[name] is None


def test_what_is_too_early_for_spark_is_null() -> None:
    """Days before the Gregorian calendar, moments before 1900; the text is kept."""
    first = shown(header(t00080020="19000101", t00080030="00", t00080201="+0001"))
    assert (first["study_timestamp"], first["studydate_formatted"]) == (None, date(1900, 1, 1))
    first = shown(header(t00080020="15821014", t00080030="00", t00080201="-0100"))
    assert (first["studydate"], first["studydate_formatted"]) == ("15821014", None)


@pytest.mark.parametrize(
    ("instant", "moment"),
    [
        ("20260101040000.5", datetime(2025, 12, 31, 22, 30, 0, 500_000, tzinfo=UTC)),
        ("202601010400-0100", datetime(2026, 1, 1, 5, tzinfo=UTC)),
        ("2026010104", datetime(2025, 12, 31, 22, 30, tzinfo=UTC)),
        *((text, NOON) for text in ("20260101", "20260101+0100", "2026", "20260230040000", "")),
        *((text, NOON) for text in ("2026010104+1500", "2026010104.5", "202601014", "20260101 04")),
    ],
)
def test_an_acquisition_is_an_instant_or_else_a_date_and_a_time(
    instant: str, moment: datetime
) -> None:
    """Its own offset counts first; a day is no moment, and then the other pair is asked."""
    found = header(t0008002A=instant, t00080022="20260101", t00080032="1730", **EAST)
    assert shown(found)["acquisition_timestamp"] == moment


def test_an_instant_without_any_offset_is_null() -> None:
    """The site's zone is not known here; an offset of its own is enough."""
    assert shown(header(t0008002A="2026010112"))["acquisition_timestamp"] is None
    assert shown(header(t0008002A="2026010112+0000"))["acquisition_timestamp"] == NOON


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("045Y", 45.0),
        ("018M ", 1.5),
        ("010W", 70 / 365.2425),
        ("003D", 3 / 365.2425),
        *((text, 366 / 365.2425) for text in ("", "45Y", "045y", "4500D", "Y045")),
    ],
)
def test_an_age_is_told_or_else_counted(age: str, years: float) -> None:
    """From birth to the day of the study when PatientAge does not say."""
    dates = {"t00100030": "20240229", "t00080020": "2025.03.01"}
    assert shown(header(t00101010=age, **dates))["patientage_years"] == pytest.approx(years)


def test_nobody_is_examined_before_birth() -> None:
    """A negative age is null; the day of birth is 0."""
    dates = {"t00100030": "20240301", "t00080020": "20240229"}
    assert shown(header(**dates))["patientage_years"] is None
    assert shown(header(**dates | {"t00080020": "20240301"}))["patientage_years"] == 0.0
    assert shown(header(t00080020="20240301"))["patientage_years"] is None


@pytest.mark.parametrize(
    ("items", "code", "meaning"),
    [
        ([item(_00080100="T-1 ", _00080102="SRT", _00080104="Head ")], "SRT:T-1", "Head"),
        ([item(_00080102="LN", _00080119="2472")], "LN:2472", None),
        ([item(_00080120="urn:x"), item(_00080100="B")], "urn:x", None),
        ([item(_00080100=" ", _00080119="L", _00080120="urn:x")], "L", None),
        ([item(_00080102="SRT", _00080104="Head")], None, "Head"),
        ([{}, item(_00080100="B", _00080104="Chest")], None, None),
        ([None], None, None),
        ([], None, None),
    ],
)
def test_a_code_is_that_of_the_first_item(
    items: list[Any], code: str | None, meaning: str | None
) -> None:
    """Its scheme before its value, if it has one; the long and the URN value come after."""
    row = shown(header(t00081032=items, t00082218=items))
    assert (row["procedure_code"], row["procedure_code_meaning"]) == (code, meaning)
    assert (row["anatomic_region_code"], row["anatomic_region_code_meaning"]) == (code, meaning)


def test_pixel_spacing_has_a_row_and_a_column() -> None:
    """Either may be missing, and the other stays."""
    found = ([0.5, "0.7"], ["x", 1, 9], [2.0])
    pixels = [shown(header(t00280030=several)) for several in found]
    spacing = [(row["pixelspacing_row"], row["pixelspacing_column"]) for row in pixels]
    assert spacing == [(0.5, 0.7), (None, 1.0), (2.0, None)]


def test_what_is_not_of_the_standards_form_is_null_or_alone() -> None:
    """An attribute that is no object is null; a value that is no list is the only one."""
    row = shown({"00080060": "CT", "00081010": {"vr": "SH", "Value": "A"}, "00180015": {}})
    assert (row["modality"], row["stationname"], row["bodypartexamined"]) == (None, "A", None)


# --- the archive ----------------------------------------------------------------------------------


def test_the_newest_entry_decides_and_the_greatest_create_is_the_reception() -> None:
    """Create, update, delete, create with a clock that steps back, update."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY), at(3), 1)
    replay.update([KEY], {}, at(4), [2])
    replay.delete([KEY], at(5), [3])
    replay.store(KEY, minimal_header(KEY), at(2), 10)
    replay.update([KEY], {}, at(12), [11])
    (row,) = replay.instances(DAY)
    assert (row["sequence"], row["lastModifiedTimestamp"]) == (11, NOON)
    assert row["received_timestamp"] == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert [replay.state(entry) for entry in replay.entries] == ["Replaced"] * 4 + ["Current"]


def test_what_expired_is_gone_without_an_entry() -> None:
    """Its entries read Deleted, and it has no row."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY), at(1), 1)
    replay.expire([KEY])
    assert [replay.state(entry) for entry in replay.entries] == ["Deleted"]
    assert replay.instances(DAY) == []


# --- series and study -----------------------------------------------------------------------------

EMPTY = dict.fromkeys(column.name for column in INSTANCE)


def rows(*several: Row) -> list[Row]:
    """Instances of one series, the oldest first, each with these columns."""
    return [
        {**EMPTY, **dict(zip(KEYS, KEY, strict=True)), "sopinstanceuid": f"1.{n}", "sequence": n}
        | row
        for n, row in enumerate(several, 1)
    ]


KEYS = ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid")


def the_series(*several: Row) -> Row:
    """The series of such instances."""
    (row,) = series_of(rows(*several))
    return row


def the_study(*several: Row, url: str | None = None) -> Row:
    """The study of such instances."""
    (row,) = studies_of(rows(*several), url)
    return row


def test_a_rollup_takes_the_newest_value_there_is() -> None:
    """The newer instance has no description, so the older one's counts; the count is both."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY) | header(t00081030="old"), at(1), 1)
    replay.store(OTHER, minimal_header(OTHER), at(0), 2)
    (study,) = studies_of(replay.instances(DAY))
    assert (study["studyDescription"], study["instanceCount"], study["sequence"]) == ("old", 2, 2)
    assert (study["seriesCount"], study["lastModifiedTimestamp"].hour) == (1, 0)
    assert study["firstReceivedTimestamp"].hour == 0


def test_different_values_are_split_sorted_and_joined() -> None:
    """By code point, each once, whichever instance has it."""
    found = the_study({"modality": "MR\\CT"}, {"modality": "ct\\\\CT"}, {})
    assert found["modalitiesInStudy"] == "CT\\MR\\ct"
    assert the_study({}, {})["modalitiesInStudy"] is None


def test_a_sop_class_is_shown_by_its_name() -> None:
    """In the order of the names; a class without one by its UID."""
    mr, ct = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2"
    found = the_series({"sopclassuid": mr}, {"sopclassuid": ct}, {"sopclassuid": "1.9"})
    assert found["sopClassUids"] == f"{ct}\\{mr}\\1.9"
    assert found["sopClassNames"] == "1.9\\CT Image Storage\\MR Image Storage"


def test_what_differs_has_no_common_value() -> None:
    """The size of images is null when there are several; an image without one does not count."""
    assert the_series({"rows": 512}, {})["rows"] == 512
    assert the_series({"columns": 512}, {"columns": 256})["columns"] is None
    assert the_series({"slicethickness": 1.5}, {"slicethickness": 1.5})["sliceThickness"] == 1.5


def test_an_image_is_one_frame_unless_it_says_more() -> None:
    """Nothing, none and less than none are one."""
    frames: tuple[Row, ...] = (
        {},
        {"numberofframes": 0},
        {"numberofframes": -3},
        {"numberofframes": 10},
    )
    assert the_series(*frames)["frameCount"] == 13


def test_the_number_of_a_series_is_the_newest_that_is_one() -> None:
    """The column of `instance` is text, as the template's is."""
    found = the_series(*({"seriesnumber": text} for text in ("1", "+7", "five", "2147483648")))
    assert found["seriesNumber"] == 7


def test_conflicts_are_attributes_with_several_values() -> None:
    """No value is no value: it contradicts nothing. What is shown otherwise is not counted."""
    one = {"modality": "CT", "seriesnumber": "5", "protocolname": "A", "studyid": "A"}
    two = {"modality": "MR", "seriesnumber": "+5", "protocolname": None, "studyid": "B"}
    assert the_series(one, two)["conflictCount"] == 2
    one = {"patientid": "A", "studytime": "10", "modality": "CT", "studydate": "20260101"}
    two = {"patientid": "B", "studytime": None, "modality": "MR", "studydate": "2026.01.01"}
    study = the_study(one, two)
    assert (study["conflictCount"], study["patientIdCount"]) == (1, 2)
    assert the_study({}, {})["patientIdCount"] == 0


def test_acquisitions_span_the_seconds_from_the_first_to_the_last() -> None:
    """The time of the content stands in, instance by instance."""
    half = timedelta(milliseconds=500)
    found = the_study(
        {"acquisition_timestamp": NOON, "content_timestamp": NOON - half},
        {"content_timestamp": NOON + 3 * half},
        {},
    )
    assert found["firstAcquisitionTimestamp"] == NOON
    assert found["lastAcquisitionTimestamp"] == NOON + 3 * half
    assert found["acquisitionDurationSeconds"] == 1.5
    assert the_study({"content_timestamp": NOON})["acquisitionDurationSeconds"] == 0.0
    assert the_study({})["acquisitionDurationSeconds"] is None


def test_a_study_has_an_address_where_the_service_is_known() -> None:
    """The default data partition is not named there, another one is."""
    assert the_study({})["wadoRsUri"] is None
    url = "https://dicom.example"
    assert the_study({}, url=url)["wadoRsUri"] == "https://dicom.example/v2/studies/1.1"
    other = the_study({"partitionName": "clinic-b"}, url=url)
    assert other["wadoRsUri"] == "https://dicom.example/v2/partitions/clinic-b/studies/1.1"


# --- the hours ------------------------------------------------------------------------------------


def test_an_hour_is_sealed_with_its_sequences() -> None:
    """Counted by action; the digest is that of eight bytes for each sequence, little-endian."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY), at(0), 258)
    replay.delete([KEY], at(0) + 10, [2**33])
    first, second = replay.sync(Span(at(0) + 10, at(1) + 5))
    assert (first["creates"], first["deletes"], first["firstSequence"]) == (0, 1, 2**33)
    assert second["firstSequence"] is None
    (whole,) = replay.sync(Span(at(0), at(1)))
    packed = bytes([2, 1, 0, 0, 0, 0, 0, 0]) + bytes([0, 0, 0, 0, 2, 0, 0, 0])
    assert whole["digest"] == hashlib.sha256(packed).hexdigest()
    assert first["windowStart"] > whole["windowStart"] == whole["hour"]


# --- the oracle itself ----------------------------------------------------------------------------


def test_the_oracle_shares_nothing_with_the_project() -> None:
    """Neither its code nor the libraries that it stands on: a fault would be on both sides."""
    asked = "import sys, dicom_assets_tests.property.oracle; print(*sys.modules)"
    root = Path(__file__).parents[2]
    loaded = subprocess.check_output([sys.executable, "-c", asked], cwd=root, text=True).split()
    assert "dicom_assets_tests.property.values" in loaded
    assert {"dicom_assets", "pyarrow", "pydicom", "deltalake"}.isdisjoint(loaded)
