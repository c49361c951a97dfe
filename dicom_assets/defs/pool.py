"""The pool of writers: one at a time, to spare the service and the storage.

Correctness never depends on it. This module frees the slots of dead runs, which would block the
next run: a step that was killed with SIGKILL keeps its slot, and Dagster frees only slots of runs
that it knows to have ended. So each run stores its process in a tag, and a run that starts frees
the slots of runs whose process is gone from this machine. With the multiprocess executor this code
runs only after a step has got a slot. There Dagster's run monitoring has to free slots.
"""

import socket
from pathlib import Path

import dagster as dg
import psutil

from dicom_assets.defs.names import Names

# The pool of the default definitions.
POOL = Names().tables
OWNER_TAG = "dicom_assets/owner"
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


def is_dead(owner: str, run_id: str) -> bool:
    """Return True if the run's process was on this machine and is gone.

    False for a process on another machine, and for a tag that was copied from another run.
    """
    run, machine, pid, _ = (owner.split("|") + [""] * 4)[:4]
    if run != run_id or machine != _machine():
        return False
    return not psutil.pid_exists(int(pid)) or owner_of(run_id, int(pid)) != owner


def free_dead_slots(instance: dg.DagsterInstance, run_id: str, pool: str) -> list[str]:
    """Tag the run with its process, and free the pool's slots of dead runs. Return those runs.

    Dead runs that Dagster still counts as running are reported as failed.
    """
    storage = instance.event_log_storage
    if instance.is_ephemeral or not storage.supports_global_concurrency_limits:
        return []
    instance.add_run_tags(run_id, {OWNER_TAG: owner_of(run_id, _worker(instance, run_id))})
    claimed = {slot.run_id for slot in storage.get_concurrency_info(pool).claimed_slots}
    dead = []
    for owner in sorted(claimed - {run_id}):
        run = instance.get_run_by_id(owner)
        if run is not None and not run.is_finished:
            if not is_dead(run.tags.get(OWNER_TAG, ""), owner):
                continue
            instance.report_run_failed(run, "The process of this run is gone; it was killed.")
        storage.free_concurrency_slots_for_run(owner)
        dead.append(owner)
    return dead


def _worker(instance: dg.DagsterInstance, run_id: str) -> int:
    """Return the process that lives as long as the run.

    It is this process, or with the multiprocess executor the ancestor that the run's engine events
    name, because a step's own process ends before the run does.
    """
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    logged = {
        metadata["pid"].value
        for event in events
        if event.dagster_event
        and "pid" in (metadata := event.dagster_event.engine_event_data.metadata)
    }
    own = psutil.Process()
    return next((p.pid for p in (own, *own.parents()) if str(p.pid) in logged), own.pid)
