"""The retry matrix: the meaning of each answer, and what is done about it.

| answer | meaning | action |
|---|---|---|
| 200 and a whole page | success | the next page |
| 204, and 200 without a body | nothing newer, for `/latest`; otherwise no page | retry a page |
| 400 about a query parameter | a wrong request | fail |
| any other 400 | cancelled inside the service | retry; perhaps a header |
| 401 | the token is refused | retry with a new one, for `refused_seconds` |
| 401 over http | no token is ever sent | fail |
| 403, 404, 407, 409, 424, any other 4xx | a person must act | fail |
| 501 | the service does not offer it | fail |
| 3xx | the token would leave the service | fail |
| 408, 425, 429 | overload | retry, fewer in flight |
| any other 5xx | trouble, or a header | retry, fewer in flight; perhaps a header |
| any other status | not from a feed | retry |
| refused, unreachable, unknown name | an outage, or a wrong address | retry, fewer in flight |
| an untrusted certificate | a person must act | fail |
| a deadline is over | an outage, or a slow header | retry, fewer in flight; perhaps a header |
| reset, cut, cut gzip, cut JSON, no array | broken on its way | retry; perhaps a header |
| another content type | a proxy or a sign-in page answered | retry |
| more bytes than allowed | large headers | a part of the page; of a single row, it is the header |
| no token: the identity is refused | no identity, or no login | retry for `refused_seconds` |
| no token: no answer | an outage | retry |

"Retry" is after the service's Retry-After, unless that is absurd, otherwise after a random pause
that doubles, until `DICOM_RETRY_SECONDS` are over. "Perhaps a header": if headers were requested,
`unreadable_headers` looks for a bad one after a few attempts. The retries are in `connection`.
Messages hold nothing of an address or a body.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx

from dicom_assets.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from dicom_assets.feed.http.body import read_beginning

HEADER_UNREADABLE: Final = "header cannot be read by the service"


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The meaning of a failure. `remedy` is for the person who reads the run's error."""

    error: type[ServiceError]
    remedy: str
    may_pass: bool = True
    # Lowers the number of requests in flight, in the end to one a second.
    throttles: bool = False
    # A bad header may be the cause, if headers were requested. `reason` is then its rejection's.
    may_be_header: bool = False
    reason: str = HEADER_UNREADABLE
    # The same request would always fail in the same way.
    is_certain: bool = False
    # It is about the caller's identity, so retrying for minutes does not help.
    is_about_identity: bool = False


class RequestFailure(Exception):  # noqa: N818 - internal to `feed`, never raised out of it
    """A request without a usable answer: `what` happened, and its meaning.

    `after_seconds` is the service's Retry-After. `is_renewed`: the next request has another token.
    `begun` is the number of entries that begin in an answer that is too large.
    """

    def __init__(
        self,
        what: str,
        meaning: Meaning,
        *,
        after_seconds: float | None = None,
        is_renewed: bool = False,
        begun: int = 0,
    ) -> None:
        super().__init__(what)
        self.meaning = meaning
        self.after_seconds = after_seconds
        self.is_renewed = is_renewed
        self.begun = begun


def _refused(remedy: str) -> Meaning:
    return Meaning(error=ServiceRefusedError, remedy=remedy, may_pass=False)


_HEALTH: Final = "if it stays so, look at the service's health and at the network"
_ADDRESS: Final = "is DICOM_SERVICE_URL right, and the network open?"

_THROTTLED: Final = Meaning(
    error=ServiceUnavailableError,
    remedy="the service gets too many requests: run at another hour, or ask for a higher quota",
    throttles=True,
)
_TROUBLE: Final = Meaning(
    error=ServiceUnavailableError, remedy=_HEALTH, throttles=True, may_be_header=True
)
CANCELLED: Final = replace(_TROUBLE, throttles=False)
BROKEN: Final = CANCELLED
STOPPED: Final = Meaning(error=ServiceUnavailableError, remedy=_HEALTH)
MALFORMED: Final = Meaning(
    error=ServiceAnswerError,
    remedy="if it stays so, look for a proxy or a cache between this machine and the service",
    may_be_header=True,
    reason="header cannot be decoded",
)
ODD_STATUS: Final = replace(MALFORMED, may_be_header=False)
FOREIGN: Final = replace(
    ODD_STATUS,
    remedy="a proxy or a sign-in page may have answered instead of the service: ask the "
    "administrator of the network, and check DICOM_SERVICE_URL",
)
TOO_LARGE: Final = replace(MALFORMED, is_certain=True, reason="header is too large")
UNREACHABLE: Final = Meaning(error=ServiceUnavailableError, remedy=_ADDRESS, throttles=True)
TIMEOUT: Final = replace(_TROUBLE)
UNTRUSTED: Final = _refused("give SSL_CERT_FILE a file of trusted certificate authorities")
PARAMETER: Final = _refused("is DICOM_API_VERSION right?")
REDIRECT: Final = _refused(
    "redirects are not followed, because they would carry the token away: is DICOM_SERVICE_URL "
    "right?"
)
OTHER_REFUSAL: Final = _refused("the service's documentation explains the status")
NO_TOKEN_SENT: Final = _refused(
    "no token is sent over http, which is for a service on this machine only: let it answer "
    "without a token, or set DICOM_SERVICE_URL to an https:// address"
)
TOKEN_REFUSED: Final = Meaning(
    error=ServiceRefusedError,
    remedy="a new token was refused, too: does the identity belong to the service's tenant, and "
    "is this machine's clock right?",
    is_about_identity=True,
)
NO_IDENTITY: Final = replace(
    TOKEN_REFUSED, remedy="give the process an identity that azure-identity can find"
)
NO_TOKEN: Final = Meaning(
    error=ServiceUnavailableError,
    remedy="is the network open to login.microsoftonline.com, or to the identity of this machine?",
)
BROKEN_CREDENTIAL: Final = _refused("give the process an identity that azure-identity can find")

STATUSES: Final[Mapping[int, Meaning]] = {
    403: _refused('the identity lacks the role "DICOM Data Reader" on the service'),
    404: _refused(
        "is DICOM_SERVICE_URL the address of a DICOM service, and DICOM_API_VERSION right?"
    ),
    407: _refused("the proxy in HTTPS_PROXY requires a login"),
    408: _THROTTLED,
    424: _refused(
        "the service cannot use its customer-managed key or its storage: tell its administrator"
    ),
    425: _THROTTLED,
    429: _THROTTLED,
    501: _refused("the service does not offer this, and a retry would not change that"),
}

# A storage read cancelled inside the server is answered 400, too. Only this is about our request.
_PERMANENT_400: Final = b"The query parameter '"


def check_status(response: httpx.Response, retry_after_most_seconds: float) -> None:
    """Raise a RequestFailure unless the status is 200 or 204. `connection` handles 401."""
    status = response.status_code
    if status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
        return
    raise RequestFailure(
        f"the DICOM service answered {status_text(status)}",
        _meaning(status, read_beginning(response)),
        after_seconds=retry_after_seconds(response, retry_after_most_seconds),
    )


def _meaning(status: int, beginning: bytes) -> Meaning:
    if status == HTTPStatus.BAD_REQUEST:
        return PARAMETER if beginning.startswith(_PERMANENT_400) else CANCELLED
    if status in STATUSES:
        return STATUSES[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _TROUBLE
    if status >= HTTPStatus.BAD_REQUEST:
        return OTHER_REFUSAL
    return REDIRECT if status >= HTTPStatus.MULTIPLE_CHOICES else ODD_STATUS


def status_text(status: int) -> str:
    """Return a status with its standard name, never with the server's own phrase."""
    return f"{status} {httpx.codes.get_reason_phrase(status)}".strip()


def check_type(response: httpx.Response, body: bytes) -> None:
    """Raise a RequestFailure unless the body is empty or its type is JSON."""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if body and media_type not in {"application/json", "application/dicom+json"}:
        what = "the DICOM service gave an answer that cannot be used (its content type is not JSON)"
        raise RequestFailure(what, FOREIGN)


def failure_of(error: Exception) -> RequestFailure:
    """Return the RequestFailure for a request that ended without an answer."""
    causes = _causes(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        what = "the DICOM service could not be reached (its certificate is not trusted)"
        return RequestFailure(what, UNTRUSTED)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        what = "the DICOM service could not be reached (its name cannot be resolved)"
        return RequestFailure(what, UNREACHABLE)
    if isinstance(error, httpx.ProxyError):
        return RequestFailure("the proxy did not let the request through", STATUSES[407])
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return RequestFailure("the DICOM service could not be reached", UNREACHABLE)
    if isinstance(error, httpx.TimeoutException):
        return RequestFailure("the DICOM service did not answer in time", TIMEOUT)
    return RequestFailure(
        f"the DICOM service broke off its answer ({type(error).__name__})", BROKEN
    )


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def served_at(response: httpx.Response) -> datetime | None:
    """Return the service's time from the Date header, None when that is absent or malformed."""
    return _http_date(response.headers.get("Date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def retry_after_seconds(response: httpx.Response, most: float) -> float | None:
    """Return the seconds of Retry-After, None if it is absent, malformed or not in 0 to `most`."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    elif (moment := _http_date(text)) is not None:
        served = served_at(response) or datetime.now(UTC)
        seconds = (moment - served).total_seconds()
    else:
        return None
    return seconds if 0 <= seconds <= most else None
