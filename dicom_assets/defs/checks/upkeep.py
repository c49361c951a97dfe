"""Asset checks for the data engineer: all jobs keep up, and there is room."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import dagster as dg
from msgspec import ValidationError, convert, to_builtins

from dicom_assets.defs.check_results import last_results
from dicom_assets.defs.check_words import FIRST_LOAD, REPAIRS_ITSELF, ReaderRole, Runs
from dicom_assets.defs.checks.definition import HOURS_NAMED, Check, CheckRun, define_check
from dicom_assets.defs.names import Names
from dicom_assets.defs.partitions import DueConfig, DueHours, hour_key
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.questions import conflicts, conformity, freshness, growth
from dicom_assets.tables.questions.commits import Look, look_at
from dicom_assets.tables.questions.freshness import Freshness
from dicom_assets.tables.questions.growth import TableSize
from dicom_assets.tables.questions.seals import compare_seals
from dicom_assets.tables.sync import gone_error, gone_tables
from dicom_assets.tables.upkeep.kept_headers import is_outdated, unfilled_columns
from dicom_assets.tables.upkeep.narrowing import unwanted_rows
from dicom_assets.window import Window, ticks_of

_check = partial(Check, reader=ReaderRole.PLATFORM)
COLUMNS_CHECK: Final = _check(
    name="columns",
    runs=Runs.AUDIT,
    means="Lists columns that were added to a table with rows and are null in the older rows, "
    "because the job `dicom_columns` has not backfilled them yet. Fails, too, until it has derived "
    "rows anew of which an earlier release has made other values.",
    remedy="Run the job `dicom_columns` once. It reads the headers that the table keeps, not the "
    "service. After an upgrade the sensor `dicom_unfilled_tables` starts it by itself, and the "
    "log of the run tells how many rows are done.",
)
FRESHNESS_CHECK: Final = _check(
    name="freshness",
    runs=Runs.HOURLY,
    means="Reads in `sync` whether all tables show every hour that a tick of the schedule has "
    "requested. Rely on this check for freshness: Dagster's own sign on the assets counts any hour "
    "as fresh, also an old one. During a first load the check is a warning with the progress of "
    "the load, and alerts nobody. A table whose Delta log is gone shows no hour, and is named.",
    remedy="Read the newest runs of the job `dicom_tables`. The daemon has to run, and the "
    "schedule `dicom_tables_schedule` has to be on. Each tick requests every missing hour, so the "
    "hours need no repair by hand once both run again.",
)
CONFLICTS_CHECK: Final = _check(
    name="conflicts",
    runs=Runs.DAILY,
    means="Counts, in the logs of the tables, the commits of the last day that were retried "
    "because another commit came first. They cost time and lose nothing. With one writer at a time "
    "there are none.",
    remedy="Another program writes, or two runs write at once. Check three things: `dagster.yaml` "
    "in DAGSTER_HOME limits pools to 1, only one Dagster has these tables, and maintenance runs in "
    "minutes of its own.",
)
COMMITS_CHECK: Final = _check(
    name="commits",
    runs=Runs.DAILY,
    means="Reads in the logs of the tables the commits since the last look, and names those of "
    "other programs that added or removed data: they lack the note `dicom_assets`. It notices too "
    "when the newest commits are lost. Compaction, vacuum and properties do not count, whoever "
    "commits them. The first look finds nothing, and a table taken over begins at the take-over.",
    remedy="`dicom-assets repair` shows what these commits touched, and with `--yes` has it "
    "derived anew; for lost commits `dicom-assets repair TABLE --all` (docs/operate/repair.md). "
    "The check is green after that. Find the program, and take from it the right to write.",
)
SCHEMA_CHECK: Final = _check(
    name="schema",
    runs=Runs.DAILY,
    means="Compares each table with one that this version creates: columns, types, the template's "
    "order, partition columns, reader 1 and writer 2 without deletion vectors or column mapping, "
    "properties, and files kept for `DICOM_RETENTION_HOURS`.",
    remedy="Columns that are missing or of another type stop the next run: restore the version "
    "before, or choose another root. Properties: set them with "
    "`DeltaTable(path).alter.set_table_properties`. Features that are on cannot be turned off "
    "again: find the program that turned them on, before engines without them fail.",
)
GROWTH_CHECK: Final = _check(
    name="growth",
    runs=Runs.DAILY,
    means="Measures live bytes and files of each table, its Delta log, Dagster's own database, and "
    "the free bytes where they lie on a disk of this machine.",
    remedy="Free bytes: get a larger disk, or set a smaller `DICOM_RETENTION_HOURS`. Files, "
    "checkpoints and logs: the job `dicom_maintenance` has to run. Dagster's database: delete old "
    "runs. Nothing is read again, because `sync` holds the hours that are done.",
)
SEALS_CHECK: Final = _check(
    name="seals",
    runs=Runs.DAILY,
    means="Compares the log `change` with the seals in `sync`, without the service: for every hour "
    "the entries by action, the least and the greatest sequence, and for a part of the hours the "
    "digest, so that each has its turn within 30 nights. An hour that differs (rows were removed, "
    "an older version was restored, commits were lost) loses its seal, and the sensor "
    "`dicom_reopened_hours` requests a run for it.",
    remedy="The hours within `DICOM_START_TIME` and `DICOM_END_TIME` are repaired without you. "
    "Others have to lie within them first. Find out who removed rows or restored a version: see "
    "the history of `change` and `sync`, and docs/operate/repair.md.",
)
PARTITIONS_CHECK: Final = _check(
    name="data_partitions",
    runs=Runs.DAILY,
    means="Counts the rows of data partitions that `DICOM_DATA_PARTITIONS` does not name any more. "
    "Their changes are not read, so these rows stay as they were.",
    remedy="To remove them, run `dicom-assets narrow`, which first only lists them. To have them "
    "followed again, name their data partitions in `DICOM_DATA_PARTITIONS`.",
)
UPKEEP_CHECKS: Final = (
    COLUMNS_CHECK,
    FRESHNESS_CHECK,
    CONFLICTS_CHECK,
    COMMITS_CHECK,
    SCHEMA_CHECK,
    GROWTH_CHECK,
    SEALS_CHECK,
    PARTITIONS_CHECK,
)

# The metadata in which a result of `commits` leaves its looks for the next one. Faults in the text.
LOOKS, LISTED = "looks", 5
# A run that overtakes another makes it retry once. A greater share means a second writer.
CONFLICT_RATE, LEAST_COMMITS = 0.2, 20
# A merge that touches every file writes a table once more before the old files go.
ROOM_BYTES = 1 << 30
# Each file costs a reader milliseconds: with a thousand, a look-up takes seconds.
SMALL_FILES = 1_000
# Three times the interval of checkpoints: a reader opens each version after the last checkpoint.
UNCHECKED_VERSIONS = 300
# Four times as many as thirty days of hours leave.
LOG_ENTRIES = 10_000
# Five years of hours are a tenth of it.
DATABASE_BYTES = 10 << 30


def upkeep_checks(names: Names, due: DueHours) -> list[dg.AssetChecksDefinition]:
    """Return the checks of this module."""
    return [
        define_check(COLUMNS_CHECK, names, find_unfilled_columns),
        define_check(FRESHNESS_CHECK, names, partial(find_missing_hours, due), DueConfig),
        define_check(CONFLICTS_CHECK, names, count_conflicts),
        define_check(COMMITS_CHECK, names, find_foreign_commits),
        define_check(SCHEMA_CHECK, names, compare_schemas),
        define_check(GROWTH_CHECK, names, measure_growth),
        define_check(SEALS_CHECK, names, compare_log),
        define_check(PARTITIONS_CHECK, names, count_unwanted_rows),
    ]


def find_unfilled_columns(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless added columns are filled in old rows, and all rows are of this edition."""
    unfilled, outdated = unfilled_columns(run.store), is_outdated(run.store)
    listed = _by_table(unfilled)
    fault = listed and f"Older rows are null in columns that were added ({listed})."
    return run.check.result(
        fault or ("Older rows have the values of an earlier release." if outdated else None),
        "Every column has its values in every row.",
        {f"columns_{table}": len(names) for table, names in unfilled.items()},
    )


def _by_table(names: dict[str, list[str]]) -> str:
    return "; ".join(f"{table}: {', '.join(listed)}" for table, listed in names.items())


def find_missing_hours(due: DueHours, run: CheckRun) -> dg.AssetCheckResult:
    """Red unless all tables show every hour that is due."""
    # By this machine's clock, because the service may be down.
    now = datetime.now(UTC)
    bounds = run.service.bounds(due.window(now, run.config(DueConfig)))
    shown = freshness.freshness_of(run.store, bounds, now)
    newest, first, gone = shown.newest, shown.first_open, gone_tables(run.store)
    return run.check.result(
        str(gone_error(run.store, gone)) if gone else _freshness_fault(shown),
        f"All tables show the {shown.due} hours that are due."
        if shown.due
        else "No hour is due yet.",
        {
            "hours_due": shown.due,
            "hours_followed": shown.followed,
            "hours_behind": shown.behind,
            "hours_open_before": shown.holes,
            "percent": shown.percent,
            "newest_hour": newest and hour_key(newest),
            "first_open_hour": first and hour_key(first),
            "tables_gone": len(gone),
            FIRST_LOAD: shown.first_load and not gone,
        },
        error=bool(gone) or not shown.first_load,
    )


def _freshness_fault(shown: Freshness) -> str | None:
    if shown.passed:
        return None
    if shown.newest is None or shown.first_open is None:
        return f"No hour is in all tables, and {shown.due} are due."
    newest, first = hour_key(shown.newest), hour_key(shown.first_open)
    progress = f"all tables show {shown.followed} of {shown.due} hours ({shown.percent} %)"
    if shown.first_load:
        return f"A first load is under way: {progress}, the newest is {newest}."
    return (
        f"Hours are missing: {progress}, the newest is {newest}. {shown.behind} newer and "
        f"{shown.holes} older hours are missing, the first is {first}."
    )


def count_conflicts(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless few commits of the last day conflicted with another one."""
    commits = conflicts.conflicts_since(run.store, datetime.now(UTC) - timedelta(days=1))
    lost = commits.conflicts.total()
    attempts = commits.commits + lost
    share = (
        f"Of {attempts} attempts to commit since yesterday {lost} conflicted with another commit "
        f"({commits.rate:.0%})."
    )
    return run.check.result(
        share if commits.rate > CONFLICT_RATE and attempts >= LEAST_COMMITS else None,
        share,
        {
            "commits": commits.commits,
            "rate": round(commits.rate, 4),
            **{f"conflicts_{table}": count for table, count in commits.conflicts.items()},
        },
    )


def find_foreign_commits(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless all commits with data since the last repair are ours, and none is lost."""
    last, tables = _last_looks(run), run.store.tables.values()
    looks = {t.name: look_at(run.store, t, last.get(run.store.urls[t.name])) for t in tables}
    faults = [f"{name}: {fault}" for name, look in looks.items() for fault in look.faults]
    unknown = sum(look.unknown for look in looks.values())
    unseen = f" {unknown} are not known: they had left the log." if unknown else ""
    more = f" and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
    return run.check.result(
        f"Other programs have changed tables: {'; '.join(faults[-LISTED:])}{more}."
        if faults
        else None,
        f"All commits with data are ours, or older than the first look or repair.{unseen}",
        {
            LOOKS: {run.store.urls[name]: to_builtins(look) for name, look in looks.items()},
            "commits_unknown": unknown,
            **{f"faults_{name}": len(look.faults) for name, look in looks.items()},
        },
        error=True,
    )


def _last_looks(run: CheckRun) -> dict[str, Look]:
    """Return the looks of the last result of the check, by the URLs of the tables."""
    key = next(iter(run.context.op_execution_context.selected_asset_check_keys))
    done = last_results(run.context.instance, [key]).get(key)
    known = done.evaluation.metadata.get(LOOKS) if done and done.evaluation else None
    try:
        return convert(known.value if known else {}, dict[str, Look])
    except ValidationError:
        return {}


def compare_schemas(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless the tables are as this version creates them."""
    differences = conformity.deviations(run.store)
    listed = _by_table(differences)
    return run.check.result(
        listed and f"Tables are not as this version creates them ({listed}).",
        "The tables are as this version creates them.",
        {f"differences_{table}": len(lines) for table, lines in differences.items()},
    )


def measure_growth(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless there is free space, and maintenance keeps up."""
    home = Path(run.context.instance.root_directory)
    free = {"tables": growth.free_bytes(run.store), "dagster": growth.room(home)}
    sizes, database = growth.sizes(run.store), database_bytes(home)
    faults = list(_growth_faults(sizes, free, database))
    return run.check.result(
        f"The storage needs a look: {'; '.join(faults)}." if faults else None,
        "There is free space, and maintenance keeps up.",
        {
            "bytes_dagster": database,
            **{f"free_bytes_{place}": left for place, left in free.items()},
            **{
                f"{measure}_{name}": number
                for name, size in sizes.items()
                for measure, number in vars(size).items()
            },
        },
    )


def count_unwanted_rows(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless all rows are of data partitions that are kept."""
    kept = run.service.kept
    unwanted = {} if kept is None else unwanted_rows(run.store, kept)
    rows = {table: sum(counts.values()) for table, counts in unwanted.items()}
    listed = ", ".join(f"{table}: {count:,}" for table, count in rows.items())
    names = sorted({name for counts in unwanted.values() for name in counts})
    return run.check.result(
        f"Rows of data partitions that are not kept ({', '.join(names)}): {listed}."
        if listed
        else None,
        "All rows are of data partitions that are kept.",
        {f"rows_{table}": count for table, count in rows.items()},
    )


def database_bytes(home: Path) -> int:
    """Return the bytes of Dagster's SQLite files under its home; 0 when it has another database."""
    return sum(path.stat().st_size for path in home.rglob("*.db*") if path.is_file())


def _growth_faults(
    sizes: dict[str, TableSize], free: dict[str, int | None], database: int
) -> Iterator[str]:
    needed = max([ROOM_BYTES, *(size.bytes for size in sizes.values())])
    for place, left in free.items():
        if left is not None and left < needed:
            yield f"{left:,} bytes are free for {place}"
    for name, size in sizes.items():
        if size.small_files > SMALL_FILES:
            yield f"{name} has {size.small_files:,} small files"
        if size.unchecked > UNCHECKED_VERSIONS:
            yield f"{name} has had no checkpoint for {size.unchecked:,} versions"
        if size.log_entries > LOG_ENTRIES:
            yield f"{name} has a log of {size.log_entries:,} commits"
    if database > DATABASE_BYTES:
        yield f"Dagster's database has {database:,} bytes"


def compare_log(run: CheckRun) -> dg.AssetCheckResult:
    """Red unless the log has the entries of every sealed hour."""
    by = Run(run.context.run.run_id, datetime.now(UTC))
    bounds = run.service.clip(Window(0, ticks_of(by.now)))
    log = compare_seals(run.store, bounds, by)
    differing = sorted((*log.reopened, *log.kept))
    fault = (
        f"In {len(differing)} of {log.compared} hours the log differs from the seal: at least "
        f"{log.missing} entries are missing, {log.surplus} were added by others. "
        f"{len(log.reopened)} of these hours have lost their seals and are materialized again by "
        f"themselves. {len(log.kept)} lie outside start and end."
    )
    return run.check.result(
        None if log.passed else fault,
        f"The log has the entries of all {log.compared} hours as they were sealed.",
        {
            "hours_compared": log.compared,
            "hours_compared_by_digest": log.hashed,
            "hours_reopened": len(log.reopened),
            "hours_outside": len(log.kept),
            "hours": [hour_key(hour) for hour in differing[:HOURS_NAMED]],
            "entries_missing": log.missing,
            "entries_surplus": log.surplus,
            REPAIRS_ITSELF: bool(log.reopened) and not log.kept,
        },
        error=True,
    )
