"""A code location like ours, in which a run kills itself where the file `kill` says.

The file stands in the working folder and holds a table's name and `before` or `after`: the process
ends with SIGKILL before or after that table's next commit. The file is gone then.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dicom_assets.definitions import defs
from dicom_assets.tables.delta.commit import Committed, Difference
from dicom_assets.tables.delta.snapshot import Snapshot

__all__ = ["defs"]

MARKER: Final = Path("kill")
_commit = Snapshot.commit


def _die(table: str, moment: str) -> None:
    if MARKER.exists() and MARKER.read_text(encoding="utf-8").split() == [table, moment]:
        MARKER.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _commit_or_die(self: Snapshot, difference: Difference, note: Mapping[str, object]) -> Committed:
    if difference.is_empty:
        return _commit(self, difference, note)
    _die(self.table.name, "before")
    committed = _commit(self, difference, note)
    _die(self.table.name, "after")
    return committed


Snapshot.commit = _commit_or_die  # type: ignore[method-assign]  # the point of this module
