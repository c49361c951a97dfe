"""What a shortcut should be, and whether one that is there is the same: decided without a network.

The forms are those of Fabric's published description of its API (`CreateShortcutRequest`,
`Shortcut`, `AdlsGen2` in https://github.com/microsoft/fabric-rest-api-specs, platform), and of
https://learn.microsoft.com/rest/api/fabric/core/onelake-shortcuts/create-shortcut.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings
from dicom_assets.tables.catalogue import TABLES

_FOLDER: Final = "Tables"
_ADLS: Final = ".dfs.core.windows.net"
_ONELAKE: Final = "onelake."
# Spark and the SQL endpoint find a table by its folder: no space, dot or hyphen, Latin letters.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII)
# A target may hold no reserved character (RFC 3986, 2.2): the page "OneLake shortcuts", limits.
_PART: Final = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


class AdlsGen2(msgspec.Struct, frozen=True, rename="camel"):
    """A folder in ADLS Gen2: the account's address, `/container/folder`, Fabric's connection."""

    location: str
    subpath: str
    connection_id: str


class Target(msgspec.Struct, frozen=True, rename="camel"):
    """What a shortcut points to; `adls_gen2` is absent for other kinds, and without access."""

    type: str | None = None
    adls_gen2: AdlsGen2 | None = None


class Shortcut(msgspec.Struct, frozen=True):
    """A shortcut: the folder in which it lies, its name, and where it points."""

    path: str
    name: str
    target: Target

    @property
    def place(self) -> str:
        """Where it is in the Lakehouse, such as Tables/dbo/instance."""
        return f"{self.path}/{self.name}"

    def request(self) -> Any:  # noqa: ANN401 - JSON
        """Return the body that creates it; `type` is the server's to say."""
        body = msgspec.to_builtins(self)
        del body["target"]["type"]
        return body


@dataclass(frozen=True)
class Item:
    """A Lakehouse by its ids, and the connection that its shortcuts use; `prefix` opens names."""

    workspace: UUID
    lakehouse: UUID
    connection: UUID
    prefix: str = ""

    @property
    def path(self) -> str:
        """The path of the item in the API."""
        return f"workspaces/{self.workspace}/items/{self.lakehouse}"


def folder(schema: str) -> str:
    """Return the folder in which a schema's tables lie; "" is a Lakehouse without schemas.

    Raises SettingsError for what is no name.
    """
    return f"{_FOLDER}/{_named(schema, '--schema')}" if schema else _FOLDER


def wanted(settings: Settings, item: Item, table: str, path: str) -> Shortcut:
    """Return the shortcut that a table should have, given its name in `schema`.

    Raises SettingsError where there is no such table, or none that a shortcut can point to.
    """
    if table not in {known.name for known in TABLES}:
        known = ", ".join(known.name for known in TABLES)
        raise SettingsError(f"--table: one of {known} is needed")
    location, root = _account(settings.tables_url)
    parts = [*root, *settings.table_relative_path(table).split("/")]
    if not all(_PART.fullmatch(part) for part in parts):
        raise SettingsError(
            f"the path of the table {table} has a character that a shortcut's target may not have: "
            "letters, digits, _ - . ~ and / are allowed"
        )
    target = AdlsGen2(location, "/" + "/".join(parts), str(item.connection))
    name = _named(item.prefix + table, "--prefix")
    return Shortcut(path, name, Target(adls_gen2=target))


def _named(name: str, option: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{option}: a letter, then letters, digits and _ are needed, 128 in all: Fabric finds "
            "no table under another name"
        )
    return name


def _account(url: str) -> tuple[str, list[str]]:
    """Return the account's address, and the container and folders of the root."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host.startswith(_ONELAKE):
        raise SettingsError(
            "DICOM_TABLES_URL is in OneLake already: its tables need no shortcut in their own "
            "Lakehouse (another one takes a shortcut to OneLake, docs/use/fabric.md)"
        )
    if parts.scheme not in {"abfss", "abfs"} or not parts.username or not host.endswith(_ADLS):
        raise SettingsError(
            "a shortcut needs DICOM_TABLES_URL as "
            f"abfss://container@account{_ADLS}/folder: Fabric is given the account's address"
        )
    return f"https://{host}", [parts.username, *filter(None, parts.path.split("/"))]


def differences(found: Shortcut, asked: Shortcut) -> Iterator[str]:
    """Yield how what was found differs from what was asked; nothing when they are the same."""
    there, ours = found.target.adls_gen2, asked.target.adls_gen2
    if there is None or ours is None:
        kind = found.target.type or "a kind unknown"
        yield f"its target is {kind}, or may not be seen by this identity; ADLS Gen2 is wanted"
        return
    for what, is_, should in zip(_WHAT, _plain(there), _plain(ours), strict=True):
        if is_ != should:
            yield f"its {what} is {is_}, {should} is wanted"


_WHAT: Final = ("location", "subpath", "connection")


def _plain(target: AdlsGen2) -> tuple[str, str, str]:
    """Return a target's parts as they compare: paths by case, hosts and ids without."""
    location = target.location.rstrip("/").lower()
    return location, "/" + target.subpath.strip("/"), target.connection_id.lower()
