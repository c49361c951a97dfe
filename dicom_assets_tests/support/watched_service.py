"""The emulator on a loopback port, watched: what it was asked, and what it shall say instead.

Its Date header is its own here, not uvicorn's, so that a test can set the service's clock.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets.emulator.ticks import from_text as parse_ticks


@dataclass(frozen=True)
class Asked:
    """One request as the service saw it: its path and its parameters."""

    path: str
    parameters: dict[str, str]
    moment: float

    @property
    def is_for_headers(self) -> bool:
        """True if headers were requested, which costs the service a blob per row."""
        return self.parameters.get("includeMetadata") == "true"

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The window in ticks; None for a request without one."""
        if "startTime" not in self.parameters:
            return None
        return tuple(parse_ticks(self.parameters[n]) for n in ("startTime", "endTime"))  # type: ignore[return-value]  # two of them


@dataclass
class Service:
    """A running service; `answer` stands in for every answer, `behind` sets its clock back."""

    archive: Archive
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: tuple[int, bytes] | None = None
    behind: timedelta = timedelta()

    def header_requests(self) -> int:
        """How many pages with headers were asked for so far."""
        return sum(request.is_for_headers for request in self.asked)


class _Watched:
    """An ASGI application that notes requests, and may answer in the place of the one inside."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                moment = datetime.now(UTC) - self.service.behind
                MutableHeaders(scope=message)["date"] = format_datetime(moment, usegmt=True)
            await send(message)

        parameters = dict(parse_qsl(scope["query_string"].decode()))
        self.service.asked.append(Asked(scope["path"], parameters, time.monotonic()))
        answer = self.service.answer
        app = self.app if answer is None else _response(*answer)
        await app(scope, receive, send_dated)


def _response(status: int, body: bytes) -> Response:
    # Said to be JSON, so that the body is looked at and not refused for its type.
    return Response(body, status_code=status, media_type="application/json")


@contextmanager
def serving(archive: Archive) -> Iterator[Service]:
    """The archive is served until the block ends."""
    service = Service(archive)
    application = _Watched(create_application(archive), service)
    with server.start(application, date_header=False) as running:
        service.url = running.url
        yield service
    archive.close()
