"""The token goes to the configured service over https, and nowhere else.

azure-identity chooses the identity. The meaning of a refusal is in `answers`. Azure's libraries are
imported when a credential is first used, because that takes longer than all the rest.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import httpx

from dicom_assets.errors import SettingsError
from dicom_assets.feed.http.answers import BROKEN_CREDENTIAL, NO_IDENTITY, NO_TOKEN, RequestFailure
from dicom_assets.feed.http.timeouts import Timeouts
from dicom_assets.settings import is_loopback

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

# The same for every DICOM service of Azure Health Data Services.
SCOPE: Final = "https://dicom.healthcareapis.azure.com/.default"
REFRESH_BEFORE_SECONDS: Final = 300.0
_HEADER: Final = "Authorization"
_SCHEME: Final = "Bearer "


def service_address(url: str) -> httpx.URL:
    """Return the base address of all requests, which ends with a slash.

    Raises SettingsError unless it is https, or http to a literal loopback address, without user,
    password, query and fragment.
    """
    try:
        address = httpx.URL(url.rstrip("/") + "/")
    except httpx.InvalidURL:
        raise SettingsError("the DICOM service's URL is malformed: https://… is needed") from None
    if not address.host or address.userinfo or address.query or address.fragment or "#" in url:
        raise SettingsError(
            "the DICOM service's URL needs a host, and may have no user, query or fragment"
        )
    if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.host)):
        raise SettingsError(
            "the DICOM service's URL needs https. http is for a literal loopback address only, "
            "such as http://127.0.0.1:8080, and no credential is sent there"
        )
    return address


def default_credential() -> "TokenCredential":
    """Return azure-identity's chain: environment, workload, managed identity, tools."""
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - half a second

    return DefaultAzureCredential()


class Tokens:
    """The tokens of one credential, for requests to `origin` over https only.

    A token is used until shortly before it expires. When the service refuses it, a new one is
    forced. A forced one that is refused, too, is not replaced until the service has accepted it
    once. Without a credential, azure-identity's default chain is built at the first request.
    """

    def __init__(
        self, origin: httpx.URL, credential: "TokenCredential | None", timeouts: Timeouts
    ) -> None:
        self._origin = origin
        self._credential = credential
        self._seconds = timeouts.token_seconds
        self._kept: AccessToken | None = None
        self._pending: Future[AccessToken] | None = None
        self._is_forced = self._must_force = False
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="dicom-token")

    def close(self) -> None:
        """Request no more tokens from the credential."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def sign(self, request: httpx.Request, seconds: float) -> None:
        """Add the token to a request to the origin.

        Raises RequestFailure when there is none within `seconds`.
        """
        url, origin = request.url, self._origin
        is_origin = (url.scheme, url.host, url.port) == (origin.scheme, origin.host, origin.port)
        if url.scheme == "https" and is_origin:
            request.headers[_HEADER] = _SCHEME + self._token(min(seconds, self._seconds))

    def refuse(self, request: httpx.Request) -> bool:
        """Drop the refused token of a request. Return True if the next request carries another."""
        token = _token_of(request)
        with self._lock:
            if self._kept is None or self._kept.token != token:
                return token is not None
            if self._is_forced:
                return False
            self._kept, self._must_force = None, True
            return True

    def accept(self, request: httpx.Request) -> None:
        """Note that the service accepted the request's token, so a refusal may force a new one."""
        if self._is_forced and self._kept is not None:
            with self._lock:
                self._is_forced = self._kept.token != _token_of(request)

    def _token(self, seconds: float) -> str:
        with self._lock:
            kept = self._kept
            if kept is not None and not _expires_within(kept, REFRESH_BEFORE_SECONDS):
                return kept.token
            if self._pending is None:
                self._pending = self._executor.submit(self._ask, force=self._must_force)
            pending = self._pending
        failure = self._wait_for(pending, seconds)
        if failure is None:
            token = pending.result()
            with self._lock:
                if self._pending is pending:
                    self._pending, self._kept = None, token
                    self._is_forced, self._must_force = self._must_force, False
            return token.token
        if kept is not None and not _expires_within(kept, 0):
            return kept.token
        raise failure

    def _wait_for(self, pending: "Future[AccessToken]", seconds: float) -> RequestFailure | None:
        """Return the failure if there is no token. A credential still busy gets no second call.

        It has only the error's class, because Azure's text may name tenants, users and addresses.
        """
        try:
            error = pending.exception(seconds)
        except TimeoutError:
            what = f"{type(self._credential).__name__} gave no token in {seconds:.1f} s"
            return RequestFailure(what, NO_TOKEN)
        if error is None:
            return None
        with self._lock:
            self._pending = None if self._pending is pending else self._pending
        from azure.core import exceptions  # noqa: PLC0415 - see the module's docstring

        what = f"{type(self._credential).__name__} gave no token ({type(error).__name__})"
        if isinstance(error, exceptions.ClientAuthenticationError):
            return RequestFailure(what, NO_IDENTITY)
        is_azure = isinstance(error, exceptions.AzureError)
        return RequestFailure(what, NO_TOKEN if is_azure else BROKEN_CREDENTIAL)

    def _ask(self, *, force: bool) -> "AccessToken":
        """Return a token, with `force` one that does not come from a cache of azure-identity.

        Its credentials have no argument for that, but none answers a claims request from its cache
        (MSAL: `claims_challenge`). The claims here ask for a token that is valid from now on, as a
        service does that revokes older ones (continuous access evaluation). The command line tools
        refuse claims and have no cache here, so they are called without.
        """
        if self._credential is None:
            self._credential = default_credential()
        if not force:
            return self._credential.get_token(SCOPE)
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - see the module's docstring

        claims = f'{{"access_token":{{"nbf":{{"essential":true,"value":"{int(time.time())}"}}}}}}'
        try:
            return self._credential.get_token(SCOPE, claims=claims)
        except AzureError:
            return self._credential.get_token(SCOPE)


def _expires_within(token: "AccessToken", seconds: float) -> bool:
    return token.expires_on - time.time() < seconds


def _token_of(request: httpx.Request) -> str | None:
    value: Any = request.headers.get(_HEADER)
    return None if value is None else str(value).removeprefix(_SCHEME)
