"""Receivers of alerts on this machine: a mail server, and an HTTP service that can be down."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

OK: Final = 200


@dataclass
class Posted:
    """One request: its path with the query, and its body, None for a GET."""

    path: str
    body: Any


@dataclass
class Sink:
    """The requests at an address; `status` is its answer from now on."""

    url: str
    status: int = OK
    taken: list[Posted] = field(default_factory=list)
    refused: list[Posted] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.partition("://")[2]

    @property
    def bodies(self) -> list[Any]:
        """The bodies of what was taken."""
        return [posted.body for posted in self.taken]


@contextmanager
def http_sink(certificate: Path | None = None) -> Iterator[Sink]:
    """An HTTP service that takes everything; https with a certificate."""
    sink = Sink("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self._answer(None)

        def _answer(self, body: object) -> None:
            (sink.taken if sink.status == OK else sink.refused).append(Posted(self.path, body))
            self.send_response(sink.status)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        sink.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield sink
        server.shutdown()
        thread.join()


@contextmanager
def mail_sink() -> Iterator[tuple[str, list[EmailMessage]]]:
    """A mail server's host and port, and the mails that it took."""
    mails: list[EmailMessage] = []

    class Handler:
        async def handle_DATA(self, _: object, __: object, envelope: Envelope) -> str:  # noqa: N802 - theirs
            mails.append(message_from_bytes(envelope.content or b"", policy=policy.default))  # type: ignore[arg-type]  # bytes, unless it is told to decode
            return "250 taken"

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    yield f"127.0.0.1:{port}", mails
    controller.stop()
