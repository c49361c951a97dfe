"""DAGSTER_HOME of the commands that start Dagster: one folder with this project's dagster.yaml."""

import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Final

from dagster import DagsterInstance
from filelock import FileLock

from dicom_assets.settings import HOME_DIRECTORY

DEFAULT_HOME: Final = Path(HOME_DIRECTORY)
DAGSTER_YAML: Final = "dagster.yaml"
# The SHA-256 of each dagster.yaml of a release: a copy that nobody has changed is replaced.
_FORMER: Final = ("9df33effcb20d409434e148f642d43c4624a230c52d15bf24b2d0163b048ed5a",)  # 0.1, 0.2


def dagster_home() -> Path:
    """Return the DAGSTER_HOME that is set, else `data/dagster`, initialised."""
    return initialise_home(Path(os.environ.get("DAGSTER_HOME") or DEFAULT_HOME))


def initialise_home(home: Path) -> Path:
    """Make a folder a DAGSTER_HOME with a dagster.yaml and a database; returns its full path.

    A dagster.yaml that somebody has changed stays. Two processes on a fresh home would race for its
    database, so one makes it while the other waits.
    """
    home = home.absolute()
    home.mkdir(0o700, parents=True, exist_ok=True)
    with FileLock(home / ".initialising"):
        copy = home / DAGSTER_YAML
        if not copy.exists() or sha256(copy.read_bytes()).hexdigest() in _FORMER:
            shutil.copyfile(shipped(), copy)
        with DagsterInstance.from_config(str(home)) as instance:
            instance.get_runs_count()
    return home


def shipped() -> Path:
    """Return the path of this project's dagster.yaml: in a wheel beside the code, or above it."""
    beside, above = (folder / DAGSTER_YAML for folder in Path(__file__).parents[1:3])
    return beside if beside.exists() else above
