"""What is said of a check: for whom it is, when it runs, what it means and what to do.

These texts have this form and one home, beside the check: Dagster shows them, a failed result
repeats what to do, alerts find the reader, and docs/checks.md is made of them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import dagster as dg

from dicom_assets.errors import ServiceError

# In the metadata of a check: who reads it, and when it runs. Alerts go by the reader.
READER: Final = "dicom_assets/reader"
RUNS: Final = "dicom_assets/runs"
# In the metadata of a failed result: the tables are filled for the first time, or what was found
# is put right without a person. Then nobody is told.
FIRST_LOAD: Final = "first_load"
REPAIRS_ITSELF: Final = "repairs_itself"


class Reader(StrEnum):
    """Who reads a check."""

    SERVICE = "service"
    PLATFORM = "platform"
    DATA = "data"


class Runs(StrEnum):
    """When a check runs."""

    HOURLY = "hourly"
    AUDIT = "audit"
    DAILY = "daily"


@dataclass(frozen=True)
class Check:
    """A check in words: what is looked at, and what its reader does when it fails."""

    name: str
    reader: Reader
    runs: Runs
    means: str
    remedy: str

    def on(self, asset: dg.AssetKey) -> dict[str, Any]:
        """Return what `dagster.asset_check` takes to put the check on an asset."""
        return {
            "asset": asset,
            "name": self.name,
            "description": f"{self.means} **When it fails:** {self.remedy}",
            "metadata": {READER: self.reader.value, RUNS: self.runs.value},
        }

    def result(
        self,
        said: str,
        *,
        passed: bool,
        error: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> dg.AssetCheckResult:
        """Return a result: what was found, and what to do about it if that is not well."""
        severity = dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            passed=passed,
            severity=severity,
            description=said if passed else f"{said} {self.remedy}",
            metadata=metadata or {},
        )


def runs_of(check: dg.AssetChecksDefinition) -> Runs:
    """Return when a check runs."""
    (spec,) = check.check_specs
    return Runs(spec.metadata[RUNS])


def not_looked(error: ServiceError) -> dg.AssetCheckResult:
    """Return the result of a check that could not ask the service: it has not passed."""
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Could not look, so nothing is known: {error}",
    )
