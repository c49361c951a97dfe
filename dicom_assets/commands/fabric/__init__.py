"""`dicom-assets fabric`: the tables in a Lakehouse of Microsoft Fabric, by OneLake shortcuts.

Here: the words and what is done in which order. What a shortcut should be, and whether one that is
there is the same, is decided in `shortcuts`; Fabric is asked in `api`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from dicom_assets.commands.fabric.api import API, Lakehouse, NameTakenError
from dicom_assets.commands.fabric.shortcuts import Item, Shortcut, differences, folder, wanted
from dicom_assets.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

__all__ = ["DEFAULT_TABLES", "Item", "dry_run", "run"]

Say = Callable[[str], None]

DEFAULT_TABLES: Final = ("instance", "series", "study")
_SCHEMA_UNKNOWN: Final = (
    "# A Lakehouse with schemas is asked for its default one, unless --schema names one:\n"
    "# the path is then Tables/dbo, or as that schema is named."
)


def dry_run(settings: Settings, item: Item, tables: Sequence[str], say: Say, schema: str) -> None:
    """Every request that would make a shortcut is shown; nothing is sent, no token is asked for."""
    if not schema:
        say(_SCHEMA_UNKNOWN)
    for name in tables or DEFAULT_TABLES:
        shortcut = wanted(settings, item, name, folder(schema))
        say(f"POST {API}/{item.path}/shortcuts?shortcutConflictPolicy=Abort")
        say(json.dumps(shortcut.request(), indent=2))


def run(  # noqa: PLR0913 - what a person may say
    settings: Settings,
    item: Item,
    tables: Sequence[str],
    say: Say,
    *,
    schema: str = "",
    replace: bool = False,
    address: str = API,
    credential: "TokenCredential | None" = None,
) -> bool:
    """Every table has its shortcut in the Lakehouse; False when one differs and was left.

    A shortcut that is as it should be is not touched. Raises SettingsError before anything is sent,
    and FabricError when Fabric refuses or does not answer.
    """
    names = tables or DEFAULT_TABLES
    for name in names:
        wanted(settings, item, name, folder(schema))
    with Lakehouse(item, address=address, credential=credential) as lakehouse:
        default = lakehouse.default_schema()
        where = folder(schema or default or "")
        asked = [wanted(settings, item, name, where) for name in names]
        settled = [_settle(lakehouse, one, say, replace=replace) for one in asked]
    return all(settled)


def _settle(lakehouse: Lakehouse, shortcut: Shortcut, say: Say, *, replace: bool) -> bool:
    """Return whether the shortcut is there as it should be, after what may be done was done."""
    found = lakehouse.find(shortcut)
    if found is None:
        try:
            lakehouse.create(shortcut)
        except NameTakenError:
            # Somebody was faster; or the answer to our own first attempt was lost.
            if (found := lakehouse.find(shortcut)) is None:
                raise
        else:
            say(f"{shortcut.place}: created")
            return True
    differing = list(differences(found, shortcut))
    if not differing:
        say(f"{shortcut.place}: already there")
        return True
    if replace:
        lakehouse.create(shortcut, replace=True)
        say(f"{shortcut.place}: replaced")
        return True
    for line in _told(shortcut, differing):
        say(line)
    return False


def _told(shortcut: Shortcut, differing: Sequence[str]) -> Iterator[str]:
    yield f"{shortcut.place}: differs, and was left as it is (--replace replaces it)"
    yield from (f"  {line}" for line in differing)
