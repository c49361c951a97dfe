"""Asset checks on the DICOM service: do the tables still hold what it serves?

Their reader is the PACS administrator. What is compared, and how, is in `tables`.
"""

from datetime import timedelta

import dagster as dg
from pydantic import Field

from dicom_assets.errors import ServiceError
from dicom_assets.io_manager import TableIOManager
from dicom_assets.partitions import HOUR, key_of
from dicom_assets.resources import DicomService
from dicom_assets.tables.audit import Audit, audit
from dicom_assets.tables.converge import Run
from dicom_assets.tables.outcome import Progress
from dicom_assets.tables.parsing import Parsing, look
from dicom_assets.tables.reconcile import SAMPLE, Reconciliation, reconcile
from dicom_assets.window import Window, datetime_of, floor_hour, ticks_of

AUDIT = "audit"
RECONCILIATION = "reconciliation"
PARSING = "parsing"
HOURS_NAMED = 48


def checks(service: dg.AssetKey) -> list[dg.AssetChecksDefinition]:
    """Return the checks on the asset of the service."""
    return [check(service) for check in (audit_check, reconciliation_check, parsing_check)]


class AuditConfig(dg.Config):
    """What an audit looks at."""

    hours: int = Field(default=48, ge=1, description="How many closed hours are read again.")


def audit_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that reads closed hours again and compares them with their seals."""

    @dg.asset_check(
        asset=service,
        name=AUDIT,
        description=(
            "Reads the entries of the last closed hours again, without headers, and compares them "
            "with what was sealed. An hour that differs (a late entry, or one lost to a page that "
            "shifted) loses its seal and is materialized again by the sensor "
            "`dicom_reopened_hours`."
        ),
    )
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

    @dg.asset_check(
        asset=service,
        name=RECONCILIATION,
        description=(
            "Asks the service's search (QIDO-RS) how many instances studies have, and compares "
            "with the tables. What the tables were not asked to read yet is no difference."
        ),
    )
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
            return _not_looked(error)
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

    @dg.asset_check(
        asset=service,
        name=PARSING,
        description=(
            "Reads the headers of the newest instances into columns once more and counts what is "
            "null because its value does not parse: a date that is none, a number out of range. "
            "Such values are wrong in the files; the header as it is stays in metadata_string."
        ),
    )
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
    return dg.AssetCheckResult(
        passed=not above,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"Of {found.headers} headers no column has more than {rate:.0%} of values that do not "
            "parse."
            if not above
            else f"Of {found.headers} headers more than {rate:.0%} of the values do not parse in "
            f"{', '.join(above)}: they are null there. Somebody writes them wrong: ask for "
            "`manufacturer` and `stationname` of the rows that are null, and tell the device's "
            "owner."
        ),
        metadata={
            "headers": found.headers,
            **{f"rate_{name}": round(share, 4) for name, share in rates.items()},
            **{f"unparsable_{told}": count for told, count in found.unparsable.items()},
        },
    )


def _not_looked(error: ServiceError) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Could not look, so nothing is known: {error}",
    )


def _compared(found: Reconciliation) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{found.compared} studies are as large as the service says."
            if found.passed
            else f"{found.drift} of {found.compared} studies are not as large as the service says: "
            f"{found.missing} are missing, {found.surplus} are too many, {found.different} differ. "
            "Materialize the hours that are named, and ask `dicom-assets find STUDY_UID`."
        ),
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
    return dg.AssetCheckResult(
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_sentence(found, window),
        metadata={
            "hours_compared": found.compared,
            "hours_without_seal": found.unsealed,
            "hours_reopened": len(found.reopened),
            "reopened": [key_of(hour) for hour in found.reopened[:HOURS_NAMED]],
            "entries_late": found.late,
            "entries_lost": found.lost,
            "instances_overdue": found.overdue,
        },
    )


def _sentence(found: Audit, window: Window) -> str:
    if found.passed:
        return f"{found.compared} hours from {window} are as they were sealed."
    said = []
    if found.reopened:
        said.append(
            f"{len(found.reopened)} of {found.compared} hours differ from their seals: "
            f"{found.late} entries came late, {found.lost} are no longer served. The hours were "
            "opened again and are materialized by themselves; nothing has to be done unless they "
            "stay on this list."
        )
    if found.overdue:
        said.append(
            f"{found.overdue} instances have been replaced in the service for more than a day "
            "without an entry that says so. Look at them with `dicom-assets find SEQUENCE`."
        )
    return " ".join(said)
