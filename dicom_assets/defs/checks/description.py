"""The words of a check: its name, reader, time, meaning and remedy.

They stand beside the check and have no other home. Dagster shows meaning and remedy, a failed
result repeats the remedy, alerts go to the reader, and `dicom-assets docs` writes the page.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import dagster as dg

from dicom_assets.defs.reader_roles import READER_KEY, ReaderRole
from dicom_assets.errors import ServiceError

# Metadata key of a check: when it runs.
RUNS_KEY: Final = "dicom_assets/runs"


class Runs(StrEnum):
    """The job of checks that a check belongs to (`defs.schedules.check_jobs`)."""

    HOURLY = "hourly"
    AUDIT = "audit"
    DAILY = "daily"


@dataclass(frozen=True)
class Check:
    """A check in words: `means` says what it compares, `remedy` what to do when it fails."""

    name: str
    reader: ReaderRole
    runs: Runs
    means: str
    remedy: str

    def on(
        self, asset: dg.AssetKey, function: Callable[..., dg.AssetCheckResult]
    ) -> dg.AssetChecksDefinition:
        """Return the check on an asset, computed by the function."""
        return dg.asset_check(
            asset=asset,
            name=self.name,
            description=f"{self.means} **When it fails:** {self.remedy}",
            metadata={READER_KEY: self.reader.value, RUNS_KEY: self.runs.value},
        )(function)

    def result(
        self,
        sentence: str,
        *,
        passed: bool,
        error: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> dg.AssetCheckResult:
        """Return a result of the check; the description of a failure ends with the remedy."""
        return dg.AssetCheckResult(
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
            description=sentence if passed else f"{sentence} {self.remedy}",
            metadata=metadata or {},
        )


def runs_of(check: dg.AssetChecksDefinition) -> Runs:
    """Return the job of checks that a check belongs to."""
    (spec,) = check.check_specs
    return Runs(spec.metadata[RUNS_KEY])


def unknown_result(error: ServiceError) -> dg.AssetCheckResult:
    """Return the result of a check that got no answer from the service: a warning, not a pass."""
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Could not look, so nothing is known: {error}",
    )
