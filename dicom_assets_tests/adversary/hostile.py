"""Entries and headers that no service should send, each by a name, as bytes for the wire.

Each is one line here, so that adding another is cheap. `overrides` makes faults of them all; the
good header that they are made from decides the UIDs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from dicom_assets_tests.adversary.entries import Override

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# One attribute in place of the good one, or beside the others: tag, and its JSON text.
_ATTRIBUTES: Final[Mapping[str, tuple[str, bytes]]] = {
    "NaN": ("00189087", b'{"vr":"FD","Value":[NaN]}'),
    "Infinity": ("00189087", b'{"vr":"FD","Value":[-Infinity]}'),
    "1e999": ("00280030", b'{"vr":"DS","Value":[1e999,1e999]}'),
    "5,000 digits": ("00200013", b'{"vr":"IS","Value":[' + b"9" * 5_000 + b"]}"),
    "2^53-1": ("00200013", b'{"vr":"IS","Value":[9007199254740991]}'),
    "2^53+1": ("00200013", b'{"vr":"IS","Value":[9007199254740993]}'),
    "2^63": ("00200013", b'{"vr":"IS","Value":[9223372036854775808]}'),
    "a float for an int": ("00200013", b'{"vr":"IS","Value":[1.5]}'),
    "NUL": ("00081030", b'{"vr":"LO","Value":["a\\u0000b"]}'),
    "lone surrogate": ("00081030", b'{"vr":"LO","Value":["\\ud800"]}'),
    "lone surrogate in a name": ("00100010", b'{"vr":"PN","Value":[{"Alphabetic":"\\udfff"}]}'),
    "invalid UTF-8": ("00081030", b'{"vr":"LO","Value":["\xff\xfe"]}'),
    "raw control": ("00081030", b'{"vr":"LO","Value":["a\nb"]}'),
    "date 00000000": ("00080020", b'{"vr":"DA","Value":["00000000"]}'),
    "date 19000229": ("00080020", b'{"vr":"DA","Value":["19000229"]}'),
    "date with dots": ("00080020", b'{"vr":"DA","Value":["2023.02.03"]}'),
    "range of dates": ("00080020", b'{"vr":"DA","Value":["20230101-20230202"]}'),
    "date as a number": ("00080020", b'{"vr":"DA","Value":[20230101]}'),
    "time 99": ("00080030", b'{"vr":"TM","Value":["996199"]}'),
    "Value null": ("00081030", b'{"vr":"LO","Value":null}'),
    "Value [null]": ("00081030", b'{"vr":"LO","Value":[null]}'),
    "Value []": ("00081030", b'{"vr":"LO","Value":[]}'),
    "Value a string": ("00081030", b'{"vr":"LO","Value":"text"}'),
    "Value an object": ("00081030", b'{"vr":"LO","Value":{"a":1}}'),
    "Value [[]]": ("00081030", b'{"vr":"LO","Value":[[]]}'),
    "Value [true]": ("00081030", b'{"vr":"LO","Value":[true]}'),
    "name as a string": ("00100010", b'{"vr":"PN","Value":["A^B"]}'),
    "name without Alphabetic": ("00100010", b'{"vr":"PN","Value":[{"Phonetic":"A^B"}]}'),
    "name of null": ("00100010", b'{"vr":"PN","Value":[{"Alphabetic":null}]}'),
    "name of names": ("00100010", b'{"vr":"PN","Value":[{"Alphabetic":{"Family":"A"}}]}'),
    "wrong vr": ("00080020", b'{"vr":"SQ","Value":[{}]}'),
    "unknown vr": ("00081030", b'{"vr":"ZZ","Value":["a"]}'),
    "vr a number": ("00081030", b'{"vr":7,"Value":["a"]}'),
    "missing vr": ("00081030", b'{"Value":["a"]}'),
    "attribute null": ("00081030", b"null"),
    "attribute a string": ("00081030", b'"text"'),
    "attribute a list": ("00081030", b'["text"]'),
    "BulkDataURI": ("7FE00010", b'{"vr":"OW","BulkDataURI":"http://127.0.0.1:1/bulk"}'),
    "InlineBinary": ("00081030", b'{"vr":"OB","InlineBinary":"AAAA"}'),
    "private tag": ("00091001", b'{"vr":"UN","Value":["private"]}'),
    "lower-case tag": ("0008103e", b'{"vr":"LO","Value":["lower"]}'),
    "tag that is none": ("StudyDate", b'{"vr":"DA","Value":["20230101"]}'),
    "empty tag": ("", b'{"vr":"LO","Value":["nameless"]}'),
    "other study": ("0020000D", b'{"vr":"UI","Value":["1.9.9"]}'),
    "study without value": ("0020000D", b'{"vr":"UI"}'),
    "study twice": ("0020000D", b'{"vr":"UI","Value":["1.9","1.9"]}'),
    "UID of 65": ("00080018", b'{"vr":"UI","Value":["' + b"1" * 65 + b'"]}'),
    "UID with a path": ("00080018", b'{"vr":"UI","Value":["../1.2/%2F\'"]}'),
}

# A whole header.
_HEADERS: Final[Mapping[str, bytes]] = {
    "header {}": b"{}",
    "header []": b"[]",
    "header null": b"null",
    "header a string": b'"text"',
    "header a number": b"7",
}

# Fields of an entry beside its header; None leaves them out.
_FIELDS: Final[Mapping[str, Mapping[str, bytes | None]]] = {
    "partition null": {"partitionName": b"null"},
    "partition empty": {"partitionName": b'""'},
    "partition a path": {"partitionName": b'"../x"'},
    "partition missing": {"partitionName": None},
    "unknown action": {"action": b'"Archive"'},
    "action null": {"action": b"null"},
    "action missing": {"action": None},
    "lower-case action": {"action": b'"create"'},
    "unknown state": {"state": b'"Frozen"'},
    "state missing": {"state": None},
    "lower-case state": {"state": b'"current"'},
    "extra fields": {"tenant": b'{"a":[1,2]}', "etag": b"null"},
    "timestamp without zone": {"timestamp": b'"2026-01-01T10:00:00"'},
    "timestamp in year 1": {"timestamp": b'"0001-01-01T00:00:00+00:00"'},
    "timestamp in year 9999": {"timestamp": b'"9999-12-31T23:59:59.9999999+00:00"'},
    "timestamp null": {"timestamp": b"null"},
    "timestamp a number": {"timestamp": b"1767261600"},
    "timestamp missing": {"timestamp": None},
    "sequence negative": {"sequence": b"-5"},
    "sequence 2^63": {"sequence": b"9223372036854775808"},
    "sequence a float": {"sequence": b"1.5"},
    "sequence a string": {"sequence": b'"1"'},
    "sequence missing": {"sequence": None},
    "metadata absent": {"metadata": None},
    "study missing": {"studyInstanceUid": None},
    "study null": {"studyInstanceUid": b"null"},
    "UID of an entry of 65": {"sopInstanceUid": b'"' + b"1" * 65 + b'"'},
    "UID of an entry with a path": {"sopInstanceUid": b'"../1.2/%2F\'"'},
    "file path a number": {"filePath": b"7"},
}

# A whole entry.
_ENTRIES: Final[Mapping[str, bytes]] = {
    "entry null": b"null",
    "entry a number": b"7",
    "entry a list": b"[]",
    "entry a string": b'"text"',
    "entry {}": b"{}",
}
_DEPTHS: Final = (1_000, 100_000)


def headers(good: Mapping[str, Any]) -> dict[str, bytes]:
    """Hostile headers by name: the good one with one thing wrong, or another thing altogether."""
    spoiled = {name: _with(good, *attribute) for name, attribute in _ATTRIBUTES.items()}
    return spoiled | _large(good) | _structures(good) | dict(_HEADERS)


def overrides(sequence: int, good: Mapping[str, Any]) -> Iterator[tuple[str, Override]]:
    """Every hostile form of one entry, whose good header this is, as a fault."""
    for name, header in headers(good).items():
        yield name, Override(sequence, metadata=header)
    for name, fields in _FIELDS.items():
        yield name, Override(sequence, fields=dict(fields))
    for name, entry in _ENTRIES.items():
        yield name, Override(sequence, entry=entry)


def _large(good: Mapping[str, Any]) -> dict[str, bytes]:
    """Headers of megabytes, made when asked for."""
    text, numbers = b"x" * 10_000_000, b"1.5," * 99_999 + b"1.5"
    return {
        "string of 10 MB": _with(good, "00081030", b'{"vr":"LO","Value":["' + text + b'"]}'),
        "array of 100,000": _with(good, "30020011", b'{"vr":"DS","Value":[' + numbers + b"]}"),
    }


def _structures(good: Mapping[str, Any]) -> dict[str, bytes]:
    """Headers in which more than one attribute's text is wrong."""
    nested = {f"nested {depth:,} deep": _nested(good, depth) for depth in _DEPTHS}
    twice = _with(good, "00081030", b'{"vr":"LO","Value":["one"]},"00081030":{"vr":"LO"}')
    bare = {tag: value for tag, value in good.items() if tag != "0020000D"}
    return nested | {"tag twice": twice, "study not in header": msgspec.json.encode(bare)}


def _nested(good: Mapping[str, Any], depth: int) -> bytes:
    open_item, close_item = b'{"vr":"SQ","Value":[{"00081115":', b"}]}"
    return _with(good, "00081115", open_item * depth + b'{"vr":"SQ"}' + close_item * depth)


def _with(good: Mapping[str, Any], tag: str, attribute: bytes) -> bytes:
    others = {name: msgspec.Raw(msgspec.json.encode(good[name])) for name in good if name != tag}
    texts = {**others, tag: msgspec.Raw(attribute)}
    return b"{" + b",".join(msgspec.json.encode(n) + b":" + bytes(texts[n]) for n in texts) + b"}"
