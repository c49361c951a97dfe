"""A request and its answer, as a fault handles them.

A fault is given the request and the next service (`Service`: the emulator itself, or the next
fault), and returns an answer. So faults stack, and each is a few lines. The kinds of faults are in
`answers`, `pages`, `entries`, `operations` and `wire`, their choice for a request in `plan`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl, urlencode

import msgspec

from dicom_assets.emulator.feed import LIMITS

if TYPE_CHECKING:
    from asyncio import Transport

    from dicom_assets.emulator.archive import Archive

Callback = Callable[["Archive"], object]

# The routes a rule may name: leaves, one for each request, and groups of them.
PAGES: Final = frozenset({"light", "heavy"})
GROUPS: Final[Mapping[str, frozenset[str]]] = {"page": PAGES, "feed": PAGES | {"latest"}}
LEAVES: Final = frozenset({*GROUPS["feed"], "metadata", "store", "delete", "update", "query"})

_OK: Final = 200
_SCANNER: Final = json.JSONDecoder()
_FIRST_SUCCESS, _FIRST_REDIRECT = 200, 300


class Delivery(Protocol):
    """A way to put an answer on the wire that no ASGI server would take."""

    async def deliver(self, answer: Answer, transport: Transport) -> None:
        """The bytes are with the client, as far as they ever come; the connection is closed."""


@dataclass(frozen=True)
class Answer:
    """A whole answer; `delivery` says how it is spoiled on the wire, None for not at all."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delivery: Delivery | None = None

    @property
    def is_success(self) -> bool:
        """True for a status of success."""
        return _FIRST_SUCCESS <= self.status < _FIRST_REDIRECT

    def header(self, name: str) -> str | None:
        """The value of a header, whose name is in lower case."""
        return dict(self.headers).get(name)

    def with_header(self, name: str, value: str | None) -> Answer:
        """The answer with the header, or without it when there is no value."""
        others = [pair for pair in self.headers if pair[0] != name]
        return replace(self, headers=(*others, *([] if value is None else [(name, value)])))

    def with_body(self, body: bytes) -> Answer:
        """The answer with another body."""
        return replace(self, body=body)

    def rows(self) -> list[bytes] | None:
        """The entries of a page, each as its JSON text; None when the answer is no page."""
        if self.status != _OK:
            return None
        try:
            return [bytes(row) for row in msgspec.json.decode(self.body, type=list[msgspec.Raw])]
        except msgspec.DecodeError:
            return _rows(self.body.decode("utf-8", "surrogateescape"))

    def with_rows(self, rows: list[bytes]) -> Answer:
        """The answer as a page of these entries."""
        return self.with_body(b"[" + b",".join(rows) + b"]")


def _rows(page: str) -> list[bytes] | None:
    """The same for a page whose texts msgspec refuses: a lone surrogate is in one of them."""
    rows, place = [], 1
    try:
        # Each row ends before a comma, the last one before the bracket.
        while place < len(page):
            _, end = _SCANNER.raw_decode(page, place)
            rows.append(page[place:end].encode("utf-8", "surrogateescape"))
            place = end + 1
    except json.JSONDecodeError:
        return None
    return rows if page.startswith("[") and page.endswith("]") else None


@dataclass(frozen=True)
class Asked:
    """A request: where to, and what a fault may need of the emulator behind it."""

    method: str
    path: str
    query: str
    archive: Archive
    callbacks: Mapping[str, Callback]
    previous: Answer | None = None  # the page that the same route answered before
    hidden: frozenset[int] = frozenset()

    @property
    def line(self) -> str:
        """The line of the request; equal lines are the same request, repeated."""
        return f"{self.method} {self.path}?{self.query}"

    @property
    def route(self) -> str:
        """The leaf of the routes."""
        return route_of(self.method, self.path, self.parameters)

    @property
    def parameters(self) -> dict[str, str]:
        """The query's parameters by lower-case name."""
        return {name.lower(): value for name, value in parse_qsl(self.query, True)}

    @property
    def limit(self) -> int:
        """The most rows that were asked for; the default for what is no number."""
        return self._number("limit", LIMITS[1 if self.path.startswith("/v1/") else 2].default)

    @property
    def offset(self) -> int:
        """The rows to skip (v2), or the sequence to start after (v1)."""
        return self._number("offset", 0)

    def with_parameters(self, **changes: int) -> Asked:
        """The same request with other parameters."""
        changed = {name: str(value) for name, value in changes.items()}
        return replace(self, query=urlencode(self.parameters | changed))

    def _number(self, name: str, default: int) -> int:
        text = self.parameters.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else default


Service = Callable[[Asked], Awaitable[Answer]]


def route_of(method: str, path: str, parameters: Mapping[str, str]) -> str:
    """Return the leaf of the routes for a request."""
    if path.endswith("/changefeed/latest"):
        return "latest"
    if path.endswith("/changefeed"):
        is_light = parameters.get("includemetadata", "").strip().lower() == "false"
        return "light" if is_light else "heavy"
    if path.endswith("/metadata"):
        return "metadata"
    if method == "POST":
        return "update" if path.endswith("/$bulkUpdate") else "store"
    if method == "DELETE":
        return "delete"
    return "query" if path.endswith(("/studies", "/series", "/instances")) else "other"


class Fault(
    msgspec.Struct,
    frozen=True,
    tag_field="kind",
    tag=lambda name: "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_"),
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """Something that goes wrong with a request; in JSON its `kind` is its name in snake_case."""

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """Return the client's answer, with or without a request to the service."""
        return self.spoil(await service(asked))

    def spoil(self, answer: Answer) -> Answer:
        """The answer, changed."""
        return answer
