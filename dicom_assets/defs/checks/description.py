"""What is said of a check: for whom it is, when it runs, what it means and what to do.

These texts have this form and one home, beside the check: Dagster shows them, a failed result
repeats what to do, alerts find the reader, and docs/checks.md is made of them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import dagster as dg

from dicom_assets.defs.reader_roles import READER_KEY, ReaderRole
from dicom_assets.errors import ServiceError

# Metadata key of a check: when it runs.
RUNS_KEY: Final = "dicom_assets/runs"


class Runs(StrEnum):
    """When a check runs."""

    HOURLY = "hourly"
    AUDIT = "audit"
    DAILY = "daily"


@dataclass(frozen=True)
class Check:
    """A check in words: what is looked at, and what its reader does when it fails."""

    name: str
    reader: ReaderRole
    runs: Runs
    means: str
    remedy: str

    def on(self, asset: dg.AssetKey) -> dict[str, Any]:
        """Return what `dagster.asset_check` takes to put the check on an asset."""
        return {
            "asset": asset,
            "name": self.name,
            "description": f"{self.means} **When it fails:** {self.remedy}",
            "metadata": {READER_KEY: self.reader.value, RUNS_KEY: self.runs.value},
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
    return Runs(spec.metadata[RUNS_KEY])


def not_looked(error: ServiceError) -> dg.AssetCheckResult:
    """Return the result of a check that could not ask the service: it has not passed."""
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Could not look, so nothing is known: {error}",
    )
