"""Who may ask: the bearer tokens that the emulator takes, when it is to take only some.

Here: 401 and 403, as the service answers them. Not here: where a client gets its tokens. Without
`tokens` the application asks nobody for one.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

_UNAUTHORIZED, _FORBIDDEN = 401, 403


@dataclass(frozen=True)
class Token:
    """A token's text, whether its owner has the role to read, and for how long it is good.

    It expires after so many requests, or so many seconds after it was given to `Tokens`.
    """

    text: str
    can_read: bool = True
    requests: int | None = None
    seconds: float | None = None


class KnownTokens:
    """The tokens that are taken; `answered` counts requests by what the token was worth."""

    def __init__(self, *tokens: Token | str, clock: Callable[[], float] = time.monotonic) -> None:
        """The tokens are good from now on."""
        self.answered: Counter[int] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Token, float]] = {}
        self._used: Counter[str] = Counter()
        for token in tokens:
            self.add(token)

    def add(self, token: Token | str) -> None:
        """The token is good from now on, too; the same text anew begins a new life."""
        token = Token(token) if isinstance(token, str) else token
        with self._lock:
            self._known[token.text] = (token, self._clock())
            self._used.pop(token.text, None)

    def status(self, authorization: str) -> int:
        """What a request with this header deserves: 200, 401 or 403. It is counted."""
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
    """An ASGI middleware that lets the known tokens pass."""

    def __init__(self, app: ASGIApp, tokens: KnownTokens) -> None:
        """`app` is what is guarded."""
        self.app = app
        self.tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The request is answered, by the application or with a refusal."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = self.tokens.status(Headers(scope=scope).get("authorization", ""))
        guarded = self.app if status == 200 else _refusal(status)  # noqa: PLR2004 - OK
        await guarded(scope, receive, send)


def _refusal(status: int) -> Response:
    if status == _FORBIDDEN:
        return PlainTextResponse("Authorization failed.", status_code=status)
    return Response(status_code=status, headers={"www-authenticate": "Bearer"})
