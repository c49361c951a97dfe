"""The DICOM service of these tests: the emulator on a port, its archive exchanged at will.

Starting a server takes longer than a history, so all share one. It counts the pages with headers
that it is asked for, and lets the archive move: before every so many requests, the next operation
happens.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import Faults, Plan, breakable
from dicom_assets_tests.adversary import serve as serve_breakable
from dicom_assets_tests.property.histories import START, Operation, perform
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Entry, Replay

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Told:
    """An archive and the oracle, told the same; `ahead` holds what is still to happen.

    `touched` says for each hour how much had happened when it was touched last.
    """

    archive: Archive
    ahead: deque[Operation]
    every: int = 0
    short: int = 0
    capitals: bool = False
    replay: Replay = field(default_factory=Replay)
    requests: int = 0
    heavy: int = 0
    happened: int = 0
    touched: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def happen(self, count: int) -> None:
        """The next operations happen, those that cannot be done are left out."""
        with self._lock:
            done = 0
            while done < count and self.ahead:
                done += self._perform(self.ahead.popleft())

    def _perform(self, operation: Operation) -> bool:
        before, newest = len(self.replay.entries), self._newest(operation)
        if not perform(operation, self.archive, self.replay):
            return False
        self.happened += 1
        touched = self.replay.entries[before:] or newest
        for entry in touched:
            self.touched[(entry.ticks - START) // TICKS_PER_HOUR] = self.happened
        return True

    def _newest(self, o: Operation) -> list[Entry]:
        """The newest entries of what would expire; none for what tells the feed."""
        keys = self.replay.live(o.partition, o.study, o.series, o.sop) if o.kind == "expire" else []
        return [max(e for e in self.replay.entries if e.key == key) for key in keys]

    def rest(self) -> None:
        """Everything has happened."""
        self.happen(len(self.ahead))

    def hear(self, query: bytes) -> bytes:
        """A request for a page came in; returns the one that is answered."""
        self.requests += 1
        self.heavy += b"includemetadata=false" not in query.lower()
        if self.every and self.requests % self.every == 0:
            self.happen(1)
        is_short = self.short and self.requests % self.short == 0
        return _LIMIT.sub(_halved, query) if is_short else query


_LIMIT = re.compile(rb"(?<=limit=)\d+")
# Pages of one and two rows stay: with two the client makes sure that a window has ended.
_TINY = 2


def _halved(limit: re.Match[bytes]) -> bytes:
    asked = int(limit[0])
    return b"%d" % (asked if asked <= _TINY else asked // 2)


class _Listening:
    """Tells whoever is served of each request for a page, before it is answered."""

    told: Told | None = None

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.told is not None and scope["path"].endswith("/changefeed"):
            scope["query_string"] = self.told.hear(scope["query_string"])
            if self.told.capitals:
                send = _capitalizing(send)
        await self.app(scope, receive, send)


_FIELD = re.compile(
    rb'"(?=(?:sequence|partitionName|\w+InstanceUid|action|timestamp|state|filePath|metadata)":)\w'
)


def _capitalizing(send: Send) -> Send:
    """The names of an entry's fields begin with a capital: an example of the service shows them."""

    async def capitalized(message: Message) -> None:
        if message["type"] == "http.response.body":
            message["body"] = _FIELD.sub(lambda name: name[0].upper(), message["body"])
        await send(message)

    return capitalized


@cache
def _application() -> tuple[str, Starlette]:
    empty = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, empty, ignore_errors=True)
    application = breakable(Archive(Path(empty)), Faults(), middleware=[Middleware(_Listening)])
    return serve_breakable(application).url, application


@contextmanager
def serve(told: Told, faults: Plan | None = None) -> Iterator[str]:
    """The archive is served at the URL that is given, with whatever goes wrong on the way."""
    url, application = _application()
    _Listening.told = told
    application.state.archive = told.archive
    if faults is not None:
        application.state.faults.replace(faults)
    try:
        yield url
    finally:
        _Listening.told = None
        application.state.faults.clear()
        told.archive.close()
