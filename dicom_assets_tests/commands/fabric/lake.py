"""A Fabric for tests: its API as published, as far as shortcuts go, over TLS on this machine.

Paths, bodies, policies and errors are those of the pages Get Lakehouse, Get Shortcut and Create
Shortcut, and of the descriptions in microsoft/fabric-rest-api-specs (`CreateShortcutRequest`,
`Shortcut`, `AdlsGen2`, `ErrorResponse`). What is not described is refused, not guessed.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

WORKSPACE: Final = "11111111-1111-4111-8111-111111111111"
LAKEHOUSE: Final = "22222222-2222-4222-8222-222222222222"
CONNECTION: Final = "33333333-3333-4333-8333-333333333333"
REQUEST_ID: Final = "44444444-4444-4444-8444-444444444444"
TOKEN: Final = "token-of-a-test-7c"
SECRET: Final = "Fabric's own text, which nobody repeats"

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_POLICIES: Final = {"Abort", "GenerateUniqueName", "CreateOrOverwrite", "OverwriteOnly"}


@dataclass(frozen=True)
class Answer:
    """What is sent; `status` 0 closes the connection instead."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    is_done: bool = False  # what was asked is carried out, and then this is said


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    parameters: dict[str, str]
    token: str
    body: Any


def failed(status: int, code: str, **headers: str) -> Answer:
    """An `ErrorResponse`."""
    body = {"errorCode": code, "message": SECRET, "requestId": REQUEST_ID, "moreDetails": []}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, named)


class Fabric:
    """One workspace with one Lakehouse: what is in it, what was asked, and what is said instead."""

    def __init__(self) -> None:
        self.schema: str | None = None
        self.shortcuts: dict[str, dict[str, Any]] = {}
        self.tables: set[str] = set()  # folders under Tables that are no shortcuts
        self.asked: list[Asked] = []
        self.script: dict[str, list[Answer]] = {}  # by method, before anything else

    @property
    def posted(self) -> list[Asked]:
        """The requests that were to change something."""
        return [one for one in self.asked if one.method != "GET"]

    def answer(self, asked: Asked) -> Answer:
        """Return what Fabric says."""
        self.asked.append(asked)
        scripted = self.script.get(asked.method)
        if scripted:
            said = scripted.pop(0)
            if said.is_done:
                self._truth(asked)
            return said
        return self._truth(asked)

    def _truth(self, asked: Asked) -> Answer:
        if asked.token != f"Bearer {TOKEN}":
            return failed(401, "InvalidToken")
        item = f"/v1/workspaces/{WORKSPACE}/items/{LAKEHOUSE}/shortcuts"
        if asked.method == "GET" and asked.path == item.replace("items", "lakehouses")[:-10]:
            return Answer(200, self._lakehouse())
        if asked.method == "GET" and asked.path.startswith(f"{item}/"):
            found = self.shortcuts.get(asked.path.removeprefix(f"{item}/"))
            return Answer(200, found) if found else failed(404, "EntityNotFound")
        if asked.method == "POST" and asked.path == item:
            return self._create(asked)
        return failed(404, "ItemNotFound")

    def _lakehouse(self) -> dict[str, Any]:
        properties = {"oneLakeTablesPath": "https://onelake.dfs.fabric.microsoft.com/…/Tables"}
        if self.schema is not None:
            properties["defaultSchema"] = self.schema
        names = {"id": LAKEHOUSE, "workspaceId": WORKSPACE, "displayName": "archive"}
        return {**names, "type": "Lakehouse", "properties": properties}

    def _create(self, asked: Asked) -> Answer:
        if not is_described(asked.body) or not set(asked.parameters) <= {"shortcutConflictPolicy"}:
            return failed(400, "InvalidInput")
        policy = asked.parameters.get("shortcutConflictPolicy", "Abort")
        place = f"{asked.body['path']}/{asked.body['name']}"
        is_there = place in self.shortcuts
        if policy not in _POLICIES:
            return failed(400, "InvalidInput")
        if place in self.tables or (is_there and policy == "Abort"):
            return failed(409, "EntityConflict")
        target = {"type": "AdlsGen2", **asked.body["target"]}
        self.shortcuts[place] = {**asked.body, "target": target}
        return Answer(200 if is_there else 201, self.shortcuts[place], {"Location": asked.path})


def is_described(body: Any) -> bool:  # noqa: ANN401 - whatever came
    """Whether a body is a `CreateShortcutRequest` with an ADLS Gen2 target, and nothing else."""
    if not isinstance(body, dict) or set(body) != {"path", "name", "target"}:
        return False
    target = body["target"].get("adlsGen2", {})
    return (
        set(body["target"]) == {"adlsGen2"}
        and set(target) == {"location", "subpath", "connectionId"}
        and bool(
            re.fullmatch(r"https://[a-z0-9]{3,24}\.dfs\.core\.windows\.net", target["location"])
        )
        and bool(re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", target["subpath"]))
        and bool(_GUID.fullmatch(target["connectionId"]))
        and body["path"].split("/")[0] == "Tables"
    )


class Running:
    """A Fabric that listens at `address`; a context that ends it."""

    def __init__(self, fabric: Fabric, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        handler = type("Handler", (_Handler,), {"fabric": fabric})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"https://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        """Return it listening."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: who does not trust the certificate hangs up."""


class _Handler(BaseHTTPRequestHandler):
    fabric: Fabric

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def _reply(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query)),
            self.headers.get("Authorization", ""),
            json.loads(sent) if sent else None,
        )
        answer = self.fabric.answer(asked)
        if not answer.status:
            self.close_connection = True
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        self.send_response(answer.status)
        usual = {"Content-Type": "application/json; charset=utf-8"}
        for name, value in (usual | answer.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""
