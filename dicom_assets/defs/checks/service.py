"""Asset checks on the DICOM service: do the tables still hold what it serves?

Their reader is the PACS administrator. What is compared, and how, is in `tables`.
"""

from datetime import datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from dicom_assets.defs.checks.description import Check, Runs, not_looked
from dicom_assets.defs.checks.due_hours import Due
from dicom_assets.defs.io_manager import TableIOManager
from dicom_assets.defs.partitions import key_of
from dicom_assets.defs.reader_roles import FIRST_LOAD, REPAIRS_ITSELF, ReaderRole
from dicom_assets.defs.resources import DicomService
from dicom_assets.errors import ServiceError
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.outcome import Progress
from dicom_assets.tables.questions import freshness, lag
from dicom_assets.tables.questions.audit import Audit, audit
from dicom_assets.tables.questions.freshness import Freshness
from dicom_assets.tables.questions.lag import Lag
from dicom_assets.tables.questions.parsing import Parsing, look
from dicom_assets.tables.questions.reconcile import SAMPLE, Reconciliation, reconcile
from dicom_assets.window import HOUR, Window, datetime_of, floor_hour, ticks_of

AUDIT: Final = Check(
    name="audit",
    reader=ReaderRole.SERVICE,
    runs=Runs.AUDIT,
    means=(
        "Reads the entries of the last closed hours again, without headers, and compares them with "
        "what was sealed. An hour that differs (a late entry, or one lost to a page that shifted) "
        "loses its seal and is materialized again by the sensor `dicom_reopened_hours`."
    ),
    remedy=(
        "For entries that came late nothing has to be done, unless their hours stay on this list. "
        "Entries that are no longer served do not come back by reading again: ask who runs the "
        "service what was taken out of it. Look at instances that are overdue with "
        "`dicom-assets find SEQUENCE`."
    ),
)
RECONCILIATION: Final = Check(
    name="reconciliation",
    reader=ReaderRole.SERVICE,
    runs=Runs.AUDIT,
    means=(
        "Asks the service's search (QIDO-RS) how many instances studies have, and compares with "
        "the tables. What the tables were not asked to read yet is no difference."
    ),
    remedy="Materialize the hours that are named, and ask `dicom-assets find STUDY_UID`.",
)
PARSING: Final = Check(
    name="parsing",
    reader=ReaderRole.SERVICE,
    runs=Runs.AUDIT,
    means=(
        "Reads the headers of the newest instances into columns once more and counts what is null "
        "because its value does not parse: a date that is none, a number out of range. Such values "
        "are wrong in the files; the header as it is stays in metadata_string."
    ),
    remedy=(
        "Somebody writes them wrong: ask for `manufacturer` and `stationname` of the rows that are "
        "null, and tell the device's owner."
    ),
)
LAG: Final = Check(
    name="lag",
    reader=ReaderRole.SERVICE,
    runs=Runs.HOURLY,
    means=(
        "Asks the service, in a few light requests, for its newest entry, whether it has entries "
        "in hours that are due and in no table, and whether the last hours that were read have "
        "got entries since: then the service shows them later than `DICOM_DELAY_MINUTES`."
    ),
    remedy=(
        "Entries that are in no table: the runs of the job `dicom_tables` say why, and the check "
        "`freshness` which hours are open. Entries that came late: the audit reads their hours "
        "again by itself; if this repeats, set `DICOM_DELAY_MINUTES` to more than the minutes that "
        "are told here."
    ),
)
CHECKS: Final = (AUDIT, RECONCILIATION, PARSING, LAG)
HOURS_NAMED = 48


def checks(service: dg.AssetKey, due: Due) -> list[dg.AssetChecksDefinition]:
    """Return the checks on the asset of the service."""
    made = [check(service) for check in (audit_check, reconciliation_check, parsing_check)]
    return [*made, lag_check(service, due)]


class AuditConfig(dg.Config):
    """What an audit looks at."""

    hours: int = Field(default=48, ge=1, description="How many closed hours are read again.")


def audit_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that reads closed hours again and compares them with their seals."""

    @dg.asset_check(**AUDIT.on(service))
    def audit_hours(
        context: dg.AssetCheckExecutionContext,
        config: AuditConfig,
        dicom_service: DicomService,
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        now, say = dicom_service.feed.now(), context.log.info
        window = _closed(dicom_service, config.hours)
        run = Run(context.run.run_id, now, say)
        progress = Progress(say, "read {} entries of the feed")
        found = audit(dicom_tables.store, window, dicom_service.feed, run, progress)
        return _told(found, window)

    return audit_hours


class ReconciliationConfig(dg.Config):
    """How much a reconciliation compares."""

    studies: int | None = Field(
        default=SAMPLE, description="How many studies are compared, chosen by chance; all for null."
    )


def reconciliation_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that compares instance counts per study with the service's search."""

    @dg.asset_check(**RECONCILIATION.on(service))
    def reconcile_studies(
        context: dg.AssetCheckExecutionContext,
        config: ReconciliationConfig,
        dicom_service: DicomService,
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        now = dicom_service.feed.now()
        context.log.info("comparing studies with the service's search")
        try:
            with dicom_service.counts() as counts:
                seed = int(now.timestamp())
                size = config.studies
                found = reconcile(dicom_tables.store, counts, now, sample=size, seed=seed)
        except ServiceError as error:
            return not_looked(error)
        return _compared(found)

    return reconcile_studies


class ParsingConfig(dg.Config):
    """What the headers of the newest instances are held against."""

    instances: int = Field(default=1000, ge=1, description="How many headers are looked at.")
    rate: float = Field(
        default=0.05, ge=0, le=1, description="Which part of a column's values may not parse."
    )


def parsing_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that counts values which are none of their VR."""

    @dg.asset_check(**PARSING.on(service))
    def parse_headers(
        config: ParsingConfig,
        dicom_service: DicomService,
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        found = look(dicom_tables.store, dicom_service.site_time_zone, config.instances)
        return _parsed(found, config.rate)

    return parse_headers


def _parsed(found: Parsing, rate: float) -> dg.AssetCheckResult:
    rates = found.rates()
    above = [name for name, share in rates.items() if share > rate]
    return PARSING.result(
        f"Of {found.headers} headers no column has more than {rate:.0%} of values that do not "
        "parse."
        if not above
        else f"Of {found.headers} headers more than {rate:.0%} of the values do not parse in "
        f"{', '.join(above)}: they are null there.",
        passed=not above,
        metadata={
            "headers": found.headers,
            **{f"rate_{name}": round(share, 4) for name, share in rates.items()},
            **{f"unparsable_{told}": count for told, count in found.unparsable.items()},
        },
    )


def _compared(found: Reconciliation) -> dg.AssetCheckResult:
    return RECONCILIATION.result(
        f"{found.compared} studies are as large as the service says."
        if found.passed
        else f"{found.drift} of {found.compared} studies are not as large as the service says: "
        f"{found.missing} are missing, {found.surplus} are too many, {found.different} differ.",
        passed=found.passed,
        error=True,
        metadata={
            "studies_compared": found.compared,
            "studies_missing": found.missing,
            "studies_surplus": found.surplus,
            "studies_different": found.different,
            "studies_not_due": found.not_due,
            "hours": [key_of(hour) for hour in found.hours[:HOURS_NAMED]],
        },
    )


def _closed(service: DicomService, hours: int) -> Window:
    """Return the window of the newest closed hours before the end, from the start at the most."""
    closed = floor_hour(service.feed.now() - timedelta(minutes=service.delay_minutes))
    newest = datetime_of(service.clip(Window(0, ticks_of(closed))).end)
    return service.clip(Window.between(floor_hour(newest - hours * HOUR), newest))


def _told(found: Audit, window: Window) -> dg.AssetCheckResult:
    return AUDIT.result(
        _sentence(found, window),
        passed=found.passed,
        error=True,
        metadata={
            "hours_compared": found.compared,
            "hours_without_seal": found.unsealed,
            "hours_reopened": len(found.reopened),
            "reopened": [key_of(hour) for hour in found.reopened[:HOURS_NAMED]],
            "entries_late": found.late,
            "entries_lost": found.lost,
            "instances_overdue": found.overdue,
            REPAIRS_ITSELF: not found.passed and not found.lost and not found.overdue,
        },
    )


def _sentence(found: Audit, window: Window) -> str:
    if found.passed:
        return f"{found.compared} hours from {window} are as they were sealed."
    said = []
    if found.reopened or found.lost:
        said.append(
            f"{len(found.reopened)} of {found.compared} hours differ from their seals: "
            f"{found.late} entries came late, {found.lost} are no longer served. The hours that "
            "differ were opened again and are materialized by themselves."
        )
    if found.overdue:
        said.append(
            f"{found.overdue} instances have been replaced in the service for more than a day "
            "without an entry that says so."
        )
    return " ".join(said)


class LagConfig(dg.Config):
    """From when on an hour should be in the tables."""

    patience_minutes: int = Field(
        default=20, ge=0, description="How long a run may take that the schedule has asked for."
    )


def lag_check(service: dg.AssetKey, due: Due) -> dg.AssetChecksDefinition:
    """Return the check that asks the service for entries that the tables should have by now."""

    @dg.asset_check(**LAG.on(service))
    def ask_for_newest(
        config: LagConfig,
        dicom_service: DicomService,
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        store = dicom_tables.store
        try:
            now = dicom_service.feed.now()
            patience = timedelta(minutes=config.patience_minutes)
            window = dicom_service.clip(due.window(now, patience))
            whole = dicom_service.data_partitions is None
            found = lag.look(store, dicom_service.feed, window, whole=whole)
        except ServiceError as error:
            return not_looked(error)
        return _lagging(found, freshness.look(store, window, now), now)

    return ask_for_newest


def _lagging(found: Lag, known: Freshness, now: datetime) -> dg.AssetCheckResult:
    newest = found.newest
    return LAG.result(
        _lag_said(found),
        passed=found.passed,
        error=bool(found.missing) and not known.first_load,
        metadata={
            "entries_missing": found.missing,
            "read_until": f"{found.read_until:%Y-%m-%d %H:%M}",
            "hours_with_late_entries": [key_of(hour) for hour in found.late or ()],
            "late_is_known": found.late is not None,
            **({} if newest is None else {"newest_entry_minutes": _minutes(now - newest)}),
            **({} if found.late_minutes is None else {"late_minutes": round(found.late_minutes)}),
            FIRST_LOAD: known.first_load,
        },
    )


def _minutes(span: timedelta) -> int:
    return round(span.total_seconds() / 60)


def _lag_said(found: Lag) -> str:
    until = f"{found.read_until:%Y-%m-%d %H:%M} UTC"
    said = []
    if found.missing:
        said.append(
            f"The service has about {found.missing} entries from {until} on that are due and in no "
            "table."
        )
    if found.late:
        said.append(
            f"{len(found.late)} of the last hours have got entries since they were read, "
            f"{found.late_minutes:.0f} minutes after their end."
        )
    return " ".join(said) or f"The tables have what the service shows of the hours to {until}."
