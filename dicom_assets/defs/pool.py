"""The pool of writers: one at a time, out of politeness.

Correctness never depends on it. What this module does is to keep a run that died from blocking
the next: a step killed with SIGKILL keeps its slot, and Dagster frees only slots of runs that it
knows to have ended. So each run notes its process in a tag, and a run that starts frees the slots
of runs whose process is gone from this machine. With the multiprocess executor a step looks only
once it has a slot: there Dagster's run monitoring has to free it.
"""

import socket
from pathlib import Path

import dagster as dg
import psutil

POOL = "dicom_tables"
OWNER_TAG = "dicom_assets/owner"
# The 22nd field of /proc/PID/stat, counted behind the name: ticks from the boot to the start.
_START_TIME = 19


def process_name(pid: int) -> str:
    """Return machine, process id and start of a process, which name it for good.

    The start is counted from the boot, because a clock that is set would move it.
    """
    return f"{_machine()}|{pid}|{_started(pid)}"


def _machine() -> str:
    """Return the host, and on Linux the space in which process ids mean something."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{space.readlink() if space.is_symlink() else ''}"


def _started(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_text().rpartition(")")[2].split()[_START_TIME]
    return f"{psutil.Process(pid).create_time():.0f}"


def owner_of(run_id: str, pid: int) -> str:
    """Return what a run's tag says: run and process. A re-execution takes tags over, so the run."""
    return f"{run_id}|{process_name(pid)}"


def is_dead(owner: str, run_id: str) -> bool:
    """Whether the run's process was on this machine and is gone.

    One elsewhere, or a tag that another run has left, is never called dead.
    """
    run, machine, pid, _ = (owner.split("|") + [""] * 4)[:4]
    if run != run_id or machine != _machine():
        return False
    return not psutil.pid_exists(int(pid)) or owner_of(run_id, int(pid)) != owner


def take_over(instance: dg.DagsterInstance, run_id: str, pool: str) -> list[str]:
    """Tag the run with its process, and free the pool's slots of dead runs. Return those runs.

    Runs that are dead but still look as if they ran are reported as failed.
    """
    storage = instance.event_log_storage
    if instance.is_ephemeral or not storage.supports_global_concurrency_limits:
        return []
    instance.add_run_tags(run_id, {OWNER_TAG: owner_of(run_id, _worker(instance, run_id))})
    claimed = {slot.run_id for slot in storage.get_concurrency_info(pool).claimed_slots}
    dead = [held for held in sorted(claimed - {run_id}) if _has_ended(instance, held)]
    for held in dead:
        storage.free_concurrency_slots_for_run(held)
    return dead


def _worker(instance: dg.DagsterInstance, run_id: str) -> int:
    """Return the process that lives as long as the run.

    That is this one, or with the multiprocess executor the ancestor that the run's engine events
    name: a step's own process ends before the run does.
    """
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    told = {
        metadata["pid"].value
        for event in events
        if event.dagster_event
        and "pid" in (metadata := event.dagster_event.engine_event_data.metadata)
    }
    own = psutil.Process()
    return next((p.pid for p in (own, *own.parents()) if str(p.pid) in told), own.pid)


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return True
    if not is_dead(run.tags.get(OWNER_TAG, ""), run_id):
        return False
    instance.report_run_failed(run, message="The process of this run is gone; it was killed.")
    return True
