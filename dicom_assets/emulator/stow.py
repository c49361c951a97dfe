"""Storing over HTTP (STOW-RS): from the body of a request to the answer about each instance.

Here: multipart bodies, read from a file, the store response and its codes. Not here: validation of
a file (`headers`), the state of an instance (`archive`).
"""

from __future__ import annotations

from email.message import Message
from itertools import islice, zip_longest
from os import SEEK_END
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from starlette.exceptions import HTTPException

from dicom_assets.emulator.archive import AlreadyStored, Archive
from dicom_assets.emulator.headers import FilePart, Parsed, Refused, parse_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DICOM: Final = "application/dicom"
MULTIPART: Final = "multipart/related"

# The service takes 4 GB. This is the largest file of a clinic, and what a laptop's disk has left.
MAX_STORE_BYTES: Final = 2**30
MAX_PARTS: Final = 10_000

_CRLF: Final = b"\r\n"
_CHUNK: Final = 2**20
_LONGEST_HEAD: Final = 2**14
_UNSUPPORTED: Final = (415, "The content type is not supported.")
_MALFORMED: Final = (400, "The body is not a multipart body.")


class StoreTarget(NamedTuple):
    """Target of a store: data partition, study if the path names one, URL of the studies."""

    partition: str
    study: str | None
    studies_url: str


class StoreResponse(NamedTuple):
    """A store response: its status, and the DICOM JSON dataset (None without content)."""

    status: int
    dataset: dict[str, Any] | None


def require_kind(content_type: str) -> None:
    """Raise HTTPException 415 for a content type that is no store's."""
    kind = _described(content_type)
    multipart = kind.get_content_type() == MULTIPART and kind.get_param("type", DICOM) == DICOM
    if not multipart and kind.get_content_type() != DICOM:
        raise HTTPException(*_UNSUPPORTED)


def files_of(content_type: str, body: IO[bytes]) -> list[FilePart]:
    """Return the DICOM files in a body: one for a single part, any number for a multipart body.

    Raise HTTPException 415 for a part of another content type, 400 for a body that is not of its
    type, 413 for too many parts.
    """
    kind = _described(content_type)
    if kind.get_content_type() == DICOM:
        return [FilePart(body, 0, body.seek(0, SEEK_END))]
    boundary = kind.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        raise HTTPException(*_MALFORMED)
    # RFC 2046 5.1.1: the parts lie between the delimiters, each with its own header lines.
    delimiter = _CRLF + b"--" + boundary.encode("latin-1", "replace")
    places = list(islice(_places(body, delimiter), MAX_PARTS + 1))
    files: list[FilePart] = []
    for place, following in zip_longest(places, places[1:]):
        start = body.seek(place + len(delimiter))
        if body.read(2) == b"--":
            return files
        if following is None:
            break
        files.append(_file(body, start, following))
    too_many = (413, f"The body has more than {MAX_PARTS} parts: send fewer files.")
    raise HTTPException(*(too_many if len(places) > MAX_PARTS else _MALFORMED))


def store(archive: Archive, target: StoreTarget, files: Sequence[FilePart]) -> StoreResponse:
    """Store each file, and return the response: 200 all, 202 some or with warnings, 409 none."""
    if not files:
        return StoreResponse(204, None)
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for content in files:
        stored, item = _store(archive, target, content)
        (good if stored else bad).append(item)
    dataset: dict[str, Any] = {}
    if good and target.study is not None:
        url = f"{target.studies_url}/{target.study}"
        dataset["00081190"] = {"vr": "UR", "Value": [url]}
    if bad:
        dataset["00081198"] = {"vr": "SQ", "Value": bad}
    if good:
        dataset["00081199"] = {"vr": "SQ", "Value": good}
    warned = any("00081196" in item for item in good)
    return StoreResponse(409 if not good else 202 if bad or warned else 200, dataset)


def _store(archive: Archive, target: StoreTarget, content: FilePart) -> tuple[bool, dict[str, Any]]:
    try:
        parsed = parse_file(content, target.study)
    except Refused as refusal:
        return False, _failed(refusal.sop_class, refusal.sop, refusal.code)
    sop_class, sop = _uid(parsed, "00080016"), _uid(parsed, "00080018")
    try:
        archive.store(parsed.header, partition=target.partition)
    except AlreadyStored:
        return False, _failed(sop_class, sop, AlreadyStored.code)
    return True, _referenced(target, parsed)


def _referred(sop_class: str | None, sop: str | None) -> dict[str, Any]:
    uids = {"00081150": sop_class, "00081155": sop}
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items() if uid}


def _failed(sop_class: str | None, sop: str | None, code: int) -> dict[str, Any]:
    """Return an item of FailedSOPSequence: the UIDs that could be read, and the failure reason."""
    item = _referred(sop_class, sop)
    item["00081197"] = {"vr": "US", "Value": [code]}
    return item


def _referenced(target: StoreTarget, parsed: Parsed) -> dict[str, Any]:
    """Return an item of ReferencedSOPSequence, with a warning for each attribute left out."""
    study, series, sop = (_uid(parsed, tag) for tag in ("0020000D", "0020000E", "00080018"))
    url = f"{target.studies_url}/{study}/series/{series}/instances/{sop}"
    item = _referred(_uid(parsed, "00080016"), sop)
    item["00081190"] = {"vr": "UR", "Value": [url]}
    if parsed.dropped:
        # Without the values, which the service's own comments quote.
        tags = [f"({tag[:4]},{tag[4:]})".lower() for tag in parsed.dropped]
        texts = [f"DICOM100: {tag} - the value does not validate its VR" for tag in tags]
        comments = [{"00000902": {"vr": "LO", "Value": [text]}} for text in texts]
        item["00081196"] = {"vr": "US", "Value": [1]}
        item["00741048"] = {"vr": "SQ", "Value": comments}
    return item


def _uid(parsed: Parsed, tag: str) -> str | None:
    """Return a UID without padding; None for a SOP class UID that is left out itself."""
    return str(parsed.header[tag]["Value"][0]).rstrip(" ") if tag in parsed.header else None


def _described(content_type: str) -> Message:
    """Return a content type with its parameters, parsed as MIME."""
    described = Message()
    described["content-type"] = content_type
    return described


def _places(body: IO[bytes], delimiter: bytes) -> Iterator[int]:
    """Yield the places of a delimiter in a file, before which one thinks a line end."""
    body.seek(0)
    window, start = _CRLF, -len(_CRLF)
    while chunk := body.read(_CHUNK):
        window += chunk
        place = window.find(delimiter)
        while place >= 0:
            yield start + place
            place = window.find(delimiter, place + len(delimiter))
        rest = window[1 - len(delimiter) :]
        window, start = rest, start + len(window) - len(rest)


def _file(body: IO[bytes], start: int, end: int) -> FilePart:
    """Return the content of a part. Raise 415 if its type is another than DICOM."""
    body.seek(start)
    head, blank, _ = body.read(min(_LONGEST_HEAD, end - start)).partition(_CRLF + _CRLF)
    if not blank:
        raise HTTPException(*_MALFORMED)
    for line in head.split(_CRLF):
        name, _, value = line.decode("latin-1").partition(":")
        typed = name.strip().lower() == "content-type"
        if typed and _described(value.strip()).get_content_type() != DICOM:
            raise HTTPException(*_UNSUPPORTED)
    content = start + len(head) + len(blank)
    return FilePart(body, content, end - content)
