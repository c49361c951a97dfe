"""The pool `dicom_tables`: one writer at a time, out of politeness.

Correctness never depends on it. What this module does is to keep a run that died from blocking
the next: a step killed with SIGKILL keeps its slot, and Dagster frees only slots of runs that it
knows to have ended. So each run notes its process in a tag, and a run that starts frees the slots
of runs whose process is gone from this machine.
"""

import socket

import dagster as dg
import psutil

POOL = "dicom_tables"
OWNER_TAG = "dicom_assets/owner"


def process_name(process: psutil.Process) -> str:
    """Return host, process id and start time of a process, which name it for good."""
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def is_dead(owner: str) -> bool:
    """Whether the process was on this machine and is gone; one elsewhere is never called dead."""
    host, pid, _ = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        return process_name(psutil.Process(int(pid))) != owner
    except psutil.NoSuchProcess:
        return True


def take_over(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The run is tagged with its process, and the slots of dead runs are free; returns those.

    Runs that are dead but still look as if they ran are reported as failed.
    """
    storage = instance.event_log_storage
    if instance.is_ephemeral or not storage.supports_global_concurrency_limits:
        return []
    instance.add_run_tags(run_id, {OWNER_TAG: process_name(_worker(instance, run_id))})
    claimed = {slot.run_id for slot in storage.get_concurrency_info(POOL).claimed_slots}
    dead = [held for held in sorted(claimed - {run_id}) if _has_ended(instance, held)]
    for held in dead:
        storage.free_concurrency_slots_for_run(held)
    return dead


def _worker(instance: dg.DagsterInstance, run_id: str) -> psutil.Process:
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
    return next((p for p in (own, *own.parents()) if str(p.pid) in told), own)


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return True
    if not is_dead(run.tags.get(OWNER_TAG, "elsewhere:0:0")):
        return False
    instance.report_run_failed(run, message="The process of this run is gone; it was killed.")
    return True
