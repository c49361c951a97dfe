"""DAGSTER_HOME of the commands that start Dagster: one folder with this project's dagster.yaml."""

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from dagster import DagsterInstance, RunsFilter
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.record import replace
from filelock import FileLock

from dicom_assets.defs.alerts.ledger import Ledger
from dicom_assets.defs.names import Names
from dicom_assets.defs.run_tags import UNFINISHED
from dicom_assets.defs.schedules.past_runs import REMEMBERED
from dicom_assets.errors import SettingsError
from dicom_assets.settings import HOME_DIRECTORY, Settings

DEFAULT_HOME: Final = Path(HOME_DIRECTORY)
DAGSTER_YAML: Final = "dagster.yaml"
WORKSPACE_YAML: Final = "workspace.yaml"
# The name of the code location in workspace.yaml, and the one that `dicom-assets dev` gave it.
LOCATION: Final = "dicom_assets"
FORMER_LOCATION: Final = "dicom_assets.definitions"
_OriginT = TypeVar("_OriginT", RemoteInstigatorOrigin, RemoteJobOrigin)
# The SHA-256 of each dagster.yaml of a release: a copy that nobody has changed is replaced.
_FORMER: Final = ("9df33effcb20d409434e148f642d43c4624a230c52d15bf24b2d0163b048ed5a",)  # 0.1, 0.2


def require_begun(settings: Settings) -> None:
    """Raise SettingsError unless the start of the settings has come."""
    start = settings.start_time
    if start is not None and start > datetime.now(UTC):
        raise SettingsError(
            f"DICOM_START_TIME {start:%Y-%m-%dT%H:%M:%SZ} lies in the future, and nothing is read "
            "until then: set an earlier one (`dicom-assets check` prints the feed's first hour)"
        )


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


def shipped(name: str = DAGSTER_YAML) -> Path:
    """Return the path of a file of this project: in a wheel beside the code, or above it."""
    beside, above = (folder / name for folder in Path(__file__).parents[1:3])
    return beside if beside.exists() else above


def origin_of(job: str) -> RemoteJobOrigin:
    """Return the origin of a job's run, as if the code location of workspace.yaml had begun it."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=FORMER_LOCATION)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME), job)


def take_over_location(home: Path) -> None:
    """Carry switches, cursors and newest runs over from the former name of the location.

    Dagster keeps them under that name. A state under the name of today stays, and Dagster
    itself removes the former in the end. An open alert keeps its incident.
    """
    with DagsterInstance.from_config(str(home)) as instance:
        states = instance.all_instigator_state()
        known = {state.selector_id for state in states}
        for state in states:
            if state.origin.location_name != FORMER_LOCATION:
                continue
            moved = state._replace(origin=_renamed(state.origin))
            if moved.selector_id not in known:
                ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
                instance.add_instigator_state(
                    moved._replace(instigator_data=_carried(state, ticks))
                )
        unfinished = RunsFilter(statuses=UNFINISHED)
        recent = RunsFilter(updated_after=datetime.now(UTC) - REMEMBERED)
        for run in (*instance.get_runs(unfinished), *instance.get_runs(recent)):
            if run.remote_job_origin and run.remote_job_origin.location_name == FORMER_LOCATION:
                instance.run_storage.replace_job_origin(run, _renamed(run.remote_job_origin))


def _carried(
    state: InstigatorState, ticks: Sequence[InstigatorTick]
) -> ScheduleInstigatorData | SensorInstigatorData | None:
    """Return what a schedule or sensor noted: no tick is repeated, no alert sent again."""
    data = state.instigator_data
    if isinstance(data, ScheduleInstigatorData):
        return data._replace(
            start_timestamp=max(
                [data.start_timestamp or 0.0, *(tick.timestamp + 1 for tick in ticks)]
            )
        )
    if state.name == Names().alerts and data and data.cursor:
        data = data._replace(cursor=Ledger.read(data.cursor).renamed(FORMER_LOCATION).dump())
    return data


def _renamed(origin: _OriginT) -> _OriginT:
    repository = origin.repository_origin
    location = replace(repository.code_location_origin, location_name=LOCATION)
    return replace(origin, repository_origin=replace(repository, code_location_origin=location))
