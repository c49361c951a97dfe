"""From a DICOM file to the header that the service keeps, or to the reason of its refusal.

Here: reading Part 10, the attributes that a service requires, validation of the optional ones, and
the DICOM JSON model as the service writes it. pydicom reads, decodes text and validates. This
module corrects where the service differs: bulk data is dropped rather than inlined, IS and DS are
numbers, FL has the digits of a single, an invalid optional attribute is left out whole. Not here:
instances stored already (`archive`), the answer to a client (`stow`).

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
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom import config, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.valuerep import AMBIGUOUS_VR, VR, PersonName, validate_value

from dicom_assets.emulator.archive import InvalidInstance, is_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

_STUDY: Final = 0x0020000D
_SERIES: Final = 0x0020000E
_SOP: Final = 0x00080018
_SOP_CLASS: Final = 0x00080016
_PATIENT_ID: Final = 0x00100020

_BULK: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
_WHOLE_NUMBERS: Final = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_VALIDATED: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI"}
)
_PADDED: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UR", "UT"}
)
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_FILE_META_GROUP: Final = 2
_MAX_PATIENT_ID: Final = 64
_ESCAPE: Final = "\x1b"

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


def parse_file(content: bytes, study: str | None = None) -> Parsed:
    """Return the header of a DICOM file as the service keeps it; raise Refused for a refused file.

    With `study`, a file of another study is refused.
    """
    with _quiet():
        try:
            dataset = dcmread(BytesIO(content))
        except InvalidDicomError:
            raise Refused(Reason.NOT_PART_10) from None
        except _UNDECODABLE:
            raise Refused(Reason.UNREADABLE) from None
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
    return vr == dictionary_VR(tag) and _are_valid(vr, [_json_text(value) for value in values])


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
    if not all(map(is_uid, uids.values())):
        return Reason.INVALID_UID
    if study is not None and uids[_STUDY] != study:
        return Reason.OTHER_STUDY
    # Version 2 asks that the attribute is there; it may be empty.
    if _PATIENT_ID not in dataset:
        return Reason.NO_PATIENT_ID
    patient = _one_text(dataset, _PATIENT_ID)
    if patient is None or len(patient) > _MAX_PATIENT_ID:
        return Reason.INVALID_PATIENT_ID
    has_controls = any(letter < " " and letter != _ESCAPE for letter in patient)
    return Reason.INVALID_PATIENT_ID if has_controls else None


def _one_text(dataset: Dataset, tag: int) -> str | None:
    """Return the single value of a text element: '' if empty, None if absent or several."""
    try:
        value = dataset[tag].value if tag in dataset else None
    except _UNDECODABLE:
        return None
    if value is None and tag in dataset:
        return ""
    return str(value) if isinstance(value, str) else None


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
        element = _decoded(dataset, tag)
        if element is None or element.VR in _BULK:
            return None
        if element.VR == VR.SQ:
            return _filled("SQ", [_items(item, invalid) for item in element.value or []])
        is_empty_patient = tag == _PATIENT_ID and not any(_values(element))
        if is_empty_patient or not _are_valid(element.VR, _values(element)):
            invalid.add(f"{tag:08X}")
        return _filled(element.VR, _json_values(element.VR, _values(element)))
    except _UNDECODABLE:
        invalid.add(f"{tag:08X}")
        return None


def _filled(vr: str, values: list[Any]) -> dict[str, Any]:
    """Return an attribute of the JSON model, without `Value` if it has no values."""
    return {"vr": str(vr), "Value": values} if values else {"vr": str(vr)}


def _decoded(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """Return the element with its own VR and decoded values; None if it may be bulk data.

    IS and DS keep their text, so that a value which is no number can still be served.
    """
    raw: DataElement | RawDataElement = dataset.get_item(tag, keep_deferred=True)
    if not isinstance(raw, RawDataElement):
        return dataset[tag]
    vr = raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else None)
    encoded = raw.value or b""
    if vr in ("IS", "DS"):
        return _unchecked(tag, vr, encoded.decode("ascii", "replace").split("\\"))
    if vr == VR.US_SS:
        # Implicit VR alone has it, hence little endian.
        vr, code = ("SS", "h") if dataset.get("PixelRepresentation") == 1 else ("US", "H")
        return _unchecked(tag, vr, list(struct.unpack(f"<{len(encoded) // 2}{code}", encoded)))
    return None if vr in AMBIGUOUS_VR else _padded(dataset[tag], encoded)


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


def _are_valid(vr: str, values: list[Any]) -> bool:
    """Return True if every value follows its VR (PS3.5 6.2); padding and empty ones are allowed."""
    if vr not in _VALIDATED:
        return True
    try:
        for value in values:
            text = str(value or "").rstrip("\0 " if vr == "UI" else "\0")
            if text:
                validate_value(vr, text, config.RAISE)
    except ValueError:
        return False
    return True


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
