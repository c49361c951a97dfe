"""Faults of a whole answer: refusals, waiting, and bodies that are not what they should be.

They are answered by the HTTP server as it should be, length and all; what breaks below HTTP is in
`wire`, what is wrong with a page's rows in `pages`.
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from itertools import repeat
from typing import TYPE_CHECKING, Final

from dicom_assets_tests.adversary.exchange import Answer, Fault

if TYPE_CHECKING:
    from dicom_assets_tests.adversary.exchange import Asked, Service

TEXT: Final = "text/plain; charset=utf-8"

# What a .NET server says of a task that was cancelled under it.
_CANCELLED: Final = "A task was canceled."
_BLOCK: Final = 1_000_000
_HTML: Final = b"<!doctype html><html><title>Sign in</title><p>Please sign in.</p></html>"


class Status(Fault, frozen=True):
    """Any status; `retry_after` is sent as it is, `retry_after_date` as a date, in seconds.

    A date is counted from the answer's own Date: the server's is seconds old when it is busy.
    """

    status: int
    retry_after: str | None = None
    retry_after_date: float | None = None
    body: str = ""
    content_type: str = TEXT

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """The status; the service never hears of the request."""
        answer = Answer(self.status, (("content-type", self.content_type),), self.body.encode())
        if self.retry_after_date is None:
            return answer.with_header("retry-after", self.retry_after)
        now = datetime.now(UTC)
        dated = answer.with_header("date", http_date(0, now))
        return dated.with_header("retry-after", http_date(self.retry_after_date, now))


def cancelled() -> Status:
    """400, as the service answers when its own work was cancelled: asking again helps."""
    return Status(400, body=_CANCELLED)


def invalid_parameter(name: str) -> Status:
    """400, as the service answers what it will never take."""
    text = f"The query parameter '{name}' is invalid. The value is not valid for {name}."
    return Status(400, body=text)


class Latency(Fault, frozen=True):
    """The answer comes so much later."""

    seconds: float

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """The service's answer, after the pause."""
        await asyncio.sleep(self.seconds)
        return await service(asked)


class CutJson(Fault, frozen=True):
    """The body ends after `at` bytes (None: half), and its length says so: it is no JSON."""

    at: int | None = None

    def spoil(self, answer: Answer) -> Answer:
        """The first part of the answer."""
        return answer.with_body(answer.body[: cut_at(self.at, answer.body)])


class Trailing(Fault, frozen=True):
    """Text follows the JSON."""

    text: str = '{"error":"timed out"}'

    def spoil(self, answer: Answer) -> Answer:
        """The answer and the text."""
        return answer.with_body(answer.body + self.text.encode())


class Html(Fault, frozen=True):
    """A page to sign in, with status 200: what a proxy or a gateway says."""

    def spoil(self, answer: Answer) -> Answer:
        """The page in place of the answer."""
        return replace(typed(answer, "text/html; charset=utf-8"), status=200, body=_HTML)


class ContentType(Fault, frozen=True):
    """The answer with another content type, or with none."""

    value: str | None = None

    def spoil(self, answer: Answer) -> Answer:
        """The answer, mislabelled."""
        return typed(answer, self.value)


class NoContent(Fault, frozen=True):
    """204 in place of the answer."""

    def spoil(self, answer: Answer) -> Answer:
        """Nothing."""
        return replace(typed(answer, None), status=204, body=b"")


class WrongShape(Fault, frozen=True):
    """An object where an array should be, an array where an object should be."""

    def spoil(self, answer: Answer) -> Answer:
        """The answer wrapped, as `{"value": …}` or `[…]`."""
        if answer.body.startswith(b"["):
            return answer.with_body(b'{"value":' + answer.body + b"}")
        return answer.with_body(b"[" + answer.body + b"]")


class Verbatim(Fault, frozen=True):
    """These bytes as the body (base64 in JSON), the rest as the service has it."""

    body: bytes

    def spoil(self, answer: Answer) -> Answer:
        """The answer with the bytes."""
        return answer.with_body(self.body)


class Bomb(Fault, frozen=True):
    """A small gzip body that becomes a JSON array of this many spaces."""

    size: int = 200_000_000

    def spoil(self, answer: Answer) -> Answer:
        """The body that grows."""
        whole, rest = divmod(self.size, _BLOCK)
        packed = BytesIO()
        with gzip.open(packed, "wb") as growing:
            growing.write(b"[")
            for size in (*repeat(_BLOCK, whole), rest):
                growing.write(b" " * size)
            growing.write(b"]")
        return answer.with_header("content-encoding", "gzip").with_body(packed.getvalue())


class Clock(Fault, frozen=True):
    """The Date header is off by this many seconds."""

    seconds: float

    def spoil(self, answer: Answer) -> Answer:
        """The answer with another date."""
        return answer.with_header("date", http_date(self.seconds))


def typed(answer: Answer, content_type: str | None) -> Answer:
    """The answer with another content type."""
    return answer.with_header("content-type", content_type)


def http_date(seconds: float, since: datetime | None = None) -> str:
    """A date as HTTP writes it, so long after a moment, by default after now."""
    moment = (since or datetime.now(UTC)) + timedelta(seconds=seconds)
    return format_datetime(moment, usegmt=True)


def cut_at(at: int | None, content: bytes) -> int:
    """Where to cut: at the byte asked for, else in the middle; never at the very end."""
    place = len(content) // 2 if at is None else at
    return max(0, min(place, len(content) - 1))
