"""`dicom-assets dev`: Dagster's page and daemon on the tables, in a process of their own."""

import os
import subprocess
import sys

import click

from dicom_assets.commands.progress import working


@click.command()
@click.option("--port", default=3000, show_default=True, help="Port of the page.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; the page has no login."
)
def dev(port: int, host: str) -> None:
    """Open Dagster's page and daemon on the tables, with DAGSTER_HOME in data/dagster."""
    with working("preparing DAGSTER_HOME"):
        from dicom_assets.commands.home import dagster_home

        home = dagster_home()
    click.echo(f"DAGSTER_HOME is {home}; the page comes at http://{host}:{port}")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "dicom_assets.definitions"]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    sys.exit(subprocess.call([*command, "-h", host, "-p", str(port)], env=environment))  # noqa: S603 - our own words
