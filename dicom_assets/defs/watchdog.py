"""The end of a run that does not end by itself: its engine hangs, or it does not obey a signal.

A commit is a single call of the Delta engine. When memory is short, threads of the engine die, and
the call never returns. Python delivers a signal between two instructions, so such a run does not
obey SIGTERM either. A thread in each process of a run reports the run and ends the process. After
any end a table has all of a commit or nothing.
"""

import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Final

import dagster as dg

# The engine itself gives up a request to the storage after three minutes, and what takes it longer
# than this takes processor time: a merge on three million rows needs 48 s of it.
HUNG_SECONDS: Final = 1800.0
# The part of that time in which a process that hangs may use the processor, for its other threads.
_IDLE: Final = 0.01
# For a run that obeys a signal: it closes connections, and reports its end to Dagster.
GRACE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 5.0
_NAME: Final = "dicom-watchdog"
# Where the engine is called: itself, and code that calls it or reads from it by Arrow.
_ENGINE: Final = ("deltalake", "pyarrow", "dicom_assets.tables.delta")
# The commands of `dagster` whose process is one of a run.
_COMMANDS: Final = (
    ["api", "execute_run"],
    ["api", "execute_step"],
    ["asset", "materialize"],
    ["job", "execute"],
)


def watch(instance: dg.DagsterInstance, run_id: str) -> None:
    """Watch this process if Dagster started it for the run, and in no other.

    It is called before tables are written, so that runs that only read them are left to themselves.
    """
    # Dagster's code server and executors start such processes by multiprocessing.
    is_command = "dagster" in sys.argv[0] and sys.argv[1:3] in _COMMANDS
    if not is_command and multiprocessing.parent_process() is None:
        return
    is_watched = any(thread.name == _NAME for thread in threading.enumerate())
    if is_watched or threading.current_thread() is not threading.main_thread():
        return
    signals, wakeup = socket.socketpair()
    wakeup.settimeout(0)
    # Written to by the operating system's signal handler, while Python may wait for the engine.
    signal.set_wakeup_fd(wakeup.detach(), warn_on_full_buffer=False)
    threading.Thread(
        target=_watch, args=(instance, run_id, signals), name=_NAME, daemon=True
    ).start()


def _watch(instance: dg.DagsterInstance, run_id: str, signals: socket.socket) -> None:
    """End the process when its main thread hangs, or a while after a signal."""
    place: tuple[int, int] | None = None
    since, used = time.monotonic(), time.process_time()
    while True:
        if select.select([signals], [], [], _POLL_SECONDS)[0]:
            if {signal.SIGTERM, signal.SIGINT} & set(signals.recv(64)):
                time.sleep(GRACE_SECONDS)
                _end(instance, run_id, "The run was told to end and did not; it was ended.")
            continue
        now, cpu, last = time.monotonic(), time.process_time(), place
        place = _engine_call()
        if place is None or place != last or cpu - used > _IDLE * HUNG_SECONDS:
            since, used = now, cpu
        elif now - since > HUNG_SECONDS:
            minutes = round(HUNG_SECONDS / 60)
            _end(
                instance,
                run_id,
                f"The Delta engine has not returned for {minutes} minutes and does nothing; the "
                "run was ended, and its hours are requested again. Mostly memory is short: look "
                "at the limits of the machine or container.",
            )


def _engine_call() -> tuple[int, int] | None:
    """Return the main thread's place in a call of the engine; None when it is elsewhere."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - theirs
    if frame is None or not frame.f_globals.get("__name__", "").startswith(_ENGINE):
        return None
    return id(frame), frame.f_lasti


def _end(instance: dg.DagsterInstance, run_id: str, message: str) -> None:
    """Report the run unless it has ended, and end the process at once."""
    try:
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        elif run is not None and not run.is_finished:
            instance.report_run_failed(run, message)
    finally:
        os._exit(1)
