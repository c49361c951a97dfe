"""The adversary between the client and the emulator: an ASGI middleware, and its admin route.

`breakable` puts it around the emulator's application, `serve` gives that a port.

Without a plan every request passes as if it were not there. With one, the emulator's answer is
read whole, spoiled as the plan says, and sent, over the connection itself where it must be.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets_tests.adversary.entries import PartialArchive
from dicom_assets_tests.adversary.exchange import Answer, Asked
from dicom_assets_tests.adversary.plan import Faults, Plan
from dicom_assets_tests.adversary.tokens import guard_of
from dicom_assets_tests.adversary.wire import TRANSPORT, LendingProtocol, Whole

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dicom_assets.emulator.archive import Archive
    from dicom_assets_tests.adversary.exchange import Service
    from dicom_assets_tests.adversary.tokens import KnownTokens, Token

ADMIN: Final = "/admin/"

_BODILESS: Final = frozenset({204, 304})
_JSON: Final = {"content-type": "application/json; charset=utf-8"}


def breakable(
    archive: Archive,
    faults: Faults,
    *,
    middleware: Iterable[Middleware] = (),
    tokens: KnownTokens | Iterable[Token | str] | None = None,
) -> Starlette:
    """Return the emulator's application with an adversary around it; `middleware` is outermost."""
    guard = () if tokens is None else (guard_of(tokens),)
    layers = [*middleware, Middleware(Adversary, faults), *guard]
    application = create_application(archive, middleware=layers)
    application.state.faults = faults
    return application


def serve(application: ASGIApp, *, port: int = 0) -> server.Running:
    """Serve the application so that its adversary reaches the connections."""
    return server.start(application, port=port, http=LendingProtocol)


class Adversary:
    """Does to each request what the faults say."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        """`app` is the emulator, or what stands between."""
        self.app = app
        self.faults = faults
        self._admin = Starlette(routes=admin_routes(faults))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The client has its answer, or as much of it as the faults let through."""
        if scope["type"] == "http" and scope["path"].startswith(ADMIN):
            await self._admin(scope, receive, send)
            return
        if scope["type"] != "http" or not self.faults.plan.rules:
            await self.app(scope, receive, send)
            return
        asked = self._asked(scope)
        service: Service = partial(_ask, self.app, scope, await _body(receive))
        for fault in reversed(self.faults.hit(asked)):
            service = partial(fault.answer, service=service)
        answer = await service(asked)
        self.faults.remember(asked.route, answer)
        await _deliver(answer, scope, receive, send)

    def _asked(self, scope: Scope) -> Asked:
        asked = Asked(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            archive=scope["app"].state.archive,
            callbacks=self.faults.callbacks,
        )
        return replace(asked, previous=self.faults.previous(asked.route))


async def _body(receive: Receive) -> bytes:
    """The whole body of the request."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def _ask(app: ASGIApp, scope: Scope, body: bytes, asked: Asked) -> Answer:
    """The emulator's own answer."""
    changed = {**scope, "query_string": asked.query.encode("latin-1")}
    if asked.hidden:
        archive = PartialArchive(scope["app"].state.archive, asked.hidden)
        changed["app"] = SimpleNamespace(state=SimpleNamespace(archive=archive))
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    await app(changed, receive, send)
    return _answer(messages)


def _answer(messages: list[Message]) -> Answer:
    start, *rest = messages
    names = [(name.decode("latin-1"), text.decode("latin-1")) for name, text in start["headers"]]
    headers = tuple(pair for pair in names if pair[0] != "content-length")
    return Answer(start["status"], headers, b"".join(part.get("body", b"") for part in rest))


async def _deliver(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    # The server adds a date of its own to every answer that goes through it.
    delivery = answer.delivery or (Whole() if answer.header("date") else None)
    if delivery is None:
        await _send(answer, send)
        return
    transport: Transport = scope["extensions"][TRANSPORT]
    await delivery.deliver(answer, transport)
    # The server must learn that the client is gone, lest it answers in our place.
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(answer: Answer, send: Send) -> None:
    body = b"" if answer.status in _BODILESS else answer.body
    length = [] if answer.status in _BODILESS else [("content-length", str(len(body)))]
    headers = [(n.encode(), text.encode("latin-1")) for n, text in (*answer.headers, *length)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def admin_routes(faults: Faults) -> list[Route]:
    """The routes by which a plan is seen, set and dropped while the emulator runs."""

    def show(_request: Request) -> Response:
        return Response(faults.plan.to_json(), headers=_JSON)

    async def put(request: Request) -> Response:
        try:
            faults.replace(Plan.from_json(await request.body()))
        except msgspec.DecodeError as problem:
            return PlainTextResponse(f"{problem}", status_code=400)
        return Response(status_code=204)

    def drop(_request: Request) -> Response:
        faults.clear()
        return Response(status_code=204)

    def log(_request: Request) -> Response:
        told: dict[str, Any] = {"requests": faults.requests, "hits": faults.log}
        return Response(msgspec.json.encode(told), headers=_JSON)

    path = f"{ADMIN}faults"
    return [
        Route(path, show, methods=["GET"]),
        Route(path, put, methods=["PUT"]),
        Route(path, drop, methods=["DELETE"]),
        Route(f"{path}/log", log, methods=["GET"]),
    ]
