"""AttributeValues of attributes become values of columns, or say why not. Nothing raises."""

import math
import re
from datetime import UTC, date, datetime
from functools import partial
from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from dicom_assets.header.values import (
    AttributeValues,
    Group,
    Unparsable,
    clock,
    code_of,
    day,
    instant,
    moment,
    number_text,
    person_name,
    real,
    text,
    values_of,
    whole,
    years,
    years_between,
)

BERLIN = ZoneInfo("Europe/Berlin")
SURROGATE = "\ud83d"
DIGITS_5000 = "9" * 5_000
U = Unparsable


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, None),
        ([], None),
        ([None], None),
        ([""], None),
        (["  \0"], None),
        ([None, " "], None),
        (["A  "], "A"),
        (["A\0"], "A"),
        (["A \0 \0"], "A"),
        ([" A"], " A"),
        (["A\t"], "A\t"),
        (["Ä\0B"], "Ä\0B"),
        (["山田 "], "山田"),
        (["\U0001f600"], "\U0001f600"),
        (["A ", "B "], "A\\B"),
        (["A", None, "B"], "A\\\\B"),
        ([None, "B"], "\\B"),
        (("A", "B"), "A\\B"),
        ([2], "2"),
        ([2.0], "2"),
        ([-0.0], "0"),
        ([1.5], "1.5"),
        ([0.1], "0.1"),
        ([1e300], "1e+300"),
        ([2**53 + 1], "9007199254740993"),
        ([float(2**53)], "9007199254740992"),
        ([float(2**53 + 2)], "9007199254740994.0"),
        ([2**64], "18446744073709551616"),
        ([1, "b", 2.5], "1\\b\\2.5"),
        ([True], U.NOT_TEXT),
        ([{}], U.NOT_TEXT),
        ([{"Alphabetic": "A"}], U.NOT_TEXT),
        ([["x"]], U.NOT_TEXT),
        (["a", {"b": 1}], U.NOT_TEXT),
        ([SURROGATE], U.NOT_UTF8),
        (["A", "B" + SURROGATE], U.NOT_UTF8),
        ([math.nan], U.NOT_A_NUMBER),
        ([math.inf], U.NOT_A_NUMBER),
        ([10**5_000], U.OUT_OF_RANGE),
    ],
)
def test_text(values: AttributeValues, expected: object) -> None:
    """Padding goes, empty is null, several values are joined. Anything else is NOT_TEXT."""
    assert text(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([" 12 "], "12"),
        (["+5"], "+5"),
        (["   "], None),
        ([12], "12"),
        ([12.0], "12"),
        ([" 1 ", " 2 "], "1\\ 2"),
        (["1.50"], "1.50"),
        (["no number"], "no number"),
        ([False], U.NOT_TEXT),
        (None, None),
    ],
)
def test_the_text_of_a_number_has_no_spaces_on_either_side(
    values: AttributeValues, expected: object
) -> None:
    """The digits are as stored: whether they are a number is not asked."""
    assert number_text(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([{"Alphabetic": "Doe^Jane "}], "Doe^Jane"),
        ([{"Alphabetic": "A^B", "Ideographic": "山田"}], "A^B"),
        ([{"Ideographic": "山田^太郎"}], "山田^太郎"),
        ([{"Alphabetic": "^^^^", "Ideographic": " ", "Phonetic": "やまだ^"}], "やまだ"),
        ([{"Alphabetic": "Yamada^Taro=山田^太郎=やまだ^たろう"}], "Yamada^Taro"),
        (["Yamada^Taro^^=山田^太郎"], "Yamada^Taro"),
        (["=山田^太郎"], "山田^太郎"),
        (["=="], None),
        (["DOE^JANE^^^"], "DOE^JANE"),
        ([{"Alphabetic": "DOE^JANE ^ ^\0"}], "DOE^JANE"),
        ([{"Alphabetic": "DOE^^^DR"}], "DOE^^^DR"),
        ([{"Alphabetic": "^JANE^"}], "^JANE"),
        ([{"Alphabetic": "^^^^"}], None),
        (["^^^^", {"Alphabetic": " ^"}], None),
        (["DOE^JANE^^^\\ROE^^=x"], "DOE^JANE\\ROE"),
        ([{"Alphabetic": "A^\\B", "Ideographic": "山"}], "A\\B"),
        ([{"Alphabetic": "", "Ideographic": 5}], U.NOT_TEXT),
        ([{"Alphabetic": None}], None),
        ([{"Alphabetic": " "}], None),
        ([{}], None),
        ([None], None),
        ([], None),
        (None, None),
        (["Doe^Jane "], "Doe^Jane"),
        ([{"Alphabetic": "A"}, {"Alphabetic": "B"}], "A\\B"),
        ([{"Alphabetic": "A"}, {}, "C"], "A\\\\C"),
        ([12], "12"),
        ([{"Alphabetic": 5}], U.NOT_TEXT),
        ([{"Alphabetic": ["A"]}], U.NOT_TEXT),
        ([{"Alphabetic": {}}], U.NOT_TEXT),
        ([{"Alphabetic": SURROGATE}], U.NOT_UTF8),
        ([["A"]], U.NOT_TEXT),
        ([{"Alphabetic": "A"}, True], U.NOT_TEXT),
    ],
)
def test_of_a_name_the_first_group_is_read(values: AttributeValues, expected: object) -> None:
    """The alphabetic one, else the next that is not empty; also where the name is plain text."""
    assert person_name(values) == expected


@pytest.mark.parametrize(
    ("values", "group", "expected"),
    [
        ([{"Alphabetic": "Yamada", "Ideographic": "山田 "}], "Ideographic", "山田"),
        ([{"Alphabetic": "Yamada", "Phonetic": "やまだ"}], "Phonetic", "やまだ"),
        ([{"Alphabetic": "Yamada"}], "Phonetic", None),
        (["Yamada"], "Ideographic", None),
        (["Yamada", {"Ideographic": "山田"}], "Ideographic", "\\山田"),
        ([{"Ideographic": "山田"}], "Alphabetic", None),
        (["A=B^^=C =D"], "Ideographic", "B"),
        (["A=B^^=C =D"], "Phonetic", "C"),
        ([{"Alphabetic": "A=split=C", "Ideographic": "own"}], "Ideographic", "own"),
        ([{"Alphabetic": "A=split=C", "Ideographic": "own"}], "Phonetic", "C"),
        ([{"Alphabetic": "A=split", "Ideographic": " ^"}], "Ideographic", "split"),
        ([{"Ideographic": "山田=やまだ=x"}], "Phonetic", "やまだ"),
        ([{"Alphabetic": "A=split", "Ideographic": 5}], "Ideographic", U.NOT_TEXT),
        ([{"Alphabetic": 5, "Phonetic": "B"}], "Phonetic", "B"),
        ([{"Phonetic": 5}], "Phonetic", U.NOT_TEXT),
        ([True], "Phonetic", U.NOT_TEXT),
    ],
)
def test_the_other_groups_of_a_name(
    values: AttributeValues, group: Group, expected: object
) -> None:
    """Exactly those, and none in the place of another."""
    assert person_name(values, group) == expected


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        ([12], 32, 12),
        ([" 12 "], 32, 12),
        (["12\0"], 32, 12),
        (["+5"], 32, 5),
        (["-5"], 32, -5),
        (["007"], 32, 7),
        ([12.0], 32, 12),
        (["12.0"], 32, 12),
        (["0" * 30 + "5"], 32, 5),
        ([40_000], 32, 40_000),
        ([2**31 - 1], 32, 2**31 - 1),
        ([-(2**31)], 32, -(2**31)),
        ([2**31], 64, 2**31),
        ([2**53 + 1], 64, 2**53 + 1),
        (["9007199254740993"], 64, 2**53 + 1),
        (["9223372036854775807"], 64, 2**63 - 1),
        (["-9223372036854775808"], 64, -(2**63)),
        ([None], 32, None),
        ([" "], 32, None),
        (["\0"], 32, None),
        ([None, " "], 32, None),
        ([], 32, None),
        (None, 32, None),
        ([1, 2], 32, U.SEVERAL_VALUES),
        ([1, None], 32, U.SEVERAL_VALUES),
        ([{}, {}], 32, U.SEVERAL_VALUES),
        ([1.5], 32, U.NOT_WHOLE),
        (["1.5"], 32, U.NOT_WHOLE),
        (["1." + "0" * 20 + "1"], 32, U.NOT_WHOLE),
        (["1e2"], 32, U.NOT_WHOLE),
        ([5e-324], 32, U.NOT_WHOLE),
        ([2**31], 32, U.OUT_OF_RANGE),
        ([-(2**31) - 1], 32, U.OUT_OF_RANGE),
        (["2147483648"], 32, U.OUT_OF_RANGE),
        ([2**63], 64, U.OUT_OF_RANGE),
        (["9223372036854775808"], 64, U.OUT_OF_RANGE),
        ([float(2**53)], 64, U.OUT_OF_RANGE),
        ([float(2**53 - 1)], 64, 2**53 - 1),
        ([DIGITS_5000 + ".0"], 64, U.OUT_OF_RANGE),
        (["9007199254740993.00"], 64, 2**53 + 1),
        ([1e300], 64, U.OUT_OF_RANGE),
        (["1e999"], 64, U.OUT_OF_RANGE),
        ([DIGITS_5000], 64, U.OUT_OF_RANGE),
        ([10**5_000], 64, U.OUT_OF_RANGE),
        ([math.inf], 32, U.OUT_OF_RANGE),
        ([math.nan], 32, U.NOT_A_NUMBER),
        ([True], 32, U.NOT_A_NUMBER),
        ([False], 32, U.NOT_A_NUMBER),
        ([{}], 32, U.NOT_A_NUMBER),
        ([[1]], 32, U.NOT_A_NUMBER),
        (["x"], 32, U.NOT_A_NUMBER),
        (["1 2"], 32, U.NOT_A_NUMBER),
        (["1\\2"], 32, U.NOT_A_NUMBER),
        (["- 5"], 32, U.NOT_A_NUMBER),
        (["1_000"], 32, U.NOT_A_NUMBER),
        (["0x1"], 32, U.NOT_A_NUMBER),
        (["²"], 32, U.NOT_A_NUMBER),
        (["१२"], 32, U.NOT_A_NUMBER),
        (["\u22125"], 32, U.NOT_A_NUMBER),
        (["nan"], 32, U.NOT_A_NUMBER),
        ([SURROGATE], 32, U.NOT_A_NUMBER),
    ],
)
def test_a_whole_number(values: AttributeValues, bits: Literal[32, 64], expected: object) -> None:
    """A number or its text becomes one without a fraction that fits, and is never rounded."""
    found = whole(values, bits)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5], 0.5),
        ([1], 1.0),
        ([" 1.5 "], 1.5),
        (["1.5\0"], 1.5),
        (["+1.5"], 1.5),
        (["-1.5E+03"], -1500.0),
        (["1e-2"], 0.01),
        (["5."], 5.0),
        ([".5"], 0.5),
        (["0.48828125000000001"], 0.48828125),
        (["0." + "3" * 5_000], 1 / 3),
        (["1" + "0" * 100], 1e100),
        (["1e-999"], 0.0),
        ([2**64], float(2**64)),
        ([None], None),
        ([" "], None),
        ([], None),
        (None, None),
        (["1", "2"], U.SEVERAL_VALUES),
        ([0.5, 0.5], U.SEVERAL_VALUES),
        (["1\\2"], U.NOT_A_NUMBER),
        ([math.nan], U.NOT_A_NUMBER),
        (["NaN"], U.NOT_A_NUMBER),
        (["Infinity"], U.NOT_A_NUMBER),
        (["-inf"], U.NOT_A_NUMBER),
        (["1_000"], U.NOT_A_NUMBER),
        (["0x1"], U.NOT_A_NUMBER),
        (["1,5"], U.NOT_A_NUMBER),
        (["1e"], U.NOT_A_NUMBER),
        (["1 e2"], U.NOT_A_NUMBER),
        (["."], U.NOT_A_NUMBER),
        (["\uff11"], U.NOT_A_NUMBER),
        ([True], U.NOT_A_NUMBER),
        ([{}], U.NOT_A_NUMBER),
        ([[0.5]], U.NOT_A_NUMBER),
        ([math.inf], U.OUT_OF_RANGE),
        ([-math.inf], U.OUT_OF_RANGE),
        (["1e999"], U.OUT_OF_RANGE),
        (["-1e999"], U.OUT_OF_RANGE),
        ([DIGITS_5000], U.OUT_OF_RANGE),
        ([10**400], U.OUT_OF_RANGE),
    ],
)
def test_a_real_number(values: AttributeValues, expected: object) -> None:
    """A finite number, or the text of one as DS writes it."""
    found = real(values)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["20230203"], date(2023, 2, 3)),
        (["2023.02.03"], date(2023, 2, 3)),
        ([" 20230203 "], date(2023, 2, 3)),
        (["20230203\0"], date(2023, 2, 3)),
        (["20000229"], date(2000, 2, 29)),
        (["15821015"], date(1582, 10, 15)),
        (["15821014"], U.DAY_TOO_EARLY),
        (["00010101"], U.DAY_TOO_EARLY),
        (["1582.10.04"], U.DAY_TOO_EARLY),
        (["99991231"], date(9999, 12, 31)),
        ([20230203], date(2023, 2, 3)),
        ([""], None),
        (["   "], None),
        ([None], None),
        (None, None),
        (["00000000"], U.NO_SUCH_DAY),
        (["19000229"], U.NO_SUCH_DAY),
        (["20231301"], U.NO_SUCH_DAY),
        (["20230200"], U.NO_SUCH_DAY),
        (["2023-02-03"], U.NOT_A_DATE),
        (["2023.0203"], U.NOT_A_DATE),
        (["20230203-20230301"], U.NOT_A_DATE),
        (["20230203-"], U.NOT_A_DATE),
        (["2023"], U.NOT_A_DATE),
        (["x"], U.NOT_A_DATE),
        (["20230203", "20230204"], U.NOT_A_DATE),
        (["20230203\\20230204"], U.NOT_A_DATE),
        (["²0230203"], U.NOT_A_DATE),
        (["२०२३०२०३"], U.NOT_A_DATE),
        (["20230203" + " " * 100 + "x"], U.NOT_A_DATE),
        ([True], U.NOT_TEXT),
        ([{}], U.NOT_TEXT),
        ([SURROGATE], U.NOT_UTF8),
    ],
)
def test_a_day(values: AttributeValues, expected: object) -> None:
    """Both forms of DICOM are dates, ranges and several values are none."""
    assert day(values) == expected


def at(hours: int, minutes: int = 0, seconds: int = 0, micros: int = 0) -> int:
    """Return a time of day in microseconds since midnight."""
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["00"], 0),
        (["23"], at(23)),
        (["0759"], at(7, 59)),
        (["120030"], at(12, 0, 30)),
        (["120030.5"], at(12, 0, 30, 500_000)),
        (["120030.000001"], at(12, 0, 30, 1)),
        (["235959.999999"], at(23, 59, 59, 999_999)),
        (["12:00:30"], at(12, 0, 30)),
        (["12:00:30.25"], at(12, 0, 30, 250_000)),
        (["120030  "], at(12, 0, 30)),
        (["120030\0"], at(12, 0, 30)),
        (["235960"], at(23, 59, 59, 999_999)),
        (["235960.5"], at(23, 59, 59, 999_999)),
        (["005960"], at(0, 59, 59, 999_999)),
        ([120000], at(12)),
        ([""], None),
        ([None], None),
        (None, None),
        (["2400"], U.NO_SUCH_TIME),
        (["1260"], U.NO_SUCH_TIME),
        (["120061"], U.NO_SUCH_TIME),
        (["99:99:99"], U.NO_SUCH_TIME),
        (["1"], U.NOT_A_TIME),
        (["120"], U.NOT_A_TIME),
        (["12003"], U.NOT_A_TIME),
        (["1200.5"], U.NOT_A_TIME),
        (["120030."], U.NOT_A_TIME),
        (["120030.1234567"], U.NOT_A_TIME),
        (["120030,5"], U.NOT_A_TIME),
        (["12:00"], U.NOT_A_TIME),
        (["12:0030"], U.NOT_A_TIME),
        (["12 00 30"], U.NOT_A_TIME),
        (["120000-130000"], U.NOT_A_TIME),
        (["120000+0100"], U.NOT_A_TIME),
        (["1२"], U.NOT_A_TIME),
        (["12", "13"], U.NOT_A_TIME),
        ([{}], U.NOT_TEXT),
    ],
)
def test_a_time_of_day(values: AttributeValues, expected: object) -> None:
    """Missing parts at the end are zero. Second 60 is the end of second 59."""
    assert clock(values) == expected


utc = partial(datetime, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dates", "times", "offset", "zone", "expected"),
    [
        (["20230203"], ["120030.5"], ["+0000"], None, utc(2023, 2, 3, 12, 0, 30, 500_000)),
        (["20230203"], ["0100"], ["+0200"], None, utc(2023, 2, 2, 23)),
        (["20230203"], ["12"], ["-0530"], BERLIN, utc(2023, 2, 3, 17, 30)),
        (["20230203"], ["12"], ["+1400 "], None, utc(2023, 2, 2, 22)),
        (["20230203"], ["12"], ["-1200"], None, utc(2023, 2, 4)),
        (["2023.02.03"], ["12:00:00"], None, BERLIN, utc(2023, 2, 3, 11)),
        (["20230703"], ["12"], [""], BERLIN, utc(2023, 7, 3, 10)),
        (["20230703"], ["12"], None, ZoneInfo("UTC"), utc(2023, 7, 3, 12)),
        # The clocks go forward from 02:00 to 03:00, and back from 03:00 to 02:00.
        (["20230326"], ["0230"], None, BERLIN, utc(2023, 3, 26, 1, 30)),
        (["20231029"], ["0230"], None, BERLIN, utc(2023, 10, 29, 0, 30)),
        (["20161231"], ["235960"], ["+0000"], None, utc(2016, 12, 31, 23, 59, 59, 999_999)),
        (["20230203"], ["12"], None, None, None),
        (["20230203"], ["12"], [None], None, None),
        (None, ["12"], ["+0000"], None, None),
        (["20230203"], None, ["+0000"], None, None),
        (["20230203"], [""], ["+0000"], BERLIN, None),
        (None, ["x"], ["+0000"], None, None),
        (["x"], None, ["+0000"], None, None),
        (["x"], ["12"], None, None, U.NOT_A_DATE),
        (["20230230"], ["12"], None, BERLIN, U.NO_SUCH_DAY),
        (["20230203"], ["x"], None, BERLIN, U.NOT_A_TIME),
        (["20230203"], ["24"], None, BERLIN, U.NO_SUCH_TIME),
        (["20230203", "20230204"], ["12", "13"], None, BERLIN, U.NOT_A_DATE),
        (["20230203"], ["12"], ["x"], BERLIN, U.NOT_AN_OFFSET),
        (["20230203"], ["12"], [True], BERLIN, U.NOT_TEXT),
        (["00010101"], ["00"], ["+0001"], None, U.DAY_TOO_EARLY),
        (["15821015"], ["00"], ["+0000"], None, U.MOMENT_TOO_EARLY),
        (["19000101"], ["00"], ["+0100"], None, U.MOMENT_TOO_EARLY),
        (["18991231"], ["235959.999999"], ["+0000"], None, U.MOMENT_TOO_EARLY),
        (["19000101"], ["00"], ["+0000"], None, utc(1900, 1, 1)),
        (["18991231"], ["2330"], ["-0100"], None, utc(1900, 1, 1, 0, 30)),
        (["19000101"], ["0030"], None, BERLIN, U.MOMENT_TOO_EARLY),
        (["99991231"], ["2359"], ["-0001"], None, U.OUT_OF_RANGE),
        (["99991231"], ["2359"], ["+0001"], None, utc(9999, 12, 31, 23, 58)),
    ],
)
def test_a_moment(
    dates: AttributeValues,
    times: AttributeValues,
    offset: AttributeValues,
    zone: ZoneInfo | None,
    expected: object,
) -> None:
    """The offset counts, else the site's zone. Without either, and without time, there is none."""
    found = moment(dates, times, offset, zone)
    assert found == expected
    assert not isinstance(found, datetime) or found.tzinfo is UTC


@pytest.mark.parametrize(
    "offset",
    ["0100", "+1", "+01", "+010", "+01000", "+01:00", "+0160", "+1401", "-1201", "-1230", "-0000",
     "Z", "+0100\\+0200", " +0100 x", "+०१००", "\u22120100"],
)  # fmt: skip
def test_what_is_no_offset_is_not_taken_for_the_zone(offset: str) -> None:
    """An offset that was meant and cannot be read leaves the moment unknown."""
    assert moment(["20230203"], ["12"], [offset], BERLIN) is U.NOT_AN_OFFSET
    assert instant(["2023020312"], [offset], BERLIN) is U.NOT_AN_OFFSET


@pytest.mark.parametrize(
    ("values", "offset", "zone", "expected"),
    [
        (["20230203120030.123456+0100"], None, None, utc(2023, 2, 3, 11, 0, 30, 123_456)),
        (["20230203120030.5+0100"], ["-0500"], BERLIN, utc(2023, 2, 3, 11, 0, 30, 500_000)),
        (["20230203120030-0500"], ["x"], BERLIN, utc(2023, 2, 3, 17, 0, 30)),
        (["202302031200+0000"], None, None, utc(2023, 2, 3, 12)),
        (["2023020312+0000"], None, None, utc(2023, 2, 3, 12)),
        (["2023020312 "], ["-0500"], BERLIN, utc(2023, 2, 3, 17)),
        (["2023020312"], None, BERLIN, utc(2023, 2, 3, 11)),
        (["20230203235960+0000"], None, None, utc(2023, 2, 3, 23, 59, 59, 999_999)),
        (["2023020312"], None, None, None),
        (["20230203"], None, BERLIN, None),
        (["202302"], None, BERLIN, None),
        (["2023"], None, BERLIN, None),
        (["2023+0100"], None, None, None),
        (["20230203-0500"], None, None, None),
        (["20230203"], ["x"], None, None),
        ([""], None, BERLIN, None),
        ([None], None, BERLIN, None),
        (None, ["+0100"], BERLIN, None),
        (["x"], None, None, U.NOT_A_MOMENT),
        (["20230203120"], None, BERLIN, U.NOT_A_MOMENT),
        (["202302031200.5"], None, BERLIN, U.NOT_A_MOMENT),
        (["20230203120030.1234567"], None, BERLIN, U.NOT_A_MOMENT),
        (["20230203120030+01"], None, BERLIN, U.NOT_A_MOMENT),
        (["20230203 120030"], None, BERLIN, U.NOT_A_MOMENT),
        (["2023-02-03T12:00:30Z"], None, BERLIN, U.NOT_A_MOMENT),
        (["20230203-20230301"], None, BERLIN, U.NOT_A_MOMENT),
        (["2023020312", "2023020313"], None, BERLIN, U.NOT_A_MOMENT),
        (["20230230120030"], None, BERLIN, U.NO_SUCH_DAY),
        (["202313"], None, BERLIN, U.NO_SUCH_DAY),
        (["0000"], None, BERLIN, U.NO_SUCH_DAY),
        (["2023020324"], None, BERLIN, U.NO_SUCH_TIME),
        (["2023020312+1500"], None, BERLIN, U.NOT_AN_OFFSET),
        (["2023-2024"], None, BERLIN, U.NOT_AN_OFFSET),
        (["2023020312"], ["x"], BERLIN, U.NOT_AN_OFFSET),
        (["0001010100+0100"], None, None, U.DAY_TOO_EARLY),
        (["1900010100+0100"], None, None, U.MOMENT_TOO_EARLY),
        (["1900010100"], ["+0000"], None, utc(1900, 1, 1)),
        (["9999123123-0100"], None, None, U.OUT_OF_RANGE),
        ([{}], None, BERLIN, U.NOT_TEXT),
    ],
)
def test_a_dt_is_a_moment_from_the_hour_on(
    values: AttributeValues, offset: AttributeValues, zone: ZoneInfo | None, expected: object
) -> None:
    """Its own offset counts first. A year, a month or a day is right, and no moment."""
    found = instant(values, offset, zone)
    assert found == expected
    assert not isinstance(found, datetime) or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["045Y"], 45.0),
        (["000Y"], 0.0),
        (["006M"], 0.5),
        (["003W"], 21 / 365.2425),
        (["010D"], 10 / 365.2425),
        (["045Y "], 45.0),
        ([""], None),
        ([None], None),
        (None, None),
        (["45Y"], U.NOT_AN_AGE),
        (["0045Y"], U.NOT_AN_AGE),
        (["045y"], U.NOT_AN_AGE),
        (["045"], U.NOT_AN_AGE),
        ([45], U.NOT_AN_AGE),
        (["-45Y"], U.NOT_AN_AGE),
        (["४५५Y"], U.NOT_AN_AGE),
        (["045Y", "046Y"], U.NOT_AN_AGE),
        ([{}], U.NOT_TEXT),
    ],
)
def test_an_age(values: AttributeValues, expected: object) -> None:
    """Three digits and a unit, in years."""
    assert years(values) == expected


@pytest.mark.parametrize(
    ("birth", "days", "expected"),
    [
        (["20000101"], ["20010101"], 366 / 365.2425),
        (["2000.01.01"], ["20000101"], 0.0),
        (None, ["20230203"], None),
        (["20000101"], None, None),
        (["20000101"], [""], None),
        (None, ["x"], None),
        (["x"], None, None),
        (["20000102"], ["20000101"], U.BEFORE_BIRTH),
        (["00010101"], ["20000101"], U.DAY_TOO_EARLY),
        (["20000101"], ["00010101"], U.DAY_TOO_EARLY),
        (["00000000"], ["20000101"], U.NO_SUCH_DAY),
        (["20000101"], ["x"], U.NOT_A_DATE),
    ],
)
def test_the_years_from_birth(
    birth: AttributeValues, days: AttributeValues, expected: object
) -> None:
    """Both days must be there, and in order."""
    assert years_between(birth, days) == expected


@pytest.mark.parametrize(
    ("designator", "value", "long_value", "urn", "expected"),
    [
        (["SCT"], ["113011 "], None, None, "SCT:113011"),
        ([" SCT "], [" 113011"], None, None, "SCT:113011"),
        (["SCT"], [""], ["1234567890123456789"], None, "SCT:1234567890123456789"),
        (["SCT"], ["1"], ["2"], ["urn:oid:3"], "SCT:1"),
        (["SCT"], [None], ["2"], ["urn:oid:3"], "SCT:2"),
        (None, None, None, ["urn:oid:1.2"], "urn:oid:1.2"),
        (None, ["113011"], None, None, "113011"),
        ([""], ["113011"], None, None, "113011"),
        (["SCT"], None, None, None, None),
        (None, None, None, None, None),
        ([True], None, None, None, None),
        ([True], ["113011"], None, None, U.NOT_TEXT),
        (["SCT"], [{}], ["2"], None, U.NOT_TEXT),
    ],
)
def test_the_code_of_four_attributes(
    designator: AttributeValues,
    value: AttributeValues,
    long_value: AttributeValues,
    urn: AttributeValues,
    expected: object,
) -> None:
    """It is scheme and value, or the value alone without a scheme, as for a URN."""
    assert code_of(designator, value, long_value, urn) == expected


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        (None, None),
        ({"vr": "LO"}, None),
        ({"vr": "LO", "Value": None}, None),
        ({"vr": "LO", "Value": []}, None),
        ({"vr": "LO", "Value": [None]}, None),
        ({"vr": "LO", "BulkDataURI": "http://x"}, None),
        ({"vr": "LO", "InlineBinary": "AAAA"}, None),
        ({"Value": ["no vr"]}, "no vr"),
        ({"vr": 5, "Value": ["vr of a wrong type"]}, "vr of a wrong type"),
        ({"vr": "LO", "Value": "not in a list "}, "not in a list"),
        ({"vr": "LO", "Value": 12}, "12"),
        ({"vr": "LO", "Value": {"a": 1}}, U.NOT_TEXT),
        ("text instead of an attribute", U.NOT_TEXT),
        (["list"], U.NOT_TEXT),
        (5, U.NOT_TEXT),
        (True, U.NOT_TEXT),
    ],
)
def test_the_values_of_an_attribute_can_be_read_or_refused(
    attribute: object, expected: object
) -> None:
    """Whatever stands where an attribute belongs."""
    assert text(values_of(attribute)) == expected


def test_a_reason_is_a_few_words_of_our_own() -> None:
    """Each one differs, and none has room for a value."""
    reasons = [reason.value for reason in Unparsable]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Za-z0-9 -]{5,25}", reason) for reason in reasons)
