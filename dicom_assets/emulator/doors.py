"""The doors: hosts, origins, and bodies up to a size. There is no login, so nothing else guards.

Here: an ASGI middleware that a page in a browser cannot pass (another origin, or a name that leads
to this machine), and bodies that go to a file. Not here: content types (`stow`, `updates`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_IN_MEMORY: Final = 2**20


class Doors:
    """Lets a request in that names one of the hosts, and comes from no other origin.

    400 for another host, which a page may reach by its own name (DNS rebinding), 403 for another
    origin. No answer permits an origin (CORS).
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        """`hosts` are names besides those of this machine, without a port."""
        self.app = app
        self._hosts = LOOPBACK | {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the service, or let it answer."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        named, origins = (
            [text.decode("latin-1").lower() for name, text in scope["headers"] if name == wanted]
            for wanted in (b"host", b"origin")
        )
        if len(named) != 1 or _name(named[0]) not in self._hosts:
            told = "The Host is not that of this service: --allow-host names further ones."
            return PlainTextResponse(told, status_code=400)
        if any(origin != f"{scope['scheme']}://{named[0]}" for origin in origins):
            return PlainTextResponse("Another origin is not served.", status_code=403)
        return None


@asynccontextmanager
async def spooled(request: Request, limit: int, folder: Path) -> AsyncIterator[IO[bytes]]:
    """Lend the body as a file, which lies in the folder if it is large, and is gone afterwards.

    Raise HTTPException 413 beyond `limit` bytes, whether the client says the length or not.
    """
    refusal = HTTPException(413, f"The body is larger than {limit} bytes: send fewer files.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise refusal
    with SpooledTemporaryFile(_IN_MEMORY, dir=str(folder)) as body:
        async for chunk in request.stream():
            if body.tell() + len(chunk) > limit:
                raise refusal
            body.write(chunk)
        yield body


def _name(host: str) -> str | None:
    """Return the name in a Host header."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
