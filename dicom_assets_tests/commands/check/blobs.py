"""A Blob service that refuses; run as a process, and its port is the line that it prints.

`/{lists}/{writes}/…`: what is answered to a list and to a write, as `200` or `403-Code`. What
takes files and gives them back is Azurite, in `components`.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_EMPTY: Final = '<EnumerationResults ContainerName="c"><Blobs/><NextMarker/></EnumerationResults>'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A list is answered."""
        self._answer(self.path.split("/")[1])

    def do_PUT(self) -> None:
        """A write is answered."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(self.path.split("/")[2])

    def _answer(self, answer: str) -> None:
        status, _, code = answer.partition("-")
        refusal = f"<Error><Code>{code}</Code><Message>PHI-of the storage</Message></Error>"
        body = (refusal if code else _EMPTY).encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(listener.server_port, flush=True)  # noqa: T201 - whoever has started it reads it
    listener.serve_forever()
