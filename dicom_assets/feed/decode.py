"""The bytes of a page to entries, typed and checked.

A page is decoded as a whole. When that fails, it is cut into its entries and each is decoded
alone, so that one unusable entry becomes one rejection and the others are kept. Headers stay bytes
here, verbatim: `header` makes columns of them.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Final, TypeAlias

import msgspec

from dicom_assets.feed_contract import Key, Rejection
from dicom_assets.window import parse_timestamp

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
_FIELD_IN_MESSAGE: Final = re.compile(r"(?:`|\$\.)(\w+)`\Z")
# Strings match whole, so brackets inside them do not count. Possessive, so that time is linear.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[\]{},]', re.DOTALL)

Uid: TypeAlias = Annotated[str, msgspec.Meta(max_length=64, pattern=r"\A[0-9.]+\Z")]


class MalformedError(ValueError):
    """The bytes are not one whole JSON array. Requesting the page again may help."""


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


# Identifies a row of a page: its sequence, or a negative hash of its bytes when that is unreadable.
Identity: TypeAlias = int
Row: TypeAlias = tuple[Identity, Entry | Rejection]

_PAGE: Final = msgspec.json.Decoder(list[_Wire])


def decode_page(body: bytes) -> list[Row]:
    """Return the rows of a page in its order, with a Rejection for each unusable one.

    Raises MalformedError when the bytes are not one whole JSON array.
    """
    try:
        wires = _PAGE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_row(raw) for raw in split(body)]
    return [(wire.sequence, _entry(wire)) for wire in wires]


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
        wire.study_instance_uid,
        wire.series_instance_uid,
        wire.sop_instance_uid,
        action,
        state,
        wire.file_path or None,
        None if header in {b"", b"null"} else header,
    )


def split(body: bytes) -> Iterator[bytes]:
    """Yield the elements of a JSON array as bytes. Raises MalformedError when it is not whole.

    Only brackets, commas and strings are parsed, so the depth of nesting has no limit.
    """
    text = body.strip()
    if not text.startswith(b"["):
        raise MalformedError("not an array")
    depth, start = 0, 1
    for token in _TOKEN.finditer(text):
        mark = token[0]
        depth += (mark in b"[{") - (mark in b"]}")
        if (depth == 1 and mark == b",") or depth == 0:
            element = text[start : token.start()].strip()
            if element:
                yield element
            elif mark == b"," or start > 1:
                raise MalformedError("an element is empty")
            start = token.end()
        if depth == 0:
            break
    if depth or start != len(text) or not text.endswith(b"]"):
        raise MalformedError("the array is not whole")


def _row(raw: bytes) -> Row:
    """Return the row of one entry, of a page that could not be decoded as a whole."""
    identity = ~abs(hash(raw))
    try:
        wire = msgspec.json.decode(raw, type=_Wire)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        rejection = _rejection(raw)
        return (identity if rejection.sequence is None else rejection.sequence), rejection
    return wire.sequence, _entry(wire)


def _rejection(raw: bytes) -> Rejection:
    try:
        fields = msgspec.json.decode(_shallow(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Rejection(None, None, "entry cannot be decoded")
    if not isinstance(fields, dict):
        return Rejection(None, None, "entry is not an object")
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


def _shallow(raw: bytes) -> bytes:
    """Return an object's JSON with every object and array inside it replaced by null."""
    pieces, depth, start = [], 0, 0
    for token in _TOKEN.finditer(raw):
        before = depth
        depth += (token[0] in b"[{") - (token[0] in b"]}")
        if (before, depth) == (1, 2):
            pieces.append(raw[start : token.start()])
        elif (before, depth) == (2, 1):
            pieces.append(b"null")
            start = token.end()
    return b"".join([*pieces, raw[start:]])
