"""Headers (the DICOM JSON of instances, PS3.18 F) to columns, as the catalogue defines them.

An `Extraction` is compiled once per table. A msgspec struct cuts the attributes at the columns'
paths out of a header as bytes, so all other attributes are skipped and never become objects. For
each column there is a function that makes its values, for many headers at a time. Instances of a
series share most attributes, so the results are cached by the attribute's bytes.

Text is kept as stored, without the padding (PS3.5 6.2): trailing spaces and NUL. Several values are
joined by a backslash. A value that does not parse becomes null, and is counted.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from dicom_assets.header import values as v
from dicom_assets.header.marks import MOST_MARKS, has_too_many, marks
from dicom_assets.schema import INT64, Column, Path, Step, Table
from dicom_assets.schema.attributes import ALL

# Raise it with every change of the value that some header gives: tables whose rows were derived
# under another edition are derived anew, by a run that a sensor starts.
EDITION: Final = 2
# A backslash is a character of these texts, and between values in all others (PS3.5 6.2).
_ONE_TEXT: Final = ("LT", "ST", "UR", "UT")
UID_TAGS: Final = ("0020000D", "0020000E", "00080018")
# The cache of a column: the number of keys, and the size of the largest in bytes.
_CACHED_KEYS: Final = 1024
_CACHED_BYTES: Final = 512
# Headers of one page, in bytes, that need no look at their marks. An ordinary page has up to 2 MB.
_FEW_BYTES: Final = 4 * 1024 * 1024
_USUAL_MARKS: Final = 100
# Instead of an attribute with too many values: it is no attribute, so no column can parse it.
_TOO_LARGE: Final = b"[]"

Raw: TypeAlias = bytes | None


class Header(NamedTuple):
    """A decoded header: the attributes of the columns, and for private ones `whole`, all by tag.

    The tag of a private attribute depends on the place of its creator's block in this header.
    """

    attributes: Any
    whole: Mapping[str, msgspec.Raw]
    bytes: int


class Extraction:
    """The compiled extraction of one table: the values of its columns with paths, by name."""

    def __init__(self, table: Table, zone: ZoneInfo | None = None) -> None:
        """Compile it. `zone` is that of times without an offset, None when it is unknown."""
        columns = [column for column in table.columns if column.paths]
        self._first = {p: p.steps[0] for column in columns for p in column.paths}
        self._private = [step for step in self._first.values() if step.creator]
        public = [step.attribute.tag for step in self._first.values() if not step.creator]
        # In the order of a header: msgspec searches for a key from the one before it on.
        self._tags = sorted({*UID_TAGS, *public})
        fields = [(f"t{tag}", msgspec.Raw, None) for tag in self._tags]
        struct = msgspec.defstruct("Attributes", fields, rename=lambda name: name[1:], gc=False)
        self._decoder = msgspec.json.Decoder(struct)
        self._values = {column.name: (column.paths, _Values(column, zone)) for column in columns}

    def decode(self, raw: bytes) -> Header | None:
        """Return a header decoded, None when it is not a JSON object."""
        try:
            is_searched = self._private and not has_too_many(raw)
            whole = _WHOLE.decode(raw) if is_searched else {}
            return Header(self._decoder.decode(raw), whole, len(raw))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def is_of(self, header: Header, uids: Iterable[str]) -> bool:
        """True when these are the header's study, series and SOP instance UIDs."""
        stored = (getattr(header.attributes, f"t{tag}") for tag in UID_TAGS)
        return all(map(_is_uid, stored, uids))

    def columns(self, headers: Sequence[Header]) -> tuple[dict[str, list[Any]], Counter[str]]:
        """Return the values of each column, and by `column: reason` how many did not parse."""
        raws = self._raws(headers)
        columns, unparsable = {}, Counter[str]()
        for name, (paths, values) in self._values.items():
            column = values.of([raws[path] for path in paths])
            if values.has_failures:
                failures = [value for value in column if type(value) is v.Unparsable]
                unparsable.update(f"{name}: {failure.value}" for failure in failures)
                column = [None if type(value) is v.Unparsable else value for value in column]
            columns[name] = column
        return columns, unparsable

    def _raws(self, headers: Sequence[Header]) -> dict[Path, Sequence[Raw]]:
        """Return the bytes of the attribute that each path starts with, header by header."""
        rows = (msgspec.structs.astuple(header.attributes) for header in headers)
        columns = zip(*rows, strict=True) if headers else ((),) * len(self._tags)
        of_tag = {
            tag: [None if raw is None else bytes(raw) for raw in column]
            for tag, column in zip(self._tags, columns, strict=True)
        }
        if sum(header.bytes for header in headers) > _FEW_BYTES:
            self._limit(of_tag)
        return {
            path: [_private(header.whole, step) for header in headers]
            if step.creator
            else of_tag[step.attribute.tag]
            for path, step in self._first.items()
        }

    def _limit(self, of_tag: Mapping[str, list[Raw]]) -> None:
        """Leave no more values to the loops of `values` than MOST_MARKS, in all headers.

        Attributes of usual size are kept in any case, so one header takes nothing from another.
        """
        looped = {step.attribute.tag for path, step in self._first.items() if len(path.steps) == 1}
        left = MOST_MARKS
        for tag in filter(looped.__contains__, self._tags):
            for row, raw in enumerate(of_tag[tag]):
                if raw is not None and (count := marks(raw)) > _USUAL_MARKS:
                    left -= count
                    of_tag[tag][row] = raw if left >= 0 else _TOO_LARGE


_WHOLE: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _is_uid(raw: msgspec.Raw | None, uid: str) -> bool:
    if raw is None:
        return False
    usual = f'{{"vr":"UI","Value":["{uid}"]}}'.encode()
    return bytes(raw) == usual or v.text(_of_attribute(bytes(raw))) == uid


# --- from the bytes of an attribute to the values at the end of a path ----------------------------
class _Element(msgspec.Struct, gc=False):
    """An attribute of the usual form. Its VR is not read, because the catalogue has it."""

    Value: list[str | int | float | None] | None = None


_ELEMENT: Final = msgspec.json.Decoder(_Element)


def _of_attribute(raw: bytes) -> v.AttributeValues:
    if has_too_many(raw):
        return v.values_of([])
    try:
        return _ELEMENT.decode(raw).Value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return v.values_of(_decoded(raw))


def _decoded(raw: bytes) -> object:
    """Return JSON decoded, or an empty list, which is no attribute, if it is too deep or large."""
    if has_too_many(raw, 2 * MOST_MARKS):
        return []
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _at(path: Path, raw: Raw) -> v.AttributeValues:
    """Return the values at the end of a path that starts with this attribute."""
    if raw is None:
        return None
    simple = len(path.steps) == 1
    return _inside(_of_attribute(raw) if simple else v.values_of(_decoded(raw)), path.steps)


def _inside(values: v.AttributeValues, steps: Sequence[Step]) -> v.AttributeValues:
    if not values:
        return values
    first, *rest = steps
    at = slice(first.index, first.index + 1)
    chosen = values if first.index == ALL else _one_by_one(values, first)[at]
    return [value for item in chosen for value in _of_item(item, rest) or ()] if rest else chosen


def _one_by_one(values: Sequence[object], step: Step) -> Sequence[object]:
    r"""Return values one by one, also those that came in one text, such as `0.5\0.7`."""
    if step.attribute.vr in _ONE_TEXT:
        return values
    return [one for v in values for one in (v.split("\\") if isinstance(v, str) else [v])]


def _of_item(item: object, steps: Sequence[Step]) -> v.AttributeValues:
    if not isinstance(item, dict):
        return v.values_of(item)
    step = steps[0]
    tags = _private_tags(item, step) if step.creator else iter((step.attribute.tag,))
    return _inside(v.values_of(next((item[t] for t in tags if t in item), None)), steps)


def _private(whole: Mapping[str, msgspec.Raw], step: Step) -> Raw:
    blocks = {tag: _decoded(bytes(raw)) for tag, raw in whole.items() if _is_block(tag, step)}
    raw = next((whole[tag] for tag in _private_tags(blocks, step) if tag in whole), None)
    return None if raw is None else bytes(raw)


def _is_block(tag: str, step: Step) -> bool:
    """True when a tag reserves a block of the step's group: (gggg,0010) to (gggg,00FF)."""
    return re.fullmatch(rf"{step.attribute.tag[:4]}00[1-9A-F][0-9A-F]", tag) is not None


def _private_tags(item: Mapping[str, object], step: Step) -> Iterator[str]:
    """Yield a private step's possible tags: one for each block of its creator (PS3.5 7.8.1)."""
    tag = step.attribute.tag
    for block in sorted(other for other in item if _is_block(other, step)):
        reserved = v.values_of(item[block])
        if reserved and v.text(reserved) == step.creator:
            yield f"{tag[:4]}{block[6:]}{tag[6:]}"


# --- from attributes to the values of a column ----------------------------------------------------
class _Values(dict[Any, Any]):
    """The values of one column by the bytes of the attributes that its paths start with: a cache.

    `has_failures` is True once a value did not parse, so that failures are not searched for before.
    """

    def __init__(self, column: Column, zone: ZoneInfo | None) -> None:
        super().__init__()
        self.has_failures = False
        self._parse, self._paths = parser_of(column, zone), column.paths

    def of(self, raws: list[Sequence[Raw]]) -> list[Any]:
        keys = raws[0] if len(raws) == 1 else zip(*raws, strict=True)
        return list(map(self.__getitem__, keys))

    def __missing__(self, key: Any) -> Any:  # noqa: ANN401 - one attribute, or one for each path
        raws: tuple[Raw, ...] = key if len(self._paths) > 1 else (key,)
        value = self._parse(*map(_at, self._paths, raws))
        self.has_failures = self.has_failures or type(value) is v.Unparsable
        if sum(map(len, filter(None, raws))) <= _CACHED_BYTES:
            if len(self) >= _CACHED_KEYS:
                self.clear()
            self[key] = value
        return value


def parser_of(column: Column, zone: ZoneInfo | None) -> Callable[..., object]:
    """Return the function from the values at each path of a column to the column's value."""
    parsers: dict[str | None, Callable[..., object]] = {
        "text": v.text,
        "number_text": v.number_text,
        "whole": partial(v.whole, bits=64 if column.type == INT64 else 32),
        "real": v.real,
        "day": v.day,
        "name": v.person_name,
        "ideographic": partial(v.person_name, group="Ideographic"),
        "phonetic": partial(v.person_name, group="Phonetic"),
        "moment": partial(v.moment, zone=zone),
        "instant": partial(_instant, zone=zone),
        "datetime": partial(v.instant, zone=zone),
        "years": _years,
        "code": v.code_of,
    }
    return parsers[column.form]


def _instant(
    instants: v.AttributeValues,
    dates: v.AttributeValues,
    times: v.AttributeValues,
    offset: v.AttributeValues,
    zone: ZoneInfo | None,
) -> object:
    """Return the moment of a DT or, if none parses, that of a DA and a TM."""
    return _else(v.instant(instants, offset, zone), lambda: v.moment(dates, times, offset, zone))


def _years(age: v.AttributeValues, birth: v.AttributeValues, day: v.AttributeValues) -> object:
    """Return an AS in years or, if none parses, the years from birth to a day."""
    return _else(v.years(age), lambda: v.years_between(birth, day))


def _else(value: object, other: Callable[[], object]) -> object:
    """Return the value if it parsed, otherwise the other unless that is null."""
    if value is not None and type(value) is not v.Unparsable:
        return value
    instead = other()
    return value if instead is None else instead


# --- the header as a map --------------------------------------------------------------------------
def header_map(raw: bytes) -> list[tuple[str, dict[str, Any]]] | None:
    """Return a header as the template's `metadata`: by tag the VR and the values, each as text.

    A value that is not text becomes its JSON. None when the header is not a JSON object.
    """
    try:
        whole = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [(tag, _mapped(bytes(attribute))) for tag, attribute in whole.items()]


class _MapElement(msgspec.Struct, gc=False):
    vr: str | None = None
    Value: list[msgspec.Raw] | None = None


_MAP_ELEMENT: Final = msgspec.json.Decoder(_MapElement)


def _mapped(attribute: bytes) -> dict[str, Any]:
    try:
        element = _MAP_ELEMENT.decode(attribute)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"vr": None, "Value": None}
    values = element.Value
    return {"vr": element.vr, "Value": None if values is None else [_map_text(r) for r in values]}


def _map_text(raw: msgspec.Raw) -> str | None:
    text = bytes(raw)
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


@cache
def extraction(table: Table, zone: str | None = None) -> Extraction:
    """Return the extraction of a table, compiled once. `zone` is a name of the IANA database."""
    return Extraction(table, ZoneInfo(zone) if zone else None)
