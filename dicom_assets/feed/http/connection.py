"""One request to the service, retried until it is answered whole or refused for good.

A `Connection` makes the attempts of a `ServiceQuery`, each with its deadline, and raises the error
in the end. Messages hold the window and the status, and never an address, a body or a header.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

import httpx
import tenacity

from dicom_assets.feed.decode import MalformedError
from dicom_assets.feed.http import answers
from dicom_assets.feed.http.answers import RequestFailure
from dicom_assets.feed.http.auth import Tokens, service_address
from dicom_assets.feed.http.body import TooLargeError, read_body
from dicom_assets.feed.http.deadline import bind, within
from dicom_assets.feed.http.throttle import Throttle
from dicom_assets.feed.http.timeouts import Timeouts

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)

JSON: Final = "application/json"
# The last attempt has at least this part of `retry_seconds`.
_LAST_PART: Final = 0.1
# A first attempt has at least this, and all its time where nothing is to be tried again.
_LEAST_SECONDS: Final = 1.0


@dataclass(frozen=True)
class ServiceQuery(Generic[T]):
    """A GET request, and `read`, which parses the body. Its MalformedError leads to a retry.

    `path` is relative to the service's address. `where` names the window in messages. `absent` is
    the remedy for a 404, where it says more than that the address or the version is wrong.
    """

    path: str
    parameters: Mapping[str, str | int]
    read: Callable[[bytes], T]
    where: str
    accept: str = JSON
    absent: str = ""


class HeaderSuspectedError(Exception):
    """A request with headers failed in a way that one bad header could cause."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(str(failure))
        self.is_certain = failure.meaning.is_certain
        self.is_late = failure.meaning is answers.TIMEOUT
        self.reason = failure.meaning.reason
        self.begun = failure.begun


class Connection:
    """A connection to the service that retries each query. Safe to share between threads.

    `retry_seconds` bounds all attempts of a query. `on_date` gets the time in each answer's Date.
    """

    def __init__(  # noqa: PLR0913 - one argument per property
        self,
        url: str,
        *,
        retry_seconds: float,
        connections: int,
        credential: "TokenCredential | None",
        transport: httpx.BaseTransport | None,
        timeouts: Timeouts,
        on_date: Callable[[datetime], None],
    ) -> None:
        self.retry_seconds = retry_seconds
        self.timeouts = timeouts
        # The number of failed requests. After a failure, `light_read` checks counts more than once.
        self.failures = 0
        self._throttle = Throttle(connections, timeouts)
        # The latest failure that slowed all requests down.
        self._overload: RequestFailure | None = None
        self._on_date = on_date
        address = service_address(url)
        self._tokens = Tokens(address, credential, timeouts)
        self._client = new_client(address, connections, transport, timeouts)

    def close(self) -> None:
        """Close every connection, so that requests in flight fail."""
        self._client.close()
        self._tokens.close()

    def get(
        self,
        query: ServiceQuery[T],
        *,
        stop: threading.Event,
        since: float | None = None,
        seconds: float | None = None,
        tries: int | None = None,
    ) -> T:
        """Return the answer as parsed by the query's `read`.

        Raises ServiceRefusedError at once for a failure that will not pass. For one that may pass,
        raises ServiceUnavailableError or ServiceAnswerError when `stop` is set or `retry_seconds`
        are over, or `seconds` if given, counted from `since` if that is given. With `tries`, raises
        HeaderSuspectedError after so many attempts, if a header may be the cause, and when the time
        is over before an answer, because a large header may be the cause of that.
        """
        began = self.timeouts.now() if since is None else since
        seconds = self.retry_seconds if seconds is None else seconds
        stopped = RequestFailure("the read of the DICOM service was stopped", answers.STOPPED)
        attempts = _Attempts(query, stop, began, seconds, self.timeouts, tries, stopped)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(RequestFailure),
            wait=attempts.pause,
            stop=attempts.is_over,
            sleep=attempts.sleep,
            before_sleep=attempts.log,
            reraise=True,
        )
        try:
            answer: T = retrying(self._attempt, attempts)
        except RequestFailure as error:
            failure = error
        else:
            return answer
        raise attempts.error(failure)

    def _attempt(self, attempts: "_Attempts[T]") -> T:
        attempts.count += 1
        query = attempts.query
        parameters, accept = dict(query.parameters), {"Accept": query.accept}
        request = self._client.build_request("GET", query.path, params=parameters, headers=accept)
        self._tokens.sign(request, attempts.seconds())
        ends = attempts.began + attempts.retry_seconds
        with self._throttle.turn(attempts.stop, ends) as has_turn:
            if not has_turn or attempts.stop.is_set():
                attempts.count -= 1
                if attempts.failure.meaning is answers.STOPPED and not attempts.stop.is_set():
                    attempts.failure = self._overload or attempts.failure
                raise attempts.failure
            body = self._throttled(request, attempts)
        try:
            return query.read(body)
        except MalformedError as error:
            self.failures += 1
            attempts.failure = _malformed(error)
        raise attempts.failure

    def _throttled(self, request: httpx.Request, attempts: "_Attempts[T]") -> bytes:
        try:
            body = self._fetch(request, attempts.seconds())
        except RequestFailure as failure:
            self.failures += 1
            attempts.failure = attempts.telling(failure)
            if failure.meaning.throttles:
                self._overload = RequestFailure(str(failure), failure.meaning)
                left = attempts.began + attempts.retry_seconds - self.timeouts.now()
                # Others start again a little before the time of this query is over, as it does.
                self._throttle.slow_down(min(failure.after_seconds or 0.0, 0.99 * left))
            raise
        self._throttle.speed_up()
        return body

    def _fetch(self, request: httpx.Request, seconds: float) -> bytes:
        """Return the whole body of a successful answer within `seconds`."""
        try:
            with within(seconds):
                response = self._client.send(request, stream=True)
                try:
                    return self._body(response)
                finally:
                    response.close()
                    # httpx's pool leaves those open that were being opened when it was closed.
                    if self._client.is_closed and "network_stream" in response.extensions:
                        response.extensions["network_stream"].close()
        except (httpx.TransportError, httpx.DecodingError) as error:
            failure = answers.failure_of(error)
        except MalformedError as error:
            failure = _malformed(error)
        raise failure

    def _body(self, response: httpx.Response) -> bytes:
        served = answers.served_at(response)
        if served is not None:
            self._on_date(served)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            what = f"the DICOM service answered {answers.status_text(response.status_code)}"
            if "Authorization" not in response.request.headers:
                raise RequestFailure(what, answers.NO_TOKEN_SENT)
            is_renewed = self._tokens.refuse(response.request)
            raise RequestFailure(what, answers.TOKEN_REFUSED, is_renewed=is_renewed)
        self._tokens.accept(response.request)
        answers.check_status(response, self.timeouts.retry_after_most_seconds)
        body = read_body(response)
        answers.check_type(response, body)
        return body


@dataclass
class _Attempts(Generic[T]):
    """The attempts of one query: when to stop, how long to pause, which error to raise."""

    query: ServiceQuery[T]
    stop: threading.Event
    began: float
    retry_seconds: float
    timeouts: Timeouts
    tries: int | None
    # The failure to report when no further attempt gets its turn.
    failure: RequestFailure
    count: int = 0

    def seconds(self) -> float:
        """Return the deadline of this attempt: the time left, but for a first one all of it."""
        passed, whole = self.timeouts.now() - self.began, self.timeouts.request_seconds
        if self.count == 1 and passed < whole:
            allowed = max(self.retry_seconds, _LEAST_SECONDS) if self.retry_seconds else whole
            return min(whole, allowed)
        return min(whole, max(self.retry_seconds - passed, _LAST_PART * self.retry_seconds))

    def telling(self, failure: RequestFailure) -> RequestFailure:
        """Return the earlier failure in place of a timeout: a last, short attempt is often late."""
        is_late = failure.meaning is answers.TIMEOUT
        return self.failure if is_late and self.failure.meaning is not answers.STOPPED else failure

    def _most_seconds(self, failure: RequestFailure) -> float:
        if failure.meaning.is_about_identity:
            return min(self.retry_seconds, self.timeouts.refused_seconds)
        return self.retry_seconds

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        failure = _failure_in(state)
        if not failure.meaning.may_pass or self.stop.is_set() or self._is_header_suspected(failure):
            return True
        if failure.is_renewed and self.count == 1:
            return False
        return self.timeouts.now() - self.began >= self._most_seconds(failure)

    def _is_header_suspected(self, failure: RequestFailure) -> bool:
        if self.tries is None or not failure.meaning.may_be_header:
            return False
        is_over = self.timeouts.now() - self.began >= self.retry_seconds
        is_late = is_over and failure.meaning is answers.TIMEOUT
        return failure.meaning.is_certain or self.count >= self.tries or is_late

    def pause(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait: the service's Retry-After, or a random, growing backoff."""
        failure = _failure_in(state)
        if failure.is_renewed:
            return 0.0
        times, after = self.timeouts, failure.after_seconds
        most = times.backoff_most_seconds
        backoff = tenacity.wait_random_exponential(times.backoff_seconds, most)
        spread = tenacity.wait_random(0, times.spread_seconds)
        pause = backoff(state) if after is None else after + spread(state)
        left = self.began + self._most_seconds(failure) - times.now()
        return max(0.0, min(pause, left))

    def sleep(self, seconds: float) -> None:
        self.timeouts.sleep(seconds, self.stop)

    def log(self, state: tenacity.RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        failure, where = _failure_in(state), self.query.where
        _LOG.warning("%s, for %s; retrying in %.1f s", failure, where, seconds)

    def error(self, failure: RequestFailure) -> Exception:
        if self._is_header_suspected(failure):
            return HeaderSuspectedError(failure)
        failure = self.telling(failure)
        meaning = failure.meaning
        if not meaning.may_pass:
            is_absent = meaning is answers.STATUSES[HTTPStatus.NOT_FOUND]
            remedy = (is_absent and self.query.absent) or meaning.remedy
            return meaning.error(f"{failure}, for {self.query.where}: {remedy}")
        times = f"{self.count} time{'s' if self.count > 1 else ''}"
        seconds = self._most_seconds(failure)
        setting = " (DICOM_RETRY_SECONDS)" if seconds == self.retry_seconds else ""
        return meaning.error(
            f"{failure}, for {self.query.where}; requested {times} in {seconds:g} s{setting}: "
            f"{meaning.remedy}. Running again is safe"
        )


def _failure_in(state: tenacity.RetryCallState) -> RequestFailure:
    return cast("RequestFailure", state.outcome.exception() if state.outcome else None)


def _malformed(error: MalformedError) -> RequestFailure:
    what = f"the DICOM service gave an answer that cannot be used ({error})"
    if isinstance(error, TooLargeError):
        return RequestFailure(what, answers.TOO_LARGE, begun=error.begun)
    return RequestFailure(what, answers.MALFORMED)


def new_client(
    address: httpx.URL, connections: int, transport: httpx.BaseTransport | None, timeouts: Timeouts
) -> httpx.Client:
    """Return a client for requests below the address, without redirects, bound to `within`."""
    quieten()
    client = httpx.Client(
        base_url=address,
        headers={"Accept": JSON, "Accept-Encoding": "gzip"},
        timeout=httpx.Timeout(timeouts.read_seconds, connect=timeouts.connect_seconds),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        # A proxy from the environment is not for a service on this machine.
        trust_env=address.scheme == "https",
        # Certificates of authorities take a while to load.
        verify=address.scheme == "https",
        transport=transport,
    )
    bind(client)
    return client


def quieten() -> None:
    """Silence the loggers of the libraries used here, unless their level is set.

    At INFO httpx logs each request, and azure-identity's warnings name tenants and addresses. Where
    Dagster manages the root logger (`managed_python_loggers: [root]`), its event log has each.
    """
    levels = {"httpx": logging.WARNING, "httpcore": logging.WARNING}
    levels |= {"azure": logging.ERROR, "msal": logging.ERROR, "urllib3": logging.ERROR}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
