"""The storage of the tables: settings in, dagster-deltalake's configuration out.

The engine reads the identity from the environment, as azure-identity does for the DICOM service,
and requests fresh tokens itself. This module adds what it does not find there, or reads in another
way (docs/operate/identity.md). No secret passes through here, unless it is a `dagster.EnvVar`.
"""

from typing import Final
from urllib.parse import urlsplit

import dagster as dg
from dagster_deltalake import AzureConfig, LocalConfig
from dagster_deltalake.config import ClientConfig
from pydantic import Field

from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings

# Hosts for which the engine finds the account in the URL.
_KNOWN: Final = ("dfs.core.windows.net", "blob.core.windows.net", "dfs.fabric.microsoft.com")
_SECRETS: Final = ("account_key", "client_secret", "sas_key", "token")


class AzureStorage(AzureConfig):
    """dagster-deltalake's configuration of Azure storage, with the fields that it lacks."""

    account_name: str | None = Field(  # type: ignore[assignment]  # a URL may name it, too
        default=None, description="Name of the storage account."
    )
    endpoint: str | None = Field(
        default=None, description="Address of the account's Blob service, if not the usual one."
    )
    use_emulator: bool | None = Field(default=None, description="True for Azurite.")
    authority_host: str | None = Field(
        default=None, description="Address of Entra ID in this cloud, which issues tokens."
    )
    object_id: str | None = Field(
        default=None, description="Object ID of a managed identity, in place of its client ID."
    )


def storage_of(settings: Settings) -> tuple[str, AzureStorage | LocalConfig]:
    """Return the root of the tables as the engine takes it, and the storage that it lies in.

    Raises SettingsError for a root in Azure without an account.
    """
    root, account, endpoint = settings.tables_root, settings.storage_account, None
    if "://" not in root:
        return root, LocalConfig()
    parts = urlsplit(root)
    container, _, host = parts.netloc.rpartition("@")
    if not container and account is None:
        raise SettingsError(
            "AZURE_STORAGE_ACCOUNT_NAME is required with a DICOM_TABLES_URL that names a container "
            "only; or name both: abfss://container@account.dfs.core.windows.net/…"
        )
    if container:
        account, _, suffix = host.partition(".")
        if suffix not in _KNOWN or not parts.scheme.startswith("ab"):
            # The engine does not know the hosts of other clouds, but takes any account with its
            # address.
            root = f"az://{container}{parts.path}"
            endpoint = f"https://{host.replace('.dfs.', '.blob.', 1)}"
    return root, AzureStorage(
        account_name=account,
        endpoint=endpoint,
        authority_host=settings.authority,
        msi_endpoint=settings.identity_endpoint,
    )


def require_no_plain_secret(storage: AzureStorage | LocalConfig) -> None:
    """Raise SettingsError unless each secret is an EnvVar, because Dagster's page shows values."""
    for name in _SECRETS:
        value = getattr(storage, name, None)
        if value is not None and not isinstance(value, dg.EnvVar):
            raise SettingsError(
                f"{name} would be shown by Dagster's page: put it into an environment variable, "
                f'and give dagster.EnvVar("ITS_NAME")'
            )


def options(config: AzureStorage | LocalConfig | ClientConfig | None) -> dict[str, str]:
    """Return the engine's options for a configuration, with the values of EnvVars."""
    names = [] if config is None else [n for n in type(config).model_fields if n != "provider"]
    fields = {name: getattr(config, name) for name in names}
    values = {n: v.get_value() if isinstance(v, dg.EnvVar) else v for n, v in fields.items()}
    return {name: str(value) for name, value in values.items() if value is not None}
