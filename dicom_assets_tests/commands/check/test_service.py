"""What can be wrong with the service, or the way to it: one line is red, and says the cure."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.adversary import Clock, Html, Rule, Status
from dicom_assets_tests.adversary.tokens import Token
from dicom_assets_tests.commands.check.identity import STAND_ALONE_TENANT
from dicom_assets_tests.commands.check.world import START_TIME, World
from dicom_assets_tests.support.feed_service import Answer, Running, Service
from dicom_assets_tests.support.tls import Relay

if TYPE_CHECKING:
    from pathlib import Path

OTHER: Final = "0e1b5c5c-9f0b-4a39-8f62-2f3a3c3f4d11"


def test_http_to_another_host_is_refused(world: World) -> None:
    """By the settings; nothing is asked, of nobody."""
    told = world.check(DICOM_SERVICE_URL="http://hospital.example")
    found, remedy = told.red()
    assert "DICOM_SERVICE_URL" in found
    assert "use https://" in found
    assert remedy
    assert {"complete", "service", "storage"} <= told.named("not looked")
    assert told.lines["pool"]["state"] == "ok"


def test_a_name_that_cannot_be_resolved(world: World) -> None:
    """What needs it is not looked at; the token is."""
    told = world.check(DICOM_SERVICE_URL="https://nowhere.invalid")
    found, remedy = told.red()
    assert "DICOM_SERVICE_URL cannot be resolved" in found
    assert "private endpoint" in remedy
    assert told.lines["token"]["state"] == "ok"
    assert {"TLS", "answer", "role", "feed", "archive"} <= told.named("not looked")


def test_nobody_at_the_port(world: World) -> None:
    """It is no matter of certificates."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    found, remedy = world.check(DICOM_SERVICE_URL=f"https://127.0.0.1:{port}").red()
    assert found == f"nobody answers at port {port}"
    assert "DICOM_SERVICE_URL" in remedy


def test_a_port_that_does_not_speak_tls(world: World, archive: Archive) -> None:
    """A plain service where https is expected."""
    with server.start(archive) as plain:
        url = plain.url.replace("http:", "https:")
        found, remedy = world.check(DICOM_SERVICE_URL=url).red()
    assert found == "what answers does not speak TLS"
    assert "port" in remedy


def test_a_certificate_that_is_not_trusted(world: World) -> None:
    """The remedy is the file of authorities; nobody gets the token."""
    told = world.check("SSL_CERT_FILE")
    found, remedy = told.red()
    assert found == "the certificate is not of an authority that is trusted here"
    assert "SSL_CERT_FILE" in remedy
    assert not world.tokens.answered


def test_a_certificate_of_another_name(world: World) -> None:
    """As with an alias of one's own."""
    relayed = world.url.replace("127.0.0.1", "127.0.0.2")
    with socket.create_server(("127.0.0.2", int(world.url.rpartition(":")[2]))) as listener:
        _serve_once(listener, world.trusted)
        found, remedy = world.check(DICOM_SERVICE_URL=relayed).red()
    assert found == "the certificate is for another name"
    assert "alias" in remedy


def _serve_once(listener: socket.socket, chain: Path) -> None:
    """One client is greeted with the certificate, in a thread of its own."""

    def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        plain, _ = listener.accept()
        with plain, suppress(OSError):
            context.wrap_socket(plain, server_side=True)

    threading.Thread(target=serve, daemon=True).start()


def test_authorities_that_cannot_be_read(world: World) -> None:
    """The file is missing: it is not the service that is wrong."""
    found, remedy = world.check(SSL_CERT_FILE=str(world.folder / "nowhere.pem")).red()
    assert "SSL_CERT_FILE" in found
    assert "PEM" in remedy


def test_no_identity(world: World) -> None:
    """The managed identity's endpoint knows nobody, and there is no other."""
    told = world.check(IDENTITY_HEADER="another")
    found, remedy = told.red()
    assert found.startswith("DefaultAzureCredential gave no token (")
    assert "identity" in remedy
    assert {"answer", "role", "feed"} <= told.named("not looked")
    assert not world.tokens.answered


def test_a_secret_that_has_expired(world: World) -> None:
    """Entra says so by a number, over real TLS; its text is not told."""
    world.identity.refusal = f"AADSTS7000222: The keys of PHI-app '{OTHER}' are expired. Trace …"
    with Relay(world.identity.url, world.trusted) as authority:
        told = world.check(
            AZURE_AUTHORITY_HOST=authority.url,
            AZURE_TENANT_ID=STAND_ALONE_TENANT,
            AZURE_CLIENT_ID=OTHER,
            AZURE_CLIENT_SECRET="canary-5ecret",
            REQUESTS_CA_BUNDLE=str(world.trusted),
        )
    found, remedy = told.red()
    assert "EnvironmentCredential" in found
    assert "the client secret has expired (AADSTS7000222)" in found
    assert "AZURE_CLIENT_SECRET" in remedy
    assert OTHER not in f"{told.whole}"


def test_a_token_for_another_audience(world: World) -> None:
    """Seen in the token itself, which goes nowhere."""
    world.identity.claims["aud"] = "https://storage.azure.com"
    found, remedy = world.check().red()
    assert "aud https://storage.azure.com" in found
    assert "another audience" in found
    assert "https://dicom.healthcareapis.azure.com" in remedy
    assert not world.tokens.answered


@pytest.mark.parametrize(
    ("said", "what", "remedy"),
    [
        (f"The issuer 'https://sts.windows.net/{OTHER}/' is invalid", "tenant", "AZURE_TENANT_ID"),
        ("The audience 'PHI-x' is invalid", "another audience", "DICOM_SERVICE_URL"),
    ],
    ids=["tenant", "audience"],
)
def test_a_token_that_the_service_refuses_with_a_reason(
    world: World, said: str, what: str, remedy: str
) -> None:
    """As ASP.NET gives it; the token's own tenant is in the line before."""
    service = Service()
    challenge = f'Bearer error="invalid_token", error_description="{said}"'
    service.before = lambda *_: Answer(401, b"PHI-body", {"WWW-Authenticate": challenge})
    with Running(service) as running, Relay(running.url, world.trusted) as relay:
        told = world.check(DICOM_SERVICE_URL=relay.url)
    # What has stood in the answer for years is not this machine's time.
    reds = told.named("red") - {"clock"}
    assert (told.code, reds) == (1, {"role"})
    assert what in told.lines["role"]["found"]
    assert remedy in told.lines["role"]["remedy"]
    assert OTHER not in f"{told.whole}"
    assert {"API version", "feed", "archive"} <= told.named("not looked")


def test_a_token_that_is_refused_for_ever(world: World) -> None:
    """Without a reason: once, and not for a minute."""
    world.identity.give = lambda _: None
    found, remedy = world.check().red()
    assert "does not say why" in found
    assert "tid" in remedy
    assert world.tokens.answered == {401: 1}


def test_a_role_that_is_missing(world: World) -> None:
    """It is named, and for whom."""
    world.identity.give = lambda text: world.tokens.add(Token(text, can_read=False))
    told = world.check()
    found, remedy = told.red()
    assert "403 Forbidden" in found
    assert "`DICOM Data Reader`" in remedy
    assert "oid" in remedy
    assert told.whole["DICOM_START_TIME"] is None


def test_a_clock_that_is_off(world: World) -> None:
    """By twenty minutes: the lines around it are well."""
    world.faults.replace(Clock(-1200))
    told = world.check()
    found, remedy = told.red()
    assert found in {
        f"this machine's clock is {s} s ahead of the service's" for s in range(1198, 1203)
    }
    assert "NTP" in remedy
    assert told.lines["feed"]["state"] == "ok"


def test_a_clock_that_is_off_by_little(world: World) -> None:
    """It is noted, and nothing fails."""
    world.faults.replace(Clock(120))
    told = world.check()
    assert (told.code, told.lines["clock"]["state"]) == (0, "warn")
    assert "behind the service's" in told.lines["clock"]["found"]


def test_a_version_that_the_service_has_not(world: World) -> None:
    """The identity is well, and the versions are what to look at."""
    told = world.check(DICOM_API_VERSION="9")
    found, remedy = told.red()
    assert found.startswith("404 Not Found to v9")
    assert "DICOM_API_VERSION" in remedy
    assert told.lines["role"]["state"] == "ok"


@pytest.mark.parametrize(
    ("fault", "what", "remedy"),
    [
        (Status(503, body="PHI-body"), "503 Service Unavailable", "health"),
        (Status(424, body="PHI-body"), "424 Failed Dependency", "customer-managed key"),
        (Html(), "content type is not JSON", "sign-in page"),
    ],
    ids=["outage", "key", "sign-in page"],
)
def test_an_answer_that_is_none(world: World, fault: Status | Html, what: str, remedy: str) -> None:
    """Asked once; what a person does about it is told, and never the body."""
    world.faults.replace(Rule(fault, "feed"))
    told = world.check()
    found, cure = told.red()
    assert what in found
    assert remedy in cure
    assert {"role", "feed"} <= told.named("not looked")
    assert told.lines["clock"]["state"] == "not looked"


def test_a_feed_that_breaks_after_the_first_answer(world: World) -> None:
    """The newest entry cannot be read."""
    world.faults.replace(Rule(Status(500), "latest"))
    found, remedy = world.check().red()
    assert "500 Internal Server Error" in found
    assert remedy == "if it stays so, look at the service's health and at the network"


def test_a_400_that_is_not_about_a_parameter(world: World) -> None:
    """A read that was cancelled inside the service says nothing about the version."""
    world.faults.replace(Rule(Status(400, body="PHI-body"), "feed"))
    found, remedy = world.check().red()
    assert found.startswith("400 Bad Request to v2")
    assert remedy == "if it stays so, look at the service's health and at the network"


def test_an_empty_feed_is_well(world: World, tmp_path: Path) -> None:
    """There is no first hour yet; the tables are of another archive, which is another line."""
    empty = Archive(tmp_path / "empty")
    with server.start(empty) as running:
        told = world.check(DICOM_SERVICE_URL=running.url)
    empty.close()
    assert told.named("red") == {"archive"}
    assert "empty" in told.lines["feed"]["found"]
    assert told.whole["DICOM_START_TIME"] is None


def test_over_http_to_this_machine_no_token_is_looked_at(world: World, archive: Archive) -> None:
    """Nobody is asked for one; a service that wants one all the same says so."""
    with server.start(archive) as running:
        told = world.check("IDENTITY_ENDPOINT", DICOM_SERVICE_URL=running.url)
    assert (told.code, told.named("not looked")) == (0, {"TLS", "token"})
    service = Service()
    service.before = lambda *_: Answer(401)
    with Running(service) as guarded:
        told = world.check(DICOM_SERVICE_URL=guarded.url)
    assert told.lines["role"]["found"] == "the service wants a token"
    assert "https" in told.lines["role"]["remedy"]


def test_a_start_that_is_later_than_the_feed_is_said(world: World) -> None:
    """It may be meant."""
    told = world.check(DICOM_START_TIME="2999-01-01")
    assert told.code == 0
    assert "entries before DICOM_START_TIME are not read" in told.lines["feed"]["found"]
    assert told.whole["DICOM_START_TIME"] == START_TIME


def test_behind_a_proxy_the_name_is_the_proxys_affair(world: World) -> None:
    """The request itself goes through it: here nobody is there."""
    told = world.check(
        "NO_PROXY", HTTPS_PROXY="http://127.0.0.1:9", DICOM_SERVICE_URL="https://a.invalid"
    )
    assert {"name", "TLS"} <= told.named("not looked")
    assert told.named("red") == {"answer"}
