"""What still holds a study that shall be gone: rows, old files, entries of the logs.

`look` reads every file in the folders of the tables, whether or not a version names it: the column
of the study only, and of that only what the statistics of the file do not rule out. What the facts
mean is said in `Traces`, and to people in docs/erasure.md. UIDs are for the terminal of the person
who asked.

`change` keeps the study's UIDs for good, and `rejected` sequences: the rule needs the keys of what
was deleted, or an old hour that is filled later brings a deleted instance back. They hold no other
value of a header.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, Table
from dicom_assets.tables.delta.arrow import ints, pc
from dicom_assets.tables.delta.files import data_files, stored_path
from dicom_assets.tables.delta.folder import UNREADABLE, Folder, Log, Stored
from dicom_assets.tables.delta.snapshot import Border, Snapshot, Store
from dicom_assets.tables.upkeep.maintenance import CHECKPOINT_AGE

# Those that hold values of headers, and so what has to be gone.
SHOWN: Final = (INSTANCE, SERIES, STUDY)
_LOG_RETENTION: Final = "delta.logRetentionDuration"
_INTERVAL: Final = re.compile(r"interval (\d+) (hour|day|week)s?")
_DEFAULT_LOG_RETENTION: Final = timedelta(days=30)


@dataclass(frozen=True)
class Remains:
    """What one table still holds of the study.

    `rows` are in the live version; `old_files` hold it and are not part of that version any more,
    or never were; `unreadable` ones cannot be looked into. `entries` of the log, checkpoints among
    them, may tell least or greatest values of its rows. The times are when the last of them is due
    to go, with the night that follows; None where nothing is, and for what does not go.
    """

    rows: int = 0
    old_files: int = 0
    unreadable: int = 0
    files_until: datetime | None = None
    entries: int = 0
    entries_until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the table holds nothing of it."""
        return not (self.rows or self.old_files or self.unreadable or self.entries)


@dataclass(frozen=True)
class Traces:
    """What all tables hold of the study; `rejected` counts entries of it that cannot be used."""

    study: str
    tables: Mapping[str, Remains] = field(default_factory=dict)
    rejected: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether the tables show the study."""
        return any(self.tables[table.name].rows for table in SHOWN)

    @property
    def is_erased(self) -> bool:
        """Whether nothing is left but the log of changes and what is rejected."""
        return all(self.tables[table.name].is_empty for table in SHOWN)


def look(
    store: Store, study: str, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> Traces:
    """Return what holds the study; `progress` is told how many bytes of how many are looked at."""
    searches = [_Search(store, table, study) for table in (*SHOWN, CHANGE)]
    whole, done = sum(search.size for search in searches), 0
    found: dict[str, Remains] = {}
    for search in searches:
        for size in search.read():
            done += size
            progress(done, whole)
        found[search.table.name] = search.remains()
    return Traces(study, found, _rejected(store, study))


def _rejected(store: Store, study: str) -> int:
    logged = ints(store.open(CHANGE).rows_of("studyinstanceuid", [study])["sequence"])
    return store.open(REJECTED).rows_of("sequence", logged, ["sequence"]).num_rows


class _Search:
    """The search of one table: its folder, and what was found in each file so far."""

    def __init__(self, store: Store, table: Table, study: str) -> None:
        """Nothing is read but the list of files, after the version was opened."""
        self.table, self._study, self._hours = table, study, store.retention_hours
        self._column = next(n for n in table.names if n.lower() == "studyinstanceuid")
        self._snapshot: Snapshot = store.open(table)
        self._folder = Folder.of(store, table)
        self._active = {file.path for file in data_files(self._snapshot)}
        self._files = [f for p, f in self._folder.data().items() if p.endswith(".parquet")]
        self._rows: dict[str, int | None] = {}

    @property
    def size(self) -> int:
        """The bytes of all data files."""
        return sum(file.size for file in self._files)

    def read(self) -> Iterator[int]:
        """Look into each file; yields its bytes."""
        for file in self._files:
            self._rows[file.path] = self._rows_in(file.path)
            yield file.size

    def _rows_in(self, path: str) -> int | None:
        """Return how many rows of a file are of the study, None when that cannot be seen."""
        try:
            with self._folder.parquet(path) as opened:
                at = opened.schema.names.index(self._column)
                groups = [
                    number
                    for number in range(opened.num_row_groups)
                    if self._may_hold(opened.metadata.row_group(number).column(at).statistics)
                ]
                held = opened.iter_batches(row_groups=groups, columns=[self._column])
                return sum(_count(batch.column(0), self._study) for batch in held)
        except (ValueError, *UNREADABLE):
            return None

    def _may_hold(self, told: Any) -> bool:  # noqa: ANN401 - Parquet's statistics, which may be None
        if told is None or not told.has_min_max:
            return True
        return bool(told.min <= self._study <= told.max)

    def remains(self) -> Remains:
        """Return what was found."""
        log = self._folder.log()
        entries = list(_entries(self._folder, log))
        old = [f for f in self._files if f.path not in self._active and self._rows[f.path]]
        blind = [f for f in self._files if self._rows[f.path] is None]
        blind += self._folder.unfinished()
        told = [entry for entry in entries if any(map(self._may_tell, entry.added.items()))]
        removed = {path: when for entry in entries for path, when in entry.removed.items()}
        return Remains(
            rows=sum(self._rows[path] or 0 for path in self._active),
            old_files=len(old),
            unreadable=len(blind),
            files_until=self._files_until([*old, *blind], removed),
            entries=len(told),
            entries_until=self._entries_until(log, told) if told else None,
        )

    def _may_tell(self, added: tuple[str, Mapping[str, Any]]) -> bool:
        """Whether the log's words on a file may be of rows of the study.

        The file itself says it; when it is gone, only what is told of it can rule the study out.
        """
        path, told = added
        if path in self._rows:
            return self._rows[path] != 0
        least = told.get("minValues", {}).get(self._column, self._study)
        greatest = told.get("maxValues", {}).get(self._column, self._study)
        return bool(least <= self._study <= greatest)

    def _files_until(
        self, files: Iterable[Stored], removed: Mapping[str, datetime]
    ) -> datetime | None:
        kept = timedelta(hours=self._hours)
        return max((removed.get(f.path, f.modified) + kept for f in files), default=None)

    def _entries_until(self, log: Log, told: Iterable["_Entry"]) -> datetime | None:
        """Return when the last of the entries may be cleaned up: a checkpoint after it has aged."""
        if any(self._rows.get(path) for path in self._active):
            return None
        newest = max(entry.version for entry in told)
        later = [version for version in log.checkpoints if version > newest]
        kept = _interval(self._snapshot.property(_LOG_RETENTION))
        if later:
            return max(part.modified for part in log.checkpoints[min(later)]) + kept
        return max(entry.modified for entry in told) + CHECKPOINT_AGE + kept


def _count(column: Any, value: str) -> int:  # noqa: ANN401 - an array of texts in any encoding
    # Files tell Arrow of texts in forms that it cannot compare, such as views.
    found: int = pc.sum(pc.equal(column.cast(pa.string()), value)).as_py() or 0
    return found


@dataclass(frozen=True)
class _Entry:
    """A commit or checkpoint: what it tells of files that it adds, and when it removed files."""

    version: int
    modified: datetime
    added: Mapping[str, Mapping[str, Any]]
    removed: Mapping[str, datetime]


def _entries(folder: Folder, log: Log) -> Iterator[_Entry]:
    for version, commit in log.commits.items():
        yield _entry(version, commit, _actions(folder.read(commit.path)))
    for version, parts in log.checkpoints.items():
        for part in parts:
            with Border(folder.table, folder.url), folder.parquet(part.path) as opened:
                actions = opened.read(columns=["add", "remove"]).to_pylist()
            yield _entry(version, part, actions)


def _actions(commit: bytes) -> Sequence[Mapping[str, Any]]:
    try:
        return [json.loads(line) for line in commit.splitlines() if line]
    except ValueError:
        # Cut, and it might tell anything.
        return [{"add": {"path": ""}}]


def _entry(version: int, file: Stored, actions: Sequence[Mapping[str, Any]]) -> _Entry:
    adds = [action["add"] for action in actions if action.get("add")]
    removes = [action["remove"] for action in actions if action.get("remove")]
    return _Entry(
        version,
        file.modified,
        {stored_path(add["path"]): json.loads(add.get("stats") or "{}") for add in adds},
        {
            stored_path(remove["path"]): datetime.fromtimestamp(when / 1_000, UTC)
            for remove in removes
            if (when := remove.get("deletionTimestamp"))
        },
    )


def _interval(told: str | None) -> timedelta:
    found = _INTERVAL.fullmatch(told or "")
    return timedelta(**{f"{found[2]}s": int(found[1])}) if found else _DEFAULT_LOG_RETENTION
