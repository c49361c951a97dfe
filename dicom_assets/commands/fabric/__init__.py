"""`dicom-assets fabric`: the tables in a Lakehouse of Microsoft Fabric, by OneLake shortcuts.

`shortcuts` decides without a network what a shortcut should be, and how one differs from it. `api`
asks Fabric, and creates what is missing.
"""

import json
import sys
from functools import partial
from uuid import UUID

import click
import msgspec

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings

_id_option = partial(click.option, type=click.UUID, required=True)


@click.group()
def fabric() -> None:
    """Microsoft Fabric: the tables in a Lakehouse; docs/use/fabric.md."""


@fabric.command("shortcut")
@_id_option("--workspace", help="Id of the workspace.")
@_id_option("--lakehouse", help="Id of the Lakehouse.")
@_id_option("--connection", help="Id of Fabric's connection to the storage account.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    default=("instance", "series", "study"),
    metavar="NAME",
    help="A table, as often as you like; instance, series and study without it.",
)
@click.option("--schema", default="", help="Schema of the Lakehouse; else its default, if any.")
@click.option("--prefix", default="", help="First letters of the names in the Lakehouse.")
@click.option("--replace", is_flag=True, help="Replace a shortcut that points elsewhere.")
@click.option("--dry-run", is_flag=True, help="Print the requests, and send nothing.")
def fabric_shortcut(  # noqa: PLR0913, PLR0917 - one for each option
    workspace: UUID,
    lakehouse: UUID,
    connection: UUID,
    tables: tuple[str, ...],
    schema: str,
    prefix: str,
    replace: bool,
    dry_run: bool,
) -> None:
    """Make OneLake shortcuts to the tables; one that is as it should be is left alone."""
    settings = Settings.from_environment(complete=False)
    with working("asking Fabric"):
        from dicom_assets.commands.fabric import api
        from dicom_assets.commands.fabric.shortcuts import LakehouseItem

        item = LakehouseItem(workspace, lakehouse, connection, prefix)
        if not dry_run:
            settle = api.settle_shortcuts
            is_settled = settle(settings, item, tables, click.echo, schema=schema, replace=replace)
            sys.exit(0 if is_settled else 1)
    if not schema:
        click.echo(
            "# A Lakehouse with schemas is asked for its default one, unless --schema names one:\n"
            "# the path is then Tables/dbo, or as that schema is named."
        )
    for shortcut in [item.shortcut(settings, table, schema) for table in tables]:
        click.echo(f"POST {api.FABRIC_API}/{item.path}/shortcuts?shortcutConflictPolicy=Abort")
        click.echo(json.dumps(msgspec.to_builtins(shortcut), indent=2))
