"""Asset checks on how the tables are kept: does everything run that has to, and is there room?

Their reader is the data engineer. What is measured, and how, is in `tables`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
from pydantic import Field

from dicom_assets.defs.checks.description import Check, Runs
from dicom_assets.defs.checks.due_hours import Due
from dicom_assets.defs.io_manager import TableIOManager
from dicom_assets.defs.partitions import key_of
from dicom_assets.defs.reader_roles import FIRST_LOAD, ReaderRole
from dicom_assets.defs.resources import DicomService
from dicom_assets.tables.questions import conflicts, conformity, freshness, growth
from dicom_assets.tables.questions.conflicts import Conflicts
from dicom_assets.tables.questions.freshness import Freshness
from dicom_assets.tables.questions.growth import Size
from dicom_assets.tables.upkeep.kept_headers import waiting

COLUMNS: Final = Check(
    name="columns",
    reader=ReaderRole.PLATFORM,
    runs=Runs.AUDIT,
    means=(
        "Tells columns that were added to a table with rows and are null in the older ones, "
        "because the job `dicom_columns` has not filled them yet."
    ),
    remedy=(
        "Run the job `dicom_columns` once; it reads the headers that the table keeps, and not the "
        "service."
    ),
)
FRESHNESS: Final = Check(
    name="freshness",
    reader=ReaderRole.PLATFORM,
    runs=Runs.HOURLY,
    means=(
        "Looks in `sync` whether all tables show every hour that a tick of the schedule has asked "
        "for, the newest one and all before it. It is the truth about freshness: Dagster's own "
        "sign on the assets takes any hour for a fresh one. During a first load it is a warning "
        "that says how far the load is, and nobody is told."
    ),
    remedy=(
        "Look at the newest runs of the job `dicom_tables` and at what they say; see that the "
        "daemon runs and the schedule `dicom_tables_schedule` is on. Each tick asks for every hour "
        "that is missing, so nothing has to be made good by hand once they run again."
    ),
)
CONFLICTS: Final = Check(
    name="conflicts",
    reader=ReaderRole.PLATFORM,
    runs=Runs.DAILY,
    means=(
        "Counts, in the logs of the tables, the commits of the last day that had to be derived "
        "again because another one came first. Nothing is lost by it but time; with one writer at "
        "a time there is none."
    ),
    remedy=(
        "Somebody else writes, or two runs write at once: see that `dagster.yaml` in DAGSTER_HOME "
        "gives pools a limit of 1, that one Dagster only has these tables, and that maintenance "
        "has minutes of its own."
    ),
)
SCHEMA: Final = Check(
    name="schema",
    reader=ReaderRole.PLATFORM,
    runs=Runs.DAILY,
    means=(
        "Compares each table with what this version makes: columns, types, the template's order, "
        "partition columns, reader 1 and writer 2 without deletion vectors or column mapping, "
        "properties, and files kept as long as `DICOM_RETENTION_HOURS` says."
    ),
    remedy=(
        "Columns that are missing or of another type stop the next run: restore the version "
        "before, or choose another root. A property is set with "
        "`DeltaTable(path).alter.set_table_properties`. A feature that was switched on cannot be "
        "switched off again: find out who did, before engines that do not know it fail."
    ),
)
GROWTH: Final = Check(
    name="growth",
    reader=ReaderRole.PLATFORM,
    runs=Runs.DAILY,
    means=(
        "Measures what grows: live bytes and files of each table, its Delta log, Dagster's own "
        "database, and the room that is left where they lie on a disk of this machine."
    ),
    remedy=(
        "Room: a larger disk, or a smaller `DICOM_RETENTION_HOURS`. Files, checkpoints and logs: "
        "see that the job `dicom_maintenance` runs. Dagster's database: delete old runs; what is "
        "done is known from `sync`."
    ),
)
CHECKS: Final = (COLUMNS, FRESHNESS, CONFLICTS, SCHEMA, GROWTH)

# A run that overtakes another is derived once more; with this many something is wrong.
CONFLICT_RATE, LEAST_COMMITS = 0.2, 20
# A merge that touches every file writes a table once more before the old files go.
ROOM_BYTES = 1 << 30
# Each file costs a reader milliseconds: with a thousand, a look-up takes seconds (performance.md).
SMALL_FILES = 1_000
# Three times the interval at which a checkpoint is due: whoever opens the table reads each of them.
UNCHECKED_VERSIONS = 300
# Four times what thirty days of hours leave.
LOG_ENTRIES = 10_000
# Five years of hours are a tenth of it.
DATABASE_BYTES = 10 << 30


def checks(service: dg.AssetKey, due: Due) -> list[dg.AssetChecksDefinition]:
    """Return the checks on how the tables of a service are kept."""
    made = [
        check(service) for check in (columns_check, conflicts_check, schema_check, growth_check)
    ]
    return [*made, freshness_check(service, due)]


def columns_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that added columns are filled in old rows."""

    @dg.asset_check(**COLUMNS.on(service))
    def filled_columns(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        return _filled(waiting(dicom_tables.store))

    return filled_columns


def _filled(found: dict[str, list[str]]) -> dg.AssetCheckResult:
    named = "; ".join(f"{table}: {', '.join(names)}" for table, names in found.items())
    return COLUMNS.result(
        "Every column has its values in every row."
        if not found
        else f"Older rows are null in columns that were added ({named}).",
        passed=not found,
        metadata={f"columns_{table}": len(names) for table, names in found.items()},
    )


class FreshnessConfig(dg.Config):
    """From when on an hour should be in the tables."""

    patience_minutes: int = Field(
        default=20, ge=0, description="How long a run may take that the schedule has asked for."
    )


def freshness_check(service: dg.AssetKey, due: Due) -> dg.AssetChecksDefinition:
    """Return the check that all tables show the hours that are due."""

    @dg.asset_check(**FRESHNESS.on(service))
    def look_for_open_hours(
        config: FreshnessConfig,
        dicom_service: DicomService,
        dicom_tables: dg.ResourceParam[TableIOManager],
    ) -> dg.AssetCheckResult:
        # By this machine's clock: the service may be what does not answer.
        now, patience = datetime.now(UTC), timedelta(minutes=config.patience_minutes)
        bounds = dicom_service.clip(due.window(now, patience))
        return _fresh(freshness.look(dicom_tables.store, bounds, now))

    return look_for_open_hours


def _fresh(found: Freshness) -> dg.AssetCheckResult:
    newest, first = found.newest, found.first_open
    return FRESHNESS.result(
        _fresh_said(found),
        passed=found.passed,
        error=not found.first_load,
        metadata={
            "hours_due": found.due,
            "hours_followed": found.followed,
            "hours_behind": found.behind,
            "hours_open_before": found.holes,
            "percent": found.percent,
            **({} if newest is None else {"newest_hour": key_of(newest)}),
            **({} if first is None else {"first_open_hour": key_of(first)}),
            FIRST_LOAD: found.first_load,
        },
    )


def _fresh_said(found: Freshness) -> str:
    if not found.due:
        return "No hour is due yet."
    if found.newest is None or found.first_open is None:
        return (
            f"All tables show the {found.due} hours that are due."
            if found.passed
            else f"No hour is in all tables, and {found.due} are due."
        )
    newest, first = key_of(found.newest), key_of(found.first_open)
    so_far = f"{found.followed} of {found.due} hours ({found.percent} %)"
    if found.first_load:
        return f"A first load is under way: all tables show {so_far}, the newest is {newest}."
    return (
        f"All tables show {so_far}, the newest is {newest}: {found.behind} newer ones and "
        f"{found.holes} older ones are open, the first is {first}."
    )


def conflicts_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that counts commits which had to be derived again."""

    @dg.asset_check(**CONFLICTS.on(service))
    def count_conflicts(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        since = datetime.now(UTC) - timedelta(days=1)
        return _conflicting(conflicts.look(dicom_tables.store, since))

    return count_conflicts


def _conflicting(found: Conflicts) -> dg.AssetCheckResult:
    lost = found.conflicts.total()
    return CONFLICTS.result(
        f"Of {found.commits + lost} attempts to commit since yesterday {lost} came too late "
        f"({found.rate:.0%}).",
        passed=found.rate <= CONFLICT_RATE or found.commits + lost < LEAST_COMMITS,
        metadata={
            "commits": found.commits,
            "rate": round(found.rate, 4),
            **{f"conflicts_{table}": count for table, count in found.conflicts.items()},
        },
    )


def schema_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that the tables are as this version makes them."""

    @dg.asset_check(**SCHEMA.on(service))
    def compare_tables(dicom_tables: dg.ResourceParam[TableIOManager]) -> dg.AssetCheckResult:
        return _conforming(conformity.differences(dicom_tables.store))

    return compare_tables


def _conforming(found: dict[str, list[str]]) -> dg.AssetCheckResult:
    said = "; ".join(f"{table}: {', '.join(told)}" for table, told in found.items())
    return SCHEMA.result(
        f"Tables are not as this version makes them ({said})."
        if found
        else "The tables are as this version makes them.",
        passed=not found,
        metadata={f"differences_{table}": len(told) for table, told in found.items()},
    )


def growth_check(service: dg.AssetKey) -> dg.AssetChecksDefinition:
    """Return the check that there is room, and that maintenance keeps up."""

    @dg.asset_check(**GROWTH.on(service))
    def measure(
        context: dg.AssetCheckExecutionContext, dicom_tables: dg.ResourceParam[TableIOManager]
    ) -> dg.AssetCheckResult:
        store = dicom_tables.store
        home = Path(context.instance.root_directory)
        free = {"tables": growth.free_bytes(store), "dagster": growth.room(home)}
        return _grown(growth.sizes(store), free, database_bytes(home))

    return measure


def database_bytes(home: Path) -> int:
    """Return the bytes of Dagster's SQLite files under its home; 0 when it has another database."""
    return sum(path.stat().st_size for path in home.rglob("*.db*") if path.is_file())


def _grown(
    sizes: dict[str, Size], free: dict[str, int | None], database: int
) -> dg.AssetCheckResult:
    wanted = max([ROOM_BYTES, *(size.bytes for size in sizes.values())])
    wrong = [
        *(
            f"{left:,} bytes are free for {what}"
            for what, left in free.items()
            if left is not None and left < wanted
        ),
        *(f"{name} {said}" for name, size in sizes.items() for said in _too_large(size)),
        *([f"Dagster's database has {database:,} bytes"] if database > DATABASE_BYTES else []),
    ]
    return GROWTH.result(
        f"Something grows too large: {'; '.join(wrong)}." if wrong else "There is room.",
        passed=not wrong,
        metadata={
            "bytes_dagster": database,
            **{f"free_bytes_{what}": left for what, left in free.items() if left is not None},
            **{
                f"{what}_{name}": n
                for name, size in sizes.items()
                for what, n in vars(size).items()
            },
        },
    )


def _too_large(size: Size) -> list[str]:
    limits = {
        f"has {size.small_files:,} small files": size.small_files > SMALL_FILES,
        f"has had no checkpoint for {size.unchecked:,} versions": size.unchecked
        > UNCHECKED_VERSIONS,
        f"has a log of {size.log_entries:,} commits": size.log_entries > LOG_ENTRIES,
    }
    return [said for said, is_over in limits.items() if is_over]
