"""Headers and DICOM files made for the tests, and the feed read as plain JSON."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

if TYPE_CHECKING:
    import httpx

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
