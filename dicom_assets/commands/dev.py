"""`dicom-assets dev`: Dagster's page and daemon on the tables, in a process of their own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import click
import psutil

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings

# Without them there is no window: a browser of the terminal would take it over.
_WINDOWS: Final = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")

# A warning of Dagster's own command, which reads like a mistake of ours.
_SUPERSEDED: Final = "ignore:Function `dev_command` is superseded"

# How long Dagster gets to end. A run of ours commits, or leaves a table as it was.
_TOLD_SECONDS: Final = 5
_END_SECONDS: Final = 15


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=3000,
    show_default=True,
    help="Port of the page.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; the page has no login."
)
@click.option("--browser/--no-browser", default=True, help="Open the page where there is a window.")
def dev(port: int, host: str, browser: bool) -> None:
    """Open Dagster's page and daemon on the tables, with DAGSTER_HOME in data/dagster."""
    _require_free(host, port)
    with working("preparing DAGSTER_HOME"):
        from dicom_assets.commands.home import (
            WORKSPACE_YAML,
            dagster_home,
            require_begun,
            shipped,
            take_over_location,
        )

        require_begun(Settings.from_environment())
        home = dagster_home()
        take_over_location(home)
    url = f"http://{host}:{port}"
    click.echo(f"DAGSTER_HOME is {home}; the page comes at {url}")
    if browser and (sys.platform in {"darwin", "win32"} or any(map(os.environ.get, _WINDOWS))):
        threading.Thread(target=_open, args=(url,), daemon=True).start()
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(shipped(WORKSPACE_YAML))]
    warnings = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), _SUPERSEDED]))
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONWARNINGS": warnings}
    sys.exit(_serve([*command, "-h", host, "-p", str(port)], environment))


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        # Python adds where it was; the system's words are before that.
        reason = str(error.strerror).partition(" (")[0]
        raise click.ClickException(
            f"the page cannot be at {host}, port {port}: {reason}. Choose another with --port, or "
            "end the program that has it"
        ) from None


def _serve(command: list[str], environment: Mapping[str, str]) -> int:
    """Run Dagster until it ends, or this process is told to end; then no process of it is left."""

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    # Also when it was ignored, as by jobs in the background of a script: Dagster, which takes
    # SIGTERM for SIGINT, would inherit that and ignore both.
    signal.signal(signal.SIGINT, stop)
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name, signal.SIGTERM), stop)
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own words
    try:
        return process.wait()
    except KeyboardInterrupt as told:
        dagster = psutil.Process(process.pid)
        left = [dagster, *dagster.children(recursive=True)]
        try:
            if told.args == (signal.SIGINT,):  # a terminal tells all of them
                _, left = psutil.wait_procs(left, timeout=_TOLD_SECONDS)
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.terminate()
            _, left = psutil.wait_procs(left, timeout=_END_SECONDS)
        finally:
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        return process.wait()


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
