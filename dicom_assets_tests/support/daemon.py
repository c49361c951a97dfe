"""The real Dagster daemon on a home of its own, as a service of the machine would run it."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dicom_assets_tests.support.dev_server import started


@contextmanager
def daemon(folder: Path, environ: Mapping[str, str], location: str) -> Iterator[None]:
    """The daemon works on a code location, given by its module, in the folder."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", location]
    with started(command, folder, environ, folder / "daemon.log"):
        yield
