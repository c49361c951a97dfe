"""Asset checks for the PACS administrator: the tables hold what the DICOM service serves."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import dagster as dg
from pydantic import Field

from dicom_assets.defs.check_words import BY_REASON, FIRST_LOAD, REPAIRS_ITSELF, ReaderRole, Runs
from dicom_assets.defs.checks.definition import (
    HOURS_NAMED,
    Check,
    CheckRun,
    define_check,
    unknown_result,
)
from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import DueConfig, DueHours, hour_key
from dicom_assets.errors import ServiceError
from dicom_assets.tables import rejected
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.outcome import Progress
from dicom_assets.tables.questions import freshness, lag
from dicom_assets.tables.questions.arrivals import silent_now
from dicom_assets.tables.questions.audit import Audit, audit
from dicom_assets.tables.questions.lag import Lag
from dicom_assets.tables.questions.plausibility import parse_newest
from dicom_assets.tables.questions.reconcile import SAMPLE, reconcile
from dicom_assets.window import HOUR, Window, datetime_of, floor_hour, ticks_of

_check = partial(Check, reader=ReaderRole.SERVICE)
# The most devices that the text of a result names.
DEVICES_NAMED: Final = 20
AUDIT_CHECK: Final = _check(
    name="audit",
    runs=Runs.AUDIT,
    means="Reads the entries of the last closed hours again, without headers, and compares them "
    "with the seals of these hours. An hour that differs (an entry came late, or was lost to a "
    "page that shifted) loses its seal, and the sensor `dicom_reopened_hours` requests a run for "
    "it.",
    remedy="Late entries: nothing has to be done, unless the same hours are listed every time. "
    "Entries that are no longer served do not come back by reading again: ask the operator of the "
    "service what was removed from it. Overdue instances: run `dicom-assets find SEQUENCE`.",
    asks_service=True,
)
RECONCILIATION_CHECK: Final = _check(
    name="reconciliation",
    runs=Runs.AUDIT,
    means="Compares the number of instances per study in the tables with the search of the service "
    "(QIDO-RS). Hours that the tables have not been asked to read yet make no difference.",
    remedy="Materialize the hours that the metadata of this result lists. For one study run "
    "`dicom-assets find STUDY_UID`.",
    asks_service=True,
)
PARSING_CHECK: Final = _check(
    name="parsing",
    runs=Runs.AUDIT,
    means="Reads the headers of the newest instances into columns again, and counts the values "
    "that are null because they do not parse: a date that does not exist, a number out of range. "
    "Such values are wrong in the files. Days before 1582-10-15 and moments before 1900 do not "
    "count: they are right, and null for the sake of Spark. The column `metadata_string` keeps the "
    "header as it is.",
    remedy="A device or a person writes wrong values: list `manufacturer` and `stationname` of the "
    "rows that are null, and inform the owner of the device.",
)
LAG_CHECK: Final = _check(
    name="lag",
    runs=Runs.HOURLY,
    means="Asks the service, in a few light requests, for its newest entry, for entries in hours "
    "that are due and in no table, and for entries that the last hours got after they were read. "
    "The last kind means that the service shows entries later than `DICOM_DELAY_MINUTES`.",
    remedy="Entries in no table: read the failed runs of the job `dicom_tables`. The check "
    "`freshness` lists the missing hours. Late entries: the audit reads their hours again by "
    "itself. If late entries repeat, set `DICOM_DELAY_MINUTES` to more than the minutes given "
    "here.",
    asks_service=True,
)
REJECTED_CHECK: Final = _check(
    name="rejected",
    runs=Runs.DAILY,
    means="Counts the entries of the feed that wait in the table `rejected` because they could not "
    "be used, by reason, with the oldest hour and the next attempt. There is one alert for each "
    "reason, and one more when its number grows.",
    remedy="Give the reasons and sequences in the table `rejected` to the operator of the service. "
    "When an entry can be read again, materialize its hour by hand: the hour is in the column "
    "`window_start`, and such a run does not wait for the next attempt. "
    "`dicom-assets find SEQUENCE` shows one entry.",
)
SILENT_CHECK: Final = _check(
    name="silent",
    runs=Runs.HOURLY,
    means="Looks in `series` for devices (StationName, for want of one the model, at an "
    "institution) that sent on at least six of the last eight same weekdays, and have not by the "
    "hour by which they had on three of four of these days. Days are those of "
    "`DICOM_SITE_TIME_ZONE`, and a day of which the tables lack an hour is not judged. A device "
    "counts until it sends again, for three weeks at most. There is one alert for each "
    "institution, and one more when its number of silent devices grows.",
    remedy="Look at the device, at its network, and at the queue of what it sends to: a router, "
    "the archive. On a holiday, or when a device was taken away, nothing has to be done. "
    "`dicom-assets report` shows all devices by day.",
)
SERVICE_CHECKS: Final = (
    AUDIT_CHECK,
    RECONCILIATION_CHECK,
    PARSING_CHECK,
    LAG_CHECK,
    REJECTED_CHECK,
    SILENT_CHECK,
)


def service_checks(names: Names, due: DueHours) -> list[dg.AssetChecksDefinition]:
    """Return the checks of this module."""
    return [
        define_check(AUDIT_CHECK, names, audit_hours, AuditConfig),
        define_check(RECONCILIATION_CHECK, names, compare_studies, ReconciliationConfig),
        define_check(PARSING_CHECK, names, parse_headers, ParsingConfig),
        define_check(LAG_CHECK, names, partial(ask_for_newest, due), DueConfig),
        define_check(REJECTED_CHECK, names, count_rejected),
        define_check(SILENT_CHECK, names, partial(find_silent_devices, due), DueConfig),
    ]


class AuditConfig(dg.Config):
    """Configuration of the check `audit`."""

    hours: int = Field(default=48, ge=1, description="Number of closed hours to read again.")


def audit_hours(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless the service serves the last closed hours as they were sealed."""
    service, say = run.service, run.context.log.info
    now = service.feed.now()
    closed = floor_hour(now - timedelta(minutes=service.delay_minutes))
    newest = datetime_of(service.clip(Window(0, ticks_of(closed))).end)
    first = floor_hour(newest - run.config(AuditConfig).hours * HOUR)
    bounds = service.bounds(Window.between(first, newest))
    by = Run(run.context.run.run_id, now, say)
    progress = Progress(say, "read {} entries of the feed")
    audited = audit(run.store, bounds, service.feed, by, progress)
    return run.check.result(
        None if audited.passed else _audit_fault(audited),
        f"{audited.compared} hours from {bounds.window} are as they were sealed.",
        {
            "hours_compared": audited.compared,
            "hours_without_seal": audited.unsealed,
            "hours_reopened": len(audited.reopened),
            "reopened": [hour_key(hour) for hour in audited.reopened[:HOURS_NAMED]],
            "entries_late": audited.late,
            "entries_lost": audited.lost,
            "instances_overdue": audited.overdue,
            REPAIRS_ITSELF: not audited.passed and not audited.lost and not audited.overdue,
        },
        error=True,
    )


def _audit_fault(audited: Audit) -> str:
    sentences = []
    if audited.reopened or audited.lost:
        sentences.append(
            f"{len(audited.reopened)} of {audited.compared} hours differ from their seals: "
            f"{audited.late} entries came late, {audited.lost} are no longer served. These hours "
            "have lost their seals and are materialized again by themselves."
        )
    if audited.overdue:
        sentences.append(
            f"{audited.overdue} instances were replaced in the service more than a day ago, and "
            "no later entry says so."
        )
    return " ".join(sentences)


class ReconciliationConfig(dg.Config):
    """Configuration of the check `reconciliation`."""

    studies: int | None = Field(
        default=SAMPLE, description="Number of studies to compare, chosen at random. Null: all."
    )


def compare_studies(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless studies have as many instances in the tables as in the service."""
    now, sample = run.service.feed.now(), run.config(ReconciliationConfig).studies
    run.context.log.info("comparing studies with the service's search")
    try:
        with run.service.counts() as counts:
            seed, kept = int(now.timestamp()), run.service.kept
            drift = reconcile(run.store, counts, now, kept=kept, sample=sample, seed=seed)
    except ServiceError as error:
        return unknown_result(error)
    fault = (
        f"{drift.drift} of {drift.compared} studies do not have as many instances as in the "
        f"service: {drift.missing} are missing, {drift.surplus} are too many, {drift.different} "
        "differ in size."
    )
    return run.check.result(
        None if drift.passed else fault,
        f"{drift.compared} studies have as many instances as in the service.",
        {
            "studies_compared": drift.compared,
            "studies_missing": drift.missing,
            "studies_surplus": drift.surplus,
            "studies_different": drift.different,
            "studies_not_due": drift.not_due,
            "hours": [hour_key(hour) for hour in drift.hours[:HOURS_NAMED]],
        },
        error=True,
    )


class ParsingConfig(dg.Config):
    """Configuration of the check `parsing`."""

    instances: int = Field(default=1000, ge=1, description="Number of headers to read again.")
    rate: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of a column's values that may not parse, from 0 to 1.",
    )


def parse_headers(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless nearly all values in the newest headers parse as values of their VR."""
    config = run.config(ParsingConfig)
    parsed = parse_newest(run.store, run.service.site_time_zone, config.instances)
    rates = parsed.rates()
    above = ", ".join(name for name, rate in rates.items() if rate > config.rate)
    part = f"{config.rate:.0%} of the values of {parsed.headers} headers do not parse"
    return run.check.result(
        above and f"More than {part} in {above}. These values are null in the tables.",
        f"In each column at most {part}.",
        {
            "headers": parsed.headers,
            **{f"rate_{name}": round(rate, 4) for name, rate in rates.items()},
            **{f"unparsable_{name}": count for name, count in parsed.unparsable.items()},
        },
    )


def ask_for_newest(due: DueHours, run: CheckRun) -> dg.AssetCheckResult:
    """Red unless the tables have every entry of the hours that are due, and none came late."""
    service, store = run.service, run.store
    try:
        now = service.feed.now()
        bounds = service.bounds(due.window(now, run.config(DueConfig)))
        behind = lag.measure_lag(store, service.feed, bounds)
    except ServiceError as error:
        return unknown_result(error)
    shown = freshness.freshness_of(store, bounds, now)
    newest, late = behind.newest, behind.late_minutes
    until = f"{behind.read_until:%Y-%m-%d %H:%M}"
    return run.check.result(
        None if behind.passed else _lag_fault(behind, until),
        f"The tables have every entry that the service shows to {until} UTC.",
        {
            "entries_missing": behind.missing,
            "read_until": until,
            "hours_with_late_entries": [hour_key(hour) for hour in behind.late or ()],
            "late_entries_unknown": behind.late is None,
            "newest_entry_minutes": newest and round((now - newest) / timedelta(minutes=1)),
            "late_minutes": None if late is None else round(late),
            FIRST_LOAD: shown.first_load,
        },
        error=bool(behind.missing) and not shown.first_load,
    )


def _lag_fault(behind: Lag, until: str) -> str:
    sentences = []
    if behind.missing:
        least = "at least " if behind.missing == lag.MOST_COUNTED else ""
        sentences.append(
            f"The service has {least}{behind.missing} entries from {until} UTC on that are due and "
            "in no table."
        )
    if behind.late:
        sentences.append(
            f"{len(behind.late)} of the last hours got entries after they were read, "
            f"{behind.late_minutes:.0f} minutes after their end."
        )
    return " ".join(sentences)


def count_rejected(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless no entry waits in `rejected`."""
    waiting = rejected.by_reason(run.store)
    count = sum(one.count for one in waiting)
    reasons = "; ".join(
        f"{one.reason}: {one.count}, the oldest of the hour {hour_key(one.oldest)}, "
        + (
            f"next attempt {one.next_attempt:%Y-%m-%d %H:%M} UTC or with the first run after it"
            if one.next_attempt
            else "tried again only when the hour is read again"
        )
        for one in waiting
    )
    return run.check.result(
        f"{count} entries wait, because they could not be used. {reasons}." if waiting else None,
        "No entry of the feed waits.",
        {
            "entries_waiting": count,
            "oldest_hour": hour_key(min(one.oldest for one in waiting)) if waiting else None,
            BY_REASON: {one.reason: one.count for one in waiting} or None,
        },
    )


def find_silent_devices(due: DueHours, run: CheckRun) -> dg.AssetCheckResult:
    """Red unless every device has sent that was expected to."""
    # By this machine's clock, because the service may be down.
    now = datetime.now(UTC)
    bounds = run.service.bounds(due.window(now, run.config(DueConfig)))
    silent = silent_now(run.store, bounds, run.service.site_time_zone, now)
    listed = "; ".join(
        f"{one.device}, expected by {one.by}:00 on {one.day:%A} {one.day}"
        for one in silent[:DEVICES_NAMED]
    )
    by_place = Counter(one.device.institution or "without an institution" for one in silent)
    return run.check.result(
        f"Silent devices: {len(silent)}. {listed}." if silent else None,
        "Every device has sent that was expected to.",
        {
            "devices_silent": len(silent),
            BY_REASON: dict(by_place) or None,
            FIRST_LOAD: freshness.freshness_of(run.store, bounds, now).first_load,
        },
    )
