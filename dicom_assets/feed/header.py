"""A header's bytes to the columns of `instance`.

The catalogue in `schema` says which attribute a column shows; what is compiled from it here, once,
is a struct that holds those attributes only, so that the rest of a header is skipped and never
becomes objects. Which rows are decoded is in `client`; pages and entries are in `decode`.

Text is kept as stored, without the padding (PS3.5 6.2): trailing spaces and NUL; of a person's
name the alphabetic group; several values joined by a backslash. Nothing but padding is null.
"""

import functools
import operator
import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Final, TypeAlias, cast

import msgspec
import pyarrow as pa

from dicom_assets.feed.decode import Entry
from dicom_assets.reads import Rejection
from dicom_assets.schema import DATE, INSTANCE, Column
from dicom_assets.window import TICKS_PER_MICROSECOND

PADDING: Final = " \0"
UID_TAGS: Final = ("0020000D", "0020000E", "00080018")
# Above this, an integral float has no digits of its own left: "1e+300" says more.
_EXACT_FLOAT: Final = 2**53
_DATES_REMEMBERED: Final = 4096
_DATE: Final = re.compile(r"(\d{4})(?:(\d\d)(\d\d)|\.(\d\d)\.(\d\d))", re.ASCII)


class _Unparsable:
    """The value that stands for one that did not parse."""


UNPARSABLE: Final = _Unparsable()
Text: TypeAlias = str | _Unparsable | None
Day: TypeAlias = date | _Unparsable | None


class _Name(msgspec.Struct, gc=False):
    """A person's name: the one of its groups that is read."""

    Alphabetic: str | None = None


class _Element(msgspec.Struct, gc=False):
    """An attribute; its VR is not looked at, because the catalogue knows it."""

    Value: list[str | int | float | None] | None = None


class _NameElement(msgspec.Struct, gc=False):
    Value: list[_Name | str | None] | None = None


Element: TypeAlias = _Element | _NameElement | None


_COLUMNS: Final = tuple(column for column in INSTANCE.columns if column.tag)
_TAGS: Final = {column.tag: column.vr for column in _COLUMNS if column.tag}


def _struct(name: str, type_of: Callable[[str | None], Any]) -> type[msgspec.Struct]:
    fields = [(f"t{tag}", type_of(vr), None) for tag, vr in _TAGS.items()]
    return msgspec.defstruct(name, fields, rename=lambda field: field[1:], gc=False)


_HEADER: Final = msgspec.json.Decoder(
    _struct("Header", lambda vr: (_NameElement if vr == "PN" else _Element) | None)
)
_ODD_HEADER: Final = msgspec.json.Decoder(_struct("OddHeader", lambda _: Any))


def decode_header(raw: bytes) -> msgspec.Struct | None:
    """Return the struct of a header's attributes; None when it cannot be decoded."""
    try:
        return _HEADER.decode(raw)
    except msgspec.ValidationError:
        return _decode_odd(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decode_odd(raw: bytes) -> msgspec.Struct | None:
    """Return the struct of a header whose attributes are not all of the standard's form."""
    try:
        header = _ODD_HEADER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for tag, vr in _TAGS.items():
        setattr(header, f"t{tag}", _odd_element(getattr(header, f"t{tag}"), vr))
    return header


def _odd_element(element: object, vr: str | None) -> _Element | None:
    if element is None:
        return None
    value = element.get("Value") if isinstance(element, dict) else UNPARSABLE
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    if vr == "PN":
        items = [_odd_name(item) for item in items]
    return _Element(cast("list[str | int | float | None]", items))


def _odd_name(item: object) -> object:
    if not isinstance(item, dict):
        return item
    alphabetic = item.get("Alphabetic")
    return _Name(alphabetic) if isinstance(alphabetic, str | None) else UNPARSABLE


def text_of(element: Element) -> Text:
    """Return an attribute's text, None when it is empty, UNPARSABLE when it is not text."""
    if element is None:
        return None
    values = element.Value
    if not values:
        return None
    if len(values) == 1 and type(values[0]) is str:
        return values[0].rstrip(PADDING) or None
    items = [_item_text(value) for value in values]
    if UNPARSABLE in items:
        return UNPARSABLE
    return "\\".join(cast("list[str]", items)) if any(items) else None


def _item_text(value: object) -> str | _Unparsable:
    if value is None:
        return ""
    if isinstance(value, _Name):
        value = value.Alphabetic or ""
    if isinstance(value, str):
        return value.rstrip(PADDING)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNPARSABLE
    return _number_text(value)


def _number_text(value: float) -> str:
    if abs(value) <= _EXACT_FLOAT and value == int(value):
        value = int(value)
    return repr(value)


def _stripped_text_of(element: Element) -> Text:
    """Return the text of a number: leading spaces are padding there too (PS3.5 6.2, IS)."""
    text = text_of(element)
    if not isinstance(text, str):
        return text
    return text.strip() or None


def _day_of(element: Element) -> Day:
    text = text_of(element)
    return _parse_day(text.strip()) if isinstance(text, str) else text


@functools.lru_cache(_DATES_REMEMBERED)
def _parse_day(text: str) -> Day:
    match = _DATE.fullmatch(text)
    if match is None:
        return UNPARSABLE
    year, *rest = match.groups()
    month, day = (part for part in rest if part)
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return UNPARSABLE


def _reader(column: Column) -> Callable[[Element], object]:
    if column.type == DATE:
        return _day_of
    return _stripped_text_of if column.vr in {"IS", "DS"} else text_of


# What of a row is not in its header.
_FROM_ENTRY: Final[dict[str, Callable[[Entry], object]]] = {
    "partitionName": lambda entry: entry.partition,
    "studyinstanceuid": lambda entry: entry.study,
    "seriesinstanceuid": lambda entry: entry.series,
    "sopinstanceuid": lambda entry: entry.sop,
    "lastModifiedTimestamp": lambda entry: entry.ticks // TICKS_PER_MICROSECOND,
    "filepath": lambda entry: entry.file_path,
    "sequence": lambda entry: entry.sequence,
}
_FROM_HEADER: Final = {
    column.name: (operator.attrgetter(f"t{column.tag}"), _reader(column))
    for column in _COLUMNS
    if column.name not in _FROM_ENTRY
}


def rows_of(entries: Sequence[Entry]) -> tuple[pa.Table, list[Rejection], dict[str, int]]:
    """Return the rows of `instance` for entries with a header.

    Beside them: the entries whose header cannot be used, and per column how many values did not
    parse and became null.
    """
    usable: list[tuple[Entry, str, msgspec.Struct]] = []
    rejections = []
    for entry in entries:
        read = _read(entry)
        if isinstance(read, str):
            rejections.append(Rejection(entry.sequence, entry.ticks, read))
        else:
            usable.append((entry, *read))
    table, unparsable = _table(usable)
    return table, rejections, unparsable


def _read(entry: Entry) -> tuple[str, msgspec.Struct] | str:
    """Return a header as text and as attributes, or the reason why it cannot be used."""
    if entry.header is None:
        return "header absent"
    header = decode_header(entry.header)
    try:
        text = entry.header.decode()
    except UnicodeDecodeError:
        header, text = None, ""
    if header is None:
        return "header cannot be decoded"
    uids = tuple(text_of(getattr(header, f"t{tag}")) for tag in UID_TAGS)
    if uids != (entry.study, entry.series, entry.sop):
        return "header is of another instance"
    return text, header


def _table(usable: list[tuple[Entry, str, msgspec.Struct]]) -> tuple[pa.Table, dict[str, int]]:
    entries = [entry for entry, _, _ in usable]
    headers = [header for _, _, header in usable]
    columns: dict[str, list[Any]] = {"metadata_string": [text for _, text, _ in usable]}
    for name, of_entry in _FROM_ENTRY.items():
        columns[name] = [of_entry(entry) for entry in entries]
    unparsable = {}
    for name, (attribute, of_element) in _FROM_HEADER.items():
        elements = map(attribute, headers)
        values = [None if element is None else of_element(element) for element in elements]
        if count := values.count(UNPARSABLE):
            unparsable[name] = count
            values = [None if value is UNPARSABLE else value for value in values]
        columns[name] = values
    schema = INSTANCE.arrow()
    nothing = [None] * len(usable)
    arrays = [pa.array(columns.get(field.name, nothing), field.type) for field in schema]
    return pa.table(arrays, schema=schema), unparsable
