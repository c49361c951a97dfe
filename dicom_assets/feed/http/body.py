"""An answer's body, unpacked and counted on its way: never more of it than is allowed.

195 kB of gzip can become 200 MB, and httpx unpacks all of a piece at once; so it is unpacked here,
and a body that was packed is whole only when the packing says so. What the bytes mean is read in
`decode`.
"""

import zlib
from collections.abc import Iterator
from typing import Final

import httpx

from dicom_assets.feed.decode import MalformedError

# A page of 200 headers is 0.5 to 2 MB; of 200 enhanced multi-frame headers it may be hundreds, and
# is then asked for in halves. One header alone should fit many times: the largest known have 10 MB.
MOST_BYTES: Final = 64 * 1024 * 1024
# Of a refusal only the beginning is looked at; read whole, its connection can be used again.
MOST_REFUSAL_BYTES: Final = 64 * 1024

_GZIP: Final = {"gzip", "x-gzip"}
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


class TooLargeError(MalformedError):
    """The body is larger than is allowed; reading fewer entries at once may help."""


def read_body(response: httpx.Response, most: int = MOST_BYTES) -> bytes:
    """Return the whole body, unpacked.

    Raises TooLargeError as soon as there are more than `most` bytes, MalformedError when the body
    is packed and not whole.
    """
    if response.is_stream_consumed:  # by a transport without a socket
        return _checked(response.content, most)
    pieces, size = [], 0
    for piece in _unpacked(response, most):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise TooLargeError(f"more than {most // 1024 // 1024} MiB")
    return b"".join(pieces)


def _checked(content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise TooLargeError(f"more than {most // 1024 // 1024} MiB")
    return content


def read_beginning(response: httpx.Response) -> bytes:
    """Return a refusal's body; nothing when it is too large or cannot be unpacked."""
    try:
        return read_body(response, MOST_REFUSAL_BYTES)
    except MalformedError:
        return b""


def _unpacked(response: httpx.Response, most: int) -> Iterator[bytes]:
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing in _GZIP:
        return _gunzipped(response.iter_raw(), most)
    if packing in {"", "identity"}:
        return response.iter_raw()
    raise MalformedError("it is packed in a way that was not asked for")


def _gunzipped(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    unpack = zlib.decompressobj(_GZIP_WINDOW)
    for piece in pieces:
        try:
            yield unpack.decompress(piece, most + 1)
        except zlib.error:
            raise MalformedError("it is not the gzip that it says it is") from None
    if not unpack.eof or unpack.unused_data:
        raise MalformedError("its gzip is cut, or more follows it")
