"""What is told of a token: the claims that help, never the token or what it says of a person."""

import base64
import json
import time
from datetime import UTC, datetime
from typing import Final

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from dicom_assets.commands.check import token as claims
from dicom_assets.commands.check.probe import State
from dicom_assets.feed.http.auth import SCOPE

AUDIENCE: Final = "https://dicom.healthcareapis.azure.com"
GUID: Final = "ab1f708d-50f6-404c-a006-d71b2ac7a606"
SECRET: Final = "c2lnbmF0dXJl"
NOW: Final = datetime(2026, 1, 5, tzinfo=UTC)


class Credential:
    """A credential by name; of a chain, the one that gave the token."""

    _successful_credential: object = None

    def get_token(self, *_: str, **__: object) -> AccessToken:
        """Nobody asks."""
        raise NotImplementedError


def token(**said: object) -> str:
    """A JSON web token that says this."""
    body = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    return f"e30.{body}.{SECRET}"


def told(text: str, seconds: float = 3600) -> tuple[State, str, str]:
    """State, text and remedy of what is told of a token that lives so long."""
    given = AccessToken(text, int(NOW.timestamp() + seconds))
    found = claims.check_token(Credential(), given, SCOPE, NOW)
    assert SECRET not in f"{found}"
    return found.state, found.found, found.remedy


def test_the_claims_that_help_are_told_and_no_others() -> None:
    """For whom, whose, of which tenant, until when; not the user's name."""
    said = {"aud": AUDIENCE, "appid": GUID, "oid": GUID, "tid": GUID, "upn": "PHI-doe@example.com"}
    state, found, _ = told(token(**said, name="PHI-Doe", roles=["x"]))
    assert state is State.OK
    assert found == (
        f"from Credential: aud {AUDIENCE}, appid {GUID}, oid {GUID}, tid {GUID}, "
        "exp 2026-01-05T01:00:00Z"
    )


def test_of_a_chain_the_credential_that_gave_it_is_named() -> None:
    """So that one sees that it was the command line's, and not the machine's."""
    chain = Credential()
    chain._successful_credential = Credential()
    assert claims.class_of(chain) == "Credential (Credential)"


@pytest.mark.parametrize("audience", [AUDIENCE, f"{AUDIENCE}/", GUID, None])
def test_an_audience_of_the_service_is_well(audience: str | None) -> None:
    """By its address, by the number of its application, or not told."""
    assert told(token(aud=audience))[0] is State.OK


def test_another_audience_is_red() -> None:
    """With the one that is needed."""
    state, found, remedy = told(token(aud="https://storage.azure.com"))
    assert state is State.RED
    assert "aud https://storage.azure.com" in found
    assert "another audience" in found
    assert AUDIENCE in remedy


def test_a_token_that_has_expired_is_red() -> None:
    """By this machine's clock, which may be the reason."""
    state, found, remedy = told(token(aud=AUDIENCE), seconds=-1)
    assert (state, "has expired" in found) == (State.RED, True)
    assert "clock" in remedy


@pytest.mark.parametrize(
    "text", ["opaque", "a.b", "a.!!!.c", "e30.W10.x", token(aud="\x1b[31m" * 9)]
)
def test_what_is_no_web_token_tells_nothing(text: str) -> None:
    """Nor does what no claim of Entra's looks like."""
    assert claims.claims_of(text) == {}
    assert "its claims cannot be read" in told(text)[1]


@pytest.mark.parametrize(
    ("number", "what", "remedy"),
    [
        ("7000222", "secret has expired", "AZURE_CLIENT_SECRET"),
        ("7000215", "secret is wrong", "AZURE_CLIENT_SECRET"),
        ("700027", "certificate", "AZURE_CLIENT_CERTIFICATE_PATH"),
        ("700016", "does not know the application", "AZURE_CLIENT_ID"),
        ("90002", "no such tenant", "AZURE_TENANT_ID"),
        ("500011", "does not know DICOM services", "AZURE_TENANT_ID"),
        ("53003", "refused", "AADSTS53003"),
    ],
)
def test_entra_is_understood_by_its_number(number: str, what: str, remedy: str) -> None:
    """Its text names applications, tenants and users, and is not told."""
    error = ClientAuthenticationError(
        "The chain failed:\n\tEnvironmentCredential: Authentication failed: "
        f"AADSTS{number}: PHI-app of {GUID} … Trace ID: {GUID}"
    )
    found = claims.explain_absence(Credential(), error)
    assert found.state is State.RED
    assert "Credential (EnvironmentCredential) gave no token: " in found.found
    assert f"(AADSTS{number})" in found.found
    assert what in found.found
    assert remedy in found.remedy
    assert GUID not in f"{found}"
    assert "PHI" not in f"{found}"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ClientAuthenticationError("PHI-x"), "az login"),
        (ServiceRequestError("PHI-x"), "network open"),
        (TimeoutError(), "network open"),
    ],
)
def test_without_a_number_the_class_is_told(error: Exception, remedy: str) -> None:
    """No identity is another thing than no network."""
    found = claims.explain_absence(Credential(), error)
    assert f"Credential gave no token ({type(error).__name__})" in found.found
    assert remedy in found.remedy
    assert "PHI" not in f"{found}"


@pytest.mark.parametrize(
    ("challenge", "what", "remedy"),
    [
        (f"The issuer 'https://sts.windows.net/{GUID}/' is invalid", "tenant", "AZURE_TENANT_ID"),
        ("The audience 'PHI-x' is invalid", "another audience", "DICOM_SERVICE_URL"),
        ("The token expired at '01/05/2026'", "not valid now", "clock"),
        ("The token is not valid before '01/05/2026'", "not valid now", "clock"),
        ("", "does not say why", "tid"),
    ],
)
def test_a_refusal_is_understood_by_what_aspnet_says(
    challenge: str, what: str, remedy: str
) -> None:
    """Its words may quote what a client sent, and are not told."""
    found = claims.explain_refusal(f'Bearer error="invalid_token", error_description="{challenge}"')
    assert found.state is State.RED
    assert what in found.found
    assert remedy in found.remedy
    assert GUID not in f"{found}"
    assert "PHI" not in f"{found}"


def test_times_are_utc() -> None:
    """As all times that the project tells."""
    given = AccessToken(token(), int(time.time()) + 60)
    ends = datetime.fromtimestamp(given.expires_on, UTC)
    assert (
        f"exp {ends:%Y-%m-%dT%H:%M:%SZ}"
        in claims.check_token(Credential(), given, SCOPE, datetime.now(UTC)).found
    )
