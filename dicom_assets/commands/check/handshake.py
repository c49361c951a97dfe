"""Probes of the way to the service: its name has an address, its TLS certificate is trusted."""

import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from dicom_assets.commands.check.probe import Finding, ok, red, warn

CLOCK_REMEDY: Final = "set this machine's clock from a time server (NTP)"
_UNTRUSTED: Final = (
    "is not of an authority that is trusted here",
    "name a PEM file in SSL_CERT_FILE that holds the authorities, your own or the proxy's too",
)
_OTHER_NAME: Final = (
    "is for another name",
    "is DICOM_SERVICE_URL the name of the service, and not an alias or an address of it?",
)
_ODD: Final = ("cannot be verified", "ask who runs the network what answers there")
# The numbers are OpenSSL's (X509_V_ERR_…).
_CERTIFICATES: Final[Mapping[int, tuple[str, str]]] = {
    9: ("is not valid yet", CLOCK_REMEDY),
    10: ("has expired", "whoever runs the service, or the proxy before it, has to renew it"),
    **dict.fromkeys((2, 18, 19, 20, 21), _UNTRUSTED),
    **dict.fromkeys((62, 64), _OTHER_NAME),
}


def resolve(host: str, port: int) -> Finding:
    """Red unless the name resolves."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return red(
            "the name in DICOM_SERVICE_URL cannot be resolved",
            "is it spelled right? With a private endpoint, its DNS zone must be linked to this "
            "network",
        )
    return ok(f"addresses that it leads to: {len({address[0] for *_, address in addresses})}")


def shake(host: str, port: int, seconds: float, now: datetime) -> Finding:
    """Red unless a server answers in time, by TLS with a certificate that is trusted here."""
    try:
        # As in the client that reads the feed: SSL_CERT_FILE, SSL_CERT_DIR, else certifi's.
        context = httpx.create_ssl_context()
    except OSError:
        return red(
            "the authorities that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read",
            "name a file in PEM format that exists and may be read, or unset it",
        )
    try:
        return _shaken(context, host, port, seconds, now)
    except ssl.SSLCertVerificationError as error:
        fault, remedy = _CERTIFICATES.get(error.verify_code, _ODD)
        return red(f"the certificate {fault}", remedy)
    except ssl.SSLError:
        return red("what answers does not speak TLS", "is the port in DICOM_SERVICE_URL right?")
    except OSError:
        return red(
            f"nobody answers at port {port}",
            "is DICOM_SERVICE_URL right, and the network open to it?",
        )


def _shaken(
    context: ssl.SSLContext, host: str, port: int, seconds: float, now: datetime
) -> Finding:
    with (
        socket.create_connection((host, port), seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        certificate = secure.getpeercert() or {}
        ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
        facts = f"{secure.version()}, its certificate is trusted and valid until {ends:%Y-%m-%d}"
    if ends - now < timedelta(days=7):
        return warn(facts, "remind the operator of the service to renew it in time")
    return ok(facts)
