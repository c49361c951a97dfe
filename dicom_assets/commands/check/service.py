"""Probes of the DICOM service: its name, TLS, a token, the role, the feed.

Each step sends one request without a retry, so that each cause has its own line, and is known at
once instead of after the ten minutes of a run's retries. Printed of an answer are its status and
the versions that it names, never its body.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx

from dicom_assets.commands.check import handshake
from dicom_assets.commands.check import token as claims
from dicom_assets.commands.check.probe import Finding, Probe, explained, ok, red, unseen, warn
from dicom_assets.errors import DicomAssetsError, ServiceError
from dicom_assets.feed.client import ChangeFeed, utc_now
from dicom_assets.feed.http import answers
from dicom_assets.feed.http.answers import RequestFailure
from dicom_assets.feed.http.auth import SCOPE, default_credential, service_address
from dicom_assets.feed.http.body import read_beginning
from dicom_assets.feed.http.connection import new_client, quieten
from dicom_assets.feed.http.deadline import within
from dicom_assets.feed.http.timeouts import GLANCE
from dicom_assets.schema import CHANGE
from dicom_assets.tables.change import require_archive
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.window import datetime_of, floor_hour

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

SERVICE_GROUP: Final = "service"
FEED: Final = "feed"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_PROXIED: Final = "HTTPS_PROXY names a proxy, and it is the proxy that does this"


@dataclass(frozen=True)
class _Answer:
    """The answer to the request for one entry. Status 0 stands for none, and is a failure."""

    status: int
    headers: httpx.Headers
    failure: RequestFailure | None


@dataclass(frozen=True)
class _Given:
    """A credential that gives always the same token."""

    token: "AccessToken" = field(repr=False)

    def get_token(self, *_: str, **__: Any) -> "AccessToken":  # noqa: ANN401 - azure's protocol
        return self.token


@dataclass
class ServiceProbe:
    """The probes of one service; `first_hour` is known once the feed was read."""

    url: str
    api_version: int
    batch_size: int
    start_time: datetime | None = None
    first_hour: datetime | None = None
    _token: "AccessToken | None" = field(default=None, repr=False)
    _ahead: timedelta | None = None  # how far this machine's clock is ahead

    def probes(self) -> list[Probe]:
        """Return the probes, in the order in which one needs the other."""
        return [
            Probe(SERVICE_GROUP, "name", self.name),
            Probe(SERVICE_GROUP, "TLS", self.tls, ("name",)),
            Probe(SERVICE_GROUP, "token", self.token),
            Probe(SERVICE_GROUP, "answer", self.answer, ("TLS", "token")),
            Probe(SERVICE_GROUP, "clock", self.time, ("answer",)),
            Probe(SERVICE_GROUP, "role", self.role, ("answer",)),
            Probe(SERVICE_GROUP, "API version", self.version, ("role",)),
            Probe(SERVICE_GROUP, FEED, self.feed, ("API version",)),
        ]

    @cached_property
    def _address(self) -> httpx.URL:
        return service_address(self.url)

    @cached_property
    def _is_https(self) -> bool:
        return self._address.scheme == "https"

    @cached_property
    def _is_proxied(self) -> bool:
        # Requests to this machine use no proxy; for others httpx goes by the same variables.
        proxies = {"https", "all"} & getproxies().keys()
        return self._is_https and bool(proxies) and not proxy_bypass(self._address.host)

    @property
    def _place(self) -> tuple[str, int]:
        return self._address.host, self._address.port or (443 if self._is_https else 80)

    def name(self) -> Finding:
        """Red unless the service's name resolves."""
        return unseen(_PROXIED) if self._is_proxied else handshake.resolve(*self._place)

    def tls(self) -> Finding:
        """Red unless the service speaks TLS with a certificate that is trusted here."""
        if not self._is_https:
            return unseen("http to this machine: nothing is encrypted, and no token is sent")
        if self._is_proxied:
            return unseen(_PROXIED)
        return handshake.shake(*self._place, GLANCE.connect_seconds, utc_now())

    def token(self) -> Finding:
        """Red unless the identity of this process gets a token for the service."""
        if not self._is_https:
            return unseen("over http no token is sent")
        quieten()
        credential = default_credential()
        executor = ThreadPoolExecutor(1, thread_name_prefix="dicom-token")
        future = executor.submit(credential.get_token, SCOPE)
        try:
            error = future.exception(GLANCE.token_seconds)
        except TimeoutError as late:
            error = late
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
        if error is not None:
            return claims.explain_absence(credential, error)
        self._token = future.result()
        return claims.check_token(credential, self._token, SCOPE, utc_now())

    def answer(self) -> Finding:
        """Red unless the service answers the request for one entry, if only to refuse it."""
        answer = self._answer
        # The lines `role` and `API version` explain these.
        if answer.failure and answer.status not in {400, 401, 403, 404}:
            return red(str(answer.failure), answer.failure.meaning.remedy)
        return ok(f"{answers.status_text(answer.status)} to the question for one entry")

    def time(self) -> Finding:
        """Red when the clocks of the service and of this machine differ too much for a token."""
        if self._ahead is None:
            return unseen("the answer had no Date")
        seconds = round(self._ahead.total_seconds())
        which = "ahead of" if seconds > 0 else "behind"
        facts = f"this machine's clock is {abs(seconds)} s {which} the service's"
        if abs(self._ahead) > timedelta(minutes=5):  # more than Microsoft Entra allows
            late = "with such a difference tokens are refused and hours are read late"
            return red(facts, f"{handshake.CLOCK_REMEDY}; {late}")
        if abs(self._ahead) > timedelta(minutes=1):
            return warn(facts, handshake.CLOCK_REMEDY)
        return ok("the same as the service's, to the minute")

    def role(self) -> Finding:
        """Red unless the identity may read the feed."""
        answer = self._answer
        if answer.status == HTTPStatus.UNAUTHORIZED:
            if self._token is None:
                return red("the service wants a token", answers.NO_TOKEN_SENT.remedy)
            return claims.explain_refusal(answer.headers.get("WWW-Authenticate", ""))
        if answer.status == HTTPStatus.FORBIDDEN:
            return red(
                "the service knows the identity, and does not let it read (403 Forbidden)",
                "give the identity of the line `token` (oid) the role `DICOM Data Reader` on the "
                "service; it counts after some minutes",
            )
        anybody = "anybody may read, as it is with a service on this machine"
        return ok(anybody if self._token is None else "DICOM Data Reader, or one that may do more")

    def version(self) -> Finding:
        """Red unless the service has the version of the API that the settings name."""
        answer = self._answer
        versions = answer.headers.get("api-supported-versions", "")
        is_plain = re.fullmatch(r"[\w., -]{1,80}", versions, re.ASCII)
        named = f"; the service names {versions}" if is_plain else ""
        if answer.failure is None:
            return ok(f"v{self.api_version}{named}")
        facts = f"{answers.status_text(answer.status)} to v{self.api_version}{named}"
        return red(facts, answer.failure.meaning.remedy)

    def feed(self) -> Finding:
        """Red unless the first and the newest entry of the change feed can be read."""
        try:
            with self._open() as feed:
                first, newest = feed.first(), feed.latest()
        except ServiceError as error:
            path = f"v{self.api_version}/changefeed"
            return explained(error, f"look into the service's own log for the request to {path}")
        if first is None or newest is None:
            return ok("it is empty: nothing was ever stored in the service")
        begin, end = datetime_of(first), datetime_of(newest)
        self.first_hour = floor_hour(begin)
        is_late = self.start_time is not None and self.start_time > begin
        older = "; entries before DICOM_START_TIME are not read" if is_late else ""
        return ok(f"first entry: {begin:{_TIME}}, newest entry: {end:{_TIME}}{older}")

    def archive(self, store: Store) -> Finding:
        """Red unless the newest entry of the log is in the service."""
        try:
            logged = store.open(CHANGE)
            if not logged.count():
                return unseen("no entry is in the log yet: it fits any service")
            with self._open() as feed:
                require_archive(logged, feed)
        except DicomAssetsError as error:
            return explained(error, "is DICOM_TABLES_URL the root that this service has filled?")
        return ok("the newest entry of the log is in the service")

    def _open(self) -> ChangeFeed:
        return ChangeFeed(
            self.url,
            api_version=self.api_version,
            batch_size=self.batch_size,
            retry_seconds=0,
            in_flight=1,
            credential=None if self._token is None else _Given(self._token),
            timeouts=GLANCE,
        )

    @cached_property
    def _answer(self) -> _Answer:
        path = f"v{self.api_version}/changefeed?limit=1&offset=0&includeMetadata=false"
        token = {} if self._token is None else {"Authorization": f"Bearer {self._token.token}"}
        failure: RequestFailure | None = None
        try:
            with (
                new_client(self._address, 1, None, GLANCE) as client,
                within(GLANCE.request_seconds),
                client.stream("GET", path, headers=token) as response,
            ):
                served = answers.served_at(response)
                self._ahead = None if served is None else utc_now() - served
                try:
                    answers.check_status(response, GLANCE.retry_after_most_seconds)
                    answers.check_type(response, read_beginning(response))
                except RequestFailure as refused:
                    failure = refused
                return _Answer(response.status_code, response.headers, failure)
        except (httpx.TransportError, httpx.DecodingError) as error:
            return _Answer(0, httpx.Headers(), answers.failure_of(error))
