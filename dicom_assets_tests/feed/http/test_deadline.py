"""The end of a request's time holds for every byte: of the head, of the body, of the connection."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from dicom_assets.errors import ServiceUnavailableError
from dicom_assets_tests.support.feed_service import QUICK, SOON
from dicom_assets_tests.support.feeds import feed_of

pytestmark = pytest.mark.sockets

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Long: " + b"x" * 9_000
BODY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n"
SECONDS = 0.4


@contextmanager
def dripping(at_once: bytes, pause: float) -> Iterator[str]:
    """Serve some bytes at once, then one at a time, for ever. Yield the address."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(at_once)
            while not stop.wait(pause):
                connection.sendall(b" ")

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("at_once", [b"", b"H", HEAD, BODY, BODY + b"["], ids=len)
@pytest.mark.parametrize("pause", [0.001, 0.3])
def test_no_drip_outlasts_the_deadline(at_once: bytes, pause: float) -> None:
    """It ends with its time, though no single read is ever late."""
    timeouts = replace(QUICK, request_seconds=SECONDS)
    with (
        dripping(at_once, pause) as url,
        feed_of(url, retry_seconds=0, timeouts=timeouts) as feed,
    ):
        began = time.monotonic()
        with pytest.raises(ServiceUnavailableError):
            feed.first()
        taken = time.monotonic() - began
    # A first byte that is no HTTP is refused as soon as it is seen.
    assert taken < SOON
    assert taken >= SECONDS * 0.9 or at_once in {b"", b"H"}


def test_attempts_share_what_is_left_of_the_time() -> None:
    """The last has a tenth at least, and what is added is no more than that."""
    timeouts = replace(QUICK, request_seconds=0.25)
    with (
        dripping(BODY, 0.05) as url,
        feed_of(url, retry_seconds=0.6, timeouts=timeouts) as feed,
    ):
        began = time.monotonic()
        with pytest.raises(ServiceUnavailableError, match=r"requested \d times in 0.6 s"):
            feed.first()
    assert 0.6 <= time.monotonic() - began < SOON


def test_a_deadline_is_of_one_request_only() -> None:
    """Each request has its own, and a connection is used again after one."""
    with dripping(BODY + b"[]", 9.0) as url:
        timeouts = replace(QUICK, request_seconds=0.1)
        with feed_of(url, retry_seconds=0, timeouts=timeouts) as feed:
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(ServiceUnavailableError, match="in time"):
                    feed.first()
                assert 0.09 <= time.monotonic() - began < SOON
