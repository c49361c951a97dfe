"""Fabric's REST API, as far as shortcuts of a Lakehouse need it.

- Get Lakehouse (https://learn.microsoft.com/rest/api/fabric/lakehouse/items/get-lakehouse): the
  default schema, which only a Lakehouse with schemas has.
- Get Shortcut (https://learn.microsoft.com/rest/api/fabric/core/onelake-shortcuts/get-shortcut).
- Create Shortcut (…/onelake-shortcuts/create-shortcut), with `shortcutConflictPolicy` Abort, or
  CreateOrOverwrite to replace one.

One token, for Fabric's scope, goes to Fabric's host only: redirects are not followed. A request
that may succeed later is retried for two minutes, after the pause that Retry-After asks for
(https://learn.microsoft.com/rest/api/fabric/articles/throttling). Messages hold the status, and
Fabric's own code and id of the request, never its text or the token. Microsoft's own command line
was tried: docs/decisions/fabric-shortcuts.md.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
import msgspec
import tenacity

from dicom_assets.commands.fabric.shortcuts import LakehouseItem, Shortcut, shortcut_differences
from dicom_assets.errors import FabricError
from dicom_assets.feed.http.answers import retry_after_seconds, status_text
from dicom_assets.feed.http.auth import default_credential
from dicom_assets.feed.http.connection import quieten
from dicom_assets.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

T = TypeVar("T")

FABRIC_API: Final = "https://api.fabric.microsoft.com/v1"
FABRIC_SCOPE: Final = "https://api.fabric.microsoft.com/.default"
FABRIC_RETRY_SECONDS: Final = 120.0
BACKOFF_SECONDS: Final = 0.5
_REQUEST_SECONDS: Final = 60.0
_RETRY_AFTER_MOST_SECONDS: Final = 3600.0
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}", re.ASCII)
_PASSING: Final = {408, 429, 500, 502, 503, 504}
_REMEDIES: Final[Mapping[int, str]] = {
    400: "is the container there, does the connection belong to the account, and may the "
    "connection's identity read it (Storage Blob Data Reader)? A Lakehouse without schemas takes "
    "no --schema",
    401: "the token was refused: is the identity of Fabric's tenant (`az login --tenant …`), and "
    "this machine's clock right?",
    403: "the identity needs the role Contributor in the workspace and leave to use the "
    "connection; for a service principal or managed identity, Fabric's administrator must allow "
    "them to use Fabric's APIs (tenant settings, developer settings)",
    404: "are --workspace, --lakehouse and --connection ids that this identity can see? They are "
    "in the addresses of the Lakehouse's and the connection's pages",
    409: "something that is no shortcut of this name has the name: remove it, or choose another "
    "with --prefix",
    429: "too many requests at once: run again later",
    **dict.fromkeys(
        (301, 302, 303, 307, 308),
        "redirects are not followed, because they would carry the token away",
    ),
    **dict.fromkeys((500, 502, 503, 504), "it may pass: run again later"),
}


class NameTakenError(FabricError):
    """The name is taken, by a shortcut or by something else."""


class _Failure(msgspec.Struct, rename="camel"):
    """Fabric's `ErrorResponse`, as far as it is printed."""

    error_code: str = ""
    request_id: str = ""


class _Properties(msgspec.Struct, rename="camel"):
    default_schema: str | None = None


class _Lakehouse(msgspec.Struct):
    properties: _Properties = msgspec.field(default_factory=_Properties)


@dataclass(frozen=True)
class Lakehouse:
    """The shortcuts of one Lakehouse, over an open connection."""

    item: LakehouseItem
    client: httpx.Client
    retry_seconds: float

    def default_schema(self) -> str:
        """Return the default schema, "" without schemas; raises FabricError without a Lakehouse."""
        path = f"workspaces/{self.item.workspace}/lakehouses/{self.item.lakehouse}"
        answer = self._request("GET", path, "the Lakehouse")
        return _read(answer, _Lakehouse, "the Lakehouse").properties.default_schema or ""

    def find(self, place: str) -> Shortcut | None:
        """Return the shortcut at a place; None when there is none. Raises FabricError."""
        subject = f"the shortcut {place}"
        path = f"{self.item.path}/shortcuts/{place}"
        answer = self._request("GET", path, subject, expected=HTTPStatus.NOT_FOUND)
        is_absent = answer.status_code == HTTPStatus.NOT_FOUND
        return None if is_absent else _read(answer, Shortcut, subject)

    def create(self, shortcut: Shortcut, *, replace: bool = False) -> None:
        """Create the shortcut, or `replace` the present one. Raises NameTakenError, FabricError."""
        policy = "CreateOrOverwrite" if replace else "Abort"
        path = f"{self.item.path}/shortcuts?shortcutConflictPolicy={policy}"
        body = msgspec.to_builtins(shortcut)
        self._request("POST", path, f"the shortcut {shortcut.place}", json=body)

    def settle(self, wanted: Shortcut, *, replace: bool) -> tuple[bool, str]:
        """Create or replace a shortcut; returns whether it is as wanted now, and what was done."""
        present = self.find(wanted.place)
        if present is None:
            try:
                self.create(wanted)
            except NameTakenError:
                # Another process was faster, or the answer to our own first attempt was lost.
                if (present := self.find(wanted.place)) is None:
                    raise
            else:
                return True, f"{wanted.place}: created"
        differing = list(shortcut_differences(present, wanted))
        if not differing:
            return True, f"{wanted.place}: already there"
        if replace:
            self.create(wanted, replace=True)
            return True, f"{wanted.place}: replaced"
        left = f"{wanted.place}: differs, and was left as it is (--replace replaces it)"
        return False, "\n  ".join([left, *differing])

    def _request(
        self, method: str, path: str, subject: str, *, json: object = None, expected: int = 200
    ) -> httpx.Response:
        """Return an answer of success, or of the status that is expected beside it."""

        def send() -> httpx.Response | FabricError:
            try:
                return self.client.request(method, path, json=json)
            except (httpx.TransportError, httpx.DecodingError) as error:
                return FabricError(
                    f"Fabric gave no answer that can be used, for {subject} "
                    f"({type(error).__name__}): is the network open to api.fabric.microsoft.com? "
                    "SSL_CERT_FILE names the authorities that are trusted. Running again is safe"
                )

        answer = tenacity.Retrying(
            retry=tenacity.retry_if_result(
                lambda answer: isinstance(answer, FabricError) or answer.status_code in _PASSING
            ),
            wait=_pause,
            stop=tenacity.stop_before_delay(self.retry_seconds),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(send)
        if isinstance(answer, FabricError):
            raise answer
        if answer.is_success or answer.status_code == expected:
            return answer
        raise _refusal(answer, subject)


def settle_shortcuts(  # noqa: PLR0913 - the options of the command, and a test's Fabric
    settings: Settings,
    item: LakehouseItem,
    tables: Sequence[str],
    say: Callable[[str], None],
    *,
    schema: str = "",
    replace: bool = False,
    address: str = FABRIC_API,
    credential: "TokenCredential | None" = None,
    retry_seconds: float = FABRIC_RETRY_SECONDS,
) -> bool:
    """Settle the shortcut of each table; False when one differs and was left.

    Raises SettingsError before any request, and FabricError when Fabric refuses or does not answer.
    """
    for table in tables:
        item.shortcut(settings, table, schema)
    is_settled = True
    quieten()
    headers = {"Accept": "application/json", "Authorization": f"Bearer {_token(credential)}"}
    with httpx.Client(base_url=address, headers=headers, timeout=_REQUEST_SECONDS) as client:
        lakehouse = Lakehouse(item, client, retry_seconds)
        schema = schema or lakehouse.default_schema()
        for table in tables:
            shortcut = item.shortcut(settings, table, schema)
            is_as_wanted, result = lakehouse.settle(shortcut, replace=replace)
            is_settled &= is_as_wanted
            for line in result.splitlines():
                say(line)
    return is_settled


def _pause(state: tenacity.RetryCallState) -> float:
    """Return the seconds that Fabric asked for, else a random pause that grows."""
    answer = state.outcome.result() if state.outcome else None
    if isinstance(answer, httpx.Response):
        seconds = retry_after_seconds(answer, _RETRY_AFTER_MOST_SECONDS)
        if seconds is not None:
            return seconds
    return tenacity.wait_random_exponential(BACKOFF_SECONDS, 40 * BACKOFF_SECONDS)(state)


def _token(credential: "TokenCredential | None") -> str:
    """Return a token for Fabric; it lasts longer than the command."""
    from azure.core.exceptions import AzureError  # half a second

    credential = default_credential() if credential is None else credential
    try:
        return credential.get_token(FABRIC_SCOPE).token
    except (AzureError, OSError, ValueError) as error:
        # Azure's text may name tenants, users and addresses, so only classes are printed.
        clue = f"{type(credential).__name__} gave no token for Fabric ({type(error).__name__})"
    raise FabricError(f"{clue}: sign in, for instance with `az login`")


def _refusal(answer: httpx.Response, subject: str) -> FabricError:
    """Return the error of a status, with Fabric's code and the id that its support asks for."""
    try:
        failure = msgspec.json.decode(answer.content, type=_Failure)
    except msgspec.DecodeError:
        failure = _Failure()
    clues = {"": failure.error_code, "request ": failure.request_id}
    clue = "; ".join(f"{name}{text}" for name, text in clues.items() if _CODE.fullmatch(text))
    text = f"{status_text(answer.status_code)}{f' ({clue})' if clue else ''}"
    remedy = _REMEDIES.get(answer.status_code, "Fabric's documentation of the API explains it")
    kind = NameTakenError if answer.status_code == HTTPStatus.CONFLICT else FabricError
    return kind(f"Fabric answered {text}, for {subject}: {remedy}")


def _read(answer: httpx.Response, form: type[T], subject: str) -> T:
    with suppress(msgspec.DecodeError):  # raised outside, so that no traceback quotes the answer
        return msgspec.json.decode(answer.content, type=form)
    raise FabricError(
        f"Fabric's answer for {subject} has not the form that its API describes: if it stays so, "
        "look at what stands between this machine and Fabric"
    )
