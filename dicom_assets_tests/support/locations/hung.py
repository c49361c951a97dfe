"""A code location like ours whose commit never returns: its thread waits for a lock for ever.

So it looks when threads of the engine have died for want of memory. The file `committing` says that
it has come to it. With DICOM_TEST_HUNG_SECONDS the watchdog has less patience.
"""

import ctypes
import os
from pathlib import Path
from types import FunctionType
from typing import Final

from dicom_assets.definitions import defs
from dicom_assets.defs import watchdog
from dicom_assets.tables.delta.snapshot import Snapshot

__all__ = ["defs"]

MARKER: Final = Path("committing")
_MUTEX: Final = ctypes.create_string_buffer(128)
_LOCK: Final = ctypes.CDLL(None).pthread_mutex_lock

watchdog.HUNG_SECONDS = float(os.environ.get("DICOM_TEST_HUNG_SECONDS", watchdog.HUNG_SECONDS))  # type: ignore[misc]
watchdog._POLL_SECONDS = 0.5  # type: ignore[misc]


def _hang(*_: object) -> None:
    MARKER.touch()
    _LOCK(_MUTEX)
    _LOCK(_MUTEX)


# A function of the engine, by the name of its module.
Snapshot.commit = FunctionType(_hang.__code__, {**globals(), "__name__": "deltalake.table"})  # type: ignore[method-assign]
