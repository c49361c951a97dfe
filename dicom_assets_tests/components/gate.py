"""What stands between a client and the cloud: a gate before Azurite, and a proxy to all hosts.

The gate counts requests, and spoils some: it answers in the place of the storage, or after it, when
what was asked has been done already. The proxy takes CONNECT, and leads each host's name to a port
of this machine, so that a client asks for the hosts of Azure itself.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from dicom_assets_tests.components.azurite import ACCOUNT
from dicom_assets_tests.support.tls import _pump

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RESET: Final = 0
_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Asked:
    """A request as the storage sees it."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    host: str = ""

    @property
    def is_list(self) -> bool:
        """Whether blobs are listed; a page of the list each."""
        return self.query.get("comp") == ["list"]

    @property
    def is_commit(self) -> bool:
        """Whether it is the write of a commit to a log."""
        return self.method == "PUT" and "/_delta_log/" in self.path and self.path.endswith(".json")

    @property
    def is_open(self) -> bool:
        """Whether it reads a log: its hint, its list, or a commit."""
        listed = self.is_list and "_delta_log" in self.query.get("prefix", [""])[0]
        return listed or (self.method in {"GET", "HEAD"} and "/_delta_log/" in self.path)

    @property
    def kind(self) -> str:
        """How it is counted."""
        return "LIST" if self.is_list else self.method


@dataclass
class Fault:
    """Requests of a kind (`is_commit`, …) get a status; RESET is no answer at all.

    So many times for each path, or prefix of a list, every `every`-th time; only where that holds
    `below`. `is_applied` says that the storage has done what was asked, before.
    """

    kind: str
    status: int
    is_applied: bool = False
    times: int = 1
    below: str = ""
    every: int = 1
    done: Counter[str] = field(default_factory=Counter)

    def spoils(self, asked: Asked) -> bool:
        """Whether the request is spoilt; it counts as such."""
        where = asked.path + "".join(asked.query.get("prefix", ()))
        if not getattr(asked, self.kind) or self.below not in where:
            return False
        self.done[where] += 1
        return self.done[where] % self.every == 0 and self.done[where] <= self.every * self.times


class Gate:
    """Stands before Azurite, which listens on a port."""

    def __init__(self, port: int, trusted: Path, certificate: Path) -> None:
        """Open."""
        self.port = port
        self.context = ssl.create_default_context(cafile=str(trusted))
        self._asked: list[Asked] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        self._server.socket = tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self) -> str:
        """The address of the account."""
        return f"https://127.0.0.1:{self._server.server_address[1]}/{ACCOUNT}"

    def asked(self) -> list[Asked]:
        """What was asked, in order."""
        with self._lock:
            return list(self._asked)

    def counts(self) -> Counter[str]:
        """How many requests of each kind came."""
        return Counter(asked.kind for asked in self.asked())

    def spoil(self, *faults: Fault) -> None:
        """This goes wrong from now on, and nothing else."""
        with self._lock:
            self._faults[:] = faults

    def spoilt(self) -> int:
        """How many requests have gone wrong."""
        with self._lock:
            return sum(
                min(n // fault.every, fault.times)
                for fault in self._faults
                for n in fault.done.values()
            )

    def forget(self) -> None:
        """Nothing was asked, and nothing is spoilt."""
        with self._lock:
            self._asked.clear()
            self._faults.clear()

    def look(self, asked: Asked) -> Fault | None:
        """Return what goes wrong with a request, which is noted."""
        with self._lock:
            self._asked.append(asked)
            return next((fault for fault in self._faults if fault.spoils(asked)), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - theirs
        """A client that goes away is no error."""


def _handler(gate: Gate) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.gate = gate
    return Handler


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, and one to the storage behind it."""

    gate: Gate
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.far = http.client.HTTPSConnection(
            "127.0.0.1", self.gate.port, context=self.gate.context
        )

    def finish(self) -> None:
        self.far.close()
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - theirs
        """Say nothing."""

    def handle_one_request(self) -> None:
        """Any method is taken alike."""
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._answer(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _answer(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        asked = Asked(self.command, parts.path, parse_qs(parts.query), self.headers["host"])
        fault = self.gate.look(asked)
        if fault is None:
            self._send(*self._forward(body))
            return
        if fault.is_applied:
            self._forward(body)
        if fault.status == RESET:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._send(fault.status, b"", [])

    def _forward(self, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        self.far.request(self.command, self.path, body or None, dict(self.headers))
        answer = self.far.getresponse()
        return answer.status, answer.read(), answer.getheaders()

    def _send(self, status: int, content: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if self.command == "HEAD" and name.lower() == "content-length":
                length = value
            elif name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("content-length", length)
        self.end_headers()
        self.wfile.write(content)


class Proxy:
    """Takes CONNECT at `url`; the names of hosts, as patterns, lead to ports of this machine."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        """Nobody is led anywhere yet."""
        self._ports = ports
        self._hosts: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def hosts(self) -> list[str]:
        """The hosts that were asked for."""
        return list(self._hosts)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, near: socket.socket) -> None:
        with suppress(OSError), near:
            head = b""
            while not head.endswith(b"\r\n\r\n") and (piece := near.recv(1)):
                head += piece
            host = head.split(b" ")[1].decode().rpartition(":")[0]
            self._hosts.append(host)
            port = next((p for name, p in self._ports.items() if fnmatch(host, name)), None)
            if port is None:
                near.sendall(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", port)) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pump, args=(far, near), daemon=True)
                back.start()
                _pump(near, far)
                back.join()
