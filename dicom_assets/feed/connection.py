"""One request to the service, tried again until it is answered whole or refused for good.

Here: what an answer must be to be believed, which failures pass, how long to wait, and what each
refusal means. What is asked, and what the answers mean, is in `client`. The address, the window
and the status are all that a message tells: bodies and headers stay here.
"""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
import tenacity

from dicom_assets.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from dicom_assets.feed.auth import TokenAuth
from dicom_assets.feed.decode import MalformedError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)
Parameters = Mapping[str, str | int]

CONNECT_TIMEOUT_SECONDS: Final = 10.0
# Between two pieces of an answer; a page of 200 headers is read from 200 blobs before the first.
READ_TIMEOUT_SECONDS: Final = 60.0
BACKOFF_SECONDS: Final = 0.5
BACKOFF_MOST_SECONDS: Final = 30.0
RETRY_AFTER_MOST_SECONDS: Final = 3600.0
SPREAD_SECONDS: Final = 1.0

# A storage read that was cancelled inside the server is answered 400, too; only this one is ours.
_PERMANENT_400: Final = b"The query parameter '"
_CERTIFICATE: Final = "its certificate is not trusted: SSL_CERT_FILE names the authorities"
_NETWORK: Final = "is DICOM_SERVICE_URL right, and the network open?"
_NAME: Final = "its name cannot be resolved: is DICOM_SERVICE_URL right?"
_REMEDIES: Final = {
    400: "is DICOM_API_VERSION right?",
    401: "the token was refused twice: is the identity of the service's tenant?",
    403: 'the identity lacks the role "DICOM Data Reader" on the service',
    404: "is DICOM_SERVICE_URL the address of a DICOM service, and DICOM_API_VERSION right?",
    424: "the service cannot use its customer-managed key or its storage: its owner must act",
}


class _PassingError(Exception):
    """A failure that may pass; its text holds neither the address nor anything of a body."""

    def __init__(self, what: str, *, kind: type[ServiceError], after: float | None = None) -> None:
        super().__init__(what)
        self.kind = kind
        self.after_seconds = after


class Connection:
    """Asks the service, for as long as `retry_seconds` per question; safe to share by threads."""

    def __init__(  # noqa: PLR0913 - what a connection needs
        self,
        url: str,
        *,
        retry_seconds: float,
        connections: int,
        credential: "TokenCredential | None",
        transport: httpx.BaseTransport | None,
        heard: Callable[[datetime], None],
    ) -> None:
        self._retry_seconds = retry_seconds
        self._heard = heard
        self._client = _client(url, connections, credential, transport)

    def close(self) -> None:
        """Close every connection; requests in flight fail."""
        self._client.close()

    def ask(
        self,
        path: str,
        parameters: Parameters,
        read: Callable[[bytes], T],
        *,
        where: str,
        stop: threading.Event,
    ) -> T:
        """Return what `read` makes of the answer's body; its MalformedError means: ask again.

        Raises ServiceRefusedError at once for what will not pass; for what may, after
        `retry_seconds` or when `stop` is set, ServiceUnavailableError or ServiceAnswerError.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            wait=self._pause,
            stop=tenacity.stop_after_delay(self._retry_seconds)
            | tenacity.stop_when_event_set(stop),
            sleep=tenacity.sleep_using_event(stop),
            before_sleep=lambda state: _log_wait(state, where),
            reraise=True,
        )
        try:
            answer: T = retrying(self._attempt, path, parameters, read, where)
        except _PassingError as error:
            kind, what = error.kind, str(error)
        else:
            return answer
        raise kind(
            f"{what}, for {where}, and so it stayed for {self._retry_seconds:g} s "
            f"(DICOM_RETRY_SECONDS); running again is safe"
        )

    def _attempt(
        self, path: str, parameters: Parameters, read: Callable[[bytes], T], where: str
    ) -> T:
        try:
            response = self._client.get(path, params=dict(parameters))
        except (httpx.TransportError, httpx.DecodingError) as error:
            what, is_final = _transport_text(error)
            if is_final:
                raise ServiceRefusedError(f"{what}, for {where}") from None
            raise _PassingError(what, kind=ServiceUnavailableError) from None
        except ServiceUnavailableError as error:
            raise _PassingError(str(error), kind=ServiceUnavailableError) from None
        self._listen(response)
        _check_status(response, where)
        try:
            return read(_body(response))
        except MalformedError as error:
            what = f"the DICOM service gave an answer that cannot be used ({error})"
            raise _PassingError(what, kind=ServiceAnswerError) from None

    def _listen(self, response: httpx.Response) -> None:
        served = _date(response)
        if served is not None:
            self._heard(served)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait: what the service asks for, else more and more, at random."""
        error = state.outcome.exception() if state.outcome else None
        after = error.after_seconds if isinstance(error, _PassingError) else None
        pause = _BACKOFF(state) if after is None else after + _SPREAD(state)
        left = self._retry_seconds - (state.seconds_since_start or 0.0)
        return max(0.0, min(pause, left))


_BACKOFF: Final = tenacity.wait_random_exponential(BACKOFF_SECONDS, BACKOFF_MOST_SECONDS)
# So that eight threads that were all sent away do not all come back in the same instant.
_SPREAD: Final = tenacity.wait_random(0, SPREAD_SECONDS)


def _log_wait(state: tenacity.RetryCallState, where: str) -> None:
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    _LOG.warning("%s, for %s; asking again in %.1f s", error, where, seconds)


def _client(
    url: str,
    connections: int,
    credential: "TokenCredential | None",
    transport: httpx.BaseTransport | None,
) -> httpx.Client:
    _quieten()
    base = httpx.URL(url.rstrip("/") + "/")
    return httpx.Client(
        base_url=base,
        auth=TokenAuth(base, credential),
        headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
        timeout=httpx.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        # A proxy of the environment is not for a service on this machine.
        trust_env=base.scheme == "https",
        transport=transport,
    )


def _quieten() -> None:
    """Let httpx log warnings only, unless somebody set its level.

    At INFO it writes a line per request. Where Dagster manages the root logger
    (`managed_python_loggers: [root]`), each would become a row in its event log.
    """
    for name in ("httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _check_status(response: httpx.Response, where: str) -> None:
    """Raise unless the status is one of success: a passing failure, or the refusal it is."""
    status = response.status_code
    if status in {200, 204}:
        return
    cancelled = status == HTTPStatus.BAD_REQUEST and not response.content.startswith(_PERMANENT_400)
    if cancelled or status in {408, 429} or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        what = f"the DICOM service answered {_status_text(status)}"
        raise _PassingError(what, kind=ServiceUnavailableError, after=_retry_after(response))
    if response.is_redirect:
        raise ServiceRefusedError(
            f"the DICOM service answered {_status_text(status)}, for {where}; redirects are not "
            f"followed, because they would carry the token away: is DICOM_SERVICE_URL right?"
        )
    if response.is_client_error:
        remedy = _REMEDIES.get(status, "the service's documentation explains the status")
        raise ServiceRefusedError(
            f"the DICOM service answered {_status_text(status)}, for {where}: {remedy}"
        )
    what = f"the DICOM service answered {_status_text(status)}"
    raise _PassingError(what, kind=ServiceAnswerError)


def _status_text(status: int) -> str:
    # Not the reason phrase of the answer: that is the server's text.
    return f"{status} {httpx.codes.get_reason_phrase(status)}".strip()


def _body(response: httpx.Response) -> bytes:
    if not response.content:
        return b""
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type not in {"application/json", "application/dicom+json"}:
        raise MalformedError("its content type is not JSON")
    return response.content


def _transport_text(error: Exception) -> tuple[str, bool]:
    """Return what went wrong on the way, in our words, and whether it will stay so."""
    causes = _causes(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return f"the DICOM service could not be reached ({_CERTIFICATE})", True
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"the DICOM service could not be reached ({_NAME})", False
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"the DICOM service could not be reached ({_NETWORK})", False
    if isinstance(error, httpx.TimeoutException):
        return "the DICOM service did not answer in time", False
    return f"the DICOM service broke off its answer ({type(error).__name__})", False


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def _date(response: httpx.Response) -> datetime | None:
    return _http_date(response.headers.get("Date", ""))


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the service asks us to wait; None when it does not, or absurdly."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    elif (moment := _http_date(text)) is not None:
        served = _date(response) or datetime.now(UTC)
        seconds = (moment - served).total_seconds()
    else:
        return None
    return seconds if 0 <= seconds <= RETRY_AFTER_MOST_SECONDS else None
