"""The bytes of a page to entries, typed and checked.

A page is decoded as a whole, also with fields that are new. When that fails, the names of its
fields may be in another case, as they are in an example of the service's documentation, so it is
decoded with the names as we know them. When that fails too, each entry is decoded alone, so that
one unusable entry becomes one rejection and the others are kept. Headers stay bytes here, verbatim:
`header` makes columns of them.

Every answer is bounded before objects are made of it: a page by its rows, and JSON that is parsed
in Python, or to Python's objects, by its marks.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from dicom_assets.errors import MiscountError
from dicom_assets.feed_contract import Key, Rejection
from dicom_assets.header.marks import MOST_MARKS, has_too_many
from dicom_assets.header.values import PADDING
from dicom_assets.window import parse_timestamp

T = TypeVar("T")
MAX_INT64: Final = 2**63 - 1
ACTIONS: Final = {"create": "Create", "update": "Update", "delete": "Delete"}
STATES: Final = {"current": "Current", "replaced": "Replaced", "deleted": "Deleted"}

_REASONS: Final = {
    "sequence": "sequence is missing or not a 64-bit number",
    "partitionName": "partitionName is missing or malformed",
    "studyInstanceUid": "studyInstanceUid is missing or malformed",
    "seriesInstanceUid": "seriesInstanceUid is missing or malformed",
    "sopInstanceUid": "sopInstanceUid is missing or malformed",
    "action": "action is missing",
    "timestamp": "timestamp is missing",
    "state": "state is missing",
    "filePath": "filePath is not text",
}
# Only such names of unknown fields are named. Another one could be a value.
_FIELD_NAME: Final = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
MOST_NAMED: Final = 20
# The service's largest page. A page may have more than its limit, where rows repeat.
MOST_ROWS: Final = 200
# A header may nest as deep as it likes at the cost of its own entry. Deeper is no header's fault.
MOST_DEPTH: Final = 1_000_000
MOST_FIELDS: Final = 1_000
_FIELD_IN_MESSAGE: Final = re.compile(r"(?:`|\$\.)(\w+)`\Z")
# A bracket or a comma outside of strings, and what is before it. Possessive, and it matches at the
# end too, so that time is linear.
_MARK: Final = re.compile(
    rb'(?:[^"\[\]{},]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?+)*+([\[\]{},]|\Z)', re.DOTALL
)
_STEPS: Final = {b"[": 1, b"{": 1, b"]": -1, b"}": -1, b",": 0, b"": 0}

# With the padding at its end, which is no part of it: a NUL (PS3.5 6.2), and the space of scanners.
Uid: TypeAlias = Annotated[str, msgspec.Meta(pattern=rf"\A[0-9.]{{1,64}}[{PADDING}]*\Z")]


class MalformedError(ValueError):
    """The bytes are not what was asked for. Requesting it again may help."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A usable entry. `header` is its DICOM JSON verbatim, or None."""

    sequence: int
    ticks: int
    partition: str
    study: str
    series: str
    sop: str
    action: str
    state: str
    file_path: str | None
    header: bytes | None

    @property
    def key(self) -> Key:
        """The data partition and the three UIDs."""
        return self.partition, self.study, self.series, self.sop


class _Wire(msgspec.Struct, rename="camel", gc=False):
    """An entry as the service sends it. `_entry` checks the fields that msgspec cannot."""

    sequence: Annotated[int, msgspec.Meta(ge=0, le=MAX_INT64)]
    partition_name: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]
    study_instance_uid: Uid
    series_instance_uid: Uid
    sop_instance_uid: Uid
    action: str
    timestamp: str
    state: str
    file_path: str | None = None
    metadata: msgspec.Raw = msgspec.Raw()


class _Usual(_Wire, forbid_unknown_fields=True):
    """An entry with no other fields. Otherwise `FilePath` would be lost as an unknown field."""


# Identifies a row of a page: its sequence, or a negative hash of its bytes when that is unreadable.
Identity: TypeAlias = int
Row: TypeAlias = tuple[Identity, Entry | Rejection]

_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NAMES: Final = {name.lower(): name for name in _Wire.__struct_encode_fields__}
# An array of which no more elements become objects than a page may have, and one to notice more.
_ELEMENTS: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "Elements",
        [(f"e{n}", msgspec.Raw, None) for n in range(MOST_ROWS + 1)],
        array_like=True,
        gc=False,
    )
)
_USUAL_PAGE: Final = msgspec.json.Decoder(list[_Usual])
_PAGE: Final = msgspec.json.Decoder(list[_Wire])
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_page(body: bytes) -> list[Row]:
    """Return the rows of a page in its order, with a Rejection for each unusable one.

    Raises MalformedError when the bytes are not one whole JSON array, or one of more than
    MOST_ROWS elements, and MiscountError unless each of its elements, counted before any is parsed,
    became one row.
    """
    elements: list[bytes | msgspec.Raw]
    try:
        found = msgspec.structs.astuple(_ELEMENTS.decode(body))
    except _UNDECODABLE:
        elements = list(split(body))
    else:
        elements = [element for element in found if element is not None]
    _require_page(len(elements))
    rows = _rows(body, elements)
    if len(rows) != len(elements):
        raise MiscountError(f"a page of {len(elements)} entries became {len(rows)} rows")
    return rows


def _rows(body: bytes, elements: Sequence[bytes | msgspec.Raw]) -> list[Row]:
    with suppress(*_UNDECODABLE):
        return [(wire.sequence, _entry(wire)) for wire in _USUAL_PAGE.decode(body)]
    if not _has_other_case(body):
        with suppress(*_UNDECODABLE):
            return [(wire.sequence, _entry(wire)) for wire in _PAGE.decode(body)]
    require_few_marks(body)
    with suppress(*_UNDECODABLE):
        known = [_as_known(_fields(one)) for one in elements]
        wires = _PAGE.decode(msgspec.json.encode(known))
        return [(wire.sequence, _entry(wire)) for wire in wires]
    rows, seen = list[Row](), Counter[bytes]()
    for raw in map(bytes, elements):
        rows.append(_row(raw, seen[raw]))
        seen[raw] += 1
    return rows


def _has_other_case(body: bytes) -> bool:
    """True when a field that may be absent seems to be there in another case than ours."""
    lower, names = body.lower(), (b'"filePath"', b'"metadata"')
    return any(lower.count(name.lower()) != body.count(name) for name in names)


def require_few_marks(body: bytes) -> None:
    """Raise MalformedError for JSON that is too much to be parsed in Python."""
    if has_too_many(body):
        raise MalformedError(f"it has more than {MOST_MARKS:,} brackets, commas and quotes")


def _require_page(count: int) -> None:
    if count > MOST_ROWS:
        raise MalformedError(f"it has more than the {MOST_ROWS} entries of the largest page")


def _fields(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    fields = _FIELDS.decode(raw)
    if len(fields) > MOST_FIELDS:
        raise msgspec.DecodeError
    return fields


def _as_known(fields: Mapping[str, T]) -> dict[str, T]:
    """Return fields by the names that we know, in whatever case they are. The exact one wins."""
    renamed = {_NAMES.get(name.lower(), name): value for name, value in fields.items()}
    return renamed | {name: fields[name] for name in _NAMES.values() if name in fields}


def field_names(body: bytes) -> list[str]:
    """Return the names of the fields of a page's first entry, and no value."""
    fields = _shallow_fields(next(split(body), b""))
    names = fields if isinstance(fields, dict) else ()
    return [name for name in names if _FIELD_NAME.fullmatch(name)][:MOST_NAMED]


def _entry(wire: _Wire) -> Entry | Rejection:
    try:
        ticks = parse_timestamp(wire.timestamp)
    except ValueError:
        return Rejection(wire.sequence, None, "timestamp cannot be read")
    action, state = ACTIONS.get(wire.action.lower()), STATES.get(wire.state.lower())
    if action is None or state is None:
        reason = "unknown action" if action is None else "unknown state"
        return Rejection(wire.sequence, ticks, reason)
    header = bytes(wire.metadata)
    return Entry(
        wire.sequence,
        ticks,
        wire.partition_name,
        wire.study_instance_uid.rstrip(PADDING),
        wire.series_instance_uid.rstrip(PADDING),
        wire.sop_instance_uid.rstrip(PADDING),
        action,
        state,
        wire.file_path or None,
        None if header in {b"", b"null"} else header,
    )


def split(body: bytes) -> Iterator[bytes]:
    """Yield the elements of a JSON array as bytes. Raises MalformedError when it is not whole.

    So it does beyond MOST_ROWS, MOST_MARKS and MOST_DEPTH, the first two of which bound the work.
    Only brackets, commas and strings are parsed, so a header may be nested deeply.
    """
    require_few_marks(body)
    text = body.strip()
    if not text.startswith(b"["):
        raise MalformedError("not an array")
    depth, start, count = 0, 1, 0
    for found in _MARK.finditer(text):
        mark = found[1]
        depth += _STEPS[mark]
        if depth > MOST_DEPTH:
            raise MalformedError(f"it is nested more than {MOST_DEPTH:,} deep")
        if depth <= 0 or (depth == 1 and mark == b","):
            element = text[start : found.start(1)].strip()
            if element:
                count += 1
                _require_page(count)
                yield element
            elif mark == b"," or start > 1:
                raise MalformedError("an element is empty")
            start = found.end()
        if depth <= 0:
            break
    if depth or start != len(text) or not text.endswith(b"]"):
        raise MalformedError("the array is not whole")


def _row(raw: bytes, before: int) -> Row:
    """Return the row of one entry, of a page that could not be decoded as a whole.

    `before` is the number of entries with the same bytes before it on the page.
    """
    try:
        wire = msgspec.json.decode(msgspec.json.encode(_as_known(_fields(raw))), type=_Wire)
    except _UNDECODABLE:
        rejection = _rejection(raw)
        if rejection.sequence is not None:
            return rejection.sequence, rejection
        digest = blake2b(b"%d " % before + raw, digest_size=8).digest()
        return ~(int.from_bytes(digest) & MAX_INT64), rejection
    return wire.sequence, _entry(wire)


def _rejection(raw: bytes) -> Rejection:
    fields = _shallow_fields(raw)
    if fields is msgspec.UNSET:
        return Rejection(None, None, "entry cannot be decoded")
    if not isinstance(fields, dict):
        return Rejection(None, None, "entry is not an object")
    fields = _as_known(fields)
    sequence, timestamp = fields.get("sequence"), fields.get("timestamp")
    ticks = None
    if isinstance(timestamp, str):
        with suppress(ValueError):
            ticks = parse_timestamp(timestamp)
    if type(sequence) is not int or not 0 <= sequence <= MAX_INT64:
        sequence = None
    try:
        msgspec.convert({k: v for k, v in fields.items() if k != "metadata"}, _Wire)
    except msgspec.ValidationError as error:
        field = _FIELD_IN_MESSAGE.search(str(error))
        reason = _REASONS.get(field[1] if field else "", "entry is malformed")
    else:
        reason = "header cannot be decoded"
    return Rejection(sequence, ticks, reason)


def _shallow_fields(raw: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return an entry with every object and array inside it as None, UNSET if it is no JSON."""
    try:
        fields = msgspec.json.decode(_shallow(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.UNSET
    return msgspec.UNSET if isinstance(fields, dict) and len(fields) > MOST_FIELDS else fields


def _shallow(raw: bytes) -> bytes:
    """Return an object's JSON with every object and array inside it replaced by null."""
    pieces, depth, start = [], 0, 0
    for found in _MARK.finditer(raw):
        before = depth
        depth += _STEPS[found[1]]
        if (before, depth) == (1, 2):
            pieces.append(raw[start : found.start(1)])
        elif (before, depth) == (2, 1):
            pieces.append(b"null")
            start = found.end()
    return b"".join([*pieces, raw[start:]])
