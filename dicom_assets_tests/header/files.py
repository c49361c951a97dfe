"""The real files that columns are held against, and their headers as a service serves them.

Here are the files that pydicom ships, as the embedded archive finds them, and those of `data`. A
file that a service would refuse counts too, by the header that it would have.
"""

import json
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_assets.emulator import headers
from dicom_assets.emulator.sample import pydicom_files

DATA: Final = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class File:
    """A file: its name, what pydicom reads of it, and its header as a service serves it.

    What a service leaves out of the header, because a value does not follow its VR, is not in the
    dataset either.
    """

    name: str
    dataset: Dataset
    header: bytes


@cache
def files() -> tuple[File, ...]:
    """Every file that holds a dataset at all, in order."""
    found = [_file(path) for path in [*pydicom_files(), *sorted(DATA.glob("*.dcm"))]]
    return tuple(file for file in found if file is not None)


def _file(path: Path) -> File | None:
    content = path.read_bytes()
    with headers._quiet():
        try:
            dataset = dcmread(BytesIO(content))
            parsed = headers._parsed(dcmread(BytesIO(content)))
        except InvalidDicomError:
            return None
    for tag in parsed.dropped:
        dataset.pop(tag, None)
    return File(path.name, dataset, _served(parsed.header))


def _served(header: dict[str, Any]) -> bytes:
    """A header as the archive keeps it and the feed serves it."""
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
