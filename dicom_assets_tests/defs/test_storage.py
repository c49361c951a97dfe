"""Where the tables lie in Azure, as the engine is told it; and where no secret is told."""

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from dicom_assets.definitions import build_definitions, io_manager
from dicom_assets.defs.storage import AzureStorage
from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.history import START

SECRET = "canary-5ecret"


def store(url: str, **settings: str) -> Store:
    """The tables at a URL, for whom the settings name."""
    return io_manager(Settings.from_environment({"DICOM_TABLES_URL": url, **settings})).store()


@pytest.mark.parametrize(
    ("url", "root", "options"),
    [
        ("abfss://c@a.dfs.core.windows.net/x", "", {"account_name": "a"}),
        ("abfs://c@a.blob.core.windows.net", "", {"account_name": "a"}),
        (
            "abfss://w@onelake.dfs.fabric.microsoft.com/l.Lakehouse/T",
            "",
            {"account_name": "onelake"},
        ),
        (
            "abfss://c@a.dfs.core.usgovcloudapi.net/x",
            "az://c/x",
            {"account_name": "a", "endpoint": "https://a.blob.core.usgovcloudapi.net"},
        ),
        (
            "abfss://c@a.z07.dfs.storage.azure.net/x",
            "az://c/x",
            {"account_name": "a", "endpoint": "https://a.z07.blob.storage.azure.net"},
        ),
        (
            "adl://c@a.dfs.core.windows.net/x",
            "az://c/x",
            {"account_name": "a", "endpoint": "https://a.blob.core.windows.net"},
        ),
    ],
)
def test_a_url_says_the_account_and_its_address(
    url: str, root: str, options: dict[str, str]
) -> None:
    """The address only where the engine does not know it, so that the environment may name one."""
    made = store(url)
    assert made.options == options
    assert made.urls["sync"] == f"{root or url}/sync"


def test_a_container_alone_wants_the_account_from_the_environment() -> None:
    """Without it nobody knows where to go, and is told which variable is missing."""
    assert store("az://c/x", AZURE_STORAGE_ACCOUNT_NAME="acc").options == {"account_name": "acc"}
    with pytest.raises(SettingsError, match="AZURE_STORAGE_ACCOUNT_NAME is required"):
        store("az://c/x")


def test_what_the_engine_does_not_read_is_handed_on() -> None:
    """The managed identity of App Service and Container Apps, and the authority of a cloud."""
    url = "abfss://c@a.dfs.core.windows.net/x"
    endpoint = "http://127.0.0.1:41741/msi/token"
    told = {"IDENTITY_ENDPOINT": endpoint, "AZURE_AUTHORITY_HOST": "login.microsoftonline.us/"}
    assert store(url, **told).options == {
        "account_name": "a",
        "msi_endpoint": endpoint,
        "authority_host": "https://login.microsoftonline.us",
    }


# Dagster's own snapshot asks its own schedules for a property that it deprecates.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated")
def test_a_secret_is_named_and_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is in the snapshot that Dagster's page reads, the secret reaches the engine only."""
    monkeypatch.setenv("ARCHIVE_SAS", SECRET)
    settings = Settings(
        service_url="https://127.0.0.1:9",
        tables_url="abfss://c@a.dfs.core.windows.net/x",
        start_time=START,
    )
    named = AzureStorage(account_name="a", sas_key=dg.EnvVar("ARCHIVE_SAS"))
    assert io_manager(settings, named).store().options["sas_key"] == SECRET
    assert SECRET not in repr(io_manager(settings, named).store())
    repository = build_definitions(settings, storage=named).get_repository_def()
    told = serialize_value(RepositorySnap.from_def(repository))
    assert "ARCHIVE_SAS" in told
    assert SECRET not in told


@pytest.mark.parametrize("name", ["account_key", "client_secret", "sas_key", "token"])
def test_a_plain_secret_is_refused(name: str) -> None:
    """With the remedy, and without the secret."""
    storage = AzureStorage.model_validate({"account_name": "a", name: SECRET})
    with pytest.raises(SettingsError, match=rf"{name} .* dagster.EnvVar") as raised:
        build_definitions(Settings(tables_url="abfss://c@a.dfs.core.windows.net"), storage=storage)
    assert SECRET not in str(raised.value)
