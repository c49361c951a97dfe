"""The token goes to the configured service over https, and to nobody else."""

import subprocess
import sys
import time
from dataclasses import dataclass, field

import httpx
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from dicom_assets.errors import ServiceRefusedError, ServiceUnavailableError
from dicom_assets.feed import ChangeFeed
from dicom_assets.feed.auth import TokenAuth

SERVICE = "https://workspace-service.dicom.azurehealthcareapis.com"


@dataclass
class Credential:
    """Gives token-1, token-2, …; each valid for `seconds`."""

    seconds: float = 3_600
    error: Exception | None = None
    scopes: list[str] = field(default_factory=list)

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        """Return the next token."""
        self.scopes += scopes
        if self.error is not None:
            raise self.error
        return AccessToken(f"token-{len(self.scopes)}", int(time.time() + self.seconds))


@dataclass
class Service:
    """Remembers what it was sent; answers with the statuses given, then with an empty feed."""

    statuses: list[int] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Return the next answer."""
        self.tokens.append(request.headers.get("Authorization"))
        status = self.statuses.pop(0) if self.statuses else 200
        return httpx.Response(status, json=[])


def open_feed(service: Service, credential: Credential, url: str = SERVICE) -> ChangeFeed:
    """Return a feed whose requests the service answers without a network."""
    transport = httpx.MockTransport(service)
    return ChangeFeed(url, credential=credential, transport=transport, retry_seconds=0.1)


def test_a_request_over_https_carries_the_token() -> None:
    """One token serves all requests; its scope is the same for every DICOM service."""
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
    service = Service()
    auth = TokenAuth(httpx.URL(SERVICE), Credential())
    with httpx.Client(transport=httpx.MockTransport(service), auth=auth) as client:
        client.get(url, auth=auth)
    assert service.tokens == [token]


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


def test_a_token_refused_twice_is_an_error_at_once() -> None:
    """The message has no token."""
    service, credential = Service([401, 401]), Credential()
    with (
        open_feed(service, credential) as feed,
        pytest.raises(ServiceRefusedError, match="401 Unauthorized") as error,
    ):
        feed.first()
    assert len(service.tokens) == 2
    assert "token-" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClientAuthenticationError("tenant PHI-7f3c"), ServiceRefusedError),
        (ServiceRequestError("login.example PHI-7f3c"), ServiceUnavailableError),
    ],
)
def test_a_credential_that_fails_is_named_by_its_class(
    error: Exception, kind: type[Exception]
) -> None:
    """Not by what Azure says: that may name tenants, users and addresses."""
    service, credential = Service(), Credential(error=error)
    with open_feed(service, credential) as feed, pytest.raises(kind) as raised:
        feed.first()
    assert "Credential gave no token" in str(raised.value)
    assert "PHI" not in str(raised.value)
    assert service.tokens == []
    assert (len(credential.scopes) > 1) == (kind is ServiceUnavailableError)


def test_azure_is_imported_when_a_token_is_needed_only() -> None:
    """Its libraries take longer than all the rest of the core."""
    code = (
        "import sys; from dicom_assets.feed import ChangeFeed; ChangeFeed('https://x').close();"
        "sys.exit(any(name.startswith('azure') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_is_azure_identitys_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a credential of the caller's, it is built at the first request over https."""
    credential = Credential()
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", lambda: credential)
    service = Service()
    with ChangeFeed(SERVICE, transport=httpx.MockTransport(service)) as feed:
        feed.first()
    assert service.tokens == ["Bearer token-1"]
