"""Search over HTTP: which studies, series and instances are found, and what is told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dicomweb_client.api import DICOMwebClient

from dicom_assets_tests.support.dicom_files import header

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive

STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"


def lo(*values: object, vr: str = "LO") -> dict[str, Any]:
    """An attribute of the JSON model."""
    return {"vr": vr, "Value": list(values)}


@pytest.fixture
def clinic(archive: Archive) -> Archive:
    """Two studies: a CT of two series with two instances each, and an MR of one."""
    for series in (1, 2):
        for sop in (1, 2):
            ct = header(1, series, sop) | {
                "00080020": lo("20260101", vr="DA"),
                "00080050": lo("ACC-1\0", vr="SH"),
                "00080060": lo("CT" if series == 1 else "SR", vr="CS"),
                "00080016": lo("1.2.840.10008.5.1.4.1.1.2", vr="UI"),
                "00200013": lo(sop, vr="IS"),
            }
            archive.store(ct)
    mr = header(2, name="B^Two") | {
        "00080020": lo("20260202", vr="DA"),
        "00080060": lo("MR", vr="CS"),
        "00100020": lo("ID2"),
    }
    archive.store(mr)
    archive.store(header(3, name="C^Three"), partition="north")
    return archive


def found(client: httpx.Client, path: str, tag: str = STUDY) -> list[str]:
    """One attribute of each dataset that is found; none for 204."""
    answer = client.get(f"/v2{path}")
    if answer.status_code == 204:
        assert answer.content == b""
        return []
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    return [one[tag]["Value"][0] for one in answer.json()]


def test_every_level_is_found_newest_first(client: httpx.Client, clinic: Archive) -> None:
    """Each study, series and instance once; a path narrows them, a data partition too."""
    assert found(client, "/studies") == ["1.2.2", "1.2.1"]
    assert found(client, "/series", SERIES) == ["1.2.2.1", "1.2.1.2", "1.2.1.1"]
    assert len(found(client, "/instances", SOP)) == 5
    assert found(client, "/studies/1.2.1/series", SERIES) == ["1.2.1.2", "1.2.1.1"]
    assert len(found(client, "/studies/1.2.1/instances", SOP)) == 4
    path = "/studies/1.2.1/series/1.2.1.1/instances"
    assert found(client, path, SOP) == ["1.2.1.1.2", "1.2.1.1.1"]
    assert found(client, "/partitions/north/studies") == ["1.2.3"]
    assert found(client, "/partitions/north/studies/1.2.3/series/1.2.3.1/instances") == ["1.2.3"]


def test_nothing_found_is_204(client: httpx.Client, clinic: Archive) -> None:
    """An empty answer has no body; what was deleted is not found."""
    assert found(client, "/studies?PatientID=nobody") == []
    assert found(client, "/studies?offset=2") == []
    assert found(client, "/partitions/south/instances") == []
    clinic.delete("1.2.1")
    assert found(client, "/studies") == ["1.2.2"]


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("StudyInstanceUID=1.2.1", ["1.2.1"]),
        ("studyinstanceuid=1.2.1", ["1.2.1"]),
        ("0020000d=1.2.1", ["1.2.1"]),
        ("PatientID=id2", ["1.2.2"]),
        ("PatientName=a%5Eone", ["1.2.1"]),
        ("AccessionNumber=ACC-1", ["1.2.1"]),
        ("AccessionNumber=ACC-1%00", ["1.2.1"]),
        ("StudyDate=20260101", ["1.2.1"]),
        ("StudyDate=20260101-20260131", ["1.2.1"]),
        ("StudyDate=20260101-20260202", ["1.2.2", "1.2.1"]),
        ("StudyDate=20260102-", ["1.2.2"]),
        ("StudyDate=-20260201", ["1.2.1"]),
        ("ModalitiesInStudy=SR", ["1.2.1"]),
        ("ModalitiesInStudy=mr&PatientID=ID2", ["1.2.2"]),
        ("ModalitiesInStudy=MR&PatientID=ID1", []),
        ("limit=1", ["1.2.2"]),
        ("limit=1&offset=1", ["1.2.1"]),
        ("fuzzymatching=true&PatientID=ID1", ["1.2.1"]),
    ],
)
def test_studies_are_found_by(
    client: httpx.Client, clinic: Archive, query: str, studies: list[str]
) -> None:
    """Attributes by keyword or tag, in any case; ranges of dates; a page at a time."""
    assert found(client, f"/studies?{query}") == studies


def test_series_and_instances_are_found_by(client: httpx.Client, clinic: Archive) -> None:
    """Their own attributes, and those of their study where the path does not name it."""
    assert found(client, "/series?Modality=SR", SERIES) == ["1.2.1.2"]
    assert found(client, "/series?ModalitiesInStudy=SR", SERIES) == ["1.2.1.2", "1.2.1.1"]
    assert len(found(client, "/instances?PatientID=ID1&Modality=CT", SOP)) == 2
    assert found(client, "/instances?SOPInstanceUID=1.2.2.1.1", SOP) == ["1.2.2.1.1"]


@pytest.mark.parametrize(
    "path",
    [
        "/studies?limit=0",
        "/studies?limit=201",
        "/studies?limit=many",
        "/studies?offset=-1",
        "/studies?Modality=CT",
        "/studies?StudyTime=1000",
        "/studies?Shoesize=44",
        "/studies?includefield=Shoesize",
        "/studies/1.2.1/series?PatientID=ID1",
        "/studies/abc/series",
        "/partitions/a%20b/studies",
    ],
)
def test_what_cannot_be_searched_for_is_400(
    client: httpx.Client, clinic: Archive, path: str
) -> None:
    """Limits out of range, attributes of another level, and words that are none."""
    assert client.get(f"/v2{path}").status_code == 400


def test_the_default_attributes_are_those_of_the_level(
    client: httpx.Client, clinic: Archive
) -> None:
    """What is not in the header is left out; levels above come with the ones not named."""
    study = client.get("/v2/studies?PatientID=ID1").json()[0]
    assert list(study) == ["00080020", "00080050", "00100010", "00100020", "0020000D"]
    series = client.get("/v2/studies/1.2.1/series").json()[0]
    assert list(series) == ["00080060", "0020000D", "0020000E"]
    instance = client.get("/v2/studies/1.2.1/series/1.2.1.1/instances").json()[0]
    assert list(instance) == ["00080018", "0020000D", "0020000E"]
    every = client.get("/v2/instances").json()[-1]
    assert set(study) | set(series) | set(instance) == set(every)


def test_further_attributes_come_when_asked_for(client: httpx.Client, clinic: Archive) -> None:
    """`all`, or one by one, by keyword or tag."""
    path = "/v2/studies/1.2.1/series/1.2.1.1/instances"
    assert {"00080016", "00200013"} <= set(client.get(f"{path}?includefield=all").json()[0])
    several = client.get(f"{path}?includefield=InstanceNumber,00080020&includefield=00080060")
    assert {"00200013", "00080020", "00080060"} <= set(several.json()[0])
    assert "00080016" not in several.json()[0]


def test_counts_are_computed_when_asked_for(client: httpx.Client, clinic: Archive) -> None:
    """How many series and instances a study has, and instances a series; the modalities."""
    fields = "NumberOfStudyRelatedInstances,00201206,modalitiesinstudy"
    study = client.get(f"/v2/studies?PatientID=ID1&includefield={fields}").json()[0]
    assert study["00201208"] == {"vr": "IS", "Value": [4]}
    assert study["00201206"] == {"vr": "IS", "Value": [2]}
    assert study["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    series = client.get("/v2/studies/1.2.1/series?includefield=00201209").json()
    assert [one["00201209"]["Value"] for one in series] == [[2], [2]]
    assert "00201208" not in client.get("/v2/studies").json()[0]


def test_the_latest_header_speaks_for_its_study(client: httpx.Client, clinic: Archive) -> None:
    """Instances of one study may disagree; the newest wins, and only it can be found."""
    clinic.store(header(1, 1, 3, name="A^Married"))
    assert found(client, "/studies?PatientName=A%5EMarried") == ["1.2.1"]
    assert found(client, "/studies?PatientName=A%5EOne") == []


def test_a_page_has_100_at_most_200(client: httpx.Client, archive: Archive) -> None:
    """The default and the greatest limit."""
    for place in range(201):
        archive.store(header(study=place + 1))
    assert len(found(client, "/studies")) == 100
    assert len(found(client, "/studies?limit=200")) == 200
    assert found(client, "/studies?limit=200&offset=200") == ["1.2.1"]


def test_a_client_that_is_not_ours_finds_them(url: str, clinic: Archive) -> None:
    """dicomweb-client searches on every level."""
    client = DICOMwebClient(f"{url}/v2")
    assert len(client.search_for_studies()) == 2
    assert len(client.search_for_series("1.2.1")) == 2
    wanted = {"StudyInstanceUID": "1.2.1"}
    assert len(client.search_for_instances(search_filters=wanted)) == 4
