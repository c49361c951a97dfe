"""DAGSTER_HOME of `demo` and `dev`: one folder, made once, with this project's dagster.yaml."""

import shutil
from pathlib import Path

from dagster import DagsterInstance
from filelock import FileLock

DIRECTORY = Path("data/dagster")
CONFIGURATION = "dagster.yaml"


def prepare(home: Path) -> Path:
    """The folder is a DAGSTER_HOME with a dagster.yaml and a database; returns its full path.

    Two processes on a fresh home race for its database, so whoever comes first makes it alone.
    """
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".initialising"):
        _provide_configuration(home)
        with DagsterInstance.from_config(str(home)) as instance:
            instance.get_runs_count()
    return home


def _provide_configuration(home: Path) -> None:
    """The home has a dagster.yaml; one that somebody put there stays."""
    target = home / CONFIGURATION
    if not target.exists():
        shutil.copyfile(_own_configuration(), target)


def _own_configuration() -> Path:
    """Return dagster.yaml beside the code in a wheel, above it in a checkout."""
    package = Path(__file__).parents[1]
    beside = package / CONFIGURATION
    return beside if beside.exists() else package.parent / CONFIGURATION
