"""The emulator on a port, in a thread beside the caller.

Here: sockets, threads and uvicorn. Not here: the routes (`application`).
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import uvicorn

from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


class StartFailed(RuntimeError):  # noqa: N818 - says what happened
    """The server accepted no request in time."""


class Running:
    """A server that accepts requests at `url` until it is closed."""

    def __init__(self, server: _Server, listener: socket.socket) -> None:
        """Start the server on a bound listener, whose port is known, in a thread."""
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
            raise StartFailed(f"no server at {self.url} after {_START_SECONDS:.0f} s")

    def close(self) -> None:
        """Stop listening at the port. Open requests get two seconds to end."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        with suppress(OSError):
            self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(uvicorn.Server):
    """The server of uvicorn, with an event for the moment when it accepts requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def start(
    application_or_archive: ASGIApp | Archive,
    *,
    port: int = 0,
    **options: Any,  # noqa: ANN401 - uvicorn's
) -> Running:
    """Serve in a thread that ends with the process, and return when requests are accepted.

    `options` go to `uvicorn.Config`: the seam by which a test reaches the connections (`http`).
    """
    application = application_or_archive
    if isinstance(application, Archive):
        application = create_application(application)
    usual: dict[str, Any] = {
        "log_level": "critical",
        "access_log": False,
        "server_header": False,
        "lifespan": "off",
        "log_config": None,
        "timeout_graceful_shutdown": 2,
    }
    # Bound before the server runs: a client that connects from now on waits for it.
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    return Running(_Server(uvicorn.Config(application, **(usual | options))), listener)
