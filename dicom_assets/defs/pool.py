"""The pool of writers, and the end of runs whose process is gone.

The pool lets one run at a time work, to spare the service and the storage. Correctness never
depends on it, and no step waits for it: the run queue does (`dagster.yaml`). A run that was killed
with SIGKILL counts as running, and would hold the queue. Dagster learns of it only while the code
server lives that started it. So each run stores its process in a tag, and a sensor reports runs as
failed whose process is gone from this machine. A run that starts does the same, because there may
be no daemon.
"""

import socket
from pathlib import Path
from typing import Final

import dagster as dg
import psutil
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

from dicom_assets.defs.names import Names
from dicom_assets.defs.run_tags import UNFINISHED

# The pool of the default definitions.
POOL = Names().tables
# Hidden from people, who can do nothing with it. Runs of 0.2 and before have the other one.
OWNER_TAG = f"{HIDDEN_TAG_PREFIX}dicom_assets_owner"
_FORMER_OWNER_TAG: Final = "dicom_assets/owner"
# With the ticks of Dagster's daemons, a queued run starts within a minute after the holder's death.
DEAD_RUNS_SECONDS: Final = 30
# Index, after the process's name, of field 22 of /proc/PID/stat: ticks from boot to its start.
_START_TIME = 19


def _machine() -> str:
    """Return the host, and on Linux the namespace in which process ids are valid."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{space.readlink() if space.is_symlink() else ''}"


def owner_of(run_id: str, pid: int) -> str:
    """Return the tag of a run: run, machine, process id and start of the process.

    The run, because a re-execution copies tags. No other process ever has the other three. The
    start is counted from the boot, because setting the clock would change a time of day.
    """
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        started = stat.read_text().rpartition(")")[2].split()[_START_TIME]
    else:
        started = f"{psutil.Process(pid).create_time():.0f}"
    return f"{run_id}|{_machine()}|{pid}|{started}"


def is_dead(run: dg.DagsterRun) -> bool:
    """Return True if the run's process was on this machine and is gone.

    False for a process on another machine, and for a tag that was copied from another run.
    """
    owner = run.tags.get(OWNER_TAG) or run.tags.get(_FORMER_OWNER_TAG, "")
    run_id, machine, pid, _ = (owner.split("|") + [""] * 4)[:4]
    if run_id != run.run_id or machine != _machine():
        return False
    return not psutil.pid_exists(int(pid)) or owner_of(run_id, int(pid)) != owner


def fail_dead_runs(instance: dg.DagsterInstance, location: str | None) -> list[str]:
    """Report unfinished runs as failed whose process is gone, and return them.

    Only runs of one code location, and those that were started without one.
    """
    dead = []
    for listed in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)):
        origin = listed.remote_job_origin
        if (location and origin and origin.location_name != location) or not is_dead(listed):
            continue
        # It may have ended after it was listed.
        run = instance.get_run_by_id(listed.run_id)
        if run is None or run.is_finished:
            continue
        instance.report_run_failed(run, "The process of this run is gone; it was killed.")
        # With a dagster.yaml of an earlier release its step holds a slot.
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        dead.append(run.run_id)
    return dead


def begin(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Tag the run with its process, and report dead runs as failed."""
    if instance.is_ephemeral:
        return
    instance.add_run_tags(run.run_id, {OWNER_TAG: owner_of(run.run_id, _worker(instance, run))})
    origin = run.remote_job_origin
    fail_dead_runs(instance, origin.location_name if origin else None)


def ensure_limit(instance: dg.DagsterInstance, pool: str) -> None:
    """Give the pool its default limit unless it has one.

    Dagster does it when it first looks at the queue, and launches all that it finds there.
    """
    storage = instance.event_log_storage
    if storage.supports_global_concurrency_limits and not any(
        limit.name == pool for limit in storage.get_pool_limits()
    ):
        storage.initialize_concurrency_limit_to_default(pool)


def dead_runs_sensor(names: Names) -> dg.SensorDefinition:
    """Return the sensor that reports runs as failed whose process is gone."""

    @dg.sensor(
        name=names.dead_runs,
        minimum_interval_seconds=DEAD_RUNS_SECONDS,
        # With the embedded service too: it starts no run.
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Report runs as failed whose process is gone from this machine, so that no run waits "
            "for them. Their hours are requested again."
        ),
    )
    def report_dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        origin = context.code_location_origin
        dead = fail_dead_runs(context.instance, origin.location_name if origin else None)
        if not dead:
            return dg.SkipReason("no run has lost its process")
        return dg.SkipReason(f"reported as failed, because killed: {', '.join(dead)}")

    return report_dead_runs


def _worker(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """Return the process that lives as long as the run.

    It is this process, or with the multiprocess executor the ancestor that the run's engine events
    name, because a step's own process ends before the run does.
    """
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    logged = {
        metadata["pid"].value
        for event in events
        if event.dagster_event
        and "pid" in (metadata := event.dagster_event.engine_event_data.metadata)
    }
    own = psutil.Process()
    return next((p.pid for p in (own, *own.parents()) if str(p.pid) in logged), own.pid)
