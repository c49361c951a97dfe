"""Who gets the token: the configured service over https, and nobody else.

Here: when a request carries a token, and where the token comes from. Which identity is asked is
azure-identity's affair; what a refusal means is in `connection`. Azure's libraries are imported
when a credential is used for the first time, because that takes longer than all the rest.
"""

import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

import httpx

from dicom_assets.errors import ServiceRefusedError, ServiceUnavailableError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

# The same for every DICOM service of Azure Health Data Services.
SCOPE: Final = "https://dicom.healthcareapis.azure.com/.default"
REFRESH_BEFORE_SECONDS: Final = 300.0


def default_credential() -> "TokenCredential":
    """Return azure-identity's chain: environment, workload, managed identity, tools."""
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - half a second

    return DefaultAzureCredential()


def _azure_errors() -> type[Exception]:
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - see the module's docstring

    return AzureError


def _is_final(error: Exception) -> bool:
    from azure.core.exceptions import ClientAuthenticationError  # noqa: PLC0415 - as above

    return isinstance(error, ClientAuthenticationError)


class TokenAuth(httpx.Auth):
    """A request to `origin` over https carries the credential's token; no other does.

    The token is kept until shortly before it expires, and asked for once more when it is refused.
    Without a credential, azure-identity's default chain is built at the first request.
    """

    def __init__(self, origin: httpx.URL, credential: "TokenCredential | None") -> None:
        self._origin = origin
        self._credential = credential
        self._token: AccessToken | None = None
        self._lock = threading.Lock()

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with its token, and once more with a new one after a 401."""
        if not self._is_entitled(request.url):
            yield request
            return
        token = self._fetch(refused=None)
        response = yield _with_token(request, token)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            yield _with_token(request, self._fetch(refused=token))

    def _is_entitled(self, url: httpx.URL) -> bool:
        ours = (self._origin.scheme, self._origin.host, self._origin.port)
        return url.scheme == "https" and (url.scheme, url.host, url.port) == ours

    def _fetch(self, refused: str | None) -> str:
        """Return a token that is not the refused one, if the credential has another."""
        with self._lock:
            kept = self._token
            if kept is None or kept.token == refused or _is_old(kept):
                kept = self._token = self._ask()
            return kept.token

    def _ask(self) -> "AccessToken":
        if self._credential is None:
            self._credential = default_credential()
        try:
            return self._credential.get_token(SCOPE)
        except _azure_errors() as error:
            # Azure's text may name tenants, users and addresses: the class says enough.
            what = f"{type(self._credential).__name__} gave no token ({type(error).__name__})"
            refusal = ServiceRefusedError if _is_final(error) else ServiceUnavailableError
        raise refusal(f"{what}: give the process an identity that azure-identity can find")


def _is_old(token: "AccessToken") -> bool:
    return token.expires_on - time.time() < REFRESH_BEFORE_SECONDS


def _with_token(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request
