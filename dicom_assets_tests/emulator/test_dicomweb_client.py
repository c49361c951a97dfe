"""A client that nobody here wrote gets on with the emulator: dicomweb-client."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from requests import HTTPError

from dicom_assets_tests.support.dicom_files import dataset, part_10, shapes

if TYPE_CHECKING:
    import httpx
    from pydicom.dataset import Dataset, FileDataset

    from dicom_assets.emulator.archive import Archive


def opened(made: Dataset) -> FileDataset:
    """The dataset as a client has it that opened a file: with preamble and meta information."""
    return dcmread(BytesIO(part_10(made)))


@pytest.fixture
def dicomweb(url: str, archive: Archive) -> DICOMwebClient:
    """The client, pointed at the emulator."""
    return DICOMwebClient(f"{url}/v2")


def test_it_stores_retrieves_and_deletes(dicomweb: DICOMwebClient, client: httpx.Client) -> None:
    """Store, metadata at three levels, and delete at three levels work as it expects."""
    made = [opened(dataset(series=series, sop=sop)) for series in (1, 2) for sop in (1, 2)]
    answer = dicomweb.store_instances(made, study_instance_uid="1.2.1")
    assert len(answer.ReferencedSOPSequence) == 4
    assert len(dicomweb.retrieve_study_metadata("1.2.1")) == 4
    assert len(dicomweb.retrieve_series_metadata("1.2.1", "1.2.1.2")) == 2
    one_header = dicomweb.retrieve_instance_metadata("1.2.1", "1.2.1.2", "1.2.1.2.1")
    assert one_header["00100010"]["Value"] == [{"Alphabetic": "A^One"}]

    dicomweb.delete_instance("1.2.1", "1.2.1.1", "1.2.1.1.1")
    dicomweb.delete_series("1.2.1", "1.2.1.1")
    dicomweb.delete_study("1.2.1")
    assert [action for _, action, _ in shapes(client)] == ["Create"] * 4 + ["Delete"] * 4


def test_it_learns_what_is_absent(dicomweb: DICOMwebClient) -> None:
    """A study that is not there is the 404 it raises on."""
    with pytest.raises(HTTPError) as caught:
        dicomweb.retrieve_study_metadata("1.2.9")
    assert "404" in str(caught.value)


def test_it_understands_a_refusal(dicomweb: DICOMwebClient) -> None:
    """A second store of the same instance is the 409 it raises on."""
    made = opened(dataset())
    dicomweb.store_instances([made])
    with pytest.raises(HTTPError) as caught:
        dicomweb.store_instances([made])
    assert "409" in str(caught.value)
