"""Where the tables lie and who goes there: settings in, dagster-deltalake's configuration out.

The engine reads the identity from the environment, as azure-identity does for the DICOM service,
and asks for fresh tokens itself. Here is what it does not find there, or reads another way
(docs/operate/identity.md). No secret passes through here, unless it is a `dagster.EnvVar`.
"""

from typing import Final
from urllib.parse import urlsplit

import dagster as dg
from dagster_deltalake import AzureConfig, LocalConfig
from dagster_deltalake.config import ClientConfig
from pydantic import Field

from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings

# Hosts below which the engine knows an account by the URL alone.
_KNOWN: Final = ("dfs.core.windows.net", "blob.core.windows.net", "dfs.fabric.microsoft.com")
_SECRETS: Final = ("account_key", "client_secret", "sas_key", "token")


class AzureStorage(AzureConfig):
    """dagster-deltalake's configuration of Azure storage, with what it lacks."""

    account_name: str | None = Field(  # type: ignore[assignment]  # a URL may name it, too
        default=None, description="Name of the storage account."
    )
    endpoint: str | None = Field(
        default=None, description="Address of the account's Blob service, where it is another."
    )
    use_emulator: bool | None = Field(default=None, description="Whether Azurite is asked.")
    authority_host: str | None = Field(
        default=None, description="Address at which Entra ID gives tokens, in this cloud."
    )
    object_id: str | None = Field(
        default=None, description="Object ID of a managed identity, in place of its client ID."
    )


def storage_of(settings: Settings) -> tuple[str, AzureStorage | LocalConfig]:
    """Return the root of the tables as the engine takes it, and the storage that it lies in.

    Raises SettingsError for a root in Azure of which nobody says the account.
    """
    root = settings.tables_root
    if "://" not in root:
        return root, LocalConfig()
    parts = urlsplit(root)
    container, _, host = parts.netloc.rpartition("@")
    account, _, suffix = host.partition(".")
    if not container:
        return root, _azure(settings, _require_account(settings), None)
    if suffix in _KNOWN and parts.scheme.startswith("ab"):
        return root, _azure(settings, account, None)
    # The engine takes the hosts of no other cloud, but any account with its address.
    address = f"https://{host.replace('.dfs.', '.blob.', 1)}"
    return f"az://{container}{parts.path}", _azure(settings, account, address)


def _require_account(settings: Settings) -> str:
    if settings.storage_account is None:
        raise SettingsError(
            "AZURE_STORAGE_ACCOUNT_NAME is required with a DICOM_TABLES_URL that names a container "
            "only; or name both: abfss://container@account.dfs.core.windows.net/…"
        )
    return settings.storage_account


def _azure(settings: Settings, account: str, endpoint: str | None) -> AzureStorage:
    return AzureStorage(
        account_name=account,
        endpoint=endpoint,
        authority_host=settings.authority,
        msi_endpoint=settings.identity_endpoint,
    )


def require_no_plain_secret(storage: AzureStorage | LocalConfig) -> None:
    """A secret is named, never given: Dagster's page shows what a configuration holds.

    Raises SettingsError, which names the field.
    """
    for name in _SECRETS:
        given = getattr(storage, name, None)
        if given is not None and not isinstance(given, dg.EnvVar):
            raise SettingsError(
                f"{name} would be shown by Dagster's page: put it into an environment variable, "
                f'and give dagster.EnvVar("ITS_NAME")'
            )


def options(config: AzureStorage | LocalConfig | ClientConfig | None) -> dict[str, str]:
    """Return the engine's options for a configuration; what is an EnvVar has its value."""
    given = {} if config is None else {name: getattr(config, name) for name in _fields(config)}
    read = {n: v.get_value() if isinstance(v, dg.EnvVar) else v for n, v in given.items()}
    return {name: str(value) for name, value in read.items() if value is not None}


def _fields(config: dg.Config) -> list[str]:
    return [name for name in type(config).model_fields if name != "provider"]
