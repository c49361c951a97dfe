"""Headers and DICOM files made for the tests, and the feed read as plain JSON."""

from __future__ import annotations

import socket
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_assets.emulator import ticks

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive

TEN: Final = ticks.from_text("2026-01-01T10:00:00Z")
SECONDARY_CAPTURE: Final = UID("1.2.840.10008.5.1.4.1.1.7")
BOUNDARY: Final = "a-boundary"


def header(study: int = 1, series: int = 1, sop: int = 1, **names: str) -> dict[str, Any]:
    """A small header whose UIDs are 1.2.<study>, …<series>, …<sop>; `name` is the patient's."""
    return {
        "00080018": {"vr": "UI", "Value": [f"1.2.{study}.{series}.{sop}"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": names.get("name", "A^One")}]},
        "00100020": {"vr": "LO", "Value": ["ID1"]},
        "0020000D": {"vr": "UI", "Value": [f"1.2.{study}"]},
        "0020000E": {"vr": "UI", "Value": [f"1.2.{study}.{series}"]},
    }


def dataset(study: int = 1, series: int = 1, sop: int = 1) -> Dataset:
    """A dataset that a service stores without a warning."""
    made = Dataset()
    made.SOPClassUID = SECONDARY_CAPTURE
    made.SOPInstanceUID = f"1.2.{study}.{series}.{sop}"
    made.StudyDate = "20200922"
    made.PatientName = "A^One"
    made.PatientID = "ID1"
    made.StudyInstanceUID = f"1.2.{study}"
    made.SeriesInstanceUID = f"1.2.{study}.{series}"
    return made


def part_10(made: Dataset) -> bytes:
    """The dataset as a DICOM file."""
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    made.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = BytesIO()
    made.save_as(written, enforce_file_format=True)
    return written.getvalue()


def post(client: httpx.Client, path: str, *files: bytes) -> httpx.Response:
    """The answer to a multipart STOW request with the files."""
    head = b"Content-Type: application/dicom\r\n\r\n"
    parts = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + head + file + b"\r\n" for file in files)
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    body = parts + b"--" + BOUNDARY.encode() + b"--\r\n"
    return client.post(path, content=body, headers={"content-type": kind})


def many(archive: Archive, count: int) -> None:
    """Instances 1 to `count` of one series, a second apart from ten o'clock on."""
    for place in range(count):
        archive.store(header(sop=place + 1), at=TEN + place * ticks.PER_SECOND)


class Raw(NamedTuple):
    """The bytes from a socket until it ended, and True if it ended with a reset."""

    content: bytes
    was_reset: bool = False

    @property
    def head(self) -> bytes:
        """The status line and the headers."""
        return self.content.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """All that came after the headers."""
        return self.content.partition(b"\r\n\r\n")[2]

    def header(self, name: bytes) -> bytes | None:
        """The value of a header."""
        lines = dict(line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:])
        return lines.get(name)


def raw(url: str, target: str, *, seconds: float = 30.0) -> Raw:
    """Return the answer to one GET request, without an HTTP library."""
    host, port = url.removeprefix("http://").split(":")
    content = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        lines = (f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", "", "")
        connection.sendall("\r\n".join(lines).encode())
        try:
            while part := connection.recv(65536):
                content += part
        except ConnectionResetError:
            return Raw(content, was_reset=True)
    return Raw(content)


def feed(client: httpx.Client, query: str = "", version: int = 2) -> list[dict[str, Any]]:
    """The entries of one page."""
    answer = client.get(f"/v{version}/changefeed{query}")
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()
    return entries


def sequences(client: httpx.Client, query: str = "", version: int = 2) -> list[int]:
    """The sequences of one page."""
    return [entry["sequence"] for entry in feed(client, query, version)]


def shapes(client: httpx.Client) -> list[tuple[int, str, str]]:
    """Sequence, action and state of the feed's first page."""
    return [(entry["sequence"], entry["action"], entry["state"]) for entry in feed(client)]
