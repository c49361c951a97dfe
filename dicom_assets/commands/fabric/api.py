"""Fabric's REST API, as far as shortcuts of a Lakehouse need it.

Four calls, each as its page says:

- Get Lakehouse (https://learn.microsoft.com/rest/api/fabric/lakehouse/items/get-lakehouse): the
  default schema, which only a Lakehouse with schemas has.
- Get Shortcut (https://learn.microsoft.com/rest/api/fabric/core/onelake-shortcuts/get-shortcut).
- Create Shortcut (…/onelake-shortcuts/create-shortcut), with `shortcutConflictPolicy` Abort, or
  CreateOrOverwrite to replace one.

The token is asked for once, for Fabric's scope, and goes to Fabric's host only: no other address
is ever built, and redirects are not followed. What may pass is asked again for two minutes, after
what Retry-After says (https://learn.microsoft.com/rest/api/fabric/articles/throttling). Messages
hold the status, and Fabric's own code and id of the request; never its text, nor the token.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self, TypeVar

import httpx
import msgspec
import tenacity

from dicom_assets.commands.fabric.shortcuts import Item, Shortcut
from dicom_assets.errors import FabricError, SettingsError
from dicom_assets.feed.decode import MalformedError
from dicom_assets.feed.http.answers import retry_after_seconds, status_text
from dicom_assets.feed.http.auth import default_credential
from dicom_assets.feed.http.body import read_body
from dicom_assets.feed.http.connection import quieten
from dicom_assets.feed.http.deadline import bind, within
from dicom_assets.settings import is_loopback

if TYPE_CHECKING:
    from types import TracebackType

    from azure.core.credentials import TokenCredential

T = TypeVar("T")

API: Final = "https://api.fabric.microsoft.com/v1"
SCOPE: Final = "https://api.fabric.microsoft.com/.default"
RETRY_SECONDS: Final = 120.0
BACKOFF_SECONDS: Final = 0.5
_HOST: Final = "api.fabric.microsoft.com"
_REQUEST_SECONDS: Final = 60.0
_RETRY_AFTER_MOST_SECONDS: Final = 3600.0
_MOST_BYTES: Final = 1024 * 1024
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
    429: "too many ask at once: run again later",
}


class NameTakenError(FabricError):
    """Fabric says that the name is taken; who catches it looks what has it."""


class _Passing(Exception):  # noqa: N818 - it says what failed, and may pass
    """An answer that may be another one soon; `after_seconds` is the pause that Fabric asks for."""

    def __init__(self, error: FabricError, after_seconds: float | None = None) -> None:
        super().__init__()
        self.error = error
        self.after_seconds = after_seconds


class _Failure(msgspec.Struct, rename="camel"):
    """Fabric's `ErrorResponse`, as far as it is told."""

    error_code: str = ""
    request_id: str = ""


class _Properties(msgspec.Struct, rename="camel"):
    default_schema: str | None = None


class _Lakehouse(msgspec.Struct):
    properties: _Properties = msgspec.field(default_factory=_Properties)


class Lakehouse:
    """The shortcuts of one Lakehouse; a context that closes its connection."""

    def __init__(
        self,
        item: Item,
        *,
        address: str = API,
        credential: "TokenCredential | None" = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._item = item
        self._credential = credential
        self._retry_seconds = retry_seconds
        self._token = ""
        quieten()
        self._client = httpx.Client(
            base_url=_checked(address),
            headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
            timeout=_REQUEST_SECONDS,
            follow_redirects=False,
        )
        bind(self._client)

    def __enter__(self) -> Self:
        """Return the Lakehouse; nothing is sent yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Close the connection."""
        self._client.close()

    def default_schema(self) -> str | None:
        """Return the Lakehouse's default schema; None when it has no schemas.

        Raises FabricError, also when there is no such Lakehouse.
        """
        path = f"workspaces/{self._item.workspace}/lakehouses/{self._item.lakehouse}"
        body = self._ask("GET", path, "the Lakehouse")
        return _read(body, _Lakehouse, "the Lakehouse").properties.default_schema

    def find(self, shortcut: Shortcut) -> Shortcut | None:
        """Return the shortcut that is at the place of this one; None when there is none."""
        path = f"{self._item.path}/shortcuts/{shortcut.place}"
        body = self._ask("GET", path, f"the shortcut {shortcut.place}", is_absent_fine=True)
        return None if body is None else _read(body, Shortcut, f"the shortcut {shortcut.place}")

    def create(self, shortcut: Shortcut, *, replace: bool = False) -> None:
        """The shortcut is there; with `replace`, in the place of the one that was.

        Raises NameTakenError when the name is taken, and FabricError.
        """
        policy = "CreateOrOverwrite" if replace else "Abort"
        path = f"{self._item.path}/shortcuts?shortcutConflictPolicy={policy}"
        self._ask("POST", path, f"the shortcut {shortcut.place}", content=shortcut.request())

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        content: object = None,
        is_absent_fine: bool = False,
    ) -> bytes | None:
        """Return the body; None where a 404 is an answer like others."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Passing),
            wait=_pause,
            stop=tenacity.stop_before_delay(self._retry_seconds),
            reraise=True,
        )
        self._token = self._token or _token(self._credential)
        request = self._client.build_request(method, path, json=content)
        request.headers["Authorization"] = f"Bearer {self._token}"
        try:
            status, body = retrying(self._send, request, what)
        except _Passing as passing:
            error = passing.error
        else:
            if status == HTTPStatus.NOT_FOUND and is_absent_fine:
                return None
            if status in {HTTPStatus.OK, HTTPStatus.CREATED}:
                return body
            error = _refusal(status, body, what)
        raise error

    def _send(self, request: httpx.Request, what: str) -> tuple[int, bytes]:
        """Return the status and the body of one answer. Raises _Passing for what may pass."""
        try:
            with within(_REQUEST_SECONDS):
                response = self._client.send(request, stream=True)
                try:
                    body = read_body(response, _MOST_BYTES)
                finally:
                    response.close()
        except (httpx.TransportError, httpx.DecodingError, MalformedError) as error:
            failure = _Passing(_unanswered(error, what))
        else:
            if response.status_code not in _PASSING:
                return response.status_code, body
            after = retry_after_seconds(response, _RETRY_AFTER_MOST_SECONDS)
            failure = _Passing(_refusal(response.status_code, body, what), after)
        raise failure


def _checked(address: str) -> str:
    """Return the address of the API, if a token may go there.

    That is Fabric's own over https, and this machine's (a test's) over https.
    """
    url = httpx.URL(address)
    if url.scheme != "https" or not (url.host == _HOST or is_loopback(url.host)):
        raise SettingsError(f"Fabric's API is at {API}: a token goes nowhere else")
    return address


def _token(credential: "TokenCredential | None") -> str:
    """Return a token for Fabric; it lasts longer than the command."""
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - half a second

    credential = default_credential() if credential is None else credential
    try:
        return credential.get_token(SCOPE).token
    except (AzureError, OSError, ValueError) as error:
        # Azure's text may name tenants, users and addresses: the classes say enough.
        what = f"{type(credential).__name__} gave no token for Fabric ({type(error).__name__})"
    raise FabricError(f"{what}: sign in, for instance with `az login`")


def _pause(state: tenacity.RetryCallState) -> float:
    """Return the pause that Fabric asked for, else one at random that grows."""
    failure = state.outcome.exception() if state.outcome else None
    if isinstance(failure, _Passing) and failure.after_seconds is not None:
        return failure.after_seconds
    return tenacity.wait_random_exponential(BACKOFF_SECONDS, 40 * BACKOFF_SECONDS)(state)


def _unanswered(error: Exception, what: str) -> FabricError:
    return FabricError(
        f"Fabric gave no answer that can be used, for {what} ({type(error).__name__}): is the "
        "network open to api.fabric.microsoft.com? SSL_CERT_FILE names the authorities that are "
        "trusted. Running again is safe"
    )


def _refusal(status: int, body: bytes, what: str) -> FabricError:
    told = "; ".join(_clues(body))
    answered = f"Fabric answered {status_text(status)}{f' ({told})' if told else ''}"
    kind = NameTakenError if status == HTTPStatus.CONFLICT else FabricError
    return kind(f"{answered}, for {what}: {_remedy(status)}")


def _remedy(status: int) -> str:
    if status in _REMEDIES:
        return _REMEDIES[status]
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return "redirects are not followed, because they would carry the token away"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "it may pass: run again later"
    return "Fabric's documentation of the API explains the status"


def _clues(body: bytes) -> list[str]:
    """Return Fabric's code, and the id of the request that its support asks for."""
    try:
        failure = msgspec.json.decode(body, type=_Failure)
    except msgspec.DecodeError:
        return []
    told = {"": failure.error_code, "request ": failure.request_id}
    return [f"{name}{text}" for name, text in told.items() if _CODE.fullmatch(text)]


def _read(body: bytes | None, form: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body or b"", type=form)
    except msgspec.DecodeError:
        pass
    raise FabricError(
        f"Fabric's answer for {what} has not the form that its API describes: if it stays so, "
        "look at what stands between this machine and Fabric"
    )
