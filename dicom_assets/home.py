"""DAGSTER_HOME of the demo and of `dev`: one folder, made once, with this project's dagster.yaml."""

import os
import shutil
from pathlib import Path

from filelock import FileLock

DIRECTORY = Path("data/dagster")
CONFIGURATION = "dagster.yaml"


def prepare() -> Path:
    """Return DAGSTER_HOME: the one that is set, or `data/dagster`, made and initialised once.

    Two processes on a fresh home race for its database, so the first to come makes it alone.
    """
    given = os.environ.get("DAGSTER_HOME")
    home = Path(given) if given else DIRECTORY.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".initialising"):
        _provide_configuration(home)
        os.environ["DAGSTER_HOME"] = str(home)
        _initialise()
    return home


def _provide_configuration(home: Path) -> None:
    """The home has a dagster.yaml; one that somebody put there stays."""
    target = home / CONFIGURATION
    if not target.exists():
        shutil.copyfile(_own_configuration(), target)


def _own_configuration() -> Path:
    """Return dagster.yaml beside the code in a wheel, above it in a checkout."""
    package = Path(__file__).parent
    beside = package / CONFIGURATION
    return beside if beside.exists() else package.parent / CONFIGURATION


def _initialise() -> None:
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.get_runs_count()
