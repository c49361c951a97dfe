"""Asset checks for the researcher: one archive, complete, and as plausible as before.

They read whole tables. That no row is derived from doubled rows is ensured by every run
(`tables.rollup`).
"""

from datetime import UTC, datetime
from functools import partial
from typing import Final

import dagster as dg
from pydantic import Field

from dicom_assets.defs.check_words import ReaderRole, Runs
from dicom_assets.defs.checks.definition import Check, CheckRun, define_check
from dicom_assets.defs.names import Names
from dicom_assets.schema import SERIES, STUDY
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions import integrity, plausibility
from dicom_assets.tables.questions.integrity import Agreement
from dicom_assets.tables.rollup import filled_derived

_check = partial(Check, reader=ReaderRole.DATA)
KEYS_CHECK: Final = _check(
    name="keys",
    runs=Runs.DAILY,
    means="Counts the rows of each key of every table. One is right.",
    remedy="Most likely another program has written to the table: see the check `commits`, and run "
    "`dicom-assets repair` (docs/operate/repair.md). Until then, runs over hours that touch a "
    "doubled instance fail, and leave `series` and `study` as they are.",
)
_DERIVE_AGAIN: Final = (
    "Another program has written to one of the tables, or a run was killed. Materialize the hours "
    "of these studies again, which derives their rows again. `dicom-assets find STUDY_UID` lists "
    "the hours of a study."
)
ORPHANS_CHECK: Final = _check(
    name="orphans",
    runs=Runs.DAILY,
    means="Looks for rows of `series` and `study` without a live instance, and for instances "
    "without such a row. Studies in hours that not all tables show yet are left out.",
    remedy=_DERIVE_AGAIN,
)
COUNTS_CHECK: Final = _check(
    name="counts",
    runs=Runs.DAILY,
    means="Compares `instanceCount` and `seriesCount` in `series` and `study` with the rows of "
    "`instance`. Studies in hours that not all tables show yet are left out.",
    remedy=_DERIVE_AGAIN,
)
RATES_CHECK: Final = _check(
    name="rates",
    runs=Runs.DAILY,
    means="Compares, for each column, the share of values that are missing or do not parse in the "
    "newest week with the four weeks before. A series counts once, and is compared with series of "
    "the same modality. A rise by more than ten points that chance does not explain is a failure.",
    remedy="Something changed at the source: a device, its software, a worklist, a filter before "
    "the archive. Count the rows that are null by `manufacturer`, `stationname` and "
    "`institutionname`, and ask there. Until then, do not rely on these columns in a study.",
)
FUTURE_CHECK: Final = _check(
    name="future",
    runs=Runs.DAILY,
    means="Counts the dates and times of `instance` that lie more than a day in the future: of the "
    "study, the series, the acquisition, the content, the patient's birth.",
    remedy="The clock of a device is wrong, or a date was typed wrong: count the rows by "
    "`stationname`, inform the owner of the device, and leave these rows out of questions about "
    "time.",
)
TABLE_CHECKS: Final = (KEYS_CHECK, ORPHANS_CHECK, COUNTS_CHECK, RATES_CHECK, FUTURE_CHECK)


def table_checks(names: Names) -> list[dg.AssetChecksDefinition]:
    """Return the checks of this module."""
    return [
        define_check(KEYS_CHECK, names, count_keys),
        define_check(ORPHANS_CHECK, names, find_orphans),
        define_check(COUNTS_CHECK, names, recount_instances),
        define_check(RATES_CHECK, names, compare_weeks, RatesConfig),
        define_check(FUTURE_CHECK, names, find_future_dates),
    ]


def count_keys(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless every key has one row."""
    tables = run.store.tables.values()
    repeated = {table.name: integrity.duplicates(run.store, table) for table in tables}
    listed = ", ".join(f"{count} of {name}" for name, count in repeated.items() if count)
    return run.check.result(
        listed and f"Keys have several rows: {listed}.",
        "Every key has one row.",
        {f"keys_repeated_{name}": count for name, count in repeated.items()},
        error=True,
    )


def find_orphans(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless `series`, `study` and `instance` hold the same series and studies."""
    agreements, compared = _agreements(run.store)
    listed = "; ".join(
        f"{name} lacks {one.missing} rows and has {one.surplus} without an instance"
        for name, one in agreements.items()
        if one.orphans
    )
    return run.check.result(
        listed and f"Of {compared} {listed}.",
        f"{compared} have their rows.",
        {
            f"{kind}_{name}": count
            for name, one in agreements.items()
            for kind, count in (("missing", one.missing), ("surplus", one.surplus))
        },
        error=True,
    )


def recount_instances(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless the counts in `series` and `study` are those of the rows of `instance`."""
    agreements, compared = _agreements(run.store)
    listed = ", ".join(
        f"{one.different} of {name}" for name, one in agreements.items() if one.different
    )
    return run.check.result(
        listed and f"Of {compared} some rows have other counts than their instances: {listed}.",
        f"{compared} have the counts of their instances.",
        {f"different_{name}": one.different for name, one in agreements.items()},
        error=True,
    )


def _agreements(store: Store) -> tuple[dict[str, Agreement], str]:
    """Return the agreement of each derived table with `instance`, and in words how many rows."""
    found = {table.name: integrity.agreement(store, table) for table in filled_derived(store)}
    series, studies = found[SERIES.name].compared, found[STUDY.name].compared
    return found, f"{series} series and {studies} studies"


class RatesConfig(dg.Config):
    """Configuration of the check `rates`."""

    weeks: float = Field(default=1, gt=0, description="Number of newest weeks.")
    weeks_before: float = Field(default=4, gt=0, description="Number of weeks before them.")
    points: float = Field(
        default=0.1, ge=0, le=1, description="Rise of the share that is a failure, from 0 to 1."
    )


def compare_weeks(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless every column has as many values in the newest weeks as in the weeks before."""
    config = run.config(RatesConfig)
    store, zone = run.store, run.service.site_time_zone
    jumps = plausibility.compare_rates(
        store, zone, weeks=config.weeks, weeks_before=config.weeks_before, points=config.points
    )
    compared = f"{jumps.series} series of the newest weeks with {jumps.series_before} before"
    rises = []
    for kind, columns in (("are missing", jumps.nulls), ("do not parse", jumps.unparsable)):
        shares = [f"{n} ({j.before:.0%} before, {j.now:.0%} now)" for n, j in columns.items()]
        if shares:
            rises.append(f"values {kind} more often in {', '.join(shares)}")
    none = "No column lacks more values than before" if jumps.series else "Too few series yet"
    return run.check.result(
        None if jumps.passed else f"Comparing {compared}, {' and '.join(rises)}.",
        f"{none}, comparing {compared}.",
        {
            "series": jumps.series,
            "series_before": jumps.series_before,
            **{f"missing_{name}": round(jump.now, 4) for name, jump in jumps.nulls.items()},
            **{f"unparsable_{name}": round(jump.now, 4) for name, jump in jumps.unparsable.items()},
        },
    )


def find_future_dates(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless no date of `instance` lies in the future."""
    rows = plausibility.count_future_dates(run.store, datetime.now(UTC))
    listed = ", ".join(f"{count} in {name}" for name, count in rows.items())
    return run.check.result(
        listed and f"Dates lie more than a day in the future: {listed}.",
        "No date lies in the future.",
        {f"future_{name}": count for name, count in rows.items()},
    )
