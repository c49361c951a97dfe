"""Dagster's daemon in this process, turn by turn: its own loops over a home, and today's code.

Not here: what the daemon does between turns, which is to wait.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import dagster as dg
from dagster._core.execution.api import execute_run
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.remote_representation.code_location import InProcessCodeLocation
from dagster._core.remote_representation.external import (
    RemoteRepository,
    RemoteSchedule,
    RemoteSensor,
)
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._daemon.types import DaemonHeartbeat
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster._serdes import ConfigurableClass
from dagster._serdes.config_class import ConfigurableClassData

from dicom_assets.defs.run_tags import tagged_hours

LOCATION: Final = "dicom_assets"
"""The name of the code location, as in `workspace.yaml` and pyproject.toml of every release."""
MODULE: Final = "dicom_assets.definitions"
_LOGGER: Final = logging.getLogger("dicom_assets_tests.upgrade")


class InThisProcess(RunLauncher, ConfigurableClass):
    """A launcher for which a run is over when it is launched; runs without hours are cancelled.

    Like the code server it takes the job from the code location by its name, wherever the run's
    release had it from. Checks and maintenance are due by the clock of whoever runs the tests.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()  # type: ignore[no-untyped-call]  # theirs

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What Dagster made it from."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing can be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: Mapping[str, Any],  # noqa: ARG003 - there is none
    ) -> Self:
        """Return the launcher of an instance."""
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """The run has ended."""
        run, origin = context.dagster_run, context.dagster_run.remote_job_origin
        if tagged_hours(run.tags) is None:
            self._instance.report_run_canceled(run)
            return
        assert origin is not None
        assert context.workspace is not None
        location = context.workspace.get_code_location(origin.location_name)
        assert isinstance(location, InProcessCodeLocation)
        name = origin.repository_origin.repository_name
        job = location.get_reconstructable_job(name, run.job_name)
        execute_run(job, run, self._instance)

    def terminate(self, run_id: str) -> bool:
        """No run can be ended: it is over."""
        return False


@dataclass(frozen=True)
class Daemon:
    """The daemon's loops, each for one turn."""

    context: WorkspaceProcessContext

    @property
    def instance(self) -> dg.DagsterInstance:
        """The instance in the home."""
        return self.context.instance

    @property
    def repository(self) -> RemoteRepository:
        """Today's definitions, as the daemon sees them."""
        location = self.context.create_request_context().get_code_location(LOCATION)
        (repository,) = location.get_repositories().values()
        return repository

    def instigators(self) -> list[RemoteSchedule | RemoteSensor]:
        """Today's schedules and sensors."""
        return [*self.repository.get_schedules(), *self.repository.get_sensors()]

    def schedules(self) -> None:
        """The schedules that are due have ticked, and the daemon has said that it lives."""
        for name in self.instance.get_required_daemon_types():
            beat = DaemonHeartbeat(datetime.now(UTC).timestamp(), name, "a test")
            self.instance.add_daemon_heartbeat(beat)
        # Dagster makes five missed ticks good, which here would all ask for the same.
        now = datetime.now(UTC)
        list(launch_scheduled_runs(self.context, _LOGGER, now, {}, max_catchup_runs=1))

    def sensors(self) -> None:
        """The sensors that are due have ticked."""
        list(execute_sensor_iteration(self.context, _LOGGER, None, None))

    def backfills(self) -> None:
        """Each backfill has asked for the runs that it may ask for, or is over."""
        assert list(filter(None, execute_backfill_iteration(self.context, _LOGGER))) == []

    def queue(self) -> None:
        """The queue is empty: what waited for another run at the pool follows it.

        At the hour of maintenance its run is first, and the hours wait.
        """
        waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as queue:
            before = None
            while (count := self.instance.get_runs_count(waiting)) not in (0, before):
                before = count
                list(queue.run_iteration(self.context))


@contextmanager
def daemon(home: Path) -> Iterator[Daemon]:
    """The daemon works on the home; the code location has its settings from the environment."""
    target = LoadableTargetOrigin(module_name=MODULE)
    origin = InProcessCodeLocationOrigin(target, location_name=LOCATION)
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        create_test_daemon_workspace_context(
            InProcessWorkspaceLoadTarget(origin), instance
        ) as context,
    ):
        yield Daemon(context)
