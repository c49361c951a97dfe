"""The doors of the emulator: hosts, origins, sizes; over real sockets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from dicom_assets.emulator import server, stow, updates
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.support.dicom_files import dataset, header, part_10, post, sequences

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

DICOM: Final = {"content-type": "application/dicom"}
UPDATE: Final = json.dumps(
    {
        "studyInstanceUids": ["1.2.1"],
        "changeDataset": {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^Two"}]}},
    }
)


def asked(url: str, *lines: str, method: str = "GET", path: str = "/v2/changefeed") -> int:
    """The status of the answer to a request with these header lines and no others."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = (f"{method} {path} HTTP/1.1", *lines, "Connection: close", "", "")
        connection.sendall("\r\n".join(head).encode())
        answer = b""
        while b"\r\n" not in answer:
            answer += connection.recv(65536)
    return int(answer.split()[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:{port}", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 400),
        ("evil.example:{port}", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example@localhost", 200),
        ("localhost@evil.example", 400),
        ("0.0.0.0:{port}", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_a_foreign_host_is_refused(url: str, archive: Archive, host: str, status: int) -> None:
    """A page's own name may lead to this machine (DNS rebinding): it reads and deletes nothing."""
    archive.store(header())
    line = "Host: " + host.format(port=url.rpartition(":")[2])
    assert asked(url, line) == status
    deleted = asked(url, line, method="DELETE", path="/v2/studies/1.2.1")
    assert deleted == (204 if status == 200 else 400)
    assert len(archive.entries()) == (2 if status == 200 else 1)


def test_two_hosts_are_none(url: str) -> None:
    """The server or its doors refuse."""
    assert asked(url, "Host: localhost", "Host: evil.example") == 400


@pytest.fixture
def named(tmp_path: Path) -> Iterator[str]:
    """A service that answers to a further name."""
    archive = Archive(tmp_path)
    with server.start(
        create_application(archive, hosts=["Clinic.example", "[fd00::1]"])
    ) as running:
        yield running.url
    archive.close()


def test_further_hosts_are_named(named: str) -> None:
    """And no others."""
    statuses = [
        asked(named, f"Host: {host}")
        for host in ("clinic.example:80", "[fd00::1]", "localhost", "evil.example")
    ]
    assert statuses == [200, 200, 200, 400]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "https"])
def test_another_origin_changes_and_reads_nothing(
    client: httpx.Client, archive: Archive, origin: str
) -> None:
    """403 for each method, and no header that permits it (CORS)."""
    archive.store(header())
    before = archive.entries()
    origins = {"origin": origin}
    answers = [
        client.post("/v2/studies", content=part_10(dataset(2)), headers={**DICOM, **origins}),
        client.post("/v2/studies/$bulkUpdate", content=UPDATE, headers=origins),
        client.delete("/v2/studies/1.2.1", headers=origins),
        client.put("/v2/studies/1.2.1", headers=origins),
        client.patch("/v2/studies/1.2.1", headers=origins),
        client.get("/v2/changefeed", headers=origins),
        client.options("/v2/studies", headers={**origins, "access-control-request-method": "POST"}),
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert not [name for one in answers for name in one.headers if name.startswith("access-contr")]
    assert archive.entries() == before


def test_the_own_origin_and_none_are_let_in(client: httpx.Client, archive: Archive) -> None:
    """A page of the service itself, and every client that is no browser."""
    archive.store(header())
    own = {"origin": str(client.base_url).rstrip("/")}
    kind = {"content-type": "application/json; charset=utf-8"}
    answer = client.post("/v2/studies/$bulkUpdate", content=UPDATE, headers={**own, **kind})
    assert answer.status_code == 202
    assert client.delete("/v2/studies/1.2.1").status_code == 204


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_what_a_form_may_send_is_no_update_and_no_file(
    client: httpx.Client, archive: Archive, kind: str | None
) -> None:
    """415: a browser sends these types to anybody without asking first."""
    archive.store(header())
    kinds = {} if kind is None else {"content-type": kind}
    for path in ("/v2/studies/$bulkUpdate", "/v2/studies"):
        assert client.post(path, content=UPDATE, headers=kinds).status_code == 415
    assert sequences(client) == [1]


def chunks(content: bytes) -> Iterator[bytes]:
    """The content without its length."""
    for place in range(0, len(content), 1000):
        yield content[place : place + 1000]


@pytest.mark.parametrize("path", ["/v2/studies", "/v2/studies/$bulkUpdate"])
def test_a_body_has_a_greatest_size(
    client: httpx.Client, archive: Archive, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """413, whether the length is said or not; up to it the body is read."""
    kind = DICOM if path == "/v2/studies" else {"content-type": "application/json"}
    monkeypatch.setattr(stow, "MAX_STORE_BYTES", 5000)
    monkeypatch.setattr(updates, "MAX_UPDATE_BYTES", 5000)
    for content in (bytes(5001), chunks(bytes(5001))):
        assert client.post(path, content=content, headers=kind).status_code == 413
    for content in (bytes(5000), chunks(bytes(5000))):
        assert client.post(path, content=content, headers=kind).status_code in (400, 409)
    assert [one.name for one in archive.path.parent.iterdir() if "sqlite" not in one.name] == []


def test_an_announced_size_is_refused_before_it_comes(url: str, archive: Archive) -> None:
    """A gigabyte and one byte, of which nothing was sent."""
    lines = ("Host: localhost", "Content-Type: application/dicom")
    for path, size in (("/v2/studies", 2**30), ("/v2/studies/$bulkUpdate", 2**20)):
        kind = "Content-Type: application/json" if "$" in path else lines[1]
        told = (lines[0], kind, f"Content-Length: {size + 1}")
        assert asked(url, *told, method="POST", path=path) == 413


def test_a_body_has_a_greatest_number_of_parts(
    client: httpx.Client, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """413 beyond it, and nothing is stored."""
    monkeypatch.setattr(stow, "MAX_PARTS", 2)
    files = [part_10(dataset(sop=place)) for place in (1, 2, 3)]
    assert post(client, "/v2/studies", *files).status_code == 413
    assert post(client, "/v2/studies", *files[:2]).status_code == 200
    assert sequences(client) == [1, 2]


@pytest.mark.parametrize("shift", range(-3, 14))
def test_a_delimiter_may_lie_across_two_reads(
    client: httpx.Client, archive: Archive, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    """Wherever the file is cut for reading, the parts are whole."""
    first = part_10(dataset(sop=1))
    head = len(b"--a-boundary\r\nContent-Type: application/dicom\r\n\r\n") + len(first)
    monkeypatch.setattr(stow, "_CHUNK", head + shift)
    made = dataset(sop=2)
    made.PatientComments = "\r\n--a-boundar"
    assert post(client, "/v2/studies", first, part_10(made)).status_code == 200
    assert sequences(client) == [1, 2]


STORE: Final = """
import resource, sys
from pathlib import Path
import httpx
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive

def body():
    yield head
    for _ in range(300): yield bytes(2**20)
    yield tail

head, tail = bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[4])
with server.start(Archive(Path(sys.argv[1]))) as running:
    httpx.get(running.url + "/v2/changefeed")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kind = {"content-type": sys.argv[3]}
    answer = httpx.post(running.url + "/v2/studies", content=body(), headers=kind, timeout=300)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(answer.status_code, (after - before) // 1024)
"""


@pytest.mark.parametrize("multipart", [False, True], ids=["single", "multipart"])
def test_a_large_file_does_not_lie_in_memory(tmp_path: Path, multipart: bool) -> None:
    """A file with 300 MB of pixels: the peak rises by less than 100 MB, the client's included."""
    file = part_10(dataset()) + b"\xe0\x7f\x10\0OW\0\0" + (300 * 2**20).to_bytes(4, "little")
    kind, tail = "application/dicom", b""
    if multipart:
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        file, tail = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file, b"\r\n--b--\r\n"
    words = (str(tmp_path), file.hex(), kind, tail.hex())
    done = subprocess.run(
        [sys.executable, "-c", STORE, *words], capture_output=True, check=True, timeout=300
    )
    status, megabytes = map(int, done.stdout.split())
    assert status == 200
    assert megabytes < 100, megabytes
