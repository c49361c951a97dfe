"""`dicom-assets dev`: Dagster's page and daemon on the tables, in a process of their own."""

import os
import subprocess
import sys
import threading
import time
import webbrowser
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import click

from dicom_assets.commands.progress import working

# Without them there is no window: a browser of the terminal would take it over.
_WINDOWS: Final = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")

# A warning of Dagster's own command, which reads like a mistake of ours.
_SUPERSEDED: Final = "ignore:Function `dev_command` is superseded"


@click.command()
@click.option("--port", default=3000, show_default=True, help="Port of the page.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; the page has no login."
)
@click.option("--browser/--no-browser", default=True, help="Open the page where there is a window.")
def dev(port: int, host: str, browser: bool) -> None:
    """Open Dagster's page and daemon on the tables, with DAGSTER_HOME in data/dagster."""
    with working("preparing DAGSTER_HOME"):
        from dicom_assets.commands.home import (
            WORKSPACE_YAML,
            dagster_home,
            shipped,
            take_over_location,
        )

        home = dagster_home()
        take_over_location(home)
    url = f"http://{host}:{port}"
    click.echo(f"DAGSTER_HOME is {home}; the page comes at {url}")
    if browser and (sys.platform in {"darwin", "win32"} or any(map(os.environ.get, _WINDOWS))):
        threading.Thread(target=_open, args=(url,), daemon=True).start()
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(shipped(WORKSPACE_YAML))]
    warnings = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), _SUPERSEDED]))
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONWARNINGS": warnings}
    sys.exit(subprocess.call([*command, "-h", host, "-p", str(port)], env=environment))  # noqa: S603 - our own words


def _open(url: str) -> None:
    """Open the asset graph as soon as the page answers."""
    while True:
        try:
            urlopen(f"{url}/server_info").close()  # noqa: S310 - our own address
        except (URLError, ConnectionError):
            time.sleep(0.5)
        else:
            webbrowser.open(f"{url}/asset-groups")
            return
