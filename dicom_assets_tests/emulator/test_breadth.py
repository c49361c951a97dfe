"""Every file that pydicom ships, through the emulator: refusals and differences to pydicom."""

from __future__ import annotations

from collections import Counter

from dicom_assets.emulator.sample import pydicom_files
from dicom_assets_tests.emulator.breadth import Kind, compare


def test_every_difference_to_pydicom_is_explained() -> None:
    """And each explanation has an example but those that pydicom's files do not need."""
    compared = {file.name: compare(file) for file in pydicom_files()}
    kinds = [(name, *pair) for name, one in compared.items() for pair in one.kinds.items()]
    assert [one for one in kinds if one[-1] is Kind.UNEXPLAINED] == []
    assert {kind for *_, kind in kinds} == set(Kind) - {Kind.UNEXPLAINED, Kind.PADDED}


def test_refusals_are_those_of_the_service() -> None:
    """Files without what it requires, one with a VR that is not the attribute's, one too short."""
    reasons = [reason for file in pydicom_files() if (reason := compare(file).refused)]
    assert set(reasons) == {
        "no-sop-class-uid",
        "no-study-instance-uid",
        "no-patient-id",
        "not-part-10",
    }
    assert Counter(reasons)["not-part-10"] == 1
