"""Files of real scanners, stored over HTTP: refusals, and differences to pydicom's own JSON.

They are in packages that `components/install` brings, and in pydicom. The packages are pinned by
their hashes, so their refusals and what is left out are told file by file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import pytest

from dicom_assets.emulator.archive import Archive
from dicom_assets.emulator.headers import Refused
from dicom_assets.emulator.sample import pydicom_files
from dicom_assets_tests.emulator.breadth import Kind, compare, differences
from dicom_assets_tests.support.dicom_files import post
from dicom_assets_tests.support.watched_service import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT: Final = Path(sys.prefix) / "real_files"
REMEDY: Final = "no real files: `make test-components` installs packages that have some"
LEAST: Final = 400

# Of the packages; pydicom's own are in test_breadth.
REFUSED: Final = {
    "OT-PAL-8-face.dcm": "no-patient-id",
    "bad_sequence.dcm": "invalid-uid",
    "color-pl.dcm": "no-patient-id",
    "color-px.dcm": "no-patient-id",
    "decimal_rescale.dcm": "no-sop-class-uid",
}
LEFT_OUT: Final = {
    # An age without its unit, and codes with small letters.
    "csa_slice_norm.dcm": {"00101010", "00191008", "00291008", "00291018", "00511008"},
    # Colons in times, slashes in a date and in a code.
    "slicethickness_empty_string.dcm": {
        *("00080030", "00080031", "00080032", "00080033", "00100030", "00100040"),
    },
    # A slash in a code.
    "gdcm-US-ALOKA-16.dcm": {"00080008"},
    "gdcm-US-ALOKA-16_big.dcm": {"00080008"},
    # An empty patient ID.
    "JPGLosslessP14SV1_1s_1f_8b.dcm": {"00100020"},
    "SCImageStorage_Deflated.dcm": {"00100020"},
    "emri_small.dcm": {"00100020"},
    "emri_small_RLE.dcm": {"00100020"},
    "emri_small_big_endian.dcm": {"00100020"},
    "emri_small_jpeg_2k_lossless.dcm": {"00100020"},
    "emri_small_jpeg_2k_lossless_too_short.dcm": {"00100020"},
    "emri_small_jpeg_ls_lossless.dcm": {"00100020"},
}

pytestmark = pytest.mark.timeout(300)  # fifteen seconds, on a machine that does nothing else


class Stored(NamedTuple):
    """The failure reason or None, and the kinds of differences by the path of tags."""

    failure: int | None
    kinds: dict[tuple[str, ...], Kind]


def distinct() -> dict[str, Path]:
    """The files by their hash: those of the packages first, then pydicom's."""
    if not (ENVIRONMENT / "installed.lock").exists():
        missing = pytest.fail if os.environ.get("CI", "").lower() in {"1", "true"} else pytest.skip
        missing(REMEDY)
    files = [path for path in sorted(ENVIRONMENT.rglob("*")) if path.is_file() and is_dicom(path)]
    found: dict[str, Path] = {}
    for file in [*files, *pydicom_files()]:
        found.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), file)
    return found


def is_dicom(path: Path) -> bool:
    """True with the prefix, or for a file that is named as one and may have none."""
    with path.open("rb") as opened:
        return path.suffix.lower() == ".dcm" or opened.read(132)[128:] == b"DICM"


def store(client: httpx.Client, file: Path) -> Stored:
    """Store the file, get its header, and delete it: other files have the same UID."""
    answer = post(client, "/v2/studies", file.read_bytes())
    body: dict[str, Any] = answer.json()
    if answer.status_code == httpx.codes.CONFLICT:
        (failed,) = body["00081198"]["Value"]
        return Stored(failed["00081197"]["Value"][0], {})
    (item,) = body["00081199"]["Value"]
    comments = [one["00000902"]["Value"][0] for one in item.get("00741048", {}).get("Value", [])]
    pairs = [re.match(r"DICOM100: \((\w{4}),(\w{4})\) - ", text) for text in comments]
    left_out = {(pair[1] + pair[2]).upper() for pair in pairs if pair}
    assert answer.status_code == (202 if left_out else 200)
    url = item["00081190"]["Value"][0]
    (header,) = client.get(f"{url}/metadata").json()
    assert client.delete(url).status_code == httpx.codes.NO_CONTENT
    return Stored(None, differences(file, header, left_out))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Stored]]:
    """What became of each file."""
    files = distinct()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("httpx"), "disabled", True)  # it shows UIDs
        archive = Archive(tmp_path_factory.mktemp("real") / "archive")
        with serving(archive) as service, httpx.Client(base_url=service.url, timeout=60) as client:
            yield {file: store(client, file) for file in files.values()}


def test_there_are_enough(outcomes: dict[Path, Stored]) -> None:
    """Files that differ in a byte at least."""
    assert len(outcomes) >= LEAST


def test_refusals_are_those_of_the_service(outcomes: dict[Path, Stored]) -> None:
    """Each has a reason that is in the file, and none makes the service fail."""
    refused = {file: one.failure for file, one in outcomes.items() if one.failure is not None}
    assert set(refused.values()) == {Refused.code}
    of_packages = [file for file in refused if ENVIRONMENT in file.parents]
    assert {file.name: compare(file).refused for file in of_packages} == REFUSED


def test_every_difference_to_pydicom_is_explained(outcomes: dict[Path, Stored]) -> None:
    """Each value that is left out is one of those in the table."""
    unexplained = {}
    left_out: dict[str, set[str]] = {}
    for file, stored in outcomes.items():
        for path, kind in stored.kinds.items():
            if kind is Kind.UNEXPLAINED:
                unexplained[file.name, path] = kind
            elif kind is Kind.LEFT_OUT and ENVIRONMENT in file.parents:
                left_out.setdefault(file.name, set()).add(path[0])
    assert unexplained == {}
    assert left_out == LEFT_OUT
