"""Any JSON gives a value that Arrow takes, or a reason. All that DICOM allows is read.

Single values of each function are in `test_values`.
"""

import re
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import valuerep

from dicom_assets.header.values import (
    FIRST_DAY,
    FIRST_MOMENT,
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

# --- whatever JSON holds --------------------------------------------------------------------------

SEVERAL: Final[dict[str, tuple[Callable[..., object], int]]] = {
    "moment": (partial(moment, zone=BERLIN), 3),
    "moment, no zone": (partial(moment, zone=None), 3),
    "instant": (partial(instant, zone=BERLIN), 2),
    "instant, no zone": (partial(instant, zone=None), 2),
    "years_between": (years_between, 2),
    "code_of": (code_of, 4),
}
PARSERS: Final[dict[str, tuple[Callable[..., object], int]]] = SEVERAL | {
    "text": (text, 1),
    "number_text": (number_text, 1),
    "name": (person_name, 1),
    "ideographic": (partial(person_name, group="Ideographic"), 1),
    "phonetic": (partial(person_name, group="Phonetic"), 1),
    "whole 32": (partial(whole, bits=32), 1),
    "whole 64": (partial(whole, bits=64), 1),
    "real": (real, 1),
    "day": (day, 1),
    "clock": (clock, 1),
    "years": (years, 1),
}
# The Python and Arrow type of each: a column of these types takes every result.
STORED: Final[dict[str, tuple[type, pa.DataType]]] = {
    **dict.fromkeys(PARSERS, (str, pa.string())),
    **dict.fromkeys(SEVERAL, (datetime, pa.timestamp("us", "UTC"))),
    "years_between": (float, pa.float64()),
    "code_of": (str, pa.string()),
    "whole 32": (int, pa.int32()),
    "whole 64": (int, pa.int64()),
    "real": (float, pa.float64()),
    "day": (date, pa.date32()),
    "clock": (int, pa.int64()),
    "years": (float, pa.float64()),
}

NEAR_TEXT = st.text("0123456789+-.:eE_ \\\0\tDWMYnaif²٣x山" + SURROGATE, max_size=27)
DATE_TEXT = st.dates().map(lambda found: f"{found.year:04}{found:%m%d}")
TIME_TEXT = st.times().map(lambda found: f"{found:%H%M%S.%f}")
OFFSET_TEXT = st.sampled_from(["+0100", "-1200", "+1400", "-0000", "+0000"])
NEAR = st.one_of(
    NEAR_TEXT,
    DATE_TEXT,
    TIME_TEXT,
    OFFSET_TEXT,
    st.builds("".join, st.tuples(DATE_TEXT, TIME_TEXT, OFFSET_TEXT)),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**5_000), 10**5_000),
    st.floats(),
    NEAR,
    st.text(st.characters(codec=None), max_size=5),
)
MEMBERS = st.sampled_from(["vr", "Value", "Alphabetic", "Ideographic", "Phonetic", "00080100"])
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    max_leaves=6,
)
VALUES = st.none() | st.lists(NEAR, min_size=1, max_size=1) | st.lists(JSON_VALUES, max_size=3)


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.data())
def test_whatever_json_holds_a_result_can_be_stored(parser: str, data: st.DataObject) -> None:
    """Null, a reason, or a value of the column's type, which Arrow takes. Nothing raises."""
    parse, arguments = PARSERS[parser]
    found = parse(*data.draw(st.tuples(*[VALUES] * arguments)))
    kind, arrow = STORED[parser]
    if found is None or isinstance(found, Unparsable):
        return
    assert type(found) is kind
    column: Any = pa.array([found], arrow)
    assert column.to_pylist() == [found]


@given(JSON_VALUES)
def test_any_json_gives_values_of_an_attribute(value: object) -> None:
    """Nothing raises, whatever an attribute holds in its place."""
    assert isinstance(values_of(value), Sequence | None)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    "values",
    [
        ["x" * 10_000_000],
        ["9" * 10_000_000],
        ["+" + "0" * 10_000_000],
        ["20230203" * 1_000_000],
        ["CT"] * 100_000,
        [{"Alphabetic": "A"}] * 100_000,
        [10**100_000],
        [[[[[]]]]],
    ],
    ids=["letters", "digits", "zeros", "dates", "values", "names", "number", "lists"],
)
def test_large_things_do_no_harm(parser: str, values: list[Any]) -> None:
    """A string of ten megabytes, an array of 100,000, a number of 100,000 digits."""
    parse, arguments = PARSERS[parser]
    assert isinstance(parse(*[values] * arguments), STORED[parser][0] | Unparsable | None)


def test_what_is_remembered_stays_small() -> None:
    """A text of a megabyte is forgotten as soon as it is parsed."""
    tracemalloc.start()
    try:
        for number in range(20):
            for parse in (day, clock, years, partial(instant, offset=None, zone=BERLIN)):
                parse([f"{number:06}" + "x" * 1_000_000])
            moment(["20230203"], ["12"], [f"{number:06}" + "x" * 1_000_000], BERLIN)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


# --- what is written is read ----------------------------------------------------------------------

OFFSETS = st.integers(-12 * 60, 14 * 60)
# As far from either end of the calendar as any offset reaches.
NAIVE = partial(datetime, tzinfo=None)
LOCAL = st.datetimes(NAIVE(1582, 10, 15), NAIVE(9999, 12, 29))
SOME_TIME_AGO, SOME_TIME_ON = NAIVE(1900, 1, 1), NAIVE(2100, 1, 1)


def offset_text(minutes: int) -> str:
    """Return an offset as TimezoneOffsetFromUTC has it."""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def date_text(found: date) -> str:
    """Return a date as DA has it. `strftime` leaves out zeros before the year 1000."""
    return f"{found.year:04}{found.month:02}{found.day:02}"


@given(st.text("Aä山 ^=\0", max_size=8))
def test_text_is_what_is_left_of_the_padding(stored: str) -> None:
    """A loop over the last characters finds the same."""
    kept = stored
    while kept and kept[-1] in " \0":
        kept = kept[:-1]
    assert text([stored]) == (kept or None)


@given(st.text("Aä山 ^\0", max_size=8))
def test_a_name_is_what_is_left_of_padding_and_empty_components(stored: str) -> None:
    """Component by component: the last goes while it is empty."""
    parts = [part.rstrip(" \0") for part in stored.split("^")]
    while parts and not parts[-1]:
        parts.pop()
    found = person_name([{"Alphabetic": stored}])
    if not parts:
        assert found is None
        return
    assert isinstance(found, str)
    assert [part.rstrip(" \0") for part in found.split("^")] == parts
    assert stored.startswith(found)
    assert found[-1] not in " ^\0"


@given(st.lists(st.text("AB ", max_size=3) | st.none(), max_size=4))
def test_texts_are_joined_as_dicom_joins_them(stored: list[str | None]) -> None:
    """Each one keeps its place."""
    kept = [(one or "").rstrip(" ") for one in stored]
    assert text(stored) == ("\\".join(kept) if any(kept) else None)


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["{}", " {} ", "{:+}", "{:025}", "{}\0"]))
def test_a_whole_number_is_read_as_written(number: int, form: str) -> None:
    """As a number and as text. Beyond its bits it is out of range."""
    narrow = number if -(2**31) <= number < 2**31 else Unparsable.OUT_OF_RANGE
    assert whole([number], 64) == whole([form.format(number)], 64) == number
    assert whole([number], 32) == whole([form.format(number)], 32) == narrow


@given(NEAR_TEXT)
@example("1e400")
@example("0." + "1" * 30)
def test_numbers_are_those_of_the_standard(written: str) -> None:
    """PS3.5 6.2, as an expression: digits, a point, an exponent, spaces around."""
    bare = written.rstrip(" \0").strip()
    form = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", bare, re.ASCII)
    found = real([written])
    assert (found is None) == (not bare)
    assert (found is Unparsable.NOT_A_NUMBER) == (form is None and bool(bare))
    if isinstance(found, float):
        assert found == float(Decimal(bare))
    narrow = whole([written], 32)
    assert not isinstance(narrow, int) or narrow == Decimal(bare)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_real_number_is_read_as_written(number: float) -> None:
    """Its shortest digits, and as many as there are."""
    assert real([number]) == real([repr(number)]) == real([f"{number:.17e}"]) == number
    assert real([f" {number:E} "]) == float(f"{number:E}")


@given(st.dates())
def test_a_day_is_read_as_written(found: date) -> None:
    """In both forms, from the first day of the calendar to its last."""
    written = date_text(found)
    expected = found if found >= FIRST_DAY else Unparsable.DAY_TOO_EARLY
    assert day([written]) == expected
    assert day([f"{written[:4]}.{written[4:6]}.{written[6:]}"]) == expected
    assert valuerep.DA(written) == found


@given(st.from_regex(r"\d{8}|\d{4}\.\d\d\.\d\d", fullmatch=True, alphabet="0123456789."))
def test_days_are_those_of_the_calendar(written: str) -> None:
    """The slow way: `strptime`, which wants a year after 0."""
    try:
        expected: object = datetime.strptime(written.replace(".", ""), "%Y%m%d").date()  # noqa: DTZ007 - a date
    except ValueError:
        expected = Unparsable.NO_SUCH_DAY
    if isinstance(expected, date) and expected < FIRST_DAY:
        expected = Unparsable.DAY_TOO_EARLY
    assert day([written]) == expected


def shown(written: str) -> time:
    """Return the time that a TM is parsed to, as Python shows it."""
    micros = clock([written])
    assert isinstance(micros, int)
    return (NAIVE(1, 1, 1) + timedelta(microseconds=micros)).time()


@given(st.times(), st.integers(1, 6))
def test_a_time_is_read_as_written(found: time, digits: int) -> None:
    """All digits are kept, in every form, and pydicom reads the same."""
    fraction = f"{found.microsecond:06}"[:digits]
    expected = found.replace(microsecond=int(fraction.ljust(6, "0")))
    assert shown(f"{found:%H%M%S}.{fraction}") == expected
    assert shown(f"{found:%H:%M:%S}.{fraction}") == expected
    assert valuerep.TM(f"{found:%H%M%S}.{fraction}") == expected
    expected = found.replace(microsecond=0)
    assert shown(f"{found:%H%M%S}") == shown(f"{found:%H:%M:%S}") == expected
    assert shown(f"{found:%H%M}") == expected.replace(second=0)
    assert shown(f"{found:%H}") == expected.replace(minute=0, second=0)


@given(LOCAL, OFFSETS)
def test_a_moment_is_read_as_written(local: datetime, minutes: int) -> None:
    """From a date, a time and an offset, and from all in one."""
    on, during, offset = date_text(local), f"{local:%H%M%S.%f}", offset_text(minutes)
    really = local.replace(tzinfo=UTC) - timedelta(minutes=minutes)
    expected = really if really >= FIRST_MOMENT else Unparsable.MOMENT_TOO_EARLY
    assert moment([on], [during], [offset], BERLIN) == expected
    assert instant([f"{on}{during}{offset}"], None, None) == expected
    assert instant([f"{on}{during}"], [offset], BERLIN) == expected
    theirs = valuerep.DT(f"{on}{during}{offset}")
    assert theirs is not None
    assert theirs == really


@given(st.datetimes(SOME_TIME_AGO, SOME_TIME_ON, timezones=st.just(UTC)))
@example(datetime(2023, 10, 29, 0, 30, tzinfo=UTC))
@example(datetime(2023, 10, 29, 1, 30, tzinfo=UTC))
def test_a_local_time_of_the_site_is_its_moment(real_one: datetime) -> None:
    """Every moment comes back from the local time, but of two with the same one the first."""
    local = real_one.astimezone(BERLIN)
    found = moment([date_text(local)], [f"{local:%H%M%S.%f}"], None, BERLIN)
    assert isinstance(found, datetime)
    assert (found == real_one) == (local.fold == 0)
    assert found <= real_one
    assert found.astimezone(BERLIN).replace(tzinfo=None) == local.replace(tzinfo=None, fold=0)


@given(st.integers(0, 999), st.sampled_from("DWMY"))
def test_an_age_is_read_as_written(number: int, unit: str) -> None:
    """Within a day of what a calendar says, a year being 365.2425 days long."""
    found = years([f"{number:03}{unit}"])
    assert isinstance(found, float)
    days = {"D": 1.0, "W": 7.0, "M": 365.2425 / 12, "Y": 365.2425}[unit]
    assert found * 365.2425 == pytest.approx(number * days)


@given(st.text("0123456789DWMYdwmy ", max_size=5))
@example("045Y")
def test_ages_are_those_of_pydicom(written: str) -> None:
    """All that pydicom's rules allow as AS is an age, and nothing else is."""
    bare = written.strip(" ")
    right, _ = valuerep.validate_regex("AS", bare)
    found = years([written])
    assert (isinstance(found, float)) == (right and bool(bare))
    assert (found is None) == (not bare)


@given(st.dates(FIRST_DAY), st.dates(FIRST_DAY))
def test_the_years_from_birth_are_the_days_over_a_years_length(birth: date, on: date) -> None:
    """Never less than none."""
    found = years_between([date_text(birth)], [date_text(on)])
    length = on.toordinal() - birth.toordinal()
    assert found == (Unparsable.BEFORE_BIRTH if length < 0 else length / 365.2425)


@given(st.integers(-(2**31), 2**31 - 1), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_are_those_of_pydicom(number: int, decimal: Decimal) -> None:
    """IS and DS, written as pydicom writes them."""
    assert whole([str(valuerep.IS(number))], 32) == number
    written = valuerep.format_number_as_ds(float(f"{decimal:.6e}") if decimal else 0.0)
    assert real([written]) == valuerep.DSfloat(written)
