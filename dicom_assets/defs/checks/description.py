"""The words of a check: its name, reader, time, meaning and remedy.

They stand beside the check and have no other home. Dagster shows meaning and remedy, a failed
result repeats the remedy, alerts go to the reader, and `dicom-assets docs` writes the page.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Final

import dagster as dg

from dicom_assets.defs.check_words import ReaderRole, Runs
from dicom_assets.defs.names import DEFAULT_NAME, Names

# Jobs, schedules and sensors stand in the words by their default names. `dicom_assets` is no name.
_OUR_NAME: Final = re.compile(rf"`{DEFAULT_NAME}_(?!assets)")


@dataclass(frozen=True)
class Check:
    """A check in words: `means` says what it compares, `remedy` what to do when it fails."""

    name: str
    reader: ReaderRole
    runs: Runs
    means: str
    remedy: str

    def under(self, names: Names) -> "Check":
        """Return the check with the jobs, schedules and sensors that have these names."""
        means, remedy = (_OUR_NAME.sub(f"`{names.word}_", t) for t in (self.means, self.remedy))
        return replace(self, means=means, remedy=remedy)

    def result(
        self, fault: str | None, good: str, metadata: dict[str, Any], *, error: bool = False
    ) -> dg.AssetCheckResult:
        """Return a failure that says the fault and the remedy, or the good result without a fault.

        Metadata that are None are left out.
        """
        return dg.AssetCheckResult(
            passed=not fault,
            severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
            description=f"{fault} {self.remedy}" if fault else good,
            metadata={name: value for name, value in metadata.items() if value is not None},
        )
