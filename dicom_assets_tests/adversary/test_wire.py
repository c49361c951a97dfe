"""Each fault below HTTP, seen by a socket and by an HTTP client."""

from __future__ import annotations

import gzip
import time
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest

from dicom_assets_tests.adversary import (
    Clock,
    CutChunked,
    CutGzip,
    Drip,
    Hide,
    Latency,
    Reset,
    ShortLength,
    Stall,
    Status,
)
from dicom_assets_tests.support.dicom_files import many, raw, sequences

if TYPE_CHECKING:
    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary import Fault, Faults

FEED = "/v2/changefeed"


@pytest.fixture
def page(client: httpx.Client, archive: Archive) -> bytes:
    """The page as it is when nothing goes wrong."""
    many(archive, 3)
    return client.get(FEED).content


@pytest.mark.parametrize("at", [0, 5, 60, 400])
def test_reset_at_a_byte(
    client: httpx.Client, url: str, faults: Faults, page: bytes, at: int
) -> None:
    """So many bytes of the answer arrive, then the connection is reset."""
    faults.replace(Reset(at))
    got = raw(url, FEED)
    assert (got.was_reset, len(got.content)) == (True, at)
    assert b"HTTP/1.1 200 OK".startswith(got.content[:15])
    with pytest.raises(httpx.ReadError):
        client.get(FEED)


def test_reset_in_the_middle(url: str, faults: Faults, page: bytes) -> None:
    """Without a place, half of the answer arrives."""
    faults.replace(Reset())
    got = raw(url, FEED)
    assert got.was_reset
    assert got.body
    assert page.startswith(got.body)
    assert len(got.body) < len(page)


def test_short_length(client: httpx.Client, url: str, faults: Faults, page: bytes) -> None:
    """The head promises more than comes before the connection is closed in good order."""
    faults.replace(ShortLength(10))
    got = raw(url, FEED)
    assert not got.was_reset
    assert (got.header(b"content-length"), got.body) == (str(len(page)).encode(), page[:10])
    with pytest.raises(httpx.RemoteProtocolError, match="10 bytes"):
        client.get(FEED)


def test_cut_chunked(client: httpx.Client, url: str, faults: Faults, page: bytes) -> None:
    """A chunk, and no chunk that says it was the last."""
    faults.replace(CutChunked(10))
    got = raw(url, FEED)
    assert got.header(b"transfer-encoding") == b"chunked"
    assert got.header(b"content-length") is None
    assert got.body == b"a\r\n" + page[:10] + b"\r\n"
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked"):
        client.get(FEED)


def test_cut_gzip(client: httpx.Client, url: str, faults: Faults, page: bytes) -> None:
    """Half of the packed body, its end the connection's: httpx sees 200 and takes the part."""
    faults.replace(CutGzip())
    got = raw(url, FEED)
    assert got.header(b"content-encoding") == b"gzip"
    assert got.header(b"content-length") is None
    assert not got.was_reset
    unpacking = zlib.decompressobj(wbits=31)
    assert page.startswith(unpacking.decompress(got.body))
    assert not unpacking.eof
    with pytest.raises(EOFError):
        gzip.decompress(got.body)
    answer = client.get(FEED)
    assert answer.status_code == 200
    assert page.startswith(answer.content)
    assert len(answer.content) < len(page)


def test_drip(url: str, faults: Faults, page: bytes) -> None:
    """The whole answer, at so many bytes a second."""
    faults.replace(Drip(4_000))
    start = time.monotonic()
    got = raw(url, FEED)
    assert got.body == page
    assert len(page) / 4_000 * 0.8 < time.monotonic() - start < 10


def test_a_drip_ends_when_the_client_goes(
    client: httpx.Client, url: str, faults: Faults, page: bytes
) -> None:
    """A byte a second for as long as anybody reads; the next request is served at once."""
    faults.replace(Drip(1))
    with pytest.raises(TimeoutError):
        raw(url, FEED, seconds=0.1)
    faults.clear()
    assert sequences(client) == [1, 2, 3]


def test_stall(client: httpx.Client, url: str, faults: Faults, page: bytes) -> None:
    """Some bytes, silence, and the end of the connection."""
    faults.replace(Stall(at=4, seconds=0.1))
    got = raw(url, FEED)
    assert got.body == page[:4]
    assert got.header(b"content-length") == str(len(page)).encode()
    faults.replace(Stall())
    with pytest.raises(httpx.ReadTimeout):
        client.get(FEED, timeout=httpx.Timeout(5, read=0.1))


def test_a_cut_may_be_at_the_very_start(url: str, faults: Faults, page: bytes) -> None:
    """Nothing of the body, but all of the head."""
    faults.replace(CutChunked(0))
    assert raw(url, FEED).body == b""
    faults.replace(ShortLength(0))
    assert raw(url, FEED).body == b""
    faults.replace(CutGzip(0))
    assert raw(url, FEED).body == b""


@pytest.mark.parametrize("fault", [Reset(), ShortLength(), CutChunked(), CutGzip(), Clock(0)])
def test_the_next_request_is_served(
    client: httpx.Client, url: str, faults: Faults, page: bytes, fault: Fault
) -> None:
    """The server neither stumbles nor answers in the fault's place."""
    faults.replace(fault)
    got = raw(url, FEED)
    assert got.content.count(b"HTTP/1.1") == 1
    assert b"500" not in got.head.split(b"\r\n")[0]
    faults.clear()
    assert client.get(FEED).content == page


def test_faults_stack(client: httpx.Client, url: str, faults: Faults, page: bytes) -> None:
    """A late refusal, cut short; a page without an entry, cut short."""
    faults.replace([ShortLength(3), Latency(0.05), Status(503, body="busy")])
    got = raw(url, FEED)
    assert got.head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert (got.header(b"content-length"), got.body) == (b"4", b"bus")
    faults.replace([ShortLength(), Hide(frozenset({1}))])
    assert raw(url, FEED).body.startswith(b'[{"sequence":2')
    assert [hit.fault for hit in faults.log] == ["short_length", "hide"]


def test_a_large_answer_is_reset_after_much_of_it(
    url: str, archive: Archive, faults: Faults
) -> None:
    """Megabytes pass before the reset, more than the server's buffer holds."""
    many(archive, 1)
    text = {"00081030": {"vr": "UT", "Value": ["x" * 8_000_000]}}
    archive.update(["1.2.1"], text)
    faults.replace(Reset(6_000_000))
    got = raw(url, f"{FEED}?limit=1")
    assert got.was_reset
    assert 1_000_000 < len(got.content) <= 6_000_000
