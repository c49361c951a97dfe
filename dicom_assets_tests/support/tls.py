"""https for a test: a certificate of its own, and a relay that speaks it before a plain service."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_SIZE: Final = 65_536


def certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 and localhost, and its key, into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = _signed(key, key, is_authority=True, names=("localhost",))
    return _written(folder / "certificate.pem", made, key)


def issued(folder: Path, *names: str) -> tuple[Path, Path]:
    """Write an authority's certificate, and one for 127.0.0.1 and the names that it has issued.

    The second file has its key, too. A client that takes no authority for a server wants two.
    """
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _signed(authority, authority, is_authority=True)
    made = _signed(key, authority, is_authority=False, names=names)
    trusted = folder / "authority.pem"
    trusted.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return trusted, _written(folder / "certificate.pem", made, key)


def _signed(
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    subject = own if key is issuer else x509.Name([])
    now = datetime.now(UTC)
    hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, names)]
    return (
        x509.CertificateBuilder(own, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=key is not issuer)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(issuer, hashes.SHA256())
    )


def _written(path: Path, made: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
    key_text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key_text)
    return path


class Relay:
    """Takes https at `url`, and hands it on to a service that speaks http."""

    def __init__(self, service_url: str, certificate: Path) -> None:
        host, port = service_url.removeprefix("http://").split(":")
        self._service = (host, int(port))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        """Return the running relay."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        """Hand on one request after another: the service answers before the next is sent."""
        with (
            suppress(OSError),
            client,
            self._context.wrap_socket(client, server_side=True) as near,
            socket.create_connection(self._service) as far,
        ):
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_SIZE):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
