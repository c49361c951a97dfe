"""The emulator on a port: in a thread beside the caller, or in the foreground.

Here: sockets, threads and uvicorn. Not here: what is served (`application`).
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets.emulator.faults.wire import TRANSPORT

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp, Receive, Scope, Send


_HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_BACKLOG: Final = 2048


class StartFailed(RuntimeError):  # noqa: N818 - says what happened
    """The server did not begin to accept requests."""


class Running:
    """A server that accepts requests at `url` until it is closed."""

    def __init__(self, server: _Server, listener: socket.socket) -> None:
        """The listener is bound already, so its port is known; the thread is not yet started."""
        host, port = listener.getsockname()[:2]
        self.url = f"http://{host}:{port}"
        self._server = server
        self._listener = listener
        self._thread = threading.Thread(
            target=server.run, args=([listener],), name="dicom-emulator", daemon=True
        )
        self._thread.start()
        if not server.ready.wait(_START_SECONDS):
            self.close()
            message = f"no server at {self.url} after {_START_SECONDS:.0f} s"
            raise StartFailed(message)

    def close(self) -> None:
        """Nothing listens at the port any more; open requests get a moment to end."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        with suppress(OSError):
            self._listener.close()

    def __enter__(self) -> Self:
        """The running server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """The server is closed."""
        self.close()


class _Server(uvicorn.Server):
    """uvicorn, leaving the process's signals alone, and telling when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class _Lending(AutoHTTPProtocol):  # type: ignore[misc,valid-type] # whichever uvicorn has
    """uvicorn's protocol, lending its connection to the application: faults write to it."""

    app: ASGIApp

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        application: ASGIApp = self.app

        async def lend(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await application(scope, receive, send)

        self.app = lend


def start(
    application_or_archive: ASGIApp | Archive, *, port: int = 0, host: str = _HOST
) -> Running:
    """A server that accepts requests, in a thread that ends with the process."""
    application = (
        create_application(application_or_archive)
        if isinstance(application_or_archive, Archive)
        else application_or_archive
    )
    listener = _bound(host, port)
    return Running(_Server(_config(application, log_level="critical")), listener)


def _config(application: ASGIApp, *, log_level: str) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=_Lending,
        log_level=log_level,
        access_log=False,
        server_header=False,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=2,
    )


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket: whoever connects from now on waits for the server, not in vain."""
    return socket.create_server((host, port), backlog=_BACKLOG)
