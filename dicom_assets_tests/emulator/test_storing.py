"""STOW-RS, WADO-RS metadata, delete and bulk update: bodies, codes and links."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset

from dicom_assets_tests.support.dicom_files import (
    SECONDARY_CAPTURE,
    dataset,
    feed,
    header,
    part_10,
    post,
    sequences,
)

if TYPE_CHECKING:
    import httpx

    from dicom_assets.emulator.archive import Archive

NAME: dict[str, Any] = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^Two"}]}}


def failure(answer: httpx.Response) -> dict[str, Any]:
    """The one item of the FailedSOPSequence."""
    (item,) = answer.json()["00081198"]["Value"]
    found: dict[str, Any] = item
    return found


def test_a_store_answers_with_a_reference_to_every_instance(client: httpx.Client, url: str) -> None:
    """200 and ReferencedSOPSequence, each item with class, instance and URL."""
    answer = post(client, "/v2/studies", part_10(dataset(sop=1)), part_10(dataset(sop=2)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    assert list(answer.json()) == ["00081199"]
    first, second = answer.json()["00081199"]["Value"]
    assert first == {
        "00081150": {"vr": "UI", "Value": [SECONDARY_CAPTURE]},
        "00081155": {"vr": "UI", "Value": ["1.2.1.1.1"]},
        "00081190": {
            "vr": "UR",
            "Value": [f"{url}/v2/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"],
        },
    }
    metadata = client.get(second["00081190"]["Value"][0] + "/metadata")
    assert metadata.json()[0]["00080018"]["Value"] == ["1.2.1.1.2"]


def test_a_uid_with_a_space_is_served_with_it_and_found_without(client: httpx.Client) -> None:
    """The space that scanners pad with. A null, which the standard pads with, is no part of it."""
    file = part_10(dataset())
    study = b"UI\x06\x001.2.1\0"
    assert file.count(study) == 1
    answer = post(client, "/v2/studies/1.2.1", file.replace(study, study[:-1] + b" "))
    assert answer.status_code == 200
    (stored,) = answer.json()["00081199"]["Value"]
    assert stored["00081190"]["Value"][0].endswith(
        "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
    )
    (entry,) = feed(client)
    uids = ("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid")
    assert [entry[name] for name in uids] == ["1.2.1 ", "1.2.1.1", "1.2.1.1.1"]
    assert entry["metadata"]["0020000D"] == {"vr": "UI", "Value": ["1.2.1 "]}
    for asked in ("1.2.1", "1.2.1%20"):
        assert client.get(f"/v2/studies/{asked}/metadata").status_code == 200
        (found,) = client.get(f"/v2/studies?StudyInstanceUID={asked}").json()
        assert found["0020000D"]["Value"] == ["1.2.1 "]
        (series,) = client.get(f"/v2/studies/{asked}/series").json()
        assert series["0020000E"]["Value"] == ["1.2.1.1"]
    assert client.delete("/v2/studies/1.2.1").status_code == 204


def test_a_single_part_body_is_stored(client: httpx.Client) -> None:
    """A body of type application/dicom is one file, and may hold anything a delimiter may."""
    made = dataset()
    made.PatientComments = "--a-boundary\r\n--a-boundary--"
    kind = {"content-type": "application/dicom"}
    answer = client.post("/v1/studies", content=part_10(made), headers=kind)
    assert answer.status_code == 200
    assert sequences(client) == [1]


def test_some_stored_is_202_and_none_is_409(client: httpx.Client) -> None:
    """202 names both the stored and the failed; 409 the failed alone."""
    good = part_10(dataset())
    mixed = post(client, "/v2/studies", good, b"no DICOM at all")
    assert mixed.status_code == 202
    assert list(mixed.json()) == ["00081198", "00081199"]
    assert failure(mixed) == {"00081197": {"vr": "US", "Value": [43264]}}
    none = post(client, "/v2/studies", good)
    assert none.status_code == 409
    assert list(none.json()) == ["00081198"]
    assert failure(none) == {
        "00081150": {"vr": "UI", "Value": [SECONDARY_CAPTURE]},
        "00081155": {"vr": "UI", "Value": ["1.2.1.1.1"]},
        "00081197": {"vr": "US", "Value": [45070]},
    }


def test_a_study_in_the_path_must_be_that_of_the_file(client: httpx.Client, url: str) -> None:
    """A file of another study fails with 43264; for its own study the answer has its URL."""
    file = part_10(dataset(study=1))
    other = post(client, "/v2/studies/1.2.2", file)
    assert other.status_code == 409
    assert failure(other)["00081197"] == {"vr": "US", "Value": [43264]}
    own = post(client, "/v2/studies/1.2.1", file)
    assert own.status_code == 200
    assert own.json()["00081190"] == {"vr": "UR", "Value": [f"{url}/v2/studies/1.2.1"]}


def test_an_invalid_optional_attribute_is_left_out_and_warned_of(client: httpx.Client) -> None:
    """The instance is stored without it: 202, WarningReason 1, and no value in the answer."""
    made = dataset()
    made.add_new(0x00080021, "LO", "NotADate")
    file = part_10(made).replace(b"\x08\x00\x21\x00LO", b"\x08\x00\x21\x00DA")
    answer = post(client, "/v2/studies", file)
    assert answer.status_code == 202
    (item,) = answer.json()["00081199"]["Value"]
    assert item["00081196"] == {"vr": "US", "Value": [1]}
    (comment,) = item["00741048"]["Value"]
    assert comment["00000902"]["Value"][0].startswith("DICOM100: (0008,0021) - ")
    assert "NotADate" not in answer.text
    metadata = feed(client)[0]["metadata"]
    assert "00080021" not in metadata
    assert metadata["00080020"] == {"vr": "DA", "Value": ["20200922"]}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"x", 415),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--", 415),
        ('multipart/related; type="application/json"; boundary=b', b"--b\r\n\r\nx\r\n--b--", 415),
        (
            'multipart/related; type="application/dicom"; boundary=b',
            b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--",
            415,
        ),
        ('multipart/related; type="application/dicom"', b"--b\r\n\r\nx\r\n--b--", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b\r\n\r\nx", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b\r\nx\r\n--b--", 400),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b--\r\n", 204),
        ('multipart/related; type="application/dicom"; boundary=b', b"--b\r\n\r\nx\r\n--b--", 409),
    ],
)
def test_bodies_of_the_wrong_kind_are_refused(
    client: httpx.Client, kind: str, body: bytes, status: int
) -> None:
    """415 for another content type, 400 for a broken body, 204 for an empty one."""
    answer = client.post("/v2/studies", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert sequences(client) == []


def test_a_boundary_may_be_quoted_and_parts_may_have_more_headers(client: httpx.Client) -> None:
    """Preamble, epilogue, quotes and other header lines are all allowed (RFC 2046)."""
    head = b"preamble\r\n--b c\r\nContent-Location: x\r\nCONTENT-TYPE: application/dicom\r\n\r\n"
    made = dataset()
    made.PatientComments = "no delimiter: --b c--, for no line begins with it"
    body = head + part_10(made) + b"\r\n--b c--\r\nepilogue"
    kind = {"content-type": 'multipart/related; boundary="b c"; type="application/dicom"'}
    assert client.post("/v2/studies", content=body, headers=kind).status_code == 200


def test_identifiers_in_the_path_are_checked(client: httpx.Client) -> None:
    """A path whose UID is none is a bad request, whatever is asked."""
    assert client.get("/v2/studies/abc/metadata").status_code == 400
    assert client.delete("/v2/studies/1.2.1/series/x%20y").status_code == 400
    assert post(client, "/v2/studies/abc", part_10(dataset())).status_code == 400
    assert client.get(f"/v2/studies/{'1' * 65}/metadata").status_code == 400
    assert client.get("/v2/partitions/a%20b/studies/1.2.1/metadata").status_code == 400


def test_metadata_is_served_at_three_levels(client: httpx.Client, archive: Archive) -> None:
    """Study, series and instance give the live headers below them; 404 without any."""
    for series in (1, 2):
        for place in (1, 2):
            archive.store(header(series=series, sop=place))
    study, series_path = "/v2/studies/1.2.1", "/v2/studies/1.2.1/series/1.2.1.2"
    answer = client.get(f"{study}/metadata")
    assert answer.headers["content-type"] == "application/dicom+json"
    assert len(answer.json()) == 4
    assert len(client.get(f"{series_path}/metadata").json()) == 2
    one = client.get(f"{series_path}/instances/1.2.1.2.1/metadata")
    assert one.json() == [header(series=2, sop=1)]
    for path in ("/v2/studies/9.9", f"{study}/series/9.9", f"{series_path}/instances/9.9"):
        assert client.get(f"{path}/metadata").status_code == 404
        assert client.get(path).status_code == 404
    for path in (study, series_path, f"{series_path}/instances/1.2.1.2.1"):
        assert client.get(path).json() == client.get(f"{path}/metadata").json()


def test_deletes_work_at_three_levels(client: httpx.Client, archive: Archive) -> None:
    """204 once, 404 from then on; what lies beside stays."""
    for series in (1, 2):
        for place in (1, 2):
            archive.store(header(series=series, sop=place))
    for path, left in (
        ("/v2/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1", 3),
        ("/v1/studies/1.2.1/series/1.2.1.1", 2),
        ("/v2/studies/1.2.1", 0),
    ):
        assert client.delete(path).status_code == 204
        assert client.delete(path).status_code == 404
        assert len(list(archive.instances())) == left


def test_a_bulk_update_answers_with_an_operation_that_is_done(
    client: httpx.Client, archive: Archive, url: str
) -> None:
    """202 with id and href; asking for it gives its state."""
    archive.store(header())
    body = {"studyInstanceUids": ["1.2.1", "1.2.9"], "changeDataset": NAME}
    answer = client.post("/v2/studies/$bulkUpdate", json=body)
    assert answer.status_code == 202
    assert list(answer.json()) == ["id", "href"]
    assert answer.json()["href"] == f"{url}/v2/operations/{answer.json()['id']}"
    assert answer.headers["location"] == answer.json()["href"]
    state = client.get(answer.json()["href"])
    assert state.status_code == 200
    assert state.json()["operationId"] == answer.json()["id"]
    assert state.json()["type"] == "update"
    assert state.json()["status"] == "completed"
    assert state.json()["percentComplete"] == 100
    assert state.json()["results"]["instanceUpdated"] == 1
    assert client.get("/v2/operations/unknown").status_code == 404


def test_a_bulk_update_stays_in_its_data_partition(client: httpx.Client, archive: Archive) -> None:
    """The same study in another data partition keeps its header."""
    archive.store(header())
    archive.store(header(), partition="north")
    body = {"studyInstanceUids": ["1.2.1"], "changeDataset": NAME}
    assert client.post("/v2/partitions/north/studies/$bulkUpdate", json=body).status_code == 202
    rows = [(entry["partitionName"], entry["action"]) for entry in feed(client)]
    assert rows == [("Microsoft.Default", "Create"), ("north", "Create"), ("north", "Update")]
    assert feed(client)[0]["metadata"] == header()


def test_a_bulk_update_of_nothing_changes_nothing(client: httpx.Client) -> None:
    """A study that is not there is no error, and no entry."""
    body = {"studyInstanceUids": ["1.2.1"], "changeDataset": NAME}
    answer = client.post("/v2/studies/$bulkUpdate", json=body)
    assert client.get(answer.json()["href"]).json()["results"]["instanceUpdated"] == 0
    assert sequences(client) == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[]",
        json.dumps({"studyInstanceUids": ["1.2.1"]}).encode(),
        json.dumps({"changeDataset": NAME}).encode(),
        json.dumps({"studyInstanceUids": [], "changeDataset": NAME}).encode(),
        json.dumps({"studyInstanceUids": ["x"], "changeDataset": NAME}).encode(),
        json.dumps({"studyInstanceUids": [1], "changeDataset": NAME}).encode(),
        json.dumps({"studyInstanceUids": ["1.2.1"] * 51, "changeDataset": NAME}).encode(),
        json.dumps({"studyInstanceUids": ["1.2.1"], "changeDataset": {}}).encode(),
    ],
)
def test_a_bulk_update_must_have_its_form(
    client: httpx.Client, archive: Archive, body: bytes
) -> None:
    """Anything but 1 to 50 UIDs and a dataset is a bad request, and changes nothing."""
    archive.store(header())
    kind = {"content-type": "application/json"}
    assert client.post("/v2/studies/$bulkUpdate", content=body, headers=kind).status_code == 400
    assert sequences(client) == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"00080018": {"vr": "UI", "Value": ["1.2.3"]}},
        {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}},
        {"00080060": {"vr": "CS", "Value": ["CT"]}},
        {"00101002": {"vr": "SQ", "Value": []}},
        {"00100010": {"vr": "LO", "Value": ["PHI"]}},
        {"00100030": {"vr": "DA", "Value": ["PHI"]}},
        {"00100030": {"vr": "DA", "Value": "PHI"}},
        {"00100040": "PHI"},
    ],
)
def test_a_bulk_update_changes_patient_and_study_attributes_only(
    client: httpx.Client, archive: Archive, changes: dict[str, Any]
) -> None:
    """Identifiers, other modules and values that break their VR are refused by name."""
    archive.store(header())
    body = {"studyInstanceUids": ["1.2.1"], "changeDataset": {**NAME, **changes}}
    answer = client.post("/v2/studies/$bulkUpdate", json=body)
    assert answer.status_code == 400
    (comment,) = answer.json()["00741048"]["Value"]
    (tag,) = changes
    assert f"({tag[:4]},{tag[4:]})" in comment["00000902"]["Value"][0]
    assert "PHI" not in answer.text
    assert feed(client)[0]["metadata"] == header()


def test_an_expired_study_is_gone_without_a_delete(client: httpx.Client, archive: Archive) -> None:
    """Newer services do this: all rows read Deleted, and no row says when."""
    for place in (1, 2):
        archive.store(header(sop=place))
    assert archive.expire("1.2.1") == 2
    entries = feed(client)
    assert [(entry["action"], entry["state"]) for entry in entries] == [("Create", "Deleted")] * 2
    assert not [entry for entry in entries if "metadata" in entry]
    assert client.get("/v2/studies/1.2.1/metadata").status_code == 404


def test_text_is_utf_8_whatever_the_file_used(client: httpx.Client) -> None:
    """A Latin-1 name and a Japanese one arrive as UTF-8."""
    latin, japanese = dataset(sop=1), dataset(sop=2)
    latin.SpecificCharacterSet, latin.PatientName = "ISO_IR 100", "Müller^Jörg"
    japanese.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    japanese.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert post(client, "/v2/studies", part_10(latin), part_10(japanese)).status_code == 200
    first, second = (entry["metadata"] for entry in feed(client))
    assert first["00080005"] == {"vr": "CS", "Value": ["ISO_IR 100"]}
    assert first["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    assert second["00100010"]["Value"] == [
        {
            "Alphabetic": "Yamada^Tarou",
            "Ideographic": "山田^太郎",
            "Phonetic": "やまだ^たろう",
        }
    ]
    assert "Müller".encode() in client.get("/v2/changefeed").content


def test_the_index_page_leads_to_the_feed(client: httpx.Client) -> None:
    """A person who opens the address learns what this is."""
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert 'href="v2/changefeed' in answer.text


def test_a_file_without_what_a_service_requires_is_refused(client: httpx.Client) -> None:
    """Only UIDs, class and patient ID are required; the answer has what could be read."""
    for keyword in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"):
        made = dataset()
        delattr(made, keyword)
        answer = post(client, "/v2/studies", part_10(made))
        assert answer.status_code == 409, keyword
        assert failure(answer)["00081197"] == {"vr": "US", "Value": [43264]}
        assert failure(answer)["00081155"] == {"vr": "UI", "Value": ["1.2.1.1.1"]}
    assert post(client, "/v2/studies", part_10(Dataset())).status_code == 409
    assert sequences(client) == []
