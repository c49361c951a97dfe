"""The cloud on this machine: storage, who gives tokens, and what a process has to know of both.

Each in a process of its own: the engine lets no other thread of its process work while it waits for
an answer, so that nobody may answer it from there.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any, Final

from dicom_assets_tests.components import azurite
from dicom_assets_tests.components.azurite import ACCOUNT, Azurite
from dicom_assets_tests.components.entra import CLIENT, SECRET, TENANT, Entra
from dicom_assets_tests.components.gate import Gate, Proxy
from dicom_assets_tests.support.tls import issued

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CONTAINER: Final = "dicom"
# The hosts of Azure that tests lead to this machine.
HOSTS: Final = (
    "*.blob.core.windows.net",
    "*.blob.core.usgovcloudapi.net",
    "*.blob.fabric.microsoft.com",
    "*.dicom.azurehealthcareapis.com",
    "login.microsoftonline.com",
    "login.microsoftonline.us",
)
# What tells an identity, a proxy or a certificate of whoever runs the tests.
_THEIRS: Final = re.compile(
    r"(AZURE|IDENTITY|MSI|DICOM|DAGSTER)_|.*(_PROXY|_proxy)$|(SSL_CERT|REQUESTS_CA|CURL_CA)_"
)
SERVICE_PRINCIPAL: Final = {
    "AZURE_TENANT_ID": TENANT,
    "AZURE_CLIENT_ID": CLIENT,
    "AZURE_CLIENT_SECRET": SECRET,
}


class _Apart(BaseManager):
    """What lives in another process; its methods are called from here."""


for _kind in (Entra, Gate, Proxy):
    _Apart.register(_kind.__name__, _kind)


@dataclass(frozen=True)
class Cloud:
    """Azurite with a container, who gives tokens, and the certificates of both."""

    azurite: Azurite
    entra: Entra
    trusted: Path
    certificate: Path
    apart: Any

    def gate(self) -> Gate:
        """A gate before the storage."""
        made: Gate = self.apart.Gate(self.azurite.port, self.trusted, self.certificate)
        return made

    def proxy(self, **ports: int) -> Proxy:
        """A proxy that leads hosts to ports: those given, Entra ID's, the storage's."""
        own = int(self.entra.authority().rpartition(":")[2])
        storage = dict.fromkeys(HOSTS, self.azurite.port)
        made: Proxy = self.apart.Proxy({**ports, "login.*": own, **storage})
        return made

    def root(self) -> str:
        """A root of tables that nobody has used."""
        return f"abfss://{CONTAINER}@{ACCOUNT}.dfs.core.windows.net/{uuid.uuid4().hex}"

    def trust(self) -> dict[str, str]:
        """The authority is trusted: by the engine and httpx, and by azure-identity."""
        return {"SSL_CERT_FILE": str(self.trusted), "REQUESTS_CA_BUNDLE": str(self.trusted)}

    def managed(self) -> dict[str, str]:
        """A managed identity as App Service tells it."""
        return {"IDENTITY_ENDPOINT": self.entra.url(), "IDENTITY_HEADER": SECRET}

    def engine(self, storage_url: str = "") -> dict[str, str]:
        """What the engine alone has to know: no settings of ours are between."""
        return self.trust() | {
            "AZURE_STORAGE_ENDPOINT": storage_url or self.azurite.url,
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_MSI_ENDPOINT": self.entra.url(),
            "IDENTITY_HEADER": SECRET,
        }


def clean(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without an identity, a proxy or a certificate."""
    return {name: value for name, value in environment.items() if not _THEIRS.match(name)}


@contextmanager
def running(folder: Path) -> Iterator[Cloud]:
    """The cloud is there, with an empty container."""
    azurite.require()
    trusted, certificate = issued(folder, *HOSTS)
    apart = _Apart(ctx=multiprocessing.get_context("spawn"))
    with azurite.running(folder, trusted, certificate) as storage, apart:
        storage.create(CONTAINER)
        giver: Entra = apart.Entra(certificate)  # type: ignore[attr-defined]  # registered above
        yield Cloud(storage, giver, trusted, certificate, apart)
