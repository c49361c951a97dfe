"""Azurite, Microsoft's own emulator of Blob storage, as a process: https, and OAuth tokens only.

It looks at a token's audience, issuer and times, not at its signature, and knows no roles. Accounts
are told by the first word of the host or, under 127.0.0.1, of the path.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE: Final = Path(__file__).parent
PROGRAM: Final = HERE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
REMEDY: Final = "no Azurite: `make test-components` installs it, with Node.js 20 or later and npm"
ACCOUNT: Final = "devstoreaccount1"
ACCOUNTS: Final = (ACCOUNT, "onelake")
AUDIENCE: Final = "https://storage.azure.com"
ISSUER: Final = "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/"
VERSION: Final = "2023-11-03"
START_SECONDS: Final = 60.0
END_SECONDS: Final = 20.0
_KEY: Final = base64.b64encode(b"no test knows this key" * 3).decode()


def token(audience: str = AUDIENCE, seconds: float = 3_600.0) -> str:
    """A token for so many seconds from now; nobody has signed it."""
    now = int(time.time())
    claims = {"aud": audience, "iss": ISSUER, "iat": now - 10, "nbf": now - 10}
    parts = ({"alg": "none", "typ": "JWT"}, claims | {"exp": int(now + seconds), "oid": str(now)})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
    return ".".join([*(part.rstrip(b"=").decode() for part in encoded), "signature"])


@dataclass(frozen=True)
class Azurite:
    """A running Azurite, and the file with the certificate that its own was issued by."""

    port: int
    trusted: Path

    @property
    def url(self) -> str:
        """The address of the account."""
        return f"https://127.0.0.1:{self.port}/{ACCOUNT}"

    def create(self, container: str, account: str = ACCOUNT) -> None:
        """An empty container is there."""
        with self._client() as client:
            client.put(f"/{account}/{container}?restype=container").raise_for_status()

    def ask(
        self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Return the answer to a request to the account that carries a token."""
        with self._client() as client:
            return client.request(method, f"/{ACCOUNT}/{path}", content=content, headers=headers)

    def put_all(self, blobs: Mapping[str, bytes]) -> None:
        """The blobs are there, by their paths, which begin with the container."""
        with self._client() as client, ThreadPoolExecutor(8) as threads:
            told = {"x-ms-blob-type": "BlockBlob"}
            for answer in threads.map(
                lambda blob: client.put(f"/{ACCOUNT}/{blob[0]}", content=blob[1], headers=told),
                blobs.items(),
            ):
                answer.raise_for_status()

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {token()}", "x-ms-version": VERSION},
            verify=ssl.create_default_context(cafile=str(self.trusted)),
            trust_env=False,
            timeout=START_SECONDS,
        )


def require() -> None:
    """Without Azurite, tests are skipped here and fail in CI."""
    if PROGRAM.is_file() and shutil.which("node"):
        return
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(REMEDY)
    pytest.skip(REMEDY)


@contextmanager
def running(folder: Path, trusted: Path, certificate: Path) -> Iterator[Azurite]:
    """Azurite answers, and forgets all when the block ends."""
    require()
    port = free_port()
    command = ["node", str(PROGRAM), "--silent", "--inMemoryPersistence", "--disableTelemetry"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--oauth", "basic"]
    command += ["--cert", str(certificate), "--key", str(certificate)]
    accounts = ";".join(f"{account}:{_KEY}" for account in ACCOUNTS)
    log = folder / "azurite.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "AZURITE_ACCOUNTS": accounts},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _await(port, process, log)
            yield Azurite(port, trusted)
        finally:
            process.terminate()
            process.wait(END_SECONDS)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"Azurite did not answer; it said:\n{log.read_text(encoding='utf-8')}")
