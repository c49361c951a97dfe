"""A body is unpacked on its way, and never more of it than is allowed."""

import gzip
import tracemalloc
from collections.abc import Iterator

import httpx
import pytest

from dicom_assets.feed.decode import MalformedError
from dicom_assets.feed.http.body import TooLargeError, read_beginning, read_body

TEXT = b'[{"a":"' + b"x" * 10_000 + b'"}]'


class Pieces(httpx.SyncByteStream):
    """A body that arrives in pieces."""

    def __init__(self, body: bytes, size: int) -> None:
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)]
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces."""
        for piece in self._pieces:
            self.sent += len(piece)
            yield piece


def answer(body: bytes, packing: str = "", size: int = 1_000) -> httpx.Response:
    """Return an answer whose body is still on its way."""
    return httpx.Response(200, headers={"Content-Encoding": packing}, stream=Pieces(body, size))


@pytest.mark.parametrize("size", [1, 7, 1_000, 100_000])
@pytest.mark.parametrize("packing", ["", "identity", "gzip", "GZIP", "x-gzip"])
def test_a_body_is_read_whole(packing: str, size: int) -> None:
    """Packed or not, in pieces of any size."""
    sent = TEXT if packing in {"", "identity"} else gzip.compress(TEXT)
    assert read_body(answer(sent, packing, size)) == TEXT


def test_a_body_without_a_socket_is_read_as_well() -> None:
    """A transport of a test has it already."""
    response = httpx.Response(200, content=TEXT)
    assert read_body(response) == TEXT
    with pytest.raises(TooLargeError):
        read_body(response, 100)


@pytest.mark.parametrize("cut", [1, 8, 15, 40])
def test_a_gzip_that_is_cut_is_not_whole(cut: int) -> None:
    """Also where all of its text has arrived: its end says so."""
    with pytest.raises(MalformedError, match="cut"):
        read_body(answer(gzip.compress(TEXT)[:-cut], "gzip"))


CUT = gzip.compress(TEXT, mtime=0)[:5]  # with the time in it, it had another name by the second


@pytest.mark.parametrize("body", [b"", b"[]", CUT, b"\x1f\x8b" + b"x" * 50])
def test_what_is_no_gzip_is_none(body: bytes) -> None:
    """Whatever the header says."""
    with pytest.raises(MalformedError):
        read_body(answer(body, "gzip"))


def test_what_follows_a_gzip_is_not_ignored() -> None:
    """Nobody knows what it is."""
    with pytest.raises(MalformedError, match="other bytes follow"):
        read_body(answer(gzip.compress(TEXT) + b"more", "gzip"))


@pytest.mark.parametrize("packing", ["br", "deflate", "gzip, gzip", "zstd"])
def test_a_packing_that_was_not_asked_for_is_refused(packing: str) -> None:
    """It could not be counted while it is unpacked."""
    with pytest.raises(MalformedError, match="not asked for"):
        read_body(answer(TEXT, packing))


def test_a_body_may_be_as_large_as_allowed_and_no_larger() -> None:
    """The limit is exact to the byte, and the rest is not even read."""
    assert read_body(answer(TEXT), len(TEXT)) == TEXT
    stream = Pieces(TEXT, 100)
    with pytest.raises(TooLargeError):
        read_body(httpx.Response(200, stream=stream), 1_000)
    assert stream.sent <= 1_200


def test_195_kilobytes_do_not_become_200_megabytes() -> None:
    """Of each piece no more is unpacked than is allowed in all."""
    bomb = gzip.compress(b" " * 200_000_000, compresslevel=9)
    assert len(bomb) < 200_000
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="1 MiB"):
        read_body(answer(bomb, "gzip", size=65_536), 2**20)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 2**20


def test_of_a_refusal_the_beginning_is_looked_at() -> None:
    """One that is too large, or cannot be unpacked, says nothing."""
    assert read_beginning(answer(b"The query parameter '")) == b"The query parameter '"
    assert read_beginning(answer(b"x" * 100_000)) == b""
    assert read_beginning(answer(b"no gzip", "gzip")) == b""
