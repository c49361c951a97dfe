"""Faults below HTTP: the answer is right, and what arrives of it is not.

A proper server repairs or refuses such answers, so these are written to the connection itself.
`LendingProtocol` lends it to the application (`TRANSPORT` in the ASGI scope's extensions). On
another server these faults raise LookupError.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from dicom_assets_tests.adversary.answers import cut_at, http_date
from dicom_assets_tests.adversary.exchange import Answer, Fault

if TYPE_CHECKING:
    from asyncio import Transport

    from starlette.types import ASGIApp, Receive, Scope, Send

TRANSPORT: Final = "dicom_assets.transport"

_FLUSH_SECONDS: Final = 0.001
_TICK_SECONDS: Final = 0.01
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_ZERO_LINGER: Final = struct.pack("ii", 1, 0)


class LendingProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type] # whichever uvicorn has
    """The protocol of uvicorn, lending its connection to the application: faults write to it."""

    app: ASGIApp

    def connection_made(self, transport: Transport) -> None:
        """Put the connection into the scope of each of its requests."""
        super().connection_made(transport)
        application: ASGIApp = self.app

        async def lend(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = lend


class WireFault(Fault, frozen=True):
    """A fault of how the answer is sent."""

    def spoil(self, answer: Answer) -> Answer:
        """The answer, to be sent in this way."""
        return replace(answer, delivery=self)

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """The bytes are with the client, as far as they ever come; the connection is closed."""
        transport.write(head(answer) + answer.body)
        transport.close()


class Whole(WireFault, frozen=True):
    """All of the answer, with the headers it has: a Date of its own among them."""


class Reset(WireFault, frozen=True):
    """The connection is reset after `at` bytes of the answer, its head included (None: half).

    Of megabytes fewer may arrive: a reset takes back what the system holds for a slow reader.
    """

    at: int | None = None

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """The first bytes, then RST."""
        content = head(answer) + answer.body
        transport.write(content[: cut_at(self.at, content)])
        await _flushed(transport)
        reset(transport)


class ShortLength(WireFault, frozen=True):
    """The length promises the whole body; the connection is closed after `at` bytes of it."""

    at: int | None = None

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """The head for the whole body, and a part of it."""
        transport.write(head(answer) + answer.body[: cut_at(self.at, answer.body)])
        transport.close()


class CutChunked(WireFault, frozen=True):
    """The body comes in chunks; the connection is closed before the last."""

    at: int | None = None

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """A chunk that is whole, and none that ends the body."""
        part = answer.body[: cut_at(self.at, answer.body)]
        chunk = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
        transport.write(head(answer, ("transfer-encoding", "chunked")) + chunk)
        transport.close()


class CutGzip(WireFault, frozen=True):
    """A gzip body without a length, cut: to the client it looks like the end of the answer."""

    at: int | None = None

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """A part of the packed body; its end is the connection's."""
        packed = gzip.compress(answer.body, mtime=0)
        content = head(answer, ("content-encoding", "gzip")) + packed[: cut_at(self.at, packed)]
        transport.write(content)
        transport.close()


class Drip(WireFault, frozen=True):
    """The body arrives so slowly that no pause between two bytes is a timeout."""

    bytes_per_second: float = 1.0

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """The head at once, then a few bytes at a time until the client has gone."""
        transport.write(head(answer))
        size = max(1, round(self.bytes_per_second * _TICK_SECONDS))
        for start in range(0, len(answer.body), size):
            if transport.is_closing():
                return
            transport.write(answer.body[start : start + size])
            await asyncio.sleep(size / self.bytes_per_second)
        transport.close()


class Stall(WireFault, frozen=True):
    """After `at` bytes of the body nothing more comes for so many seconds; then all is closed."""

    at: int = 0
    seconds: float = 3600.0

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """The first bytes, and silence until the client has gone."""
        transport.write(head(answer) + answer.body[: self.at])
        waited = 0.0
        while waited < self.seconds and not transport.is_closing():
            await asyncio.sleep(_TICK_SECONDS)
            waited += _TICK_SECONDS
        transport.close()


def head(answer: Answer, framing: tuple[str, str] | None = None) -> bytes:
    """The status line and headers; `framing` stands in place of the body's length."""
    reason = _REASONS.get(answer.status, "Unknown")
    length = ("content-length", str(len(answer.body)))
    date = [] if answer.header("date") else [("date", http_date(0))]
    headers = [*date, *answer.headers, framing or length, ("connection", "close")]
    lines = [f"HTTP/1.1 {answer.status} {reason}", *(f"{name}: {text}" for name, text in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reset(transport: Transport) -> None:
    """The connection ends with RST rather than with FIN."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ZERO_LINGER)
    transport.abort()


async def _flushed(transport: Transport) -> None:
    """All that was written is with the system, or the client has gone."""
    while transport.get_write_buffer_size() and not transport.is_closing():  # noqa: ASYNC110 - a transport sets no event
        await asyncio.sleep(_FLUSH_SECONDS)
