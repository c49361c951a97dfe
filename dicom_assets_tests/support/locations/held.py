"""A code location like ours, in which one run is long: its first commit waits.

The run that takes the file `hold` waits as long as there is the file `held`, which has its process.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicom_assets.definitions import defs
from dicom_assets.tables.delta.commit import Committed, Difference
from dicom_assets.tables.delta.snapshot import Snapshot

__all__ = ["defs"]

HOLD: Final = Path("hold")
HELD: Final = Path("held")
_commit = Snapshot.commit


def _commit_later(self: Snapshot, difference: Difference, note: Mapping[str, object]) -> Committed:
    with suppress(FileNotFoundError):
        HOLD.rename(HELD)
        HELD.write_text(str(os.getpid()), encoding="utf-8")
        while HELD.exists():
            time.sleep(0.2)
    return _commit(self, difference, note)


Snapshot.commit = _commit_later  # type: ignore[method-assign]  # the point of this module
