"""A check as Dagster runs it: its definition, and the things that a run of it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import dagster as dg

from dicom_assets.defs.check_words import READER_KEY, RUNS_KEY
from dicom_assets.defs.checks.description import Check
from dicom_assets.defs.io_manager import store_of
from dicom_assets.defs.names import Names
from dicom_assets.defs.resources import DicomService, service_of
from dicom_assets.errors import ServiceError
from dicom_assets.tables.delta.snapshot import Store

_ConfigT = TypeVar("_ConfigT", bound=dg.Config)


@dataclass(frozen=True)
class CheckRun:
    """One run of a check: its words, the DICOM service, and the tables."""

    check: Check
    context: dg.AssetCheckExecutionContext
    service: DicomService
    store: Store

    def config(self, kind: type[_ConfigT]) -> _ConfigT:
        """Return the configuration of this run."""
        return kind(**self.context.op_execution_context.op_config)


def define_check(
    check: Check,
    names: Names,
    function: Callable[[CheckRun], dg.AssetCheckResult],
    config: type[dg.Config] | None = None,
) -> dg.AssetChecksDefinition:
    """Return the check on the external asset of the service, computed by the function."""
    words = check.under(names)

    @dg.asset_check(
        asset=names.service_key,
        name=words.name,
        description=f"{words.means} **When it fails:** {words.remedy}",
        metadata={READER_KEY: words.reader.value, RUNS_KEY: words.runs.value},
        required_resource_keys={names.service, names.tables},
        config_schema=config.to_fields_dict() if config else None,
    )
    def run(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        op = context.op_execution_context
        return function(CheckRun(words, context, service_of(op, names), store_of(op, names)))

    return run


def unknown_result(error: ServiceError) -> dg.AssetCheckResult:
    """Return the result of a check that got no answer from the service: a warning, not a pass."""
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Could not look, so nothing is known: {error}",
    )
