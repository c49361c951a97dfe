"""Asset checks on what the tables say: is it one archive, whole, and as plausible as before?

Their reader is the researcher. What is counted, and how, is in `tables`. They look at whole tables;
that nothing is derived from doubled rows is seen to in `tables.rollups`, with every run.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import dagster as dg
from pydantic import Field

from dicom_assets.defs.checks.description import Check, Runs
from dicom_assets.defs.io_manager import TableIOManager
from dicom_assets.defs.reader_roles import ReaderRole
from dicom_assets.defs.resources import DicomService
from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions import dates, integrity, rates
from dicom_assets.tables.questions.integrity import Agreement
from dicom_assets.tables.questions.rates import Jump, Rates

KEYS: Final = Check(
    name="keys",
    reader=ReaderRole.DATA,
    runs=Runs.DAILY,
    means="Counts the rows of each key of `change`, `instance`, `series`, `study`: there is one.",
    remedy=(
        "Most likely somebody else has written to the table that is named: look in its history for "
        "commits without the note `dicom_assets`, restore the version before them, and materialize "
        "the hours since then again. A run over hours that touched a doubled instance is red and "
        "leaves `series` and `study` as they are."
    ),
)
_DERIVE_ANEW: Final = (
    "Somebody else has written to one of the tables, or a run was stopped by force: materialize "
    "the hours of these studies again, which derives their rows anew; `dicom-assets find` with a "
    "study's UID names the hours."
)
ORPHANS: Final = Check(
    name="orphans",
    reader=ReaderRole.DATA,
    runs=Runs.DAILY,
    means=(
        "Looks for rows of `series` and `study` without a live instance, and for instances without "
        "such a row. Studies of hours that are still on their way are left out."
    ),
    remedy=_DERIVE_ANEW,
)
COUNTS: Final = Check(
    name="counts",
    reader=ReaderRole.DATA,
    runs=Runs.DAILY,
    means=(
        "Compares `instanceCount` and `seriesCount` in `series` and `study` with the rows of "
        "`instance`. Studies of hours that are still on their way are left out."
    ),
    remedy=_DERIVE_ANEW,
)
RATES: Final = Check(
    name="rates",
    reader=ReaderRole.DATA,
    runs=Runs.DAILY,
    means=(
        "Compares by column how many values are missing, or do not parse, in the newest week with "
        "the four weeks before. A series counts once, and is compared with its own modality. A "
        "rise by more than ten points that chance does not explain is named."
    ),
    remedy=(
        "Something changed at its source: a device, its software, a worklist, a filter before the "
        "archive. Count the rows that are null by `manufacturer`, `stationname` and "
        "`institutionname`, ask there, and take care with studies over these columns until then."
    ),
)
FUTURE: Final = Check(
    name="future",
    reader=ReaderRole.DATA,
    runs=Runs.DAILY,
    means=(
        "Counts the dates and times of `instance` that lie more than a day in the future: of the "
        "study, the series, the acquisition, the content, the patient's birth."
    ),
    remedy=(
        "A device's clock is wrong, or a date was typed in: count the rows by `stationname`, tell "
        "the device's owner, and leave these rows out of questions about time."
    ),
)
CHECKS: Final = (KEYS, ORPHANS, COUNTS, RATES, FUTURE)


def checks(service: dg.AssetKey) -> list[dg.AssetChecksDefinition]:
    """Return the checks on what the tables of a service say."""
    wide = (keys_check, orphans_check, counts_check, rates_check, future_check)
    return [check(service) for check in wide]


def keys_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that every key has one row."""

    @dg.asset_check(**KEYS.on(service))
    def count_keys(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        store = dicom_tables.store
        found = {table.name: integrity.duplicates(store, table) for table in integrity.KEYED}
        named = ", ".join(f"{count} of {name}" for name, count in found.items() if count)
        return KEYS.result(
            f"Keys have several rows: {named}." if named else "Every key has one row.",
            passed=not named,
            error=True,
            metadata={f"keys_repeated_{name}": count for name, count in found.items()},
        )

    return count_keys


def _agreements(store: Store) -> dict[str, Agreement]:
    return {table.name: integrity.agreement(store, table) for table in (SERIES, STUDY)}


def orphans_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that `series`, `study` and `instance` hold the same series and studies."""

    @dg.asset_check(**ORPHANS.on(service))
    def look_for_orphans(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        found = _agreements(dicom_tables.store)
        wrong = {name: one for name, one in found.items() if one.orphans}
        said = "; ".join(
            f"{name} lacks {one.missing} rows and has {one.surplus} without an instance"
            for name, one in wrong.items()
        )
        return ORPHANS.result(
            f"Of {_compared(found)} {said}." if wrong else f"{_compared(found)} have their rows.",
            passed=not wrong,
            error=True,
            metadata={
                f"{what}_{name}": count
                for name, one in found.items()
                for what, count in (("missing", one.missing), ("surplus", one.surplus))
            },
        )

    return look_for_orphans


def _compared(found: dict[str, Agreement]) -> str:
    return f"{found[SERIES.name].compared} series and {found[STUDY.name].compared} studies"


def counts_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that `series` and `study` count the rows of `instance`."""

    @dg.asset_check(**COUNTS.on(service))
    def count_again(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        found = _agreements(dicom_tables.store)
        wrong = ", ".join(f"{one.different} of {n}" for n, one in found.items() if one.different)
        return COUNTS.result(
            f"Of {_compared(found)} rows tell other counts than their instances: {wrong}."
            if wrong
            else f"{_compared(found)} count their instances.",
            passed=not wrong,
            error=True,
            metadata={f"different_{name}": one.different for name, one in found.items()},
        )

    return count_again


class RatesConfig(dg.Config):
    """Which periods are compared, and what a jump is."""

    weeks: float = Field(default=1, gt=0, description="The newest weeks.")
    weeks_before: float = Field(default=4, gt=0, description="The weeks before them.")
    points: float = Field(
        default=0.1, ge=0, le=1, description="By how much more values may be missing, from 0 to 1."
    )


def rates_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that no column lacks more values than in the weeks before."""

    @dg.asset_check(**RATES.on(service))
    def compare_weeks(
        config: RatesConfig,
        dicom_service: DicomService,
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        zone = dicom_service.site_time_zone
        periods = (config.weeks, config.weeks_before)
        return _jumped(rates.look(dicom_tables.store, zone, *periods, points=config.points))

    return compare_weeks


def _jumped(found: Rates) -> dg.AssetCheckResult:
    compared = f"{found.series} series of the newest weeks with {found.series_before} before"
    said = [
        f"{what} more often in {_named(jumps)}"
        for what, jumps in (
            ("values are missing", found.nulls),
            ("values do not parse", found.unparsable),
        )
        if jumps
    ]
    none = "No column lacks more values than before" if found.series else "There is too little yet"
    return RATES.result(
        f"Comparing {compared}, {', and '.join(said)}."
        if said
        else f"{none}, comparing {compared}.",
        passed=found.passed,
        metadata={
            "series": found.series,
            "series_before": found.series_before,
            **{f"missing_{name}": round(jump.now, 4) for name, jump in found.nulls.items()},
            **{f"unparsable_{name}": round(jump.now, 4) for name, jump in found.unparsable.items()},
        },
    )


def _named(jumps: Mapping[str, Jump]) -> str:
    return ", ".join(
        f"{n} ({jump.before:.0%} before, {jump.now:.0%} now)" for n, jump in jumps.items()
    )


def future_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that no date lies in the future."""

    @dg.asset_check(**FUTURE.on(service))
    def look_for_future_dates(
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        return _ahead(dates.future(dicom_tables.store, datetime.now(UTC)))

    return look_for_future_dates


def _ahead(found: Counter[str]) -> dg.AssetCheckResult:
    named = ", ".join(f"{count} in {name}" for name, count in found.items())
    return FUTURE.result(
        f"Dates lie more than a day in the future: {named}."
        if found
        else "No date is yet to come.",
        passed=not found,
        metadata={f"future_{name}": count for name, count in found.items()},
    )
