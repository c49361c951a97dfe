"""One request to the service, asked again until it is answered whole or refused for good.

Here: one question and its attempts, the deadline of each, and the error in the end. What an answer
means is in `answers`, how long is waited in `timeouts`, how many ask at once in `throttle`, who
gets the token in `auth`. The window and the status are all that a message tells: addresses, bodies
and headers stay here.
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

# The last attempt is given at least this part of the time in which all must be over.
_LAST_PART: Final = 0.1


@dataclass(frozen=True)
class ServiceQuery(Generic[T]):
    """What is asked, and what `read` makes of the body; its MalformedError means: ask again.

    `path` is relative to the service's address; `where` names the window in messages.
    """

    path: str
    parameters: Mapping[str, str | int]
    read: Callable[[bytes], T]
    where: str

    @property
    def has_headers(self) -> bool:
        """Whether headers are asked for."""
        return self.parameters.get("includeMetadata") == "true"


class HeaderSuspectedError(Exception):
    """A request with headers failed as it would if one of them could not be read."""

    def __init__(self, failure: RequestFailure) -> None:
        super().__init__(str(failure))
        self.is_certain = failure.meaning.is_certain
        self.reason = failure.meaning.reason


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
        timeouts: Timeouts,
        heard: Callable[[datetime], None],
    ) -> None:
        self.retry_seconds = retry_seconds
        self.timeouts = timeouts
        # Requests that failed so far: where some did, what others say is looked at twice.
        self.failures = 0
        # Headers come from another storage than entries: one may be in trouble, the other well.
        self._throttles = {kind: Throttle(connections, timeouts) for kind in (False, True)}
        self._heard = heard
        address = service_address(url)
        self._tokens = Tokens(address, credential, timeouts)
        self._client = new_client(address, connections, transport, timeouts)

    def close(self) -> None:
        """Close every connection; requests in flight fail."""
        self._client.close()
        self._tokens.close()

    def ask(
        self,
        question: ServiceQuery[T],
        *,
        stop: threading.Event,
        since: float | None = None,
        tries: int | None = None,
    ) -> T:
        """Return what the question's `read` makes of the answer.

        Raises ServiceRefusedError at once for what will not pass; for what may, after
        `retry_seconds` (counted from `since`, if that is given) or when `stop` is set,
        ServiceUnavailableError or ServiceAnswerError. With `tries`, HeaderSuspectedError after so
        many attempts, if a header may be the reason.
        """
        began = self.timeouts.now() if since is None else since
        asking = _Attempts(question, stop, began, self.retry_seconds, self.timeouts, tries)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=asking.pause,
            stop=asking.is_over,
            sleep=asking.sleep,
            before_sleep=asking.log,
            reraise=True,
        )
        try:
            answer: T = retrying(self._attempt, asking)
        except RequestFailure as error:
            failure = error
        else:
            return answer
        raise asking.error(failure)

    def _attempt(self, asking: "_Attempts[T]") -> T:
        asking.attempts += 1
        request = self._client.build_request(
            "GET", asking.question.path, params=dict(asking.question.parameters)
        )
        self._tokens.sign(request)
        throttle = self._throttles[asking.question.has_headers]
        with throttle.turn(asking.stop, asking.ends) as has_turn:
            if not has_turn or asking.stop.is_set():
                asking.attempts -= 1
                raise asking.failure
            body = self._throttled(throttle, request, asking)
        try:
            return asking.question.read(body)
        except MalformedError as error:
            self.failures += 1
            asking.failure = _malformed(error)
        raise asking.failure

    def _throttled(
        self, throttle: Throttle, request: httpx.Request, asking: "_Attempts[T]"
    ) -> bytes:
        """Return the body; what comes of the request decides how many may run at once."""
        try:
            body = self._fetch(request, asking.seconds())
        except RequestFailure as failure:
            self.failures += 1
            asking.failure = asking.told(failure)
            if failure.meaning.throttles:
                throttle.slow_down()
            raise
        throttle.speed_up()
        return body

    def _fetch(self, request: httpx.Request, seconds: float) -> bytes:
        """Return the body of an answer of success, all of it within so many seconds."""
        try:
            with within(seconds):
                response = self._client.send(request, stream=True)
                try:
                    return self._body(response)
                finally:
                    self._give_back(response)
        except (httpx.TransportError, httpx.DecodingError) as error:
            failure = answers.failure_of(error)
        except MalformedError as error:
            failure = _malformed(error)
        raise failure

    def _give_back(self, response: httpx.Response) -> None:
        """The answer's connection is free, or closed like all others.

        A pool that is closed forgets the connections that are being opened.
        """
        response.close()
        if self._client.is_closed and "network_stream" in response.extensions:
            response.extensions["network_stream"].close()

    def _body(self, response: httpx.Response) -> bytes:
        served = answers.served_at(response)
        if served is not None:
            self._heard(served)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise self._unauthorized(response)
        self._tokens.accept(response.request)
        answers.check_status(response, self.timeouts.retry_after_most_seconds)
        body = read_body(response)
        answers.check_type(response, body)
        return body

    def _unauthorized(self, response: httpx.Response) -> RequestFailure:
        what = f"the DICOM service answered {answers.status_text(response.status_code)}"
        if "Authorization" not in response.request.headers:
            return RequestFailure(what, answers.NO_TOKEN_SENT)
        is_renewed = self._tokens.refuse(response.request)
        return RequestFailure(what, answers.TOKEN_REFUSED, is_renewed=is_renewed)


class _Attempts(Generic[T]):
    """One question while it is asked: when to stop, how long to pause, what to say."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that one question is
        self,
        question: ServiceQuery[T],
        stop: threading.Event,
        began: float,
        retry_seconds: float,
        timeouts: Timeouts,
        tries: int | None,
    ) -> None:
        self.question = question
        self.stop = stop
        self.ends = began + retry_seconds
        self.attempts = 0
        # What is told when no further attempt gets its turn.
        self.failure = RequestFailure(
            "the read of the DICOM service was given up", answers.GIVEN_UP
        )
        self._began = began
        self._retry_seconds = retry_seconds
        self._timeouts = timeouts
        self._tries = tries
        most = timeouts.backoff_most_seconds
        self._backoff = tenacity.wait_random_exponential(timeouts.backoff_seconds, most)
        self._spread = tenacity.wait_random(0, timeouts.spread_seconds)

    def seconds(self) -> float:
        """Return the time for this attempt: what is left, but the first always has its own."""
        now, whole = self._timeouts.now(), self._timeouts.request_seconds
        if self.attempts == 1 and now - self._began < whole:
            return whole
        return min(whole, max(self.ends - now, _LAST_PART * self._retry_seconds))

    def told(self, failure: RequestFailure) -> RequestFailure:
        """Return the failure that says more: that a last, short attempt was late says nothing."""
        is_late = failure.meaning is answers.TIMEOUT
        return self.failure if is_late and self.failure.meaning is not answers.GIVEN_UP else failure

    def _most_seconds(self, failure: RequestFailure) -> float:
        if failure.meaning.is_about_identity:
            return min(self._retry_seconds, self._timeouts.refused_seconds)
        return self._retry_seconds

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        """Whether nothing is asked again after this attempt."""
        failure = _failure_in(state)
        if self.stop.is_set() or self._is_stubborn(failure):
            return True
        if failure.is_renewed and self.attempts == 1:
            return False
        return self._timeouts.now() - self._began >= self._most_seconds(failure)

    def _is_stubborn(self, failure: RequestFailure) -> bool:
        if self._tries is None or not failure.meaning.may_be_header:
            return False
        return failure.meaning.is_certain or self.attempts >= self._tries

    def pause(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds to wait: what the service asks for, else more and more, at random."""
        failure = _failure_in(state)
        if failure.is_renewed:
            return 0.0
        after = failure.after_seconds
        pause = self._backoff(state) if after is None else after + self._spread(state)
        left = self._began + self._most_seconds(failure) - self._timeouts.now()
        return max(0.0, min(pause, left))

    def sleep(self, seconds: float) -> None:
        """Wait, unless the read is given up."""
        self._timeouts.sleep(seconds, self.stop)

    def log(self, state: tenacity.RetryCallState) -> None:
        """Say why it is asked again, and when."""
        seconds = state.next_action.sleep if state.next_action else 0.0
        failure, where = _failure_in(state), self.question.where
        _LOG.warning("%s, for %s; asking again in %.1f s", failure, where, seconds)

    def error(self, failure: RequestFailure) -> Exception:
        """Return the error that is raised for the last failure."""
        if self._is_stubborn(failure):
            return HeaderSuspectedError(failure)
        failure = self.told(failure)
        meaning = failure.meaning
        if not meaning.may_pass:
            return meaning.error(f"{failure}, for {self.question.where}: {meaning.remedy}")
        times = f"{self.attempts} time{'s' if self.attempts > 1 else ''}"
        seconds = self._most_seconds(failure)
        setting = " (DICOM_RETRY_SECONDS)" if seconds == self._retry_seconds else ""
        return meaning.error(
            f"{failure}, for {self.question.where}; asked {times} in {seconds:g} s{setting}: "
            f"{meaning.remedy}. Running again is safe"
        )


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, RequestFailure) and error.meaning.may_pass


def _failure_in(state: tenacity.RetryCallState) -> RequestFailure:
    return cast("RequestFailure", state.outcome.exception() if state.outcome else None)


def _malformed(error: MalformedError) -> RequestFailure:
    what = f"the DICOM service gave an answer that cannot be used ({error})"
    is_large = isinstance(error, TooLargeError)
    return RequestFailure(what, answers.TOO_LARGE if is_large else answers.MALFORMED)


def new_client(
    address: httpx.URL,
    connections: int,
    transport: httpx.BaseTransport | None,
    timeouts: Timeouts,
) -> httpx.Client:
    """Return a client that asks below the address, follows nothing, and keeps to `within`."""
    quieten()
    client = httpx.Client(
        base_url=address,
        headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
        timeout=httpx.Timeout(timeouts.read_seconds, connect=timeouts.connect_seconds),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        # A proxy of the environment is not for a service on this machine.
        trust_env=address.scheme == "https",
        transport=transport,
    )
    bind(client)
    return client


def quieten() -> None:
    """Let what stands below us log its errors only, unless somebody set its level.

    At INFO httpx writes a line per request, and azure-identity's warnings name tenants and
    addresses. Where Dagster manages the root logger (`managed_python_loggers: [root]`), each would
    become a row in its event log.
    """
    levels = {"httpx": logging.WARNING, "httpcore": logging.WARNING}
    levels |= {"azure": logging.ERROR, "msal": logging.ERROR, "urllib3": logging.ERROR}
    for name, level in levels.items():
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
