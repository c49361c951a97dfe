"""Runs in processes of their own: `dagster asset materialize` on a home with our dagster.yaml."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import dagster as dg

from dicom_assets.commands.home import DAGSTER_YAML
from dicom_assets.defs.pool import POOL
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.history import END, FIRST, LAST, START
from dicom_assets_tests.support.watched_service import Service

ROOT: Final = Path(__file__).resolve().parents[2]
GREEN_SECONDS: Final = 120
PACKAGE: Final = "dicom_assets_tests.support.locations"
ASSETS: Final = ("change", "instance", "series", "study")


def environment(folder: Path, service: Service) -> dict[str, str]:
    """An environment without settings of the user's, with ours for the service and the folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DICOM_", "DAGSTER_"))}
    return clean | {"PYTHONPATH": str(ROOT)} | settings_of(folder, service)


def settings_of(folder: Path, service: Service) -> dict[str, str]:
    """The settings for the six hours of a service, with home and tables in the folder."""
    return {
        "DAGSTER_HOME": str(folder / "home"),
        "DICOM_SERVICE_URL": service.url,
        "DICOM_TABLES_URL": str(folder / "tables"),
        "DICOM_START_TIME": START.isoformat(),
        "DICOM_END_TIME": END.isoformat(),
        "DICOM_RETRY_SECONDS": "0",
    }


def copy_home(fresh: Path, folder: Path) -> Path:
    """The folder has a DAGSTER_HOME of its own, `home`, initialised as the fresh one is."""
    return Path(shutil.copytree(fresh, folder / "home"))


def with_former_yaml(home: Path) -> Path:
    """The home has the dagster.yaml of the releases before, in which each step takes a slot."""
    with zipfile.ZipFile(ROOT / "dicom_assets_tests" / "data" / "releases" / "0.2.0.zip") as packed:
        (home / DAGSTER_YAML).write_bytes(packed.read(f"home/{DAGSTER_YAML}"))
    return home


def statuses(folder: Path) -> list[str]:
    """How the runs in the folder's home ended, the oldest first."""
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        runs = instance.get_run_records(ascending=True)
        return [record.dagster_run.status.value for record in runs]


def slots_taken(folder: Path) -> int:
    """How many steps hold a slot of the pool or wait for one."""
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        info = instance.event_log_storage.get_concurrency_info(POOL)
        return info.active_slot_count + info.pending_step_count


def start(
    folder: Path, environ: Mapping[str, str], location: str, *prefix: str
) -> subprocess.Popen[str]:
    """A process has begun to materialize all hours of the four assets of a code location here."""
    keys = ["key:" + "/".join([*prefix, name]) for name in ASSETS]
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m"]
    command += [f"{PACKAGE}.{location}", "--select", ",".join(keys)]
    command += ["--partition-range", f"{FIRST}...{LAST}"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environ),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and all output of each process; none is left when one takes too long."""
    try:
        ended = [process.communicate(timeout=GREEN_SECONDS) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    overhear(*(text for streams in ended for text in streams))
    return [
        (process.returncode, output + errors)
        for process, (output, errors) in zip(processes, ended, strict=True)
    ]
