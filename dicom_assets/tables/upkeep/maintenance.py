"""What a table needs once a night, so that it stays fast and forgets what was removed.

In this order, each part safe to end anywhere and to run beside a writer:

| part | what is true afterwards |
|---|---|
| damage | the table is whole (`damage`); else nothing below is done |
| properties | the table says what this project and DICOM_RETENTION_HOURS say |
| compaction | small files that have rested are fewer (`compaction`) |
| vacuum | no file is there that for longer than the retention was not part of the table |
| checkpoint | reading begins at most CHECKPOINT_COMMITS commits, or a week, ago |
| clean-up | the log holds what it takes to read the versions of its retention |

The vacuum is the engine's full one: a lite one looks at the removals in the log only, and a
checkpoint forgets a removal once it is older than the retention, mostly before the vacuum comes;
such files would stay for ever, and so would those of killed runs. A file that no version names is
left alone for as long as the retention: a run that is not over, of whichever writer, has long
committed it by then. The live version's files are never among them.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, cast

import tenacity

from dicom_assets.errors import SettingsError
from dicom_assets.schema import Table
from dicom_assets.settings import LEAST_RETENTION_HOURS
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.folder import Folder, Log, Stored
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import (
    RETENTION,
    Border,
    Delta,
    Snapshot,
    Store,
    configuration,
    noted,
    once,
)
from dicom_assets.tables.outcome import Outcome, Stopwatch
from dicom_assets.tables.upkeep.compaction import compact
from dicom_assets.tables.upkeep.damage import require_data, require_whole_log

# The engine writes one at every hundredth version by itself, unless the writer is killed just then.
CHECKPOINT_COMMITS: Final = 100
# A table that hardly changes has one a week, or its first commits would be kept for ever: the log
# is cleaned up to a checkpoint that is itself older than what is kept.
CHECKPOINT_AGE: Final = timedelta(days=7)
# Two nights at once list the same files: each attempt lists anew what the other has left.
SWEEPS: Final = 10


@dataclass(frozen=True)
class _Care:
    """A table that is there, in the hands of a run."""

    store: Store
    table: Table
    run: Run

    @property
    def folder(self) -> Folder:
        return Folder.of(self.store, self.table)

    def opened(self) -> tuple[Snapshot, Delta]:
        snapshot = self.store.open(self.table)
        return snapshot, cast("Delta", snapshot.delta)


def maintain(store: Store, table: Table, run: Run) -> Outcome:
    """The table is as the module says; its live rows are what they were.

    The outcome's totals count files, bytes, entries of the log and conflicts. Raises
    DamagedTableError before anything is changed, SettingsError for a retention below 168 hours,
    and ConflictError when other runs commit without end.
    """
    require_retention(store.retention_hours)
    watch, care = Stopwatch(), _Care(store, table, run)
    with watch.stage("damage"):
        require_whole_log(care.folder)
    first, entries = store.open(table), care.folder.log().files.keys()
    totals = _measured(care, "before")
    for name, part in _PARTS.items():
        with watch.stage(name):
            totals.update(part(care) if first.delta else {})
    totals.update(_measured(care, "after"))
    # Counted from end to end: the engine cleans up after commits of its own accord, too.
    totals["log_entries_removed"] = len(entries - care.folder.log().files.keys())
    last = store.open(table)
    return Outcome(first.version, last.version, last.count(), totals=totals, seconds=watch.seconds)


def require_retention(hours: int) -> None:
    """The retention lets every reader finish; the setting refuses less, and so does this.

    Raises SettingsError.
    """
    if hours < LEAST_RETENTION_HOURS:
        raise SettingsError(
            f"DICOM_RETENTION_HOURS: {hours} hours are too short for readers that are at work, a "
            f"whole number of at least {LEAST_RETENTION_HOURS} is needed"
        )


def _measured(care: _Care, when: str) -> Counter[str]:
    files = data_files(care.store.open(care.table))
    size = sum(file.size for file in files)
    return Counter({f"files_{when}": len(files), f"bytes_{when}": size})


def _whole(care: _Care) -> Counter[str]:
    snapshot, _ = care.opened()
    require_data(snapshot, care.folder.data())
    return Counter()


def _described(care: _Care) -> Counter[str]:
    return Counter(properties_set=converge(lambda: _tell(care)))


def _tell(care: _Care) -> int:
    """Set what is missing, and the retention, which is a setting; the owner's other values stay."""
    snapshot, delta = care.opened()
    told = delta.metadata().configuration
    wanted = configuration(snapshot.table, care.store.retention_hours)
    due = {n: v for n, v in wanted.items() if n not in told or (n == RETENTION and told[n] != v)}
    if due:
        note = once({"run_id": care.run.run_id, "properties": len(due)})
        with Border(snapshot.table, snapshot.url):
            delta.alter.set_table_properties(due, commit_properties=note)
    return len(due)


def _compacted(care: _Care) -> Counter[str]:
    return compact(care.store, care.table, care.run)


def _vacuumed(care: _Care) -> Counter[str]:
    snapshot, delta = care.opened()
    stored, hours = care.folder.data(), care.store.retention_hours
    with Border(snapshot.table, snapshot.url):
        due = _swept(lambda: delta.vacuum(hours, dry_run=True, full=True))
    size = sum(stored[path].size for path in due if path in stored)
    if due:
        care.run.say(f"{care.table.name}: removing {len(due):,} old files of {size:,} bytes")
        # It changes no row: that another run has committed since does not matter.
        note = noted({"run_id": care.run.run_id, "files": len(due)})
        with Border(snapshot.table, snapshot.url):
            _swept(lambda: delta.vacuum(hours, dry_run=False, full=True, commit_properties=note))
    left = _unfinished(care)
    return Counter(
        files_removed=len(due) + len(left), bytes_removed=size + sum(file.size for file in left)
    )


def _swept(vacuum: Callable[[], list[str]]) -> list[str]:
    """Return the files of a vacuum; one that another night has just removed is no error."""
    again = tenacity.retry_if_exception_type(FileNotFoundError)
    stop = tenacity.stop_after_attempt(SWEEPS)
    return tenacity.Retrying(retry=again, stop=stop, reraise=True)(vacuum)


def _unfinished(care: _Care) -> list[Stored]:
    """Remove what killed processes have left half-written for longer than the retention."""
    before = datetime.now(UTC) - timedelta(hours=care.store.retention_hours)
    due = [file for file in care.folder.unfinished() if file.modified < before]
    for file in due:
        Path(file.path).unlink(missing_ok=True)
    return due


def _checkpointed(care: _Care) -> Counter[str]:
    snapshot, delta = care.opened()
    is_due = _is_due(care.folder.log(), snapshot.version, care.run.now)
    if is_due:
        with Border(snapshot.table, snapshot.url):
            delta.create_checkpoint()
    return Counter(checkpoints=int(is_due))


def _is_due(log: Log, version: int, now: datetime) -> bool:
    """Whether the log since the newest checkpoint is long, or that checkpoint is old."""
    newest = log.newest_checkpoint
    since = version - (-1 if newest is None else newest)
    if since == 0:
        return False
    begun = log.commits.get(0 if newest is None else newest + 1)
    is_old = begun is not None and now - begun.modified > CHECKPOINT_AGE
    return since >= CHECKPOINT_COMMITS or is_old


def _cleaned(care: _Care) -> Counter[str]:
    snapshot, delta = care.opened()
    with Border(snapshot.table, snapshot.url):
        delta.cleanup_metadata()
    return Counter()


_PARTS: Final = {
    "damage": _whole,
    "properties": _described,
    "compaction": _compacted,
    "vacuum": _vacuumed,
    "checkpoint": _checkpointed,
    "cleanup": _cleaned,
}
