"""The token goes to the configured service over https, and nowhere else."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.core.pipeline.transport import HttpResponse, HttpTransport
from azure.identity import ClientSecretCredential, CredentialUnavailableError

from dicom_assets.errors import ServiceRefusedError, ServiceUnavailableError, SettingsError
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed.http.auth import SCOPE, Tokens, service_address
from dicom_assets.feed.http.connection import ServiceQuery
from dicom_assets.feed.http.timeouts import DEFAULT_TIMEOUTS, Timeouts
from dicom_assets_tests.support.feeds import feed_of

SERVICE = "https://workspace-service.dicom.azurehealthcareapis.com"


@dataclass
class Credential:
    """Gives token-1, token-2, …, each valid for `seconds`."""

    seconds: float = 3_600
    error: Exception | None = None
    takes_claims: bool = True
    scopes: list[str] = field(default_factory=list)
    claims: list[str | None] = field(default_factory=list)

    def get_token(self, *scopes: str, claims: str | None = None, **_: object) -> AccessToken:
        """Return the next token."""
        self.scopes += scopes
        self.claims.append(claims)
        if claims is not None and not self.takes_claims:
            raise CredentialUnavailableError("claims are not supported")
        if self.error is not None:
            raise self.error
        return AccessToken(f"token-{len(self.scopes)}", int(time.time() + self.seconds))


@dataclass
class Service:
    """Remembers what it was sent. Answers with the statuses given, then with an empty feed."""

    statuses: list[int] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Return the next answer."""
        self.tokens.append(request.headers.get("Authorization"))
        status = self.statuses.pop(0) if self.statuses else 200
        return httpx.Response(status, json=[])


QUICK = Timeouts(
    refused_seconds=0.05, backoff_seconds=0.01, backoff_most_seconds=0.02, storm_seconds=0
)


def open_feed(
    service: Service, credential: Credential, url: str = SERVICE, timeouts: Timeouts = QUICK
) -> ChangeFeed:
    """Return a feed whose requests the service answers without a network."""
    transport = httpx.MockTransport(service)
    return feed_of(
        url, credential=credential, transport=transport, retry_seconds=0.2, timeouts=timeouts
    )


def test_a_request_over_https_carries_the_token() -> None:
    """One token serves all requests. Its scope is the same for every DICOM service."""
    service, credential = Service(), Credential()
    with open_feed(service, credential) as feed:
        feed.first()
        feed.first()
    assert service.tokens == ["Bearer token-1", "Bearer token-1"]
    assert credential.scopes == ["https://dicom.healthcareapis.azure.com/.default"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080"])
def test_a_request_over_http_carries_none(url: str) -> None:
    """The credential is not even asked."""
    service, credential = Service(), Credential()
    with open_feed(service, credential, url) as feed:
        feed.first()
    assert service.tokens == [None]
    assert credential.scopes == []


@pytest.mark.parametrize(
    ("url", "token"),
    [
        (f"{SERVICE}/v2/changefeed", "Bearer token-1"),
        (f"{SERVICE}:443/v2/changefeed", "Bearer token-1"),
        (SERVICE.upper().replace("HTTPS", "https") + "/", "Bearer token-1"),
        (f"{SERVICE}:444/v2/changefeed", None),
        (f"{SERVICE}.evil.example/v2/changefeed", None),
        ("https://evil.example/v2/changefeed", None),
        (f"https://{SERVICE.removeprefix('https://')}@evil.example/", None),
        (SERVICE.replace("https", "http") + "/v2/changefeed", None),
    ],
)
def test_the_token_is_for_the_configured_origin(url: str, token: str | None) -> None:
    """Scheme, host and port are equal, or there is none."""
    tokens = Tokens(httpx.URL(SERVICE), Credential(), DEFAULT_TIMEOUTS)
    request = httpx.Request("GET", url)
    tokens.sign(request, 1.0)
    assert request.headers.get("Authorization") == token


def test_a_token_is_renewed_before_it_expires() -> None:
    """Five minutes before, so that none expires on its way."""
    service, credential = Service(), Credential(seconds=299)
    with open_feed(service, credential) as feed:
        feed.first()
        credential.seconds = 301
        feed.first()
        feed.first()
    assert service.tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


def test_a_refused_token_is_renewed_once() -> None:
    """The request goes on with the new one, and so do all others."""
    service, credential = Service([401]), Credential()
    with open_feed(service, credential) as feed:
        assert feed.first() is None
        feed.first()
    assert service.tokens == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


def test_a_token_refused_for_ever_is_an_error_in_time() -> None:
    """One new token is asked for, no more. The message has none."""
    service, credential = Service([401] * 99), Credential()
    with (
        open_feed(service, credential) as feed,
        pytest.raises(
            ServiceRefusedError, match=r"401 Unauthorized.* in 0.05 s: .*tenant"
        ) as error,
    ):
        feed.first()
    assert set(service.tokens) == {"Bearer token-1", "Bearer token-2"}
    assert len(credential.scopes) == 2
    assert "token-" not in str(error.value)


def test_a_new_token_that_was_taken_may_be_renewed_again() -> None:
    """By force each time, because a cache may not know that the old one was refused."""
    service, credential = Service([401, 200, 401, 200]), Credential()
    with open_feed(service, credential) as feed:
        feed.first()
        feed.first()
    assert service.tokens == [f"Bearer token-{number}" for number in (1, 2, 2, 3)]
    assert [claims is not None for claims in credential.claims] == [False, True, True]
    assert "nbf" in str(credential.claims[1])


def test_a_credential_that_knows_no_claims_is_asked_without() -> None:
    """The command line tools are such ones. They have no cache of ours."""
    service, credential = Service([401]), Credential(takes_claims=False)
    with open_feed(service, credential) as feed:
        feed.first()
    assert service.tokens == ["Bearer token-1", "Bearer token-3"]


def test_a_token_that_cannot_be_renewed_early_is_used_to_its_end() -> None:
    """An identity that is away for minutes stops nothing."""
    service, credential = Service(), Credential(seconds=100)
    with open_feed(service, credential) as feed:
        feed.first()
        credential.error = ServiceRequestError("away")
        feed.first()
        feed.first()
    assert service.tokens == ["Bearer token-1"] * 3


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (ClientAuthenticationError("tenant PHI-7f3c"), ServiceRefusedError, "an identity"),
        (ServiceRequestError("login.example PHI-7f3c"), ServiceUnavailableError, "network open"),
        (ValueError("PHI-7f3c"), ServiceRefusedError, "an identity"),
    ],
)
def test_a_credential_that_fails_is_named_by_its_class(
    error: Exception, kind: type[Exception], remedy: str
) -> None:
    """Not by what Azure says: that may name tenants, users and addresses."""
    service, credential = Service(), Credential(error=error)
    with open_feed(service, credential) as feed, pytest.raises(kind, match=remedy) as raised:
        feed.first()
    assert "Credential gave no token" in str(raised.value)
    assert "PHI" not in str(raised.value)
    assert service.tokens == []
    # Azure's chain says of a passing failure, too, that nobody is logged in.
    assert (len(credential.scopes) > 1) == (not isinstance(error, ValueError))


class Login(HttpTransport[Any, Any]):
    """Microsoft's login without a network: every token it gives is another."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, str]] = []

    def send(self, request: Any, **_: Any) -> Any:  # noqa: ANN401 - as azure-core has it
        """Answer the tenant's configuration, or give a token."""
        base = "https://login.microsoftonline.com/tenant"
        if "openid-configuration" in request.url:
            names = {"token_endpoint": "token", "authorization_endpoint": "authorize"}
            found: dict[str, object] = {name: f"{base}/{path}" for name, path in names.items()}
            return _Answer(request, found | {"issuer": f"{base}/v2.0"})
        self.bodies.append(dict(request.body))
        token = {"access_token": f"token-{len(self.bodies)}", "expires_in": 3600}
        return _Answer(request, token | {"token_type": "Bearer"})

    def open(self) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """There is nothing to close."""

    def __exit__(self, *_: object) -> None:
        """Nor to leave."""


class _Answer(HttpResponse):
    def __init__(self, request: Any, content: dict[str, object]) -> None:  # noqa: ANN401 - as above
        super().__init__(request, None)
        self.status_code, self.reason, self.content_type = 200, "OK", "application/json"
        self.headers = {"Content-Type": "application/json"}
        self._content = json.dumps(content).encode()

    def body(self) -> bytes:
        """Return the answer."""
        return self._content


def test_azure_identity_gives_another_token_when_it_is_forced() -> None:
    """Its cache would give the refused one again: this is how it is passed by."""
    login = Login()
    credential = ClientSecretCredential(
        "tenant", "client", "secret", transport=login, disable_instance_discovery=True
    )
    assert credential.get_token(SCOPE).token == credential.get_token(SCOPE).token == "token-1"
    service = Service([200, 401, 200])
    with open_feed(service, cast("Credential", credential)) as feed:
        feed.first()
        feed.first()
    assert service.tokens == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    assert ["claims" in body for body in login.bodies] == [False, True]
    assert credential.get_token(SCOPE).token == "token-2"


@pytest.mark.parametrize(
    "url",
    [
        "https://workspace-service.dicom.azurehealthcareapis.com",
        "https://proxy.example:8443/dicom/",
        "http://127.0.0.1:8080",
        "http://127.8.9.1",
        "http://[::1]:8080",
    ],
)
def test_addresses_that_may_be_asked(url: str) -> None:
    """Https, and http on this machine."""
    assert str(service_address(url)).endswith("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://workspace-service.dicom.azurehealthcareapis.com",
        "http://localhost:8080",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "http://2130706433",
        "http://0.0.0.0",
        "https://user@service.example",
        "https://user:password@service.example",
        "https://service.example@evil.example",
        "https://service.example/?token=1",
        "https://service.example/#a",
        "https://",
        "https:///v2",
        "ftp://service.example",
        "service.example",
        "//service.example",
        "",
        "https://[::1",
        "https://service.example:port",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    """With the reason, and without the address, which may hold a password."""
    with pytest.raises(SettingsError, match="URL") as error:
        feed_of(url)
    assert "evil" not in str(error.value)
    assert "password@" not in str(error.value)


def test_an_absolute_path_is_never_signed() -> None:
    """Whatever is asked for, the token's own check stands between."""
    service, credential = Service(), Credential()
    with open_feed(service, credential) as feed:
        query = ServiceQuery("https://evil.example/v2", {}, lambda _: None, "nowhere")
        feed._connection.get(query, stop=threading.Event())
    assert service.tokens == [None]
    assert credential.scopes == []


def test_azure_is_imported_when_a_token_is_needed_only() -> None:
    """Its libraries take longer than all the rest of the core."""
    code = (
        "import sys; from dicom_assets_tests.support.feeds import feed_of; feed_of('https://x').close();"
        "sys.exit(any(name.startswith('azure') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_is_azure_identitys_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a credential of the caller's, it is built at the first request over https."""
    credential = Credential()
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", lambda: credential)
    service = Service()
    with feed_of(SERVICE, transport=httpx.MockTransport(service)) as feed:
        feed.first()
    assert service.tokens == ["Bearer token-1"]


def test_few_seconds_for_retries_bound_the_wait_for_a_token() -> None:
    """A credential may take a minute, which is more than is allowed here."""
    free = threading.Event()

    class Slow(Credential):
        def get_token(self, *scopes: str, claims: str | None = None, **_: object) -> AccessToken:
            free.wait(20)
            return super().get_token(*scopes, claims=claims)

    started = time.monotonic()
    try:
        with (
            open_feed(Service(), Slow()) as feed,
            pytest.raises(ServiceUnavailableError, match=r"Slow gave no token in 1\.0 s"),
        ):
            feed.first()
        assert time.monotonic() - started < 15
    finally:
        free.set()
