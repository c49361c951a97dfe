"""`dicom-assets demo` in an empty folder, as somebody runs it who has just cloned the project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deltalake import DeltaTable

from dicom_assets_tests.support.command import told

# The first demo believes that it is two hours earlier than it is; see `run_in`.
EARLIER: Final = {"DICOM_DELAY_MINUTES": "135"}
_OUTPUT: Final = "printed.txt"


@dataclass(frozen=True)
class First:
    """A folder in which a demo has run."""

    folder: Path

    @property
    def output(self) -> str:
        """What it printed."""
        return (self.folder / _OUTPUT).read_text(encoding="utf-8")

    def versions(self) -> dict[str, int]:
        """The Delta version of each table that is there."""
        found = (self.folder / "data" / "dicom").iterdir()
        return {path.name: DeltaTable(path).version() for path in found}


def run_in(folder: Path) -> None:
    """The first demo has run.

    A delay that is two hours longer moves the archive's first hour, and the newest hour that is
    closed, two hours back: what the default delay then finds is the same folder two hours later.
    """
    (folder / _OUTPUT).write_text(told(folder, "demo", **EARLIER), encoding="utf-8")
