"""Bearer tokens: 401 and 403, as the service answers them.

Not here: the source of a client's tokens. An application without `tokens` needs none.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response

from dicom_assets.emulator.application import SUPPORTED_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True)
class Token:
    """A bearer token: its text, its role and its life.

    It expires after so many requests, or so many seconds after `KnownTokens` took it.
    """

    text: str
    can_read: bool = True
    requests: int | None = None
    seconds: float | None = None


class KnownTokens:
    """The valid tokens; `answered` counts requests by status: 200, 401, 403."""

    def __init__(self, *tokens: Token | str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin the life of the tokens."""
        self.answered: Counter[int] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Token, float]] = {}
        self._used: Counter[str] = Counter()
        for token in tokens:
            self.add(token)

    def add(self, token: Token | str) -> None:
        """Begin the life of a further token. A known text begins anew."""
        token = Token(token) if isinstance(token, str) else token
        with self._lock:
            self._known[token.text] = (token, self._clock())
            self._used.pop(token.text, None)

    def status(self, authorization: str) -> int:
        """Return the status for a request with this header, 200, 401 or 403, and count it."""
        with self._lock:
            status = self._status(authorization)
            self.answered[status] += 1
            return status

    def _status(self, authorization: str) -> int:
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or text not in self._known:
            return _UNAUTHORIZED
        token, since = self._known[text]
        self._used[text] += 1
        is_spent = token.requests is not None and self._used[text] > token.requests
        is_old = token.seconds is not None and self._clock() - since >= token.seconds
        if is_spent or is_old:
            return _UNAUTHORIZED
        return 200 if token.can_read else _FORBIDDEN


class Guard:
    """An ASGI middleware that refuses requests without a known token."""

    def __init__(self, app: ASGIApp, tokens: KnownTokens) -> None:
        """Guard `app`."""
        self.app = app
        self.tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request by the application or by a refusal."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = self.tokens.status(Headers(scope=scope).get("authorization", ""))
        guarded = self.app if status == 200 else _refusal(status)
        await guarded(scope, receive, send)


def guard_of(tokens: KnownTokens | Iterable[Token | str]) -> Middleware:
    """Return the guard of an application, as its middleware."""
    known = tokens if isinstance(tokens, KnownTokens) else KnownTokens(*tokens)
    return Middleware(Guard, known)


def _refusal(status: int) -> Response:
    # The guard stands before what names the versions in every other answer.
    named = {"api-supported-versions": SUPPORTED_VERSIONS}
    if status == _FORBIDDEN:
        return PlainTextResponse("Authorization failed.", status_code=status, headers=named)
    return Response(status_code=status, headers={**named, "www-authenticate": "Bearer"})
