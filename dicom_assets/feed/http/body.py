"""The body of an answer, unpacked piece by piece up to a limit.

195 kB of gzip can become 200 MB, and httpx unpacks each piece as a whole. So the body is unpacked
here. A gzip body is whole only with its trailer. The bytes are decoded in `decode`.
"""

import zlib
from collections.abc import Iterator
from typing import Final

import httpx

from dicom_assets.feed.decode import MalformedError

# A page of 200 headers has 0.5 to 2 MB. With 200 enhanced multi-frame headers it may have hundreds,
# and is then requested in halves. A single header must fit well: the largest known have 10 MB.
MOST_BYTES: Final = 64 * 1024 * 1024
# Only the beginning of a refusal is used, but its connection is reusable only if it is read whole.
MOST_REFUSAL_BYTES: Final = 64 * 1024


# The first field of an entry on the wire. Where it is written otherwise, pages are cut in halves.
_ENTRY: Final = b'"sequence"'


class TooLargeError(MalformedError):
    """The body is larger than allowed. A page of fewer entries may fit.

    `begun` is the number of entries that begin in what was read. The last of them is cut.
    """

    def __init__(self, most: int, begun: int) -> None:
        super().__init__(f"more than {most // 1024 // 1024} MiB")
        self.begun = begun


def read_body(response: httpx.Response, most: int = MOST_BYTES) -> bytes:
    """Return the whole body, unpacked.

    Raises TooLargeError as soon as there are more than `most` bytes, MalformedError for a packing
    that was not requested or is not whole.
    """
    # A transport without a socket, as tests use it, has read and unpacked the content already.
    consumed = response.is_stream_consumed
    pieces, size = [], 0
    for piece in [response.content] if consumed else _unpacked(response, most):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise TooLargeError(most, b"".join(pieces)[:most].count(_ENTRY))
    return b"".join(pieces)


def read_beginning(response: httpx.Response) -> bytes:
    """Return the body of a refusal, or no bytes when it is too large or cannot be unpacked."""
    try:
        return read_body(response, MOST_REFUSAL_BYTES)
    except MalformedError:
        return b""


def _unpacked(response: httpx.Response, most: int) -> Iterator[bytes]:
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing not in {"gzip", "x-gzip", "", "identity"}:
        raise MalformedError("its Content-Encoding was not asked for")
    if packing in {"", "identity"}:
        yield from response.iter_raw()
        return
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)  # 16: gzip
    for piece in response.iter_raw():
        try:
            yield unpack.decompress(piece, most + 1)
        except zlib.error:
            raise MalformedError("its Content-Encoding is gzip, and the bytes are not") from None
    if not unpack.eof or unpack.unused_data:
        raise MalformedError("its gzip is cut, or other bytes follow it")
