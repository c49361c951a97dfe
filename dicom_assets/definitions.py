"""The wiring: settings in, Dagster definitions out; the only place where all parts meet.

`build_definitions` may be called in somebody else's code location and merged into their
definitions. Dagster loads `defs` for ours. Loading sends no request.
"""

import gc
import sys
import threading
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

# Imports make 200,000 objects that stay: to look for garbage among them takes a third of a load.
_COLLECTS, _FIRST = gc.isenabled(), "dagster" not in sys.modules
gc.disable()

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string

from dicom_assets.defs.alerts.sensor import alerts_sensor
from dicom_assets.defs.assets import derived_asset, story
from dicom_assets.defs.checks.service import service_checks
from dicom_assets.defs.checks.tables import table_checks
from dicom_assets.defs.checks.upkeep import upkeep_checks
from dicom_assets.defs.descriptions import described, quality_spec, service_spec
from dicom_assets.defs.io_manager import DeltaTables
from dicom_assets.defs.names import DEFAULT_NAME, Names
from dicom_assets.defs.partitions import DueHours, hourly
from dicom_assets.defs.pool import dead_runs_sensor
from dicom_assets.defs.report import report_asset, report_job, report_schedule
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.schedules.check_jobs import check_jobs
from dicom_assets.defs.schedules.columns import columns_job
from dicom_assets.defs.schedules.maintenance import maintenance_job, maintenance_schedule
from dicom_assets.defs.schedules.missing_hours import (
    HourlyLoad,
    reopened_sensor,
    tables_job,
    tables_schedule,
    unfilled_sensor,
)
from dicom_assets.defs.storage import AzureStorage, require_no_plain_secret, storage_of
from dicom_assets.emulator import claim
from dicom_assets.errors import SettingsError
from dicom_assets.schema import INSTANCE, SERIES, STUDY, Table
from dicom_assets.settings import (
    LOOPBACK_DIRECTORY,
    NEWEST_FIRST,
    Settings,
    keep_private,
)
from dicom_assets.tables.catalogue import TABLES, catalogue

if _FIRST:
    gc.freeze()  # whoever imports us first has a process for us: its end is as quick
if _COLLECTS:
    gc.enable()

_STARTING = threading.Lock()


class EmbeddedDicomService(DicomService):
    """The embedded DICOM service of this machine, for a demo.

    Each process that needs it starts a thread of its own on a loopback port. They share one
    archive, which is filled on first use with the DICOM files that pydicom ships.
    """

    url: str = "embedded"
    archive: str
    first_hour: str

    def address(self) -> str:
        """Return the URL of this process's embedded service, started by the first call."""
        with _STARTING:
            return _embedded(self.archive, self.first_hour)


@cache
def _embedded(archive: str, first_hour: str) -> str:
    from dicom_assets.emulator import sample, server

    opened = sample.prepare_archive(Path(archive), first_hour=datetime.fromisoformat(first_hour))
    return server.start(opened).url


def build_definitions(
    settings: Settings,
    key_prefix: str | Sequence[str] | None = None,
    storage: AzureStorage | None = None,
    *,
    name: str = DEFAULT_NAME,
    tables: tuple[Table, ...] = TABLES,
) -> dg.Definitions:
    """Return assets, jobs, schedules, sensors and resources for one archive and one root of tables.

    Merge them into your own with `dagster.Definitions.merge`. `key_prefix` goes before our asset
    keys, and all other names begin with `name`. The executor is yours; `defs` runs the four steps
    in one process. `storage` replaces the environment for the access to the tables' account, with
    secrets as `dagster.EnvVar`. `tables` are TABLES and further ones that are derived from
    `instance`. Raises SettingsError for a secret, a schedule or a name that cannot be used.
    """
    if storage is not None:
        require_no_plain_secret(storage)
    if not is_valid_cron_string(settings.schedule):
        raise SettingsError(
            "DICOM_SCHEDULE: a cron schedule that Dagster accepts is needed, such as 15 * * * *"
        )
    with warnings.catch_warnings():
        # Neither has a stable alternative: `backfill_policy` makes many hours one run, and the code
        # references lead from an asset to its source.
        for beta in ("`backfill_policy`", "`with_source_code_references`", "CodeReference"):
            warnings.filterwarnings("ignore", f".*{beta}.* is currently in beta", dg.BetaWarning)
        names = Names.of(name, key_prefix)
        built = _build(settings, names, io_manager(settings, storage, tuple(tables)))
        alerts = alerts_sensor(settings, built, names, running=not settings.is_embedded)
        return dg.Definitions.merge(built, dg.Definitions(sensors=[alerts]))


def _build(settings: Settings, names: Names, manager: DeltaTables) -> dg.Definitions:
    service = dicom_service(settings)
    partitions = hourly(datetime.fromisoformat(str(service.start_time)), settings.end_time)
    shown = catalogue(manager.tables, settings.columns_file)
    # Derived tables that the story does not have.
    own = {SERIES.name, STUDY.name}
    further = [table for table in manager.tables if table.is_derived and table.name not in own]

    def complete(spec: dg.AssetSpec) -> dg.AssetSpec:
        return described(spec, shown[spec.key.path[-1]], names, settings, partitions)

    made = [*story(names), *(derived_asset(table, names) for table in further)]
    assets = list(dg.map_asset_specs(complete, made))
    load = HourlyLoad(
        names=names,
        tables={asset.key.path[-1]: asset.key for asset in assets},
        partitions=partitions,
        service=service,
        store=manager.store,
        newest_first=settings.missing_hours == NEWEST_FIRST,
    )
    running = not settings.is_embedded
    ticking = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    sensing = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    due = DueHours(partitions, settings.schedule, load.delay)
    checks = [*service_checks(names, due), *upkeep_checks(names, due), *table_checks(names)]
    nightly = maintenance_job(manager.tables, names)
    backfill = columns_job(load)
    hourly_job = tables_job(load)
    jobs_of_checks = check_jobs(names)
    report = report_asset(names, [asset.key for asset in assets], due, at_rest=settings.is_embedded)
    address = settings.service_url or settings.archive_directory
    upstream = service_spec(names, address, shown[INSTANCE.name])
    return dg.Definitions(
        assets=[
            upstream,
            *dg.with_source_code_references([*assets, report]),
            quality_spec(names, list(load.tables.values())),
        ],
        asset_checks=checks,
        jobs=[
            hourly_job,
            *(job.job_of(checks) for job in jobs_of_checks),
            report_job(names),
            backfill,
            nightly,
        ],
        schedules=[
            tables_schedule(load, hourly_job, settings.schedule, ticking),
            *(job.schedule(ticking) for job in jobs_of_checks),
            maintenance_schedule(nightly, names, ticking),
            report_schedule(names, ticking),
        ],
        sensors=[
            reopened_sensor(load, hourly_job, sensing),
            dead_runs_sensor(names),
            unfilled_sensor(load, backfill, sensing),
        ],
        resources={names.service: service, names.tables: manager},
    )


def io_manager(
    settings: Settings,
    storage: AzureStorage | None = None,
    tables: tuple[Table, ...] = TABLES,
) -> DeltaTables:
    """Return the IO manager over the tables that the settings name.

    `storage` replaces the storage that the settings say. Raises SettingsError for a root in Azure
    without an account.
    """
    root, default = storage_of(settings)
    return DeltaTables.over(tables)(
        root_uri=root,
        storage_options=storage or default,
        paths={table.name: settings.table_relative_path(table.name) for table in tables},
        retention_hours=settings.retention_hours,
        columns_file=settings.columns_file,
        service_base=settings.service_url and f"{settings.service_url}/v{settings.api_version}",
    )


def dicom_service(settings: Settings) -> DicomService:
    """Return the service that the settings name, with the start of reading."""
    shared: dict[str, Any] = {
        "api_version": settings.api_version,
        "batch_size": settings.batch_size,
        "retry_seconds": settings.retry_seconds,
        "requests_in_flight": settings.requests_in_flight,
        "delay_minutes": settings.delay_minutes,
        "data_partitions": settings.data_partitions and list(settings.data_partitions),
        "start_time": (settings.start_time or _first_hour(settings)).isoformat(),
        "end_time": settings.end_time and settings.end_time.isoformat(),
        "site_time_zone": settings.site_time_zone,
        "columns_file": settings.columns_file,
        "header_columns": settings.header_columns,
    }
    if settings.service_url is not None:
        return DicomService(url=settings.service_url, **shared)
    archive = str(Path(settings.archive_directory).absolute())
    first = _first_hour(settings).isoformat()
    return EmbeddedDicomService(archive=archive, first_hour=first, **shared)


def _first_hour(settings: Settings) -> datetime:
    """Return the start when none is set: 48 hours before the first use, kept in a file since."""
    delay = timedelta(minutes=settings.delay_minutes)
    beside = settings.archive_directory if settings.is_embedded else LOOPBACK_DIRECTORY
    return claim.first_hour(Path(beside), now=datetime.now(UTC), delay=delay)


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the settings of the environment, all steps in one process."""
    keep_private()
    ours = build_definitions(Settings.from_environment())
    if not gc.get_freeze_count():
        gc.freeze()  # the process is for this code location alone, and ends .6 s sooner
    return dg.Definitions.merge(ours, dg.Definitions(executor=dg.in_process_executor))
