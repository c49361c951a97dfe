"""A OneLake shortcut as it should be, and its differences from one that is there: pure.

The forms are those of Fabric's published description of its API (`CreateShortcutRequest`,
`Shortcut`, `AdlsGen2` in https://github.com/microsoft/fabric-rest-api-specs, platform), and of
https://learn.microsoft.com/rest/api/fabric/core/onelake-shortcuts/create-shortcut.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from dicom_assets.errors import SettingsError
from dicom_assets.settings import Settings
from dicom_assets.tables.catalogue import TABLES

_ADLS: Final = ".dfs.core.windows.net"
# Spark and the SQL endpoint find a table by its folder: no space, dot or hyphen, Latin letters.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}", re.ASCII)
# A target may hold no reserved character (RFC 3986, 2.2): the page "OneLake shortcuts", limits.
_PART: Final = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


class AdlsGen2(msgspec.Struct, frozen=True, rename="camel"):
    """A folder in ADLS Gen2: the account's address, `/container/folder`, Fabric's connection."""

    location: str
    subpath: str
    connection_id: str

    def comparable(self) -> tuple[str, str, str]:
        """Return the parts as they compare: paths by case, hosts and ids without."""
        subpath = "/" + self.subpath.strip("/")
        return self.location.rstrip("/").lower(), subpath, self.connection_id.lower()


class Target(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The target of a shortcut; `adls_gen2` is absent for other kinds, and without access."""

    type: str | None = None
    adls_gen2: AdlsGen2 | None = None


class Shortcut(msgspec.Struct, frozen=True):
    """A shortcut: the folder in which it lies, its name, and its target."""

    path: str
    name: str
    target: Target

    @property
    def place(self) -> str:
        """The path in the Lakehouse, such as Tables/dbo/instance."""
        return f"{self.path}/{self.name}"


@dataclass(frozen=True)
class LakehouseItem:
    """A Lakehouse by its ids, and the connection that its shortcuts use; `prefix` opens names."""

    workspace: UUID
    lakehouse: UUID
    connection: UUID
    prefix: str = ""

    @property
    def path(self) -> str:
        """The path of the item in the API."""
        return f"workspaces/{self.workspace}/items/{self.lakehouse}"

    def shortcut(self, settings: Settings, table: str, schema: str) -> Shortcut:
        """Return the shortcut for a table; schema "" is for a Lakehouse without schemas.

        Raises SettingsError for an unknown table, a name that Fabric refuses, or tables that no
        shortcut can point to.
        """
        known = [one.name for one in TABLES]
        if table not in known:
            raise SettingsError(f"--table: one of {', '.join(known)} is needed")
        location, root = _account(settings.tables_url)
        parts = [*root, *settings.table_relative_path(table).split("/")]
        if not all(_PART.fullmatch(part) for part in parts):
            raise SettingsError(
                f"the path of the table {table} has a character that a shortcut's target may not "
                "have: letters, digits, _ - . ~ and / are allowed"
            )
        folder = f"Tables/{_name(schema, '--schema')}" if schema else "Tables"
        target = AdlsGen2(location, "/" + "/".join(parts), str(self.connection))
        name = _name(self.prefix + table, "--prefix")
        return Shortcut(folder, name, Target(adls_gen2=target))


def _name(name: str, option: str) -> str:
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
    if host.startswith("onelake."):
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


def shortcut_differences(present: Shortcut, wanted: Shortcut) -> Iterator[str]:
    """Yield each difference of the target as a clause; nothing when the targets are the same."""
    there, ours = present.target.adls_gen2, wanted.target.adls_gen2
    if there is None or ours is None:
        kind = present.target.type or "a kind unknown"
        yield f"its target is {kind}, or may not be seen by this identity; ADLS Gen2 is wanted"
        return
    names = ("location", "subpath", "connection")
    for name, is_, should in zip(names, there.comparable(), ours.comparable(), strict=True):
        if is_ != should:
            yield f"its {name} is {is_}, {should} is wanted"
