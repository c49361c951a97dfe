"""A change feed for tests: rows in memory, served over a socket, and as hostile as asked.

`rows` is the truth; `script` holds answers that are given instead of it, one per request;
`spoil` may change any answer. What was asked is in `requests`.
"""

import bisect
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from dicom_assets.feed.http.timeouts import Timeouts
from dicom_assets_tests.support.entries import Json, entry, header

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = 17_676_000_000_000_000  # 2026-01-05 08:00:00 UTC, in ticks of 100 ns since 1970
DATE = "Mon, 05 Jan 2026 12:00:00 GMT"
# In seconds: late enough for a loaded machine, and long before what would be without a deadline.
SOON = 5.0
QUICK = Timeouts(
    backoff_seconds=0.005,
    backoff_most_seconds=0.02,
    spread_seconds=0.0,
    storm_seconds=0.0,
    doubt_seconds=0.05,
)
"""The pauses scaled down; what they are in earnest has tests of its own."""


def stamp(ticks: int) -> str:
    """Return ticks as the service writes them: an offset, trailing zeros trimmed."""
    seconds, fraction = divmod(ticks, 10_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:07d}".rstrip("0").rstrip(".") + "+00:00"


def ticks_of(text: str) -> int:
    """Return the ticks of a parameter such as 2026-01-05T10:00:00.1234567Z."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10_000_000 + int(fraction.ljust(7, "0") or 0)


def made(sequence: int, ticks: int, **fields: object) -> Json:
    """Return an entry of an instance of its own, at a tick."""
    study, series, sop = f"1.2.{sequence // 50}", f"1.2.{sequence // 50}.1", f"1.3.{sequence}"
    return entry(
        sequence,
        studyInstanceUid=study,
        seriesInstanceUid=series,
        sopInstanceUid=sop,
        timestamp=stamp(ticks),
        **({"metadata": header(study, series, sop)} | fields),
    )


@dataclass(frozen=True)
class Answer:
    """An answer: a body that fits its length unless the headers say otherwise."""

    status: int = 200
    body: bytes = b"[]"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    is_cut: bool = False  # the connection is closed half-way through the body

    def all_headers(self) -> dict[str, str]:
        """Return the headers with the usual ones."""
        usual = {"Content-Type": "application/json; charset=utf-8", "Date": DATE}
        return usual | {"Content-Length": str(len(self.body))} | self.headers


@dataclass(frozen=True)
class Request:
    """A request."""

    path: str
    parameters: dict[str, str]
    headers: dict[str, str]

    @property
    def limit(self) -> int:
        """The most rows that were asked for."""
        return int(self.parameters.get("limit", 100))

    @property
    def has_headers(self) -> bool:
        """True if headers were requested."""
        return self.parameters.get("includeMetadata") != "false"


class Service(httpx.BaseTransport):
    """The rows and the lies. It is a transport, too, for tests of many thousand requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[Answer] = []
        self.spoil: Callable[[Request, list[Json]], list[Json]] = lambda _, rows: rows
        self.before: Callable[[Request, int], Answer | None] = lambda *_: None
        self._rows: list[tuple[int, int, Json]] = []
        self._lock = threading.Lock()

    def add(self, *entries: Json) -> None:
        """Make the feed hold these entries, too."""
        with self._lock:
            for one in entries:
                ticks = ticks_of(one["timestamp"].removesuffix("+00:00"))
                bisect.insort(self._rows, (ticks, one["sequence"], one), key=lambda row: row[:2])

    def remove(self, *sequences: int) -> None:
        """Make the feed forget entries, which a real one never does."""
        with self._lock:
            self._rows = [row for row in self._rows if row[1] not in sequences]

    def answer(self, request: Request) -> Answer:
        """Return what the service says to a request."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            if self.script:
                return self.script.pop(0)
        given = self.before(request, number)
        return given if given is not None else self._truth(request)

    def _truth(self, request: Request) -> Answer:
        with self._lock:
            rows = self._page(request)
        if request.path.endswith("/latest"):
            body = json.dumps(rows[0]).encode() if rows else b""
            return Answer(200 if rows else 204, body)
        return Answer(body=json.dumps(self.spoil(request, rows)).encode())

    def _page(self, request: Request) -> list[Json]:
        parameters, rows = request.parameters, self._rows
        if request.path.endswith("/latest"):
            rows = rows[-1:]
        low, high, offset = 0, len(rows), int(parameters.get("offset", 0))
        if "startTime" in parameters:
            start, end = ticks_of(parameters["startTime"]), ticks_of(parameters["endTime"])
            low = bisect.bisect_left(rows, start, key=lambda row: row[0])
            high = bisect.bisect_left(rows, end, key=lambda row: row[0])
        page = rows[min(low + offset, high) : min(low + offset + request.limit, high)]
        return [_shown(one, with_header=request.has_headers) for _, _, one in page]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer without a socket."""
        asked = Request(request.url.path, dict(request.url.params), dict(request.headers))
        answer = self.answer(asked)
        return httpx.Response(answer.status, headers=answer.all_headers(), content=answer.body)


def _shown(one: Json, *, with_header: bool) -> Json:
    hidden = set() if with_header and one["state"] != "Deleted" else {"metadata"}
    return {name: value for name, value in one.items() if name not in hidden}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def do_GET(self) -> None:
        """Send what the service says."""
        parts = urlsplit(self.path)
        asked = Request(parts.path, dict(parse_qsl(parts.query)), dict(self.headers))
        answer = self.service.answer(asked)
        time.sleep(answer.seconds)
        # In one piece: two would wait for each other's acknowledgement (Nagle), 40 ms a request.
        head = [f"HTTP/1.1 {answer.status} Whatever"]
        head += [f"{name}: {value}" for name, value in answer.all_headers().items()]
        body = answer.body[: len(answer.body) // 2] if answer.is_cut else answer.body
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + body)
        self.close_connection = answer.is_cut

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that break off are part of the tests."""


class Running:
    """A service on a port of this machine, until it is closed."""

    def __init__(self, service: Service) -> None:
        handler = type("Handler", (_Handler,), {"service": service})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the running service."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
