"""The command `dicom-assets`: what Dagster has no command for.

Materializing, backfilling and looking are Dagster's: `dagster asset materialize`, `dagster dev`.
"""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from dicom_assets.errors import DicomAssetsError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from dicom_assets.settings import Settings

UI_HOST = "127.0.0.1"
UI_PORT = 3000
EMULATOR_PORT = 8080

console = Console()


class _Explained(click.Group):
    """A group whose commands end with our errors as one explained line, without a trace."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DicomAssetsError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_Explained, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dicom-assets")
def main() -> None:
    """Keep Delta tables of DICOM instances, series and studies in step with a DICOM service."""


@main.command()
def demo() -> None:
    """Fill the tables from the embedded archive, through Dagster, and print them."""
    from dicom_assets.commands import demo as first_look
    from dicom_assets.settings import Settings

    settings = Settings.from_environment(complete=False)
    if not settings.is_embedded:
        raise click.ClickException(
            "the demo shows the embedded archive, but DICOM_SERVICE_URL is set: unset it, or use "
            "`dagster asset materialize` for your own service"
        )
    sys.exit(0 if first_look.run(settings, _dagster_home(), console) else 1)


@main.command()
@click.option("--port", default=UI_PORT, show_default=True, help="Port of the page.")
@click.option("--host", default=UI_HOST, show_default=True, help="Address; the page has no login.")
def dev(port: int, host: str) -> None:
    """Open Dagster's page and daemon on the tables, with DAGSTER_HOME in data/dagster."""
    home = _dagster_home()
    console.print(f"DAGSTER_HOME is {home}; the page comes at http://{host}:{port}")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "dicom_assets.definitions"]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    sys.exit(subprocess.call([*command, "-h", host, "-p", str(port)], env=environment))  # noqa: S603 - our own words


def _dagster_home() -> Path:
    """Return the DAGSTER_HOME that is set, else `data/dagster`, made and initialised."""
    from dicom_assets.commands import home

    return home.prepare(Path(os.environ.get("DAGSTER_HOME") or home.DIRECTORY))


@main.command()
def adopt() -> None:
    """Tell an empty or moved Dagster which hours the tables show, without runs."""
    from dicom_assets.commands import adopt as adoption  # Dagster's import takes seconds
    from dicom_assets.settings import Settings

    home = _dagster_home()
    told = adoption.run(Settings.from_environment(), home, console)
    console.print(f"{told} materializations were reported to the Dagster in {home}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def check(as_json: bool) -> None:
    """Look at settings, service, storage and Dagster, say what to do, and DICOM_START_TIME."""
    with Console(stderr=True).status("starting"):
        from dicom_assets.commands.check import report as terminal  # Dagster's import takes seconds

    sys.exit(0 if terminal.run(os.environ, console, as_json=as_json) else 1)


@main.group(invoke_without_command=True)
@click.option("--port", default=EMULATOR_PORT, show_default=True, help="Port to listen at.")
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False),
    default="data/archive",
    show_default=True,
    help="Folder of the archive; made when it is not there.",
)
@click.pass_context
def emulator(context: click.Context, port: int, archive: Path) -> None:
    """Serve a DICOM service on this machine: STOW-RS, WADO-RS metadata, delete, change feed."""
    context.obj = archive
    if context.invoked_subcommand is not None:
        return
    from dicom_assets.emulator.archive import Archive
    from dicom_assets.emulator.server import start

    opened = Archive(archive)
    try:
        running = start(opened, port=port)
    except OSError:
        raise click.ClickException(
            f"port {port} is taken, or may not be used: choose another with --port"
        ) from None
    with running:
        console.print(f"DICOM service at {running.url}, archive in {archive} (Ctrl+C ends it)")
        threading.Event().wait()


@emulator.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.pass_obj
def import_(archive: Path, paths: tuple[Path, ...]) -> None:
    """Store DICOM files and folders in the archive."""
    from dicom_assets.commands.progress import bar
    from dicom_assets.emulator import sample
    from dicom_assets.emulator.archive import Archive

    with bar(console, "storing") as progress:
        told = sample.import_paths(Archive(archive), paths, progress)
    console.print(f"stored {told.stored}, refused {sum(told.refused.values())}")
    for reason, count in told.refused.items():
        console.print(f"  {count} {reason}")


@main.command()
@click.argument("asked", metavar="STUDY_UID|SEQUENCE")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def find(asked: str, as_json: bool) -> None:
    """Say why a study, series, instance or sequence is in the tables, or why not."""
    from datetime import UTC, datetime

    from dicom_assets.settings import Settings

    if not re.fullmatch(r"[0-9]{1,18}|(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+", asked, re.ASCII):
        raise click.BadParameter("a UID of DICOM or a sequence of the feed is needed")
    settings = Settings.from_environment()
    with Console(stderr=True).status("opening the tables"):
        from dicom_assets.commands.find import report as finding  # Dagster takes seconds
    sys.exit(0 if finding.run(settings, asked, datetime.now(UTC), console, as_json=as_json) else 1)


@main.command()
@click.argument("study", metavar="STUDY_UID")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def erased(study: str, as_json: bool) -> None:
    """Say what still holds a study: rows, old files, logs; and until when."""
    from dicom_assets.settings import Settings

    if not re.fullmatch(r"(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+", study, re.ASCII):
        raise click.BadParameter("a UID of DICOM is needed")
    settings = Settings.from_environment(complete=False)
    with Console(stderr=True).status("opening the tables"):
        from dicom_assets.commands.erasure import report as erasure  # Dagster takes seconds
    sys.exit(0 if erasure.run(settings, study, console, as_json=as_json) else 1)


@main.command()
@click.option("--headers", is_flag=True, help="Measure one page with headers as well.")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def estimate(headers: bool, as_json: bool) -> None:
    """Say what bringing in the hours that are missing will take; nothing is read or written."""
    from dicom_assets.settings import Settings

    settings = Settings.from_environment()
    with Console(stderr=True).status("asking the service for a few entries"):
        from dicom_assets.commands.estimate import (
            report as estimation,  # Dagster's import takes seconds
        )

        found = estimation.look(settings, headers=headers)
    estimation.show(found, console, as_json=as_json)


@main.command()
@click.option(
    "--dialect",
    type=click.Choice(["duckdb", "spark", "tsql"]),
    default="duckdb",
    show_default=True,
    help="Whose SQL is written; tsql is for Fabric and SQL Server.",
)
def view(dialect: str) -> None:
    """Print SQL that shows the tables under DICOM's keywords, your own columns among them."""
    from dicom_assets.schema import added, views
    from dicom_assets.settings import Settings

    settings = Settings.from_environment(complete=False)
    click.echo(views.definitions(added.tables(settings.columns_file), dialect), nl=False)


@main.group()
def migrate() -> None:
    """Take over the tables that Data Factory's template wrote."""


def _rooted(root: str | None) -> "Settings":
    """Return the settings for the tables below another root than DICOM_TABLES_URL."""
    from dicom_assets.settings import Settings

    given = {"DICOM_TABLES_URL": root} if root else {}
    return Settings.from_environment({**os.environ, **given}, complete=False)


@migrate.command("check")
@click.argument("root", required=False)
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def migrate_check(root: str | None, as_json: bool) -> None:
    """Say what taking over the tables at ROOT (DICOM_TABLES_URL) means; nothing is changed."""
    from datetime import UTC, datetime

    settings = _rooted(root)
    with Console(stderr=True).status("looking at the tables"):
        from dicom_assets.commands.migrate import (
            report as migration,  # Dagster's import takes seconds
        )

        ready = migration.check(settings, datetime.now(UTC), console, as_json=as_json)
    sys.exit(0 if ready else 1)


@migrate.command("apply")
@click.argument("root", required=False)
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def migrate_apply(root: str | None, as_json: bool) -> None:
    """Take over the tables at ROOT (DICOM_TABLES_URL), in place, and say how to go back."""
    from datetime import UTC, datetime

    from dicom_assets.commands.migrate import report as migration

    migration.apply(_rooted(root), datetime.now(UTC), console, as_json=as_json)


@migrate.command("compare")
@click.argument("old")
@click.argument("new")
@click.option(
    "--until",
    type=click.DateTime(),
    help="Up to when the template has read (UTC); else the hour before its newest commit.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the keys of the rows that differ into this file (CSV); UIDs identify.",
)
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def migrate_compare(
    old: str, new: str, until: "datetime | None", keys: Path | None, as_json: bool
) -> None:
    """Hold the template's tables at OLD against ours of the same service at NEW."""
    from datetime import UTC

    sides = _rooted(old), _rooted(new)
    until = None if until is None else until.replace(tzinfo=UTC)
    with Console(stderr=True).status("comparing the tables"):
        from dicom_assets.commands.migrate import (
            report as migration,  # Dagster's import takes seconds
        )

        explained = migration.compare(*sides, until, keys, console, as_json=as_json)
    sys.exit(0 if explained else 1)


@main.group()
def alerts() -> None:
    """Alerts: mail, Slack, Teams, PagerDuty, webhooks; docs/operate/alerts.md."""


@alerts.command("test")
def alerts_test() -> None:
    """Send a test message to every channel, and say which of them took it."""
    from dicom_assets.commands import alerts_test as trial
    from dicom_assets.settings import Settings

    settings = Settings.from_environment(complete=False)
    sys.exit(0 if trial.run(settings, click.echo) else 1)


@main.group()
def fabric() -> None:
    """Microsoft Fabric: the tables in a Lakehouse; docs/use/fabric.md."""


@fabric.command("shortcut")
@click.option("--workspace", type=click.UUID, required=True, help="Id of the workspace.")
@click.option("--lakehouse", type=click.UUID, required=True, help="Id of the Lakehouse.")
@click.option(
    "--connection",
    type=click.UUID,
    required=True,
    help="Id of Fabric's connection to the storage account.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME",
    help="A table, as often as you like; instance, series and study without it.",
)
@click.option("--schema", default="", help="Schema of the Lakehouse; else its default, if any.")
@click.option("--prefix", default="", help="What the names in the Lakehouse begin with.")
@click.option("--replace", is_flag=True, help="Replace a shortcut that points elsewhere.")
@click.option("--dry-run", is_flag=True, help="Print what would be asked, and send nothing.")
def fabric_shortcut(  # noqa: PLR0913, PLR0917 - what a person may say
    workspace: "UUID",
    lakehouse: "UUID",
    connection: "UUID",
    tables: tuple[str, ...],
    schema: str,
    prefix: str,
    replace: bool,
    dry_run: bool,
) -> None:
    """Make OneLake shortcuts to the tables; one that is as it should be is left alone."""
    from dicom_assets.commands import fabric as lake
    from dicom_assets.settings import Settings

    settings = Settings.from_environment(complete=False)
    item = lake.Item(workspace, lakehouse, connection, prefix)
    if dry_run:
        lake.dry_run(settings, item, tables, click.echo, schema)
        return
    settled = lake.run(settings, item, tables, click.echo, schema=schema, replace=replace)
    sys.exit(0 if settled else 1)


@main.command()
def docs() -> None:
    """Write the generated pages of the documentation anew, in a checkout."""
    from dicom_assets.commands.docs import write_pages

    changed = write_pages(Path.cwd())
    console.print("\n".join(f"wrote {path}" for path in changed) or "all pages are up to date")


if __name__ == "__main__":
    main()
