"""The values of one attribute to one value of a column.

Each function takes the decoded `Value` of an attribute of DICOM JSON (PS3.18 F.2), None or empty
when the attribute is absent or empty. It returns the column's value, None for an empty one, or a
member of `Unparsable`: the reason why the value is not one of its VR (PS3.5 6.2). No function
raises, whatever the JSON holds.

Padding is not part of a value: spaces and NULs at its end and, except for text, spaces at its
start. A value of padding only is empty. All results fit Arrow's types. Moments are in UTC.
"""

import enum
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import zip_longest
from typing import Final, Literal, TypeAlias, TypeVar, cast, get_args
from zoneinfo import ZoneInfo

PADDING: Final = " \0"
DAYS_PER_YEAR: Final = 365.2425
# The limits of Spark 3 for Parquet files that Spark did not write, because it cannot know the
# calendar of an older value. A single one fails every query of its column (READ_ANCIENT_DATETIME).
FIRST_DAY: Final = date(1582, 10, 15)
FIRST_MOMENT: Final = datetime(1900, 1, 1, tzinfo=UTC)

# Above this, the last digits of an integral float are not its own: "1e+300" is more honest.
_EXACT_FLOAT: Final = 2**53
# The digits of a 64-bit number. Python refuses to parse more than 4,300.
_WHOLE_DIGITS: Final = 19
# More characters than any date, time, offset or age has. A longer text is cut, which keeps the
# caches small, and does not parse.
_CHARACTERS: Final = 64
_CACHED: Final = 4096

_WHOLE: Final = re.compile(r"([+-]?)(\d+)(?:\.0*)?", re.ASCII)
_DATE: Final = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|\.(\d\d)\.(\d\d))", re.ASCII)
_TIME: Final = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_OLD_TIME: Final = re.compile(r"\d\d:\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)
_OFFSET: Final = re.compile(r"([+-])(\d\d)([0-5]\d)", re.ASCII)
_PRECISE: Final = re.compile(r"(\d{8})(\d\d(?:\d\d(?:\d\d(?:\.\d{1,6})?)?)?)([+-]\d{4})?", re.ASCII)
_COARSE: Final = re.compile(r"(\d{4})(\d\d)?(\d\d)?([+-]\d{4})?", re.ASCII)
_AGE: Final = re.compile(r"(\d{3})([DWMY])", re.ASCII)

_OFFSET_MINUTES: Final = range(-12 * 60, 14 * 60 + 1)
_MICROSECONDS_PER_SECOND: Final = 1_000_000
# The factor and the divisor from a unit of age to years.
_YEARS: Final = {"D": (1, DAYS_PER_YEAR), "W": (7, DAYS_PER_YEAR), "M": (1, 12), "Y": (1, 1)}


class Unparsable(enum.Enum):
    """The reason why a value did not parse. It never holds a part of the value."""

    NOT_TEXT = "not text"
    NOT_UTF8 = "not UTF-8"
    NOT_A_NUMBER = "not a number"
    NOT_WHOLE = "not a whole number"
    OUT_OF_RANGE = "out of range"
    SEVERAL_VALUES = "several values"
    NOT_A_DATE = "not a date"
    NO_SUCH_DAY = "no such day"
    DAY_TOO_EARLY = f"before {FIRST_DAY}"
    NOT_A_TIME = "not a time"
    NO_SUCH_TIME = "no such time"
    NOT_AN_OFFSET = "not an offset from UTC"
    NOT_A_MOMENT = "not a moment"
    MOMENT_TOO_EARLY = f"before {FIRST_MOMENT.year}"
    NOT_AN_AGE = "not an age"
    BEFORE_BIRTH = "before birth"


# The reasons of values that are right, and cannot be shown.
TOO_EARLY: Final = (Unparsable.DAY_TOO_EARLY.value, Unparsable.MOMENT_TOO_EARLY.value)
AttributeValues: TypeAlias = Sequence[object] | None
Group: TypeAlias = Literal["Alphabetic", "Ideographic", "Phonetic"]
_GROUPS: Final = get_args(Group)
T = TypeVar("T")
_Parts: TypeAlias = tuple[date, int, timezone | None]


def values_of(attribute: object) -> AttributeValues:
    """Return the `Value` of an attribute of DICOM JSON, as a list of one if it is not a list.

    An attribute that is not a JSON object gives values that no function can parse.
    """
    if attribute is None:
        return None
    values = attribute.get("Value") if isinstance(attribute, dict) else [[]]
    return values if isinstance(values, list) or values is None else [values]


def text(values: AttributeValues) -> str | Unparsable | None:
    r"""Return the values without the padding at their ends, joined by a backslash.

    Numbers are written as in JSON, whole ones without a fraction. A lone surrogate is not UTF-8.
    """
    if not values:
        return None
    value = values[0]
    if len(values) == 1 and type(value) is str and value.isascii():
        return value.rstrip(PADDING) or None
    return _joined([_item_text(value) for value in values])


def number_text(values: AttributeValues) -> str | Unparsable | None:
    """Return the text of a number that is kept as text, without spaces on either side."""
    stored = text(values)
    return stored.strip() or None if isinstance(stored, str) else stored


def person_name(values: AttributeValues, group: Group | None = None) -> str | Unparsable | None:
    """Return one group of each person's name (PS3.5 6.2.1), joined by a backslash.

    Without `group` it is the first that is not empty, so that a name in ideographs alone is one.
    Groups are split at `=` wherever it stands, also in plain text, which is no object (PS3.18
    F.2.2). A group that the object has itself comes before one that was split off. Padding and
    empty components at the end of a group are no part of it.
    """
    names = [name for value in values or () for name in _names_of(value)]
    if group is None:
        return _joined([next((text for text in name if text), "") for name in names])
    return _joined([name[_GROUPS.index(group)] for name in names])


def _names_of(item: object) -> Iterator[list[str | Unparsable]]:
    """Yield the three groups of each name in an item, with an empty text for an empty group."""
    if isinstance(item, dict):
        texts = [_group_text(item.get(group)) for group in _GROUPS]
    else:
        plain = _item_text(item)
        texts = [plain] * (len(_GROUPS) if isinstance(plain, Unparsable) else 1)
    for name in zip_longest(*(_split(text, "\\") for text in texts), fillvalue=""):
        groups: list[str | Unparsable] = [""] * len(_GROUPS)
        for own, text in enumerate(name):
            for at, part in enumerate(_split(text, "=")[: len(_GROUPS) - own], own):
                found = part.rstrip(PADDING + "^") if isinstance(part, str) else part
                if found and (at == own or not groups[at]):
                    groups[at] = found
        yield groups


def _group_text(stored: object) -> str | Unparsable:
    is_text = stored is None or isinstance(stored, str)
    return _item_text(stored) if is_text else Unparsable.NOT_TEXT


def _split(text: str | Unparsable, delimiter: str) -> Sequence[str | Unparsable]:
    return text.split(delimiter) if isinstance(text, str) else [text]


def _joined(items: list[str | Unparsable]) -> str | Unparsable | None:
    for item in items:
        if isinstance(item, Unparsable):
            return item
    return "\\".join(cast("list[str]", items)) if any(items) else None


def _item_text(value: object) -> str | Unparsable:
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError:  # Arrow would refuse the column
            return Unparsable.NOT_UTF8
        return value.rstrip(PADDING)
    if type(value) is int or type(value) is float:
        return _digits(value)
    return "" if value is None else Unparsable.NOT_TEXT


def _digits(value: float) -> str | Unparsable:
    if type(value) is float:
        if not math.isfinite(value):
            return Unparsable.NOT_A_NUMBER
        if value.is_integer() and abs(value) <= _EXACT_FLOAT:
            value = int(value)
    try:
        return repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return Unparsable.OUT_OF_RANGE


def whole(values: AttributeValues, bits: Literal[32, 64]) -> int | Unparsable | None:
    """Return the single value as a whole number of `bits` bits, including the sign.

    Text may be an IS (PS3.5 6.2), and end in a fraction of zeros. A float of 2**53 or more is out
    of range, because it may have lost digits.
    """
    number = _number(values, _whole_of)
    if isinstance(number, float):
        if not number.is_integer():
            return Unparsable.NOT_WHOLE
        number = int(number) if abs(number) < _EXACT_FLOAT else Unparsable.OUT_OF_RANGE
    if not isinstance(number, int):
        return number
    limit = 1 << bits - 1
    return number if -limit <= number < limit else Unparsable.OUT_OF_RANGE


def real(values: AttributeValues) -> float | Unparsable | None:
    """Return the single value as a finite number. Text may be a DS (PS3.5 6.2) of any length."""
    number = _number(values, _real_of)
    if number is None or isinstance(number, Unparsable):
        return number
    try:
        return float(number)
    except OverflowError:
        return Unparsable.OUT_OF_RANGE


def _number(
    values: AttributeValues, of_text: Callable[[str], float | Unparsable]
) -> float | Unparsable | None:
    if not values:
        return None
    if len(values) > 1:
        return None if text(values) is None else Unparsable.SEVERAL_VALUES
    value = values[0]
    if type(value) is int or value is None:
        return value
    if type(value) is str:
        stored = value.rstrip(PADDING).strip()
        return of_text(stored) if stored else None
    return _finite(value) if isinstance(value, float) else Unparsable.NOT_A_NUMBER


def _finite(value: float) -> float | Unparsable:
    if math.isfinite(value):
        return value
    return Unparsable.NOT_A_NUMBER if math.isnan(value) else Unparsable.OUT_OF_RANGE


def _whole_of(stored: str) -> int | Unparsable:
    if stored.isdigit() and stored.isascii() and len(stored) <= _WHOLE_DIGITS:
        return int(stored)
    match = _WHOLE.fullmatch(stored)
    if match is None:
        number = _real_of(stored)
        return number if isinstance(number, Unparsable) else Unparsable.NOT_WHOLE
    sign, digits = match[1], match[2].lstrip("0")
    if len(digits) > _WHOLE_DIGITS:
        return Unparsable.OUT_OF_RANGE
    return int(f"{sign}{digits or 0}")


def _real_of(stored: str) -> float | Unparsable:
    # Python's parser accepts more than DICOM's: 1_000, and other digits than 0 to 9.
    is_plain = stored.isascii() and "_" not in stored
    try:
        number = float(stored) if is_plain else math.nan
    except ValueError:
        return Unparsable.NOT_A_NUMBER
    # "nan", "inf" and "infinity" are numbers for Python only.
    return Unparsable.NOT_A_NUMBER if "n" in stored.lower() else _finite(number)


def _parsed(values: AttributeValues, parse: Callable[[str], T]) -> T | Unparsable | None:
    """Return a date, time, offset or age parsed from its text without surrounding spaces."""
    stored = text(values)
    return parse(stored.strip()[:_CHARACTERS]) if isinstance(stored, str) else stored


def day(values: AttributeValues) -> date | Unparsable | None:
    """Return the date, from FIRST_DAY on: YYYYMMDD, or YYYY.MM.DD as before DICOM 3 (PS3.5 6.2)."""
    return _parsed(values, _day_of)


@functools.lru_cache(_CACHED)
def _day_of(stored: str) -> date | Unparsable:
    match = _DATE.fullmatch(stored)
    if match is None:
        return Unparsable.NOT_A_DATE
    year, *rest = match.groups()
    month, day_of_month = (part for part in rest if part)
    try:
        found = date(int(year), int(month), int(day_of_month))
    except ValueError:
        return Unparsable.NO_SUCH_DAY
    return found if found >= FIRST_DAY else Unparsable.DAY_TOO_EARLY


def clock(values: AttributeValues) -> int | Unparsable | None:
    """Return the time of day in microseconds since midnight.

    The forms are HH, HHMM, HHMMSS, HHMMSS.F with one to six digits, and HH:MM:SS and HH:MM:SS.F as
    before DICOM 3 (PS3.5 6.2, TM). A leap second, 60, becomes the last microsecond of second 59,
    because neither Python nor Arrow has it. So it stays in its day and in its order.
    """
    return _parsed(values, _clock_of)


@functools.lru_cache(_CACHED)
def _clock_of(stored: str) -> int | Unparsable:
    if _OLD_TIME.fullmatch(stored):
        stored = stored.replace(":", "")
    match = _TIME.fullmatch(stored)
    if match is None:
        return Unparsable.NOT_A_TIME
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:  # noqa: PLR2004 - what a clock shows
        return Unparsable.NO_SUCH_TIME
    micros = int((match[4] or "").ljust(6, "0"))
    if seconds == 60:  # noqa: PLR2004 - the leap second
        seconds, micros = 59, _MICROSECONDS_PER_SECOND - 1
    return ((hours * 60 + minutes) * 60 + seconds) * _MICROSECONDS_PER_SECOND + micros


def moment(
    dates: AttributeValues, times: AttributeValues, offset: AttributeValues, zone: ZoneInfo | None
) -> datetime | Unparsable | None:
    """Return a date (DA) and a time (TM) as a moment in UTC, None when either is missing.

    The offset is TimezoneOffsetFromUTC, otherwise that of the site's zone. Without either the
    moment is unknown: None. When clocks go back, the first of two equal local times is taken. When
    they go forward, a skipped local time is moved forward by the gap.
    """
    on, at = day(dates), clock(times)
    if on is None or at is None:
        return None
    if isinstance(on, Unparsable):
        return on
    return at if isinstance(at, Unparsable) else _placed(on, at, _zone_of(offset, zone))


def instant(
    values: AttributeValues, offset: AttributeValues, zone: ZoneInfo | None
) -> datetime | Unparsable | None:
    """Return a DT as a moment in UTC. Its own offset comes before those of `moment`.

    A DT may end after its year, month or day (PS3.5 6.2). That is valid and not a moment, so None.
    """
    parts = _parsed(values, _parts_of)
    if not isinstance(parts, tuple):
        return parts
    on, at, own = parts
    return _placed(on, at, _zone_of(offset, zone) if own is None else own)


@functools.lru_cache(_CACHED)
def _parts_of(stored: str) -> _Parts | Unparsable | None:
    """Return the date, the time and the offset of a DT, None if it ends before its hour."""
    match = _PRECISE.fullmatch(stored)
    if match is not None:
        on, at, offset = _day_of(match[1]), _clock_of(match[2]), match[3]
    elif (match := _COARSE.fullmatch(stored)) is not None:
        on, at, offset = _day_of(match[1] + (match[2] or "01") + (match[3] or "01")), None, match[4]
    else:
        return Unparsable.NOT_A_MOMENT
    own = None if offset is None else _offset_of(offset)
    for part in (on, at, own):
        if isinstance(part, Unparsable):
            return part
    return None if at is None else cast("_Parts", (on, at, own))


def _zone_of(offset: AttributeValues, zone: ZoneInfo | None) -> tzinfo | Unparsable | None:
    """Return an offset as a zone, or `zone` if it is absent. Unparsable stays Unparsable."""
    own = _parsed(offset, _offset_of)
    return zone if own is None else own


@functools.lru_cache(_CACHED)
def _offset_of(stored: str) -> timezone | Unparsable:
    """Return the offset &ZZXX as a zone. -0000 does not parse (PS3.3 C.12.1.1.8)."""
    match = _OFFSET.fullmatch(stored)
    if match is None or stored == "-0000":
        return Unparsable.NOT_AN_OFFSET
    sign, hours, minutes = match.groups()
    ahead = int(f"{sign}1") * (int(hours) * 60 + int(minutes))
    is_offset = ahead in _OFFSET_MINUTES
    return timezone(timedelta(minutes=ahead)) if is_offset else Unparsable.NOT_AN_OFFSET


def _placed(on: date, at: int, zone: tzinfo | Unparsable | None) -> datetime | Unparsable | None:
    return _utc(on, at, zone) if isinstance(zone, tzinfo) else zone


@functools.lru_cache(_CACHED)
def _utc(on: date, at: int, zone: tzinfo) -> datetime | Unparsable:
    local = datetime.combine(on, time.min, zone) + timedelta(microseconds=at)
    try:
        found = local.astimezone(UTC)
    except OverflowError:  # in the year 9999
        return Unparsable.OUT_OF_RANGE
    return found if found >= FIRST_MOMENT else Unparsable.MOMENT_TOO_EARLY


def years(values: AttributeValues) -> float | Unparsable | None:
    """Return an age nnnD, nnnW, nnnM or nnnY (PS3.5 6.2, AS) in years of 365.2425 days."""
    return _parsed(values, _years_of)


@functools.lru_cache(_CACHED)
def _years_of(stored: str) -> float | Unparsable:
    match = _AGE.fullmatch(stored)
    if match is None:
        return Unparsable.NOT_AN_AGE
    factor, divisor = _YEARS[match[2]]
    return int(match[1]) * factor / divisor


def years_between(birth: AttributeValues, days: AttributeValues) -> float | Unparsable | None:
    """Return the age on a day (DA) in years of 365.2425 days, None when either is missing."""
    born, on = day(birth), day(days)
    if born is None or on is None:
        return None
    if isinstance(born, Unparsable):
        return born
    if isinstance(on, Unparsable):
        return on
    return (on - born).days / DAYS_PER_YEAR if born <= on else Unparsable.BEFORE_BIRTH


def code_of(
    designator: AttributeValues,
    value: AttributeValues,
    long_value: AttributeValues,
    urn: AttributeValues,
) -> str | Unparsable | None:
    """Return a code as `SCHEME:VALUE`, None without a value (PS3.3 8.8).

    The form is that of the Imaging Data Commons' tables, which have null where the scheme is
    missing. Here it is the value alone then, because a URN needs no scheme, and such a value
    cannot be taken for one that has a scheme.
    """
    texts = (number_text(values) for values in (value, long_value, urn))
    coded = next((one for one in texts if one is not None), None)
    scheme = number_text(designator)
    if not isinstance(coded, str) or scheme is None:
        return coded
    return f"{scheme}:{coded}" if isinstance(scheme, str) else scheme
