r"""Values that the service keeps, by their VR: its rules, which differ from those of PS3.5 6.2.

Here: `StoreDatasetValidator` of microsoft/dicom-server, version 2, and what it calls of fo-dicom
5.1 (`DicomValidation.cs`, `DicomElement.cs`). Lengths are of UTF-16. A `$` of .NET lets a final
line feed pass, hence `\n?`. Not here: the attributes that have to be there (`headers`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VM

_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"  # char.IsControl
_CONTROL_BUT_ESC: Final = r"\x00-\x1a\x1c-\x1f\x7f-\x9f"
_SPACE: Final = r"[\t-\r \x85\xa0]"  # string.Trim()
_TIME: Final = r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?"
_TIME_OR_NONE: Final = rf"(?:{_TIME}\n?)? *"
_DATE_OR_NONE: Final = r"(?:\d{4}(?:0\d|1[0-2])(?:[0-2]\d|3[01])\n?)? *"  # month and day may be 00
_DAY: Final = r"(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12]\d|3[01])(?:" + _TIME + ")?)?"
_OFFSET: Final = r"(?:\+(?:0\d|1[0-4])|-(?:0\d|1[0-2]))[0-5]\d"
_MOMENT_OR_NONE: Final = rf"(?:\d{{4}}(?:{_DAY})?\n?(?:{_OFFSET})?)? *"
_NO_OFFSET: Final = r"(?!(?:0\d|1[01])\d\d\Z|1200\Z)"  # up to 1200 behind a hyphen: not a year
_COMPONENT: Final = rf"[^=^{_CONTROL_BUT_ESC}]*"
_GROUP: Final = rf"{_COMPONENT}(?:\^{_COMPONENT}){{0,4}}"

# The longest value, and all of its forms. DA, TM and DT may be ranges, as in a query.
_RULES: Final = {
    vr: (longest, re.compile(pattern, re.ASCII | re.DOTALL))
    for vr, longest, pattern in (
        ("AE", 16, rf"(?!{_SPACE}*\Z)[^\\{_CONTROL}]*"),
        ("AS", None, r"(?:\d{3}[DWMY]\n?)?"),
        ("CS", 16, r"[A-Z0-9_ ]*\n?"),
        ("DA", None, rf"{_DATE_OR_NONE}(?:-{_DATE_OR_NONE})?"),
        ("DS", 16, rf"{_SPACE}*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?{_SPACE}*"),
        (
            "DT",
            None,
            rf"(?!.*-0000)(?! *- *\Z){_MOMENT_OR_NONE}(?:-{_NO_OFFSET}{_MOMENT_OR_NONE})?",
        ),
        ("IS", None, r"(?: *([+-]?)0*(\d{1,10})\n? *)?"),
        ("LO", 64, rf"[^\\{_CONTROL_BUT_ESC}]*"),
        ("LT", 10240, r".*"),
        ("PN", None, rf"{_GROUP}(?:={_GROUP}){{0,2}}"),
        ("SH", 16, rf"[^\\{_CONTROL_BUT_ESC}]*"),
        ("ST", 1024, r".*"),
        ("TM", None, rf"{_TIME_OR_NONE}(?:-{_TIME_OR_NONE})?"),
        ("UI", None, r"(?![^ ]{65})(?:[1-9]\d*(?:\.(?:0|[1-9]\d*))*)?\n? *"),
    )
}
# One value, whatever backslashes are in it.
_SINGLE: Final = frozenset({"LT", "ST", "UR", "UT"})
# The VRs that are strings to fo-dicom: nulls at their end are no fault.
_NULLS_ALLOWED: Final = _SINGLE | {"AE", "AS", "CS", "LO", "PN", "SH", "UC", "UI"}
_LONGEST_NAME_GROUP: Final = 64


def without_padding(vr: str, text: str) -> str:
    """Return the text of an element without its final padding (fo-dicom's StringValue)."""
    return text.rstrip("\0" if vr == "UI" else " ")


def split_values(vr: str, text: str) -> list[str]:
    """Return the values in the text of an element without padding; none of an empty text."""
    return [text] if vr in _SINGLE and text else text.split("\\") if text else []


def is_valid_text(tag: int, vr: str, text: str) -> bool:
    """Return True if the service keeps an element with this text, which is that in the file."""
    text = without_padding(vr, text)
    if vr in _NULLS_ALLOWED and text.endswith("\0"):
        # ValidateWithoutNullPadding: the text as one value, and the values are not counted.
        return _is_valid_value(vr, text.rstrip("\0"))
    values = split_values(vr, text)
    counted = vr in _SINGLE or vr == "UC" or is_valid_count(tag, len(values))
    return counted and all(_is_valid_value(vr, value) for value in values)


def is_valid_count(tag: int, count: int) -> bool:
    """Return True if the tag may have so many values (DicomElement.ValidateVM)."""
    least, greatest = _multiplicity(tag)
    return count == 0 or least <= count <= greatest


@cache
def _multiplicity(tag: int) -> tuple[float, float]:
    """Return the least and the greatest number of values. Private and unknown tags have any."""
    is_known = not tag >> 16 & 1 and dictionary_has_tag(tag)
    multiplicity = dictionary_VM(tag) if is_known else "1-n"
    numbers = [int(number) for number in re.findall(r"\d+", multiplicity)]
    return numbers[0], float("inf") if "n" in multiplicity else numbers[-1]


def _is_valid_value(vr: str, value: str) -> bool:
    if vr not in _RULES:
        return True
    longest, pattern = _RULES[vr]
    if longest is not None and _length(value) > longest:
        return False
    match = pattern.fullmatch(value)
    if match is None:
        return False
    if vr == "IS" and match[2]:
        return -(2**31) <= int(match[1] + match[2]) < 2**31
    return vr != "PN" or all(_length(one) <= _LONGEST_NAME_GROUP for one in value.split("="))


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
