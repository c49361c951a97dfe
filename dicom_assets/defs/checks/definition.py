"""A check: its words, its definition in Dagster, and the things that a run of it is given.

The words stand beside the check and have no other home. Dagster shows meaning and remedy, a failed
result repeats the remedy, alerts go to the reader, and `dicom-assets docs` writes the page.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import dagster as dg

from dicom_assets.defs.check_words import READER_KEY, RUNS_KEY, ReaderRole, Runs
from dicom_assets.defs.io_manager import store_of
from dicom_assets.defs.names import DEFAULT_NAME, Names
from dicom_assets.defs.resources import DicomService, service_of
from dicom_assets.errors import ServiceError
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep.damage import named_damage

_ConfigT = TypeVar("_ConfigT", bound=dg.Config)
# Jobs, schedules and sensors stand in the words by their default names. `dicom_assets` is no name.
_OUR_NAME: Final = re.compile(rf"`{DEFAULT_NAME}_(?!assets)")
# The most hours that the metadata of a result lists.
HOURS_NAMED: Final = 48


@dataclass(frozen=True)
class Check:
    """A check in words: `means` says what it compares, `remedy` what to do when it fails.

    Its subject is a table, unless it asks the service.
    """

    name: str
    reader: ReaderRole
    runs: Runs
    means: str
    remedy: str
    asks_service: bool = False

    def result(
        self, fault: str | None, good: str, metadata: dict[str, Any], *, error: bool = False
    ) -> dg.AssetCheckResult:
        """Return a failure with fault and remedy, or the good result.

        Metadata that says nothing is dropped: None, an empty list, False. True is in words.
        """
        return dg.AssetCheckResult(
            passed=not fault,
            severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
            description=f"{fault} {self.remedy}" if fault else good,
            metadata={
                name: "yes" if value is True else value
                for name, value in metadata.items()
                if value is not None and value is not False and value not in ([], {})
            },
        )


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
    """Return the check on the asset of its subject, computed by the function."""
    means, remedy = (_OUR_NAME.sub(f"`{names.word}_", t) for t in (check.means, check.remedy))
    words = replace(check, means=means, remedy=remedy)

    @dg.asset_check(
        asset=names.service_key if words.asks_service else names.quality_key,
        name=words.name,
        description=f"{words.means} **When it fails:** {words.remedy}",
        metadata={READER_KEY: words.reader.value, RUNS_KEY: words.runs.value},
        required_resource_keys={names.service, names.tables},
        config_schema=config.to_fields_dict() if config else None,
    )
    def run(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        op = context.op_execution_context
        store = store_of(op, names)
        with named_damage(store):
            return function(CheckRun(words, context, service_of(op, names), store))

    return run


def unknown_result(error: ServiceError) -> dg.AssetCheckResult:
    """Return the result of a check that got no answer from the service: a warning, not a pass."""
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Could not look, so nothing is known: {error}",
    )
