"""Headers of the emulator beside those of pydicom, and the reasons why they differ."""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom import config, dcmread

from dicom_assets.emulator.headers import Refused, _quiet, parse_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

BULK: Final = {"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"}
Header = dict[str, Any]


class Kind(StrEnum):
    """Kinds of differences, each with its explanation."""

    SINGLE = "FL has the digits of a single, pydicom those of a double"
    NULL = "an empty value among others is null, pydicom's is an empty text"
    UNKNOWN = "UN of a private attribute is bulk, pydicom knows its VR from other vendors' lists"
    REFUSED = "pydicom leaves out a sequence with a value that it refuses, the service serves it"
    CUT = (
        "the file ends inside a sequence: whole items stay, pydicom gives the beginning of one more"
    )
    LEFT_OUT = "the service leaves out a value that does not follow its rules"
    PADDED = "the service keeps nulls, and the space behind a UID"
    UNEXPLAINED = "unexplained"


class Compared(NamedTuple):
    """The reason of a refusal, or the kinds of differences by the path of tags."""

    refused: str | None
    kinds: dict[tuple[str, ...], Kind]


def compare(file: Path) -> Compared:
    """Return the differences between the emulator's header and pydicom's own JSON without bulk."""
    try:
        parsed = parse_file(file.read_bytes())
    except Refused as refusal:
        return Compared(refusal.reason.value, {})
    return Compared(None, differences(file, parsed.header, parsed.dropped))


def differences(
    file: Path, served: Header, left_out: Collection[str]
) -> dict[tuple[str, ...], Kind]:
    """Return the kinds of differences between a header of the file and pydicom's own JSON.

    `left_out`: the tags of which the service said that it leaves them out.
    """
    with _quiet():
        config.settings.reading_validation_mode = config.IGNORE
        try:
            # pydicom gives up all if the file ends inside its pixels.
            dataset = dcmread(file, force=True) or dcmread(file, stop_before_pixels=True)
            private = {int(tag) for tag in dataset.keys() if tag.is_private}  # noqa: SIM118 - not converted
            bulk = {f"{tag:08X}" for tag in private if dataset.get_item(tag).VR == "UN"}
            known = _without_bulk(dataset.to_json_dict(suppress_invalid_tags=True))
        finally:
            config.settings.reading_validation_mode = config.WARN
    kinds = {}
    for path, ours, theirs in _differences(served, known, ()):
        kinds[path] = _kind(path[0], ours, theirs, bulk)
        if ours is None and len(path) == 1 and path[0] in left_out:
            kinds[path] = Kind.LEFT_OUT
        elif "truncated" in file.name and _begins(ours, theirs):
            kinds[path] = Kind.CUT
    return kinds


def _begins(ours: Header | None, theirs: Header | None) -> bool:
    """Return True if one sequence is the beginning of the other."""
    if not ours or not theirs or ours["vr"] != "SQ":
        return False
    items = ours.get("Value", [])
    return bool(theirs.get("Value", [])[: len(items)] == items)


def _without_bulk(header: Header) -> Header:
    """The header without bulk data, group lengths and file meta information."""
    kept = {}
    for tag, attribute in header.items():
        if attribute["vr"] in BULK or tag.endswith("0000") or tag < "00030000":
            continue
        values = attribute.get("Value")
        if attribute["vr"] == "SQ" and values:
            values = [_without_bulk(item) for item in values]
        vr = {"vr": str(attribute["vr"])}
        kept[tag] = {**vr, "Value": values} if values else vr
    return kept


def _differences(
    ours: Header, theirs: Header, above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for tag in sorted({*ours, *theirs}):
        one, other = ours.get(tag), theirs.get(tag)
        if one == other:
            continue
        items = [(both or {}).get("Value", []) for both in (one, other)]
        is_sequence = one is not None and other is not None and one["vr"] == other["vr"] == "SQ"
        if is_sequence and len(items[0]) == len(items[1]):
            for item, their_item in zip(items[0], items[1], strict=True):
                yield from _differences(item, their_item, (*above, tag))
        else:
            yield (*above, tag), one, other


def _kind(tag: str, ours: Header | None, theirs: Header | None, bulk: set[str]) -> Kind:
    if ours is None:
        return Kind.UNKNOWN if tag in bulk else Kind.UNEXPLAINED
    if theirs is None:
        return Kind.REFUSED if ours["vr"] == "SQ" else Kind.UNEXPLAINED
    one, other = ours.get("Value", []), theirs.get("Value", [])
    if ours["vr"] == theirs["vr"] == "FL":
        packed = [struct.pack(f"{len(values)}f", *values) for values in (one, other)]
        return Kind.SINGLE if packed[0] == packed[1] else Kind.UNEXPLAINED
    if [value or "" for value in one] == other:
        return Kind.NULL
    texts = [str(value).rstrip("\0 ") for value in one]
    return Kind.PADDED if texts == other else Kind.UNEXPLAINED
