"""The oracle's values: from the `Value` of DICOM attributes to the value of a column.

Each function takes lists as they stand in a header (empty when the attribute is absent) and
returns the value, or None when there is none or when it is not of its form (PS3.5 6.2). Plain
Python, written from the specification; which attributes make which column is in `expected`.
"""

from __future__ import annotations

import math
import re
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

PADDING = " \0"
DAYS_PER_YEAR = 365.2425
INT32 = range(-(2**31), 2**31)
EXACT = 2**53
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
GREATEST = sys.float_info.max

Values = list[Any]


def text_of(values: Values) -> str | None:
    r"""Values without their padding, joined by `\`; null when nothing but padding is left.

    A number is text too; what is neither makes the whole null.
    """
    texts = [v.rstrip(PADDING) if type(v) is str else _item_text(v) for v in values]
    if None in texts:
        return None
    return "\\".join(map(str, texts)) if any(texts) else None


def _item_text(value: object) -> str | None:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return str(value) if type(value) in {int, float} else None


def name_of(values: Values) -> str | None:
    """Persons' names: of each the first group that says something, without what is empty."""
    return text_of(
        [_name_of(v) if isinstance(v, dict) else _name_of({GROUPS[0]: v}) for v in values]
    )


def _name_of(person: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The first group; what Alphabetic holds behind a `=` counts where the group has no own."""
    alphabetic = person.get("Alphabetic")
    split = alphabetic.split("=") if isinstance(alphabetic, str) else [alphabetic]
    for own, group in zip(
        [split[0], *map(person.get, GROUPS[1:])], [*split, "", ""][:3], strict=True
    ):
        for found in (own, group):
            left = re.sub(r"[\^ \0]+\Z", "", found) if isinstance(found, str) else found
            if left not in ("", None):
                return left
    return ""


def number_text_of(values: Values) -> str | None:
    """Numbers as text; spaces on both sides are padding (PS3.5 6.2, IS)."""
    return (text_of(values) or "").strip(" ") or None


def _alone(values: Values) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The only value: a number, or text without spaces around it."""
    if len(values) == 1 and type(values[0]) in {int, float}:
        return values[0]
    return (text_of(values) or "").strip(" ")


def real_of(values: Values) -> float | None:
    """The only value, as a number or as DS writes one; NaN and what is infinite are none."""
    value = _alone(values)
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([Ee][+-]?[0-9]+)?", value):
            return None
        value = float(value)
    return float(value) if abs(value) <= GREATEST else None


def whole_of(values: Values) -> int | None:
    """The only value, if 32 bits hold it; a fraction may be zeros only, an exponent is none."""
    value = _alone(values)
    if isinstance(value, str):
        number = re.fullmatch(r"([+-]?[0-9]+)(\.0*)?", value)
        if number is None:
            return None
        value = number[1]
    elif value != int(value):
        return None
    return int(value) if int(value) in INT32 else None


def row_of(values: Values) -> float | None:
    """The first of several numbers: between rows, in PixelSpacing."""
    return real_of(_one_by_one(values)[:1])


def column_of(values: Values) -> float | None:
    """The second of several numbers: between columns, in PixelSpacing."""
    return real_of(_one_by_one(values)[1:2])


def _one_by_one(values: Values) -> Values:
    """Values, also those that stand in one text."""
    return [one for v in values for one in (v.split("\\") if isinstance(v, str) else [v])]


def date_of(values: Values) -> date | None:
    """The day of `YYYYMMDD` or `YYYY.MM.DD`."""
    text = (text_of(values) or "").strip(" ")
    if re.fullmatch(r"[0-9]{4}\.[0-9]{2}\.[0-9]{2}", text):
        text = text.replace(".", "")
    if not re.fullmatch(r"[0-9]{8}", text):
        return None
    try:
        found = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
    # Of the Gregorian calendar, as Spark wants it.
    return found if found.isoformat() >= "1582-10-15" else None


def time_of(values: Values) -> time | None:
    """The time of day of `HH`, `HHMM`, `HHMMSS`, `HHMMSS.F`, or with colons `HH:MM:SS(.F)`.

    A leap second is the last microsecond before it.
    """
    text = (text_of(values) or "").strip(" ")
    if re.fullmatch(r"..:..:..(\.[0-9]+)?", text):
        text = text.replace(":", "")
    if not re.fullmatch(r"([0-9]{2}){1,3}|[0-9]{6}\.[0-9]{1,6}", text):
        return None
    if text[4:6] == "60":
        text = text[:4] + "59.999999"
    hour, minute, second = (int(text[at : at + 2] or 0) for at in (0, 2, 4))
    try:
        return time(hour, minute, second, int(text[7:].ljust(6, "0")))
    except ValueError:
        return None


def offset_of(values: Values) -> timedelta | None:
    """How far `+HHMM` or `-HHMM` is ahead of UTC: -12:00 to +14:00, and `-0000` is none."""
    text = (text_of(values) or "").strip(" ")
    if not re.fullmatch(r"[+-][0-9]{2}[0-5][0-9]", text) or text == "-0000":
        return None
    ahead = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    ahead = -ahead if text[0] == "-" else ahead
    return ahead if timedelta(hours=-12) <= ahead <= timedelta(hours=14) else None


def _utc(day: date | None, at: time | None, ahead: timedelta | None) -> datetime | None:
    if day is None or at is None or ahead is None:
        return None
    try:
        found = datetime.combine(day, at, timezone(ahead)).astimezone(UTC)
    except OverflowError:
        return None
    return found if found.year >= 1900 else None  # as Spark wants it


def moment_of(dates: Values, times: Values, offsets: Values) -> datetime | None:
    """The moment of a DA and a TM, in UTC; none without an offset, for the site's zone is unset."""
    return _utc(date_of(dates), time_of(times), offset_of(offsets))


def instant_of(instants: Values, dates: Values, times: Values, offsets: Values) -> datetime | None:
    """The moment of a DT with its own offset or the other one; else that of the DA and TM."""
    text = (text_of(instants) or "").strip(" ")
    parts = re.fullmatch(r"([0-9]{8})([0-9]{2,6}(?:\.[0-9]+)?)([+-][0-9]{4})?", text)
    if parts is None:
        return moment_of(dates, times, offsets)
    own = [parts[3]] if parts[3] else offsets
    found = moment_of([parts[1]], [parts[2]], own)
    return moment_of(dates, times, offsets) if found is None else found


def years_of(ages: Values, births: Values, days: Values) -> float | None:
    """The age in years that an AS says, else the one from birth to a day; none before birth."""
    text = (text_of(ages) or "").strip(" ")
    if re.fullmatch(r"[0-9]{3}[DWMY]", text):
        number = int(text[:3])
        return {
            "D": number / DAYS_PER_YEAR,
            "W": number * 7 / DAYS_PER_YEAR,
            "M": number / 12,
            "Y": float(number),
        }[text[3]]
    born, day = date_of(births), date_of(days)
    return None if not born or not day or born > day else (day - born).days / DAYS_PER_YEAR


def code_of(items: Values) -> str | None:
    """`SCHEME:VALUE` of a sequence's first item; the value alone when it names no scheme."""
    code = next(filter(None, (_in_first(items, tag) for tag in CODE_VALUES)), None)
    scheme = _in_first(items, "00080102")
    return code if code is None or scheme is None else f"{scheme}:{code}"


# CodeValue, LongCodeValue, URNCodeValue.
CODE_VALUES = ("00080100", "00080119", "00080120")


def _in_first(items: Values, tag: str) -> str | None:
    return number_text_of(first_of(items, tag))


def first_of(items: Values, tag: str) -> Values:
    """The values of an attribute in a sequence's first item."""
    return values_in(items[0] if items else None, tag)


def values_in(header: object, tag: str) -> Values:
    """The values of an attribute; empty when it has none or is not there; one need be no list."""
    attribute = header.get(tag) if isinstance(header, dict) else None
    found = attribute.get("Value") if isinstance(attribute, dict) else None
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def meaning_of(items: Values) -> str | None:
    """CodeMeaning of a sequence's first item."""
    return text_of(first_of(items, "00080104"))


def are_equal(found: object, expected: object) -> bool:
    """One value, of one type; the last digit of a quotient depends on how it was worked out."""
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-12)
    return found == expected and type(found) is type(expected)
