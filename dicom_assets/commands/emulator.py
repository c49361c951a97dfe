"""`dicom-assets emulator`: a DICOM service on this machine, and files stored in it."""

import sys
import threading
from pathlib import Path

import click

from dicom_assets.commands.progress import working


@click.group(invoke_without_command=True)
@click.option("--port", default=8080, show_default=True, help="Port to listen at.")
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False),
    default="data/archive",
    show_default=True,
    help="Folder of the archive; made when it is not there.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    help="Name of this machine by which clients ask, behind a proxy for one; may be repeated.",
)
@click.pass_context
def emulator(context: click.Context, port: int, archive: Path, hosts: tuple[str, ...]) -> None:
    """Serve a DICOM service on this machine: STOW-RS, WADO-RS metadata, delete, change feed."""
    context.obj = archive
    if context.invoked_subcommand is not None:
        return
    from dicom_assets.emulator.application import create_application
    from dicom_assets.emulator.archive import Archive
    from dicom_assets.emulator.server import start

    try:
        running = start(create_application(Archive(archive), hosts=hosts), port=port)
    except OSError:
        raise click.ClickException(
            f"port {port} is taken, or may not be used: choose another with --port"
        ) from None
    with running:
        click.echo(f"DICOM service at {running.url}, archive in {archive} (Ctrl+C ends it)")
        threading.Event().wait()


@emulator.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.pass_obj
def emulator_import(archive: Path, paths: tuple[Path, ...]) -> None:
    """Store DICOM files and folders in the archive; name each file that is refused."""
    refused: list[str] = []
    with working("storing", "storing: {:,} of {:,} files") as progress:
        from dicom_assets.emulator import sample
        from dicom_assets.emulator.archive import Archive

        report = sample.import_paths(
            Archive(archive), paths, progress, lambda file, why: refused.append(f"{why}: {file}")
        )
    click.echo(f"stored {report.stored}, refused {len(refused)}")
    for reason, count in report.refused.items():
        click.echo(f"  {count} {reason}")
    for line in refused:
        click.echo(line)
    sys.exit(1 if refused else 0)
