"""The wiring: settings in, Dagster definitions out; the only place where all parts meet.

`build_definitions` may be called in somebody else's code location and merged into their
definitions. `defs` is what Dagster loads for ours; loading asks no network.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._utils.schedules import is_valid_cron_string

from dicom_assets.defs import assets
from dicom_assets.defs import descriptions as presentation
from dicom_assets.defs.alerts.sensor import alerts_sensor
from dicom_assets.defs.checks import service
from dicom_assets.defs.checks import tables as data
from dicom_assets.defs.checks import upkeep as platform
from dicom_assets.defs.checks.description import Runs, runs_of
from dicom_assets.defs.checks.due_hours import Due
from dicom_assets.defs.io_manager import DeltaTables, Derivation
from dicom_assets.defs.partitions import hourly
from dicom_assets.defs.pool import POOL
from dicom_assets.defs.resources import DicomService
from dicom_assets.defs.schedules.check_jobs import AUDIT, DAILY, HOURLY, checks_job, checks_schedule
from dicom_assets.defs.schedules.columns import columns_job
from dicom_assets.defs.schedules.maintenance import maintenance_job, maintenance_schedule
from dicom_assets.defs.schedules.missing_hours import (
    Feeding,
    reopened_sensor,
    tables_job,
    tables_schedule,
)
from dicom_assets.defs.storage import AzureStorage, require_no_plain_secret, storage_of
from dicom_assets.emulator import sample, server
from dicom_assets.errors import SettingsError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, TABLES, Table, added
from dicom_assets.settings import ARCHIVE_DIRECTORY, LOOPBACK_DIRECTORY, NEWEST_FIRST, Settings

SERVICE_KEY = "dicom_service"
IO_MANAGER_KEY = "dicom_tables"
JOB = "dicom_tables"
_STARTING = threading.Lock()


class EmbeddedDicomService(DicomService):
    """The DICOM service of this machine, for a first look: started where it is needed.

    Each process that asks has a thread of its own on a loopback port; they share one archive,
    which is filled on first use with the DICOM files that pydicom ships.
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
    opened = sample.prepare(Path(archive), first_hour=datetime.fromisoformat(first_hour))
    return server.start(opened).url


def build_definitions(
    settings: Settings,
    key_prefix: str | Sequence[str] | None = None,
    storage: AzureStorage | None = None,
) -> dg.Definitions:
    """Return assets, job, schedule and resources for one archive and one root of tables.

    Merge them into your own with `dagster.Definitions.merge`; `key_prefix` goes before our asset
    keys. The executor is left to you; ours runs the four steps in one process. `storage` says how
    the tables' account is reached, where the environment shall not; secrets in it are
    `dagster.EnvVar`. Raises SettingsError for one that is not.
    """
    if storage is not None:
        require_no_plain_secret(storage)
    _require_cron(settings.schedule)
    prefix = [key_prefix] if isinstance(key_prefix, str) else list(key_prefix or ())
    with quiet_betas():
        made = _build(settings, prefix, tables(settings, storage))
    running = not settings.is_embedded
    alerts = alerts_sensor(settings, made, f"{JOB}_schedule", running=running)
    return dg.Definitions.merge(made, dg.Definitions(sensors=[alerts]))


def _require_cron(schedule: str) -> None:
    """A schedule that Dagster cannot read is refused by the name of its setting."""
    if not is_valid_cron_string(schedule):
        raise SettingsError(
            "DICOM_SCHEDULE: a cron schedule that Dagster takes is needed, such as 15 * * * *"
        )


@contextmanager
def quiet_betas() -> Iterator[None]:
    """Dagster's beta notices on what we rely on are silent; any other warning goes on.

    Each is an API that has no stable twin: `backfill_policy` makes many hours one run, and the
    code references lead from an asset to its source.
    """
    relied_on = ("`backfill_policy`", "`with_source_code_references`", "CodeReference")
    with warnings.catch_warnings():
        for name in relied_on:
            warnings.filterwarnings("ignore", f".*{name}.* is currently in beta", dg.BetaWarning)
        yield


def _build(settings: Settings, prefix: list[str], kept: DeltaTables) -> dg.Definitions:
    start = settings.start_time or _first_hour(settings)
    partitions = hourly(start, settings.end_time)
    shown = added.tables(settings.columns_file)
    ours = [_asset(settings, shown, partitions, prefix, chapter) for chapter in _STORY]
    asked = _service(settings, start)
    keys = [key for asset in ours for key in asset.keys]
    feeding = Feeding(
        job=tables_job(JOB, keys),
        keys=keys,
        partitions=partitions,
        service=asked,
        store=kept.store,
        newest_first=settings.missing_hours == NEWEST_FIRST,
    )
    running = not settings.is_embedded
    address = settings.service_url or ARCHIVE_DIRECTORY
    upstream = presentation.service_spec(prefix, address, shown[INSTANCE.name])
    due = Due(partitions, settings.schedule, feeding.delay)
    checks = [
        *service.checks(upstream.key, due),
        *platform.checks(upstream.key, due),
        *data.checks(upstream.key),
    ]
    nightly = maintenance_job(TABLES)
    return dg.Definitions(
        assets=[upstream, *dg.with_source_code_references(ours)],
        asset_checks=checks,
        jobs=[
            feeding.job,
            *(checks_job(look, _running(checks, runs)) for runs, look in _LOOKS.items()),
            columns_job(),
            nightly,
        ],
        schedules=[
            tables_schedule(feeding, settings.schedule, running=running),
            *(checks_schedule(look, running=running) for look in _LOOKS.values()),
            maintenance_schedule(nightly, running=running),
        ],
        sensors=[reopened_sensor(feeding, running=running)],
        resources={SERVICE_KEY: asked, IO_MANAGER_KEY: kept},
    )


_LOOKS = {Runs.HOURLY: HOURLY, Runs.AUDIT: AUDIT, Runs.DAILY: DAILY}


def _running(
    checks: Sequence[dg.AssetChecksDefinition], runs: Runs
) -> list[dg.AssetChecksDefinition]:
    return [check for check in checks if runs_of(check) is runs]


class _Chapter(NamedTuple):
    """A table, the asset that keeps it, the tables it reads, and whether it asks the service."""

    table: Table
    function: Callable[..., Derivation]
    reads: tuple[Table, ...]
    asks_service: bool


_STORY = (
    _Chapter(CHANGE, assets.change, (), asks_service=True),
    _Chapter(INSTANCE, assets.instance, (CHANGE,), asks_service=True),
    _Chapter(SERIES, assets.series, (INSTANCE,), asks_service=False),
    _Chapter(STUDY, assets.study, (INSTANCE,), asks_service=False),
)


def _asset(
    settings: Settings,
    shown: Mapping[str, Table],
    partitions: dg.HourlyPartitionsDefinition,
    prefix: list[str],
    chapter: _Chapter,
) -> dg.AssetsDefinition:
    table = shown[chapter.table.name]
    decorate = dg.asset(
        name=table.name,
        key_prefix=prefix or None,
        ins={t.name: dg.AssetIn(key=dg.AssetKey([*prefix, t.name])) for t in chapter.reads},
        deps=[dg.AssetKey([*prefix, presentation.SERVICE])] if chapter.asks_service else [],
        io_manager_key=IO_MANAGER_KEY,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        freshness_policy=_freshness(settings),
        **presentation.described(table, prefix, settings.table_path(table.name)),
    )
    made: dg.AssetsDefinition = decorate(chapter.function)
    return made


def _freshness(settings: Settings) -> dg.FreshnessPolicy | None:
    """Return until when the assets are fresh; where no hours are to come, nothing gets old."""
    if settings.is_embedded or settings.end_time is not None:
        return None
    delay = timedelta(minutes=settings.delay_minutes)
    return presentation.freshness_policy(settings.schedule, delay)


def tables(settings: Settings, storage: AzureStorage | None = None) -> DeltaTables:
    """Return the IO manager over the tables that the settings name, in the storage, if it is given.

    Raises SettingsError for a root in Azure of which nobody says the account.
    """
    root, found = storage_of(settings)
    paths = {table.name: settings.table_relative_path(table.name) for table in TABLES}
    return DeltaTables(
        root_uri=root,
        storage_options=storage or found,
        paths=paths,
        retention_hours=settings.retention_hours,
        columns_file=settings.columns_file,
        service_base=settings.service_url and f"{settings.service_url}/v{settings.api_version}",
    )


def dicom_service(settings: Settings) -> DicomService:
    """Return the service that the settings name, with the start that holds."""
    return _service(settings, settings.start_time or _first_hour(settings))


def _service(settings: Settings, start: datetime) -> DicomService:
    shared: dict[str, Any] = {
        "api_version": settings.api_version,
        "batch_size": settings.batch_size,
        "retry_seconds": settings.retry_seconds,
        "delay_minutes": settings.delay_minutes,
        "data_partitions": settings.data_partitions and list(settings.data_partitions),
        "start_time": start.isoformat(),
        "end_time": settings.end_time and settings.end_time.isoformat(),
        "site_time_zone": settings.site_time_zone,
        "columns_file": settings.columns_file,
        "header_columns": settings.header_columns,
    }
    if settings.service_url is not None:
        return DicomService(url=settings.service_url, **shared)
    archive = str(Path(ARCHIVE_DIRECTORY).absolute())
    first = _first_hour(settings).isoformat()
    return EmbeddedDicomService(archive=archive, first_hour=first, **shared)


def _first_hour(settings: Settings) -> datetime:
    """Return where time begins when no start is set: 48 hours before the first look, and kept."""
    delay = timedelta(minutes=settings.delay_minutes)
    beside = ARCHIVE_DIRECTORY if settings.is_embedded else LOOPBACK_DIRECTORY
    return sample.first_hour(Path(beside), now=datetime.now(UTC), delay=delay)


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions for the settings of the environment, all steps in one process."""
    ours = build_definitions(Settings.from_environment())
    return dg.Definitions.merge(ours, dg.Definitions(executor=dg.in_process_executor))
