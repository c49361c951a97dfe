"""A deadline for a whole request, checked at every wait on its socket.

httpx bounds each single read, so a service that sends one byte per second is never late. Below
httpx, where sockets are opened, read and written, no wait is longer than the time that the thread
has left. `connection` sets that time.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_OF_THREAD = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let no wait of this thread on a socket last longer than `seconds` from now."""
    _OF_THREAD.end = time.monotonic() + seconds
    try:
        yield
    finally:
        del _OF_THREAD.end


def bind(client: httpx.Client) -> None:
    """Apply `within` to every connection that the client opens from now on."""
    # httpx has no argument for it. A test with dripping headers fails when these names change.
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
        if isinstance(transport, httpx.HTTPTransport):
            pool = transport._pool  # noqa: SLF001
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001


def _left(timeout: float | None) -> float | None:
    """Return the seconds that a wait may take, at most its own `timeout`."""
    end: float | None = getattr(_OF_THREAD, "end", None)
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout)
        return _Stream(self._backend.connect_tcp(host, port, left, local_address, socket_options))
