"""Nightly maintenance of one table: compact it, remove old files, shorten its log.

Steps, in this order. Each may end anywhere and may run beside a writer:

| step | what is true afterwards |
|---|---|
| damage | the table is whole (`damage`). Else DamagedTableError, and no further step |
| decoding | the next data files, the oldest first, can be decoded. Else DamagedTableError |
| properties | the table has the properties of this version and of DICOM_RETENTION_HOURS |
| compaction | small files older than a week are joined (`compaction`) |
| vacuum | files that have not been part of the table for the retention are removed |
| checkpoint | the newest checkpoint is at most CHECKPOINT_COMMITS or CHECKPOINT_AGE old |
| cleanup | the log holds only the entries that the versions of its retention need |

The vacuum is the engine's full one. A lite vacuum goes by the removals in the log, and a checkpoint
drops a removal once it is older than the retention, mostly before the vacuum comes: those files
would stay for ever, and so would files of killed runs. A file that no version names is kept for the
retention as well: by then every running writer has committed it. Files of the live version are
never removed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import tenacity

from dicom_assets.errors import SettingsError
from dicom_assets.schema import Table
from dicom_assets.settings import LEAST_RETENTION_HOURS
from dicom_assets.tables.delta.commit import CHECKPOINT, RETENTION, noted, once, table_properties
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Delta, Store
from dicom_assets.tables.delta.table_errors import raise_table_errors
from dicom_assets.tables.outcome import Outcome, Stopwatch
from dicom_assets.tables.sync import gone_error, gone_tables
from dicom_assets.tables.upkeep.compaction import compact
from dicom_assets.tables.upkeep.damage import (
    DECODED_FILES,
    DECODED_SECONDS,
    require_data,
    require_rows,
    require_whole_log,
)

# The engine writes a checkpoint more often, unless the writer is killed just then.
CHECKPOINT_COMMITS: Final = 20
# Values of properties that earlier releases have written, and that are no choice of the owner.
_BEFORE: Final = {CHECKPOINT: "100"}
# The log is cleaned up to a checkpoint that is older than the retention of the log. Without one a
# week, a table that hardly changes would keep its first commits for ever.
CHECKPOINT_AGE: Final = timedelta(days=7)
# Every data file is decoded within as many nights, while DECODED_FILES a night are enough for it.
# Not fewer than LEAST_DECODED a night: a table with so few files needs no note of the last one.
DECODING_NIGHTS: Final = 30
LEAST_DECODED: Final = 8
# The property of a table with the data file that was decoded last.
DECODED: Final = "dicom_assets.decoded"


@dataclass(frozen=True)
class _Care:
    """A table under maintenance, and the run that maintains it."""

    store: Store
    table: Table
    run: Run

    @property
    def folder(self) -> Folder:
        return Folder.of(self.store, self.table)

    @contextmanager
    def opened(self) -> Iterator[Delta]:
        """Yield the newest version. Errors of the engine leave the block as ours.

        By a handle of its own, because the clean-up removes what an older one still goes by.
        """
        with raise_table_errors(self.table, self.store.urls[self.table.name]):
            yield self.store.delta(self.table)


def maintain(store: Store, table: Table, run: Run) -> Outcome:
    """Maintain a table in the steps of the module. No row changes.

    The outcome's totals count files, bytes, entries of the log and conflicts. Raises
    DamagedTableError before any change, SettingsError for a retention below 168 hours, and
    ConflictError when other runs keep committing.
    """
    if store.retention_hours < LEAST_RETENTION_HOURS:
        raise SettingsError(
            f"DICOM_RETENTION_HOURS is {store.retention_hours}, which removes files that running "
            f"readers need. Set it to a whole number of at least {LEAST_RETENTION_HOURS}"
        )
    watch, care = Stopwatch(), _Care(store, table, run)
    with watch.stage("damage"):
        require_whole_log(care.folder)
        if table.name in gone_tables(store):
            raise gone_error(store, [table.name])
    first, entries = store.open(table), care.folder.log().files.keys()
    totals = _measured(care, "before")
    for name, step in _STEPS.items():
        with watch.stage(name):
            if first.delta and (counted := step(care)):
                totals.update(counted)
    totals.update(_measured(care, "after"))
    # Counted over all steps, because the engine also cleans up after its own commits.
    totals["log_entries_removed"] = len(entries - care.folder.log().files.keys())
    last = store.open(table)
    return Outcome(first.version, last.version, last.count(), totals=totals, seconds=watch.seconds)


def _measured(care: _Care, when: str) -> Counter[str]:
    files = data_files(care.store.open(care.table))
    size = sum(file.size for file in files)
    return Counter({f"files_{when}": len(files), f"bytes_{when}": size})


def _decode(care: _Care) -> Counter[str]:
    """Decode the data files after the one that was decoded last, and note the last one of them."""
    snapshot = care.store.open(care.table)
    files = {f"{file.since} {file.path}": file for file in data_files(snapshot)}
    since, _, path = (snapshot.property(DECODED) or "0").partition(" ")
    after = [n for n, f in files.items() if (f.since, f.path) > (int(since), path)]
    wanted = max(LEAST_DECODED, min(DECODED_FILES, -(-len(files) // DECODING_NIGHTS)))
    names = list(dict.fromkeys([*after, *files]))[:wanted]
    until = time.monotonic() + DECODED_SECONDS
    count = require_rows(snapshot, [files[name] for name in names], until)
    if 0 < count < len(files):
        converge(lambda: _note_decoded(care, names[count - 1]))
    return Counter(decoded=count, decoding_nights=-(-len(files) // max(count, 1)))


def _note_decoded(care: _Care, name: str) -> None:
    with care.opened() as delta:
        note = once({"run_id": care.run.run_id, "properties": 1})
        properties = {DECODED: name}
        delta.alter.set_table_properties(
            properties, raise_if_not_exists=False, commit_properties=note
        )


def _set_properties(care: _Care) -> int:
    """Set missing and outdated properties, and the retention. Other values of the owner stay."""
    with care.opened() as delta:
        properties = delta.metadata().configuration
        due = {
            name: value
            for name, value in table_properties(care.table, care.store.retention_hours).items()
            if properties.get(name) != value
            and (name == RETENTION or properties.get(name) in {None, _BEFORE.get(name)})
        }
        if due:
            note = once({"run_id": care.run.run_id, "properties": len(due)})
            delta.alter.set_table_properties(due, commit_properties=note)
    return len(due)


def _vacuum(care: _Care) -> Counter[str]:
    stored, hours = care.folder.data(), care.store.retention_hours
    with care.opened() as delta:
        due = _again(lambda: delta.vacuum(hours, dry_run=True, full=True))
        size = sum(stored[path].size for path in due if path in stored)
        if due:
            care.run.say(f"{care.table.name}: removing {len(due):,} old files of {size:,} bytes")
            # A vacuum changes no row, so commits of other runs meanwhile do not matter.
            note = noted({"run_id": care.run.run_id, "files": len(due)})
            _again(lambda: delta.vacuum(hours, dry_run=False, full=True, commit_properties=note))
    # Killed processes left these half-written.
    before = datetime.now(UTC) - timedelta(hours=hours)
    unfinished = [file for file in care.folder.unfinished() if file.modified < before]
    for file in unfinished:
        Path(file.path).unlink(missing_ok=True)
    return Counter(
        files_removed=len(due) + len(unfinished),
        bytes_removed=size + sum(file.size for file in unfinished),
    )


def _again(vacuum: Callable[[], list[str]]) -> list[str]:
    """Vacuum and return the files. Retry when another run has just removed one."""
    # Two runs of maintenance at once list the same files. Each attempt lists again what is left.
    retry = tenacity.retry_if_exception_type(FileNotFoundError)
    stop = tenacity.stop_after_attempt(10)
    return tenacity.Retrying(retry=retry, stop=stop, reraise=True)(vacuum)


def _checkpoint(care: _Care) -> Counter[str]:
    with care.opened() as delta:
        log = care.folder.log()
        begin = 0 if log.newest_checkpoint is None else log.newest_checkpoint + 1
        since, begun = delta.version() + 1 - begin, log.commits.get(begin)
        is_old = begun is not None and care.run.now - begun.modified > CHECKPOINT_AGE
        is_due = since != 0 and (since >= CHECKPOINT_COMMITS or is_old)
        if is_due:
            delta.create_checkpoint()
    return Counter(checkpoints=int(is_due))


def _clean_up(care: _Care) -> None:
    with care.opened() as delta:
        delta.cleanup_metadata()


_STEPS: Final[Mapping[str, Callable[[_Care], Counter[str] | None]]] = {
    "damage": lambda care: require_data(care.store.open(care.table), care.folder.data()),
    "decoding": _decode,
    "properties": lambda care: Counter(properties_set=converge(lambda: _set_properties(care))),
    "compaction": lambda care: compact(care.store, care.table, care.run),
    "vacuum": _vacuum,
    "checkpoint": _checkpoint,
    "cleanup": _clean_up,
}
