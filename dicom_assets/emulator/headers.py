"""From a DICOM file to the header that the service keeps, or to the reason of its refusal.

Here: reading a file, the attributes that a service requires, and the DICOM JSON model as the
service writes it. pydicom reads and decodes text. This module corrects where the service differs:
bulk data is dropped rather than inlined, IS and DS are numbers, FL has the digits of a single, a
UID keeps a space at its end, an invalid optional attribute is left out whole. Not here: the rules
for values (`validation`), instances stored already (`archive`), the answer to a client (`stow`).

The service's rules are those of microsoft/dicom-server's StoreDatasetValidator, version 2.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
import warnings
import zlib
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from io import SEEK_END, BytesIO
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, cast

from pydicom import config
from pydicom.charset import decode_bytes
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset, read_partial
from pydicom.sequence import Sequence
from pydicom.tag import ItemTag, Tag
from pydicom.valuerep import AMBIGUOUS_VR, PN_DELIMS, TEXT_VR_DELIMS, VR, PersonName

from dicom_assets.emulator.archive import InvalidInstance, is_uid
from dicom_assets.emulator.validation import (
    is_valid_count,
    is_valid_text,
    split_values,
    without_padding,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydicom.tag import BaseTag

_STUDY: Final = 0x0020000D
_SERIES: Final = 0x0020000E
_SOP: Final = 0x00080018
_SOP_CLASS: Final = 0x00080016
_PATIENT_ID: Final = 0x00100020

_BULK: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
_WHOLE_NUMBERS: Final = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_BINARY: Final = _WHOLE_NUMBERS | {"AT", "FD", "FL"}
_ENCODED: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})  # by (0008,0005)
_PADDED: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UR", "UT"}
)
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_FILE_META_GROUP: Final = 2
_UNDEFINED: Final = 0xFFFFFFFF
_CUT: Final = 0xFFFFFFFE  # the length of an element in which the file ends, if its own is undefined
_LARGE: Final = 2**20  # larger values of a file are read when they are wanted: pixels never

# Errors of pydicom over damaged files, as 80,000 of them showed. Some quote values, so none of them
# is the cause of an error raised here. OSError is its word for a tag cut short.
_UNDECODABLE: Final = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# Warnings and log levels belong to the whole process: one thread at a time.
_quiet_lock = threading.Lock()
_pydicom_logger = logging.getLogger("pydicom")


class _Cut(Exception):  # noqa: N818 - what happened to the element
    """The file ends inside the element."""


class FilePart:
    """A DICOM file in a larger file, read where it is, from its first byte on.

    `is_cut` turns True when the file is found to end inside an element.
    """

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self.size = file, start, size
        self.is_cut = False

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, all that are left if it is negative."""
        left = max(0, self.size - self.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, and return it."""
        origin = (0, self.tell, self.size)[whence]
        place = (origin() if callable(origin) else origin) + offset
        return self._file.seek(self._start + place) - self._start

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell() - self._start


class Reason(StrEnum):
    """Reasons of a refusal; each is failure reason 43264."""

    NOT_PART_10 = "not-part-10"
    UNREADABLE = "unreadable"
    NO_SOP_CLASS = "no-sop-class-uid"
    NO_STUDY = "no-study-instance-uid"
    NO_SERIES = "no-series-instance-uid"
    NO_SOP = "no-sop-instance-uid"
    NO_PATIENT_ID = "no-patient-id"
    INVALID_UID = "invalid-uid"
    INVALID_PATIENT_ID = "invalid-patient-id"
    OTHER_STUDY = "other-study"


class Refused(Exception):  # noqa: N818 - a refusal is an answer of the service
    """A file that the service refuses; `sop_class` and `sop` are known if it was readable."""

    code = InvalidInstance.code

    def __init__(
        self, reason: Reason, sop_class: str | None = None, sop: str | None = None
    ) -> None:
        """Make the message the reason, never a value of the file."""
        super().__init__(reason.value)
        self.reason = reason
        self.sop_class = sop_class
        self.sop = sop


class Parsed(NamedTuple):
    """Header of a file that the service takes, and the tags of the attributes left out."""

    header: dict[str, Any]
    dropped: tuple[str, ...]


def parse_file(content: bytes | FilePart, study: str | None = None) -> Parsed:
    """Return the header of a DICOM file as the service keeps it; raise Refused for a refused file.

    With `study`, a file of another study is refused. Large values of a `FilePart` stay in it.
    """
    part = FilePart(BytesIO(content), 0, len(content)) if isinstance(content, bytes) else content
    if not _is_dicom(part):
        raise Refused(Reason.NOT_PART_10)
    with _quiet():
        dataset = _read(part)
        # First, because pydicom strips the padding of what `_refusal` looks at.
        parsed = _parsed(dataset)
        reason = _refusal(dataset, study)
        if reason is not None:
            raise Refused(reason, _one_text(dataset, _SOP_CLASS), _one_text(dataset, _SOP))
        return parsed


def is_valid_attribute(tag: str, attribute: object) -> bool:
    """Return True for an attribute of the JSON model with the VR of its tag and valid values."""
    match attribute:
        case {"vr": str(vr), "Value": [*values]}:
            pass
        case {"vr": str(vr), **rest} if not rest:
            values = []
        case _:
            return False
    text = "\\".join(map(_json_text, values))
    return vr == dictionary_VR(tag) and is_valid_text(int(tag, 16), vr, text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings of pydicom: they quote values of the file."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = _pydicom_logger.level
        _pydicom_logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            _pydicom_logger.setLevel(level)


def _is_dicom(part: FilePart) -> bool:
    """Return True if fo-dicom reads the file (Preprocess of DicomFileReader.cs).

    A preamble and file meta information may be missing, then the file begins with its dataset. The
    first group is at most 00FF, in one of the two orders of bytes.
    """
    part.seek(0)
    head = part.read(134)
    part.seek(0)
    first = head[132:] if head[128:132] == b"DICM" else head[:2]
    return len(head) >= 132 and 0 in first  # noqa: PLR2004 - preamble and prefix


def _read(part: FilePart) -> Dataset:
    """Return the dataset up to the place where the file ends, as fo-dicom does."""
    try:
        file = cast("BinaryIO", part)
        return _up_to_end(part, partial(read_partial, file, defer_size=_LARGE, force=True))
    except _UNDECODABLE:
        raise Refused(Reason.UNREADABLE) from None


def _up_to_end(part: FilePart, read: Callable[..., Dataset]) -> Dataset:
    """Return what `read` reads, up to the end of the file."""
    start, last = part.tell(), 0
    seen: list[tuple[BaseTag, str | None, int]] = []

    def stop(tag: BaseTag, vr: str | None, _length: int) -> bool:
        seen.append((tag, vr, part.tell()))
        return len(seen) == last

    try:
        dataset = read(stop_when=stop)
    except _UNDECODABLE as error:
        if part.tell() < part.size:
            raise
        part.is_cut = True
        if isinstance(error, struct.error):
            # A length of four bytes is cut: without them it is a tag that is cut, and no error.
            part.size -= 4
            part.seek(start)
            return _up_to_end(part, read)
        dataset = Dataset()
    if seen and not dataset:
        # The file ends in an element of undefined length, for which pydicom gives up all others.
        (tag, vr, place), last = seen[-1], len(seen)
        seen.clear()
        part.seek(start)
        dataset = read(stop_when=stop)
        dataset[tag] = RawDataElement(tag, vr, _CUT, b"", place, *dataset.original_encoding)
    _end_at_the_cut(part, dataset)
    return dataset


def _end_at_the_cut(part: FilePart, dataset: Dataset) -> None:
    """Remove the element in which the file ends; of a sequence, keep the items before the end."""
    for tag in list(dataset.keys()):
        raw: Any = dataset.get_item(tag, keep_deferred=True)
        if not isinstance(raw, RawDataElement) or raw.length == _UNDEFINED:
            continue
        if raw.value is None:  # deferred, in a deflated file to what was inflated
            left = getattr(dataset, "buffer", part).seek(0, SEEK_END) - raw.value_tell
        else:
            left = len(raw.value)
        part.is_cut |= left < raw.length
        if left < raw.length and _vr(raw) == VR.SQ:
            dataset[tag] = _unchecked(tag, VR.SQ, Sequence(_whole_items(part, raw, dataset)))
        elif left < raw.length and raw.value is not None:
            # Among fragments another tag is an error (ParseFragmentSequence of DicomReader.cs).
            if raw.length == _CUT and any(tag != ItemTag for tag, _ in _items_of(part, raw)):
                raise ValueError
            del dataset[tag]


def _whole_items(part: FilePart, raw: RawDataElement, dataset: Dataset) -> Iterator[Dataset]:
    """Yield the items before the end of the file (ParseItemSequence).

    One of known length has to be whole, another goes as far as the file.
    """
    read = partial(
        read_dataset,
        cast("BinaryIO", part),
        raw.is_implicit_VR,
        raw.is_little_endian,
        parent_encoding=dataset.original_character_set or "iso8859",
        at_top_level=False,
    )
    for tag, length in _items_of(part, raw):
        if tag != ItemTag or part.size - part.tell() < length != _UNDEFINED:
            return
        yield _up_to_end(part, read) if length == _UNDEFINED else read(bytelength=length)


def _items_of(part: FilePart, raw: RawDataElement) -> Iterator[tuple[BaseTag, int]]:
    """Yield tag and length of each item, or fragment, and go behind its value if that is known."""
    place = raw.value_tell
    while part.seek(place) == place and len(head := part.read(8)) == 8:  # noqa: PLR2004 - tag and length
        group, element, length = struct.unpack("<HHL" if raw.is_little_endian else ">HHL", head)
        yield Tag(group, element), length
        place = part.tell() if length == _UNDEFINED else place + 8 + length


def _refusal(dataset: Dataset, study: str | None) -> Reason | None:
    """Return None if every required attribute is there and valid."""
    required = {
        _SOP_CLASS: Reason.NO_SOP_CLASS,
        _STUDY: Reason.NO_STUDY,
        _SERIES: Reason.NO_SERIES,
        _SOP: Reason.NO_SOP,
    }
    uids = {tag: _one_text(dataset, tag) for tag in required}
    missing = [reason for tag, reason in required.items() if not uids[tag]]
    if missing:
        return missing[0]
    # Spaces at the end are allowed, and zeros in front of a component (UidValidation).
    if not all(is_uid((uid or "").rstrip(" ")) for uid in uids.values()):
        return Reason.INVALID_UID
    if study is not None and (uids[_STUDY] or "").rstrip() != study:
        return Reason.OTHER_STUDY
    # Version 2 asks that the attribute is there; it may be empty. Of several values the service
    # looks at the first, and leaves out all (LongStringValidation).
    if _PATIENT_ID not in dataset:
        return Reason.NO_PATIENT_ID
    patient = _texts(dataset, _PATIENT_ID, "LO")
    is_valid = patient is not None and all(is_valid_text(0, "LO", one) for one in patient[:1])
    return None if is_valid else Reason.INVALID_PATIENT_ID


def _one_text(dataset: Dataset, tag: int) -> str | None:
    """Return a UID: '' if empty, None if absent, several or of another VR."""
    texts = _texts(dataset, tag, "UI")
    return None if texts is None or len(texts) > 1 else "".join(texts)


def _texts(dataset: Dataset, tag: int, vr: str) -> list[str] | None:
    """Return the values of an element; None if it is absent or of another VR."""
    try:
        actual, _, text = _content(dataset, Tag(tag)) if tag in dataset else (None, b"", "")
    except (_Cut, *_UNDECODABLE):
        return None
    return split_values(vr, without_padding(vr, text)) if actual == vr else None


def _parsed(dataset: Dataset) -> Parsed:
    """Return the header. A tag invalid at any depth is left out at the top, as the service does."""
    invalid: set[str] = set()
    header = _items(dataset, invalid)
    dropped = invalid - {f"{tag:08X}" for tag in (_STUDY, _SERIES, _SOP)}
    kept = {tag: element for tag, element in header.items() if tag not in dropped}
    return Parsed(kept, tuple(sorted(dropped)))


def _items(dataset: Dataset, invalid: set[str]) -> dict[str, Any]:
    """Return the elements of a dataset by ascending tag; add the tags of bad ones to `invalid`."""
    served = {}
    for tag in sorted(dataset.keys()):
        # Neither file meta information nor group lengths are served (PS3.18 F.2.2).
        is_served = tag.group > _FILE_META_GROUP and tag.element != 0
        element = _element(dataset, tag, invalid) if is_served else None
        if element is not None:
            served[f"{tag:08X}"] = element
    return served


def _element(dataset: Dataset, tag: BaseTag, invalid: set[str]) -> dict[str, Any] | None:
    """Return one element in JSON; None for bulk data and for undecodable values."""
    try:
        vr, encoded, content = _content(dataset, tag)
        element = _decoded(dataset, tag, vr, encoded, content)
        if element is None or element.VR in _BULK:
            return None
        if element.VR == VR.SQ:
            return _filled("SQ", [_items(item, invalid) for item in element.value or []])
        if element.VR in _BINARY:
            is_valid = is_valid_count(tag, len(_values(element)))
        else:
            is_valid = is_valid_text(tag, element.VR, content)
        if not is_valid or (tag == _PATIENT_ID and not content.strip()):
            invalid.add(f"{tag:08X}")
        return _filled(element.VR, _json_values(element.VR, _values(element)))
    except _Cut:
        return None
    except _UNDECODABLE:
        invalid.add(f"{tag:08X}")
        return None


def _filled(vr: str, values: list[Any]) -> dict[str, Any]:
    """Return an attribute of the JSON model, without `Value` if it has no values."""
    return {"vr": str(vr), "Value": values} if values else {"vr": str(vr)}


def _content(dataset: Dataset, tag: BaseTag) -> tuple[str | None, bytes, str]:
    """Return the VR of an element, and its value as bytes and as text, for bulk data without them.

    Raise _Cut for an element that the file does not hold whole.
    """
    raw: DataElement | RawDataElement = dataset.get_item(tag, keep_deferred=True)
    if not isinstance(raw, RawDataElement):
        return raw.VR, b"", "" if raw.VR == VR.SQ else "\\".join(map(str, _values(raw)))
    vr = _vr(raw)
    if vr in _BULK or vr == VR.SQ:
        return vr, b"", ""
    encoded = raw.value or b""
    if raw.value is None and raw.length and isinstance(dataset, FileDataset) and dataset.buffer:
        dataset.buffer.seek(raw.value_tell)
        encoded = dataset.buffer.read(raw.length)
    if len(encoded) < raw.length != _UNDEFINED:
        raise _Cut
    return vr, encoded, _text(dataset, vr, encoded)


def _vr(raw: RawDataElement) -> str | None:
    """Return the VR in the file; that of the dictionary for none or UN, as fo-dicom reads them."""
    if raw.VR in (None, VR.UN) and dictionary_has_tag(raw.tag):
        return dictionary_VR(raw.tag)
    return VR.LO if raw.VR == VR.UN and raw.tag.is_private_creator else raw.VR


def _decoded(
    dataset: Dataset, tag: BaseTag, vr: str | None, encoded: bytes, content: str
) -> DataElement | None:
    """Return the element with its own VR and decoded values; None if it may be bulk data.

    IS and DS keep their text, so that a value which is no number can still be served.
    """
    if not isinstance(dataset.get_item(tag, keep_deferred=True), RawDataElement):
        return dataset[tag]
    if vr in ("IS", "DS"):
        return _unchecked(tag, vr, content.split("\\"))
    if vr == VR.UI:
        return _unchecked(tag, vr, split_values(vr, without_padding(vr, content)))
    if vr == VR.US_SS:
        # Implicit VR alone has it, hence little endian.
        vr, code = ("SS", "h") if dataset.get("PixelRepresentation") == 1 else ("US", "H")
        return _unchecked(tag, vr, list(struct.unpack(f"<{len(encoded) // 2}{code}", encoded)))
    return None if vr in _BULK or vr in AMBIGUOUS_VR else _padded(dataset[tag], encoded)


def _text(dataset: Dataset, vr: str | None, encoded: bytes) -> str:
    """Return the text of an element, value by value as pydicom decodes it, with its padding."""
    if vr not in _ENCODED:
        return encoded.decode("ascii", "replace")
    charset = dataset.original_character_set or "iso8859"
    encodings = [charset] if isinstance(charset, str) else charset
    delimiters = PN_DELIMS if vr == VR.PN else TEXT_VR_DELIMS
    return "\\".join(decode_bytes(one, encodings, delimiters) for one in encoded.split(b"\\"))


def _unchecked(tag: BaseTag, vr: str, value: object) -> DataElement:
    return DataElement(tag, vr, value, already_converted=True, validation_mode=config.IGNORE)


def _padded(element: DataElement, encoded: bytes) -> DataElement:
    """Return the element with its padding, which pydicom strips and the service keeps.

    That is final nulls, and of a UID, whose padding is a null, final spaces.
    """
    is_uid = element.VR == VR.UI
    kept, pad = (encoded.rstrip(b"\0"), b" ") if is_uid else (encoded, b"\0")
    padding = kept[len(kept.rstrip(pad)) :].decode()
    if not padding or not (is_uid or element.VR in _PADDED) or not _values(element):
        return element
    *others, last = _values(element)
    return _unchecked(element.tag, element.VR, [*others, f"{last}{padding}"])


def _values(element: DataElement) -> list[Any]:
    """Return the values one by one; none for an empty element."""
    value = element.value
    if value is None or value == "":
        return []
    several = not isinstance(value, str | bytes | PersonName) and hasattr(value, "__iter__")
    values = list(value) if several else [value]
    if element.VR in ("IS", "DS"):
        values = [str(getattr(one, "original_string", one)).strip(" \0") for one in values]
    return values if any(one not in ("", None) for one in values) else []


def _json_text(value: object) -> str:
    """Return a value of the JSON model as the text in a file."""
    if isinstance(value, dict):
        return "=".join(str(value.get(group, "")) for group in _NAME_GROUPS).rstrip("=")
    return "" if value is None else str(value)


def _json_values(vr: str, values: list[Any]) -> list[Any]:
    if vr in ("IS", "DS"):
        return _numbers(values)
    if vr in ("FL", "FD"):
        return [_float(value, single=vr == "FL") for value in values]
    if vr in _WHOLE_NUMBERS:
        return [int(value) for value in values]
    if vr == VR.PN:
        return [_name(value) for value in values]
    if vr == VR.AT:
        return [f"{int(value):08X}" for value in values]
    return [str(value) if value not in ("", None) else None for value in values]


def _numbers(texts: list[str]) -> list[Any]:
    """Return JSON numbers; the texts themselves if one of them is no number."""
    try:
        return [_number(text) if text else None for text in texts]
    except ValueError:
        return texts


def _number(text: str) -> int | float:
    if "_" in text:  # Python's own, no DICOM
        raise ValueError
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _float(value: float, *, single: bool) -> float | str:
    """Return a JSON number or its name; a single as 0.1, for one, not as 0.10000000149011612."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if not single:
        return float(value)
    packed = struct.pack("<f", value)
    candidates = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return next((one for one in candidates if struct.pack("<f", one) == packed), float(value))


def _name(value: object) -> dict[str, str] | None:
    """Return a person's name by its groups, without the empty ones."""
    groups = [group.rstrip("\0 ") for group in PersonName(str(value)).components] if value else []
    named = {key: text for key, text in zip(_NAME_GROUPS, groups, strict=False) if text}
    return named or None
