"""Who goes to Azure: one identity for service and storage, in each cloud, told by the environment.

Requests go to the hosts of Azure itself, by a proxy that leads them to this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ClientAuthenticationError

from dicom_assets.commands import home
from dicom_assets.definitions import io_manager
from dicom_assets.emulator import server
from dicom_assets.emulator.application import create_application
from dicom_assets.emulator.archive import Archive
from dicom_assets.errors import TableUnavailableError
from dicom_assets.feed.http.auth import SCOPE, default_credential
from dicom_assets.schema import SYNC
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.commit import Difference
from dicom_assets_tests.adversary.tokens import guard_of
from dicom_assets_tests.components import azurite
from dicom_assets_tests.components.cloud import CONTAINER, SERVICE_PRINCIPAL, clean
from dicom_assets_tests.components.entra import CLIENT, SECRET, SERVICE, TENANT, Guarded
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.history import END, FIRST, LAST, START, alive, tell
from dicom_assets_tests.support.tls import Relay
from dicom_assets_tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dicom_assets.tables.delta.snapshot import Store
    from dicom_assets_tests.components.cloud import Cloud
    from dicom_assets_tests.components.gate import Proxy

PUBLIC = f"abfss://{CONTAINER}@devstoreaccount1.dfs.core.windows.net/here"
SOVEREIGN = f"abfss://{CONTAINER}@devstoreaccount1.dfs.core.usgovcloudapi.net/there"
ONELAKE = "abfss://hospital@onelake.dfs.fabric.microsoft.com/dicom.Lakehouse/Tables"
AZ = f"az://{CONTAINER}/elsewhere"
GREEN_SECONDS = 240
DICOM_HOST = "w-s.dicom.azurehealthcareapis.com"
# What `az` says, by its own clock.
AZ_COMMAND = f"""#!{sys.executable}
import datetime, json, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from dicom_assets_tests.components.azurite import token
asked = sys.argv[1 + max(i for i, a in enumerate(sys.argv) if a in ("--scope", "--resource"))]
expires = datetime.datetime.now() + datetime.timedelta(hours=1)
print(json.dumps({{"accessToken": token(asked.removesuffix("/.default")), "tokenType": "Bearer",
    "expiresOn": expires.strftime("%Y-%m-%d %H:%M:%S.%f"), "expires_on": int(expires.timestamp()),
    "subscription": "s", "tenant": "t"}}))
"""

pytestmark = pytest.mark.timeout(300)  # azure-identity asks some that are not there


@pytest.fixture
def proxy(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """The way to the cloud, for this process."""
    proxy = cloud.proxy()
    for name, value in (cloud.trust() | {"HTTPS_PROXY": proxy.url()}).items():
        monkeypatch.setenv(name, value)
    return proxy


def told(monkeypatch: pytest.MonkeyPatch, url: str, environment: Mapping[str, str]) -> Store:
    """The tables at a URL, as this process reaches them when the environment is that."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return io_manager(Settings.from_environment({**os.environ, "DICOM_TABLES_URL": url})).store()


def use(store: Store) -> None:
    """A row is written, and read again."""
    snapshot = store.open(SYNC)
    row = SYNC.arrow().empty_table().to_pylist()
    hour = {column.name: None for column in SYNC.columns} | {"hour": START}
    rows = SYNC.arrow().empty_table().from_pylist([*row, hour], schema=SYNC.arrow())
    snapshot.commit(Difference(SYNC, inserts=rows), {})
    assert store.open(SYNC).rows(["hour"]).to_pylist() == [{"hour": START}]


def workload(folder: Path) -> dict[str, str]:
    """What the webhook of Azure Kubernetes Service tells a workload."""
    file = folder / "token"
    file.write_text(SECRET, encoding="utf-8")
    told = {"AZURE_CLIENT_ID": CLIENT, "AZURE_TENANT_ID": TENANT}
    host = "https://login.microsoftonline.com/"
    return told | {"AZURE_FEDERATED_TOKEN_FILE": str(file), "AZURE_AUTHORITY_HOST": host}


def command(folder: Path) -> dict[str, str]:
    """Somebody has signed in with the Azure CLI."""
    program = folder / "az"
    program.write_text(AZ_COMMAND, encoding="utf-8")
    program.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    return {"PATH": path, "AZURE_USE_AZURE_CLI": "true"}


@pytest.mark.parametrize("kind", ["managed", "assigned", "secret", "workload", "first", "command"])
def test_one_identity_goes_to_the_storage_and_to_the_service(
    cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """The same variables, the same choice among them, and a token for each audience."""
    environments: dict[str, Any] = {
        "managed": cloud.managed,
        "assigned": lambda: cloud.managed() | {"AZURE_CLIENT_ID": CLIENT},
        "secret": lambda: SERVICE_PRINCIPAL,
        "workload": lambda: workload(tmp_path),
        # A secret goes before a workload's token, and that before a managed identity.
        "first": lambda: workload(tmp_path) | SERVICE_PRINCIPAL | cloud.managed(),
        "command": lambda: command(tmp_path),
    }
    use(told(monkeypatch, PUBLIC + kind, environments[kind]()))
    assert set(cloud.entra.audiences()) <= {azurite.AUDIENCE}
    given = default_credential().get_token(SCOPE)
    assert given.expires_on > time.time()
    if kind != "command":
        assert set(cloud.entra.audiences()) == {azurite.AUDIENCE, SERVICE}
    expected = {"assigned": "managed", "first": "secret"}.get(kind, kind)
    asked = cloud.entra.asked()
    assert {one["kind"] for one in asked} == ({expected} if asked else set())
    if kind != "managed":
        assert {one["client_id"] for one in asked} <= {CLIENT}
    assert set(proxy.hosts()) <= {
        "devstoreaccount1.blob.core.windows.net",
        "login.microsoftonline.com",
    }


@pytest.mark.parametrize(
    ("url", "environment", "hosts"),
    [
        (PUBLIC, {}, {"devstoreaccount1.blob.core.windows.net"}),
        (
            AZ,
            {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1"},
            {"devstoreaccount1.blob.core.windows.net"},
        ),
        (
            SOVEREIGN,
            {"AZURE_AUTHORITY_HOST": "login.microsoftonline.us", **SERVICE_PRINCIPAL},
            {"devstoreaccount1.blob.core.usgovcloudapi.net", "login.microsoftonline.us"},
        ),
        (ONELAKE, {}, {"onelake.blob.fabric.microsoft.com"}),
    ],
)
def test_each_cloud_has_its_hosts(
    cloud: Cloud,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    *,
    url: str,
    environment: dict[str, str],
    hosts: set[str],
) -> None:
    """What the URL says is enough; where Entra ID is another, AZURE_AUTHORITY_HOST names it."""
    if url == ONELAKE:
        cloud.azurite.create("hospital", "onelake")
    use(told(monkeypatch, url, cloud.managed() | environment))
    assert set(proxy.hosts()) == hosts


def test_a_run_goes_on_when_its_token_ends(
    cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One handle on a table outlives its tokens, which the storage takes for four seconds.

    They are said to live two seconds longer than the five minutes before their end in which the
    engine asks for the next one.
    """
    store = told(monkeypatch, f"{PUBLIC}/long", cloud.managed())
    use(store)
    cloud.entra.live(told=302, lives=4)
    snapshot = replace(store).open(SYNC)
    asked, until = len(cloud.entra.asked()), time.monotonic() + 9
    while time.monotonic() < until:
        assert snapshot.query('SELECT "hour" FROM t').num_rows == 1
        time.sleep(0.2)
    assert len(cloud.entra.asked()) >= asked + 2


def test_a_token_that_nobody_renews_is_refused(
    cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So Azurite looks at the time: the test above can fail. The message holds no token."""
    store = told(monkeypatch, f"{PUBLIC}/short", cloud.managed())
    use(store)
    cloud.entra.live(told=3_600, lives=2)
    snapshot = replace(store).open(SYNC)
    time.sleep(3)
    with pytest.raises(TableUnavailableError) as raised:
        snapshot.query('SELECT "hour" FROM t')
    assert "eyJ" not in str(raised.value)


def test_who_does_not_trust_the_authority_is_told_nothing(
    cloud: Cloud, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither client takes the proxy's certificate without SSL_CERT_FILE, REQUESTS_CA_BUNDLE."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    for name, value in SERVICE_PRINCIPAL.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClientAuthenticationError):
        default_credential().get_token(SCOPE)
    assert cloud.entra.asked() == []


@pytest.mark.parametrize("kind", ["managed", "secret"])
def test_a_run_of_dagster_goes_to_azure_by_configuration_alone(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """`dagster asset materialize` with the hosts of Azure: tokens for both, no secret kept."""
    identity = cloud.managed() if kind == "managed" else SERVICE_PRINCIPAL
    with (
        closing(Archive(tmp_path / "archive")) as archive,
        server.start(
            create_application(tell(archive), middleware=[guard_of(Guarded())], hosts=[DICOM_HOST])
        ) as service,
        Relay(service.url, cloud.certificate) as relay,
    ):
        proxy = cloud.proxy(**{DICOM_HOST: int(relay.url.rpartition(":")[2])})
        environment = clean() | cloud.trust() | identity | {"HTTPS_PROXY": proxy.url()}
        environment |= {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "DAGSTER_HOME": str(home.initialise_home(tmp_path / "home")),
            "DICOM_SERVICE_URL": f"https://{DICOM_HOST}",
            "DICOM_TABLES_URL": cloud.root(),
            "DICOM_START_TIME": START.isoformat(),
            "DICOM_END_TIME": END.isoformat(),
        }
        said = _materialize(tmp_path, environment)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with warnings.catch_warnings():
            assert World(Settings.from_environment()).alive() == alive(archive)
    assert {one["kind"] for one in cloud.entra.asked()} == {kind}
    assert set(cloud.entra.audiences()) == {azurite.AUDIENCE, SERVICE}
    assert SECRET not in said
    assert _holding(tmp_path / "home", SECRET.encode(), b"eyJ") == []


def _materialize(folder: Path, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "dagster", "asset", "materialize"]
    command += ["-m", "dicom_assets.definitions", "--select", "change,instance,series,study"]
    done = subprocess.run(
        [*command, "--partition-range", f"{FIRST}...{LAST}"],
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=GREEN_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    overhear(said)
    assert done.returncode == 0, said[-4_000:]
    return said


def _holding(folder: Path, *secrets: bytes) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(s in path.read_bytes() for s in secrets)]
