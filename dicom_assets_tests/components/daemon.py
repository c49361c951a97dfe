"""The real Dagster daemon on a home of its own, as a service of the machine would run it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dicom_assets_tests.canary import overhear
from dicom_assets_tests.components.server import end_group


@contextmanager
def daemon(folder: Path, environ: Mapping[str, str], location: str) -> Iterator[None]:
    """The daemon works on a code location, given by its module, in the folder."""
    log = folder / "daemon.log"
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", location]
    with log.open("wb") as output:
        # A session of its own: its code server and its runs are ended with it.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environ),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            end_group(process)
            overhear(log.read_text(encoding="utf-8"))
