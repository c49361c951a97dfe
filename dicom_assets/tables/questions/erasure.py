"""Traces of an erased study: its rows, old data files with them, entries of the logs.

`traces_of` reads the study's column of every data file in the folders of the tables, whether or not
a version names the file, unless the statistics of the file rule the study out. `with_service` adds
the newest entries of the feed, of hours that are not read yet. `judge_traces` is pure and returns
the verdict:

| verdict | when | fine |
|---|---|---|
| alive | `instance`, `series` or `study` has rows of it | no |
| returns | no row, and the study was stored again in an hour that is not read yet | no |
| remains | no row, but an old file or an entry of a log is still there | no |
| erased | neither rows, files nor entries | yes |

`change` keeps the UIDs of the study and `rejected` sequences, and neither counts here: without the
keys of deleted instances, an old hour that is filled later would bring them back. They hold no
other value of a header (docs/operate/erasure.md).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from dicom_assets.errors import ServiceError
from dicom_assets.header.values import PADDING
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SYNC, Table
from dicom_assets.tables.delta.arrow import ints, pc
from dicom_assets.tables.delta.files import data_files, stored_path
from dicom_assets.tables.delta.folder import PARQUET_ERRORS, Folder, Log, Stored
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.delta.table_errors import raise_table_errors
from dicom_assets.tables.questions.find import (
    Known,
    KnownEntry,
    Limits,
    Lookups,
    Verdict,
    open_entries,
    served_of,
)
from dicom_assets.tables.sync import marks_switched_off
from dicom_assets.tables.upkeep.maintenance import CHECKPOINT_AGE

_LOG_RETENTION: Final = "delta.logRetentionDuration"
_INTERVAL: Final = re.compile(r"interval (\d+) (hour|day|week)s?")


@dataclass(frozen=True)
class Remains:
    """Rows, files and log entries of one study in one table.

    `rows` are in the live version. `old_files` have rows of it and are not part of that version,
    `unreadable` files cannot be read. `entries` are commits and checkpoints whose statistics may
    come from its rows. `files_until` and `entries_until` are when the last of them is due, to be
    removed by the next nightly maintenance. None where there is none, or where it stays.
    """

    rows: int = 0
    old_files: int = 0
    unreadable: int = 0
    files_until: datetime | None = None
    entries: int = 0
    entries_until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """True when the table holds nothing of the study."""
        return not (self.rows or self.old_files or self.unreadable or self.entries)


@dataclass(frozen=True)
class Traces:
    """The remains of a study by table, and the number of its `rejected` entries.

    `unknown` are tables that somebody switched on elsewhere: they have a mark in `sync`. `fresh`
    are its entries in hours that are not read yet. `reading` says when the hour of the newest is
    read. `served` is the number of its instances in the service, None when the service was not
    asked, or did not answer (`failure`).
    """

    study: str
    tables: Mapping[str, Remains] = field(default_factory=dict)
    rejected: int = 0
    unknown: tuple[str, ...] = ()
    fresh: tuple[KnownEntry, ...] = ()
    reading: str = ""
    served: int | None = None
    failure: str | None = None
    looked_at: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)

    @property
    def is_alive(self) -> bool:
        """True when a table has rows of the study."""
        return any(remains.rows for remains in self._shown())

    @property
    def is_erased(self) -> bool:
        """True when no table of the root holds anything outside of `change` and `rejected`."""
        return self.is_gone and not self.unknown and not self.is_returning

    @property
    def is_returning(self) -> bool:
        """True when no table shows the study, and the hour of a newer entry will bring it."""
        return not self.is_alive and any(not entry.is_gone for entry in self.fresh[-1:])

    @property
    def is_gone(self) -> bool:
        """True when the tables known here hold nothing outside of `change` and `rejected`."""
        return all(remains.is_empty for remains in self._shown())

    def _shown(self) -> list[Remains]:
        return [remains for name, remains in self.tables.items() if name != CHANGE.name]


def with_service(traces: Traces, store: Store, service: Lookups, limits: Limits) -> Traces:
    """Return the traces with what the service says of the study, or why it says nothing."""
    known = Known(store, traces.study)
    try:
        if fresh := open_entries(service, known, limits):
            traces = replace(traces, fresh=fresh, reading=limits.reading(fresh[-1].hour))
        return replace(traces, served=served_of(service, known, limits)[1])
    except ServiceError as error:
        return replace(traces, failure=str(error))


def judge_traces(traces: Traces) -> Verdict:
    """Return the verdict with its remedy. It names no hours, because nothing has to run again."""
    now = f"{traces.looked_at:%Y-%m-%d %H:%M} UTC"
    if traces.is_alive:
        return Verdict("alive", f"the tables show the study. {_end(traces)} ({now})", select=())
    if traces.is_returning:
        return Verdict(
            "returns",
            f"no table shows it, but it was {traces.fresh[-1].event}; {traces.reading}, and brings "
            "it. Delete it in the DICOM service.",
            select=(),
        )
    if traces.is_gone and traces.unknown:
        return Verdict(
            "unknown",
            f"the tables known here do not hold it ({now}), but {', '.join(traces.unknown)} may. "
            "They were added to this root. Look for the study in them, and in their old files.",
            select=(),
        )
    if traces.is_erased:
        sentence = f"neither tables nor old files hold it, and no log tells of its rows ({now})."
        return Verdict("erased", sentence, is_fine=True, select=())
    return Verdict(
        "remains",
        f"no table shows it ({now}). Its old files and log entries go with the first nightly "
        "maintenance (job dicom_maintenance) after the times given. docs/operate/erasure.md says "
        "how to hasten that.",
        select=(),
    )


def _end(traces: Traces) -> str:
    """Return what ends the rows of a study that the tables show."""
    if traces.served != 0:
        return "Delete it in the DICOM service: the hour of the deletion removes its rows."
    if traces.fresh and traces.fresh[-1].is_gone:
        event = traces.fresh[-1].event
        return f"It was {event}; {traces.reading}, and removes its rows: nothing to do."
    return "The service has it no more: `dicom-assets find` says which hour to run."


def traces_of(
    store: Store, study: str, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> Traces:
    """Return the traces of a study. `progress` takes the bytes read, and those of all files."""
    shown = [t for t in store.tables.values() if t.name == INSTANCE.name or t.is_derived]
    searches = [_Search(store, table, study) for table in (*shown, CHANGE)]
    whole, done = sum(file.size for search in searches for file in search.files), 0
    remains: dict[str, Remains] = {}
    for search in searches:
        for file in search.files:
            search.read(file.path)
            done += file.size
            progress(done, whole)
        remains[search.table.name] = search.remains()
    logged = ints(store.open(CHANGE).rows_of("studyinstanceuid", [study])["sequence"])
    rejected = store.open(REJECTED).rows_of("sequence", logged, ["sequence"])
    unknown = (mark.removesuffix("At") for mark in marks_switched_off(store.open(SYNC)))
    return Traces(study, remains, rejected.num_rows, tuple(unknown))


class _Search:
    """The search for a study in one table: its files, and the rows in each file read so far."""

    def __init__(self, store: Store, table: Table, study: str) -> None:
        """List the files, after the version was opened. No file is read yet."""
        self.table, self._study = table, study
        self._retention = timedelta(hours=store.retention_hours)
        self._column = next(n for n in table.names if n.lower() == "studyinstanceuid")
        self._snapshot: Snapshot = store.open(table)
        self._folder = Folder.of(store, table)
        self._active = {file.path for file in data_files(self._snapshot)}
        self.files = [f for p, f in self._folder.data().items() if p.endswith(".parquet")]
        self._rows: dict[str, int | None] = {}

    def read(self, path: str) -> None:
        """Count the study's rows in a file, as None when it cannot be read."""
        self._rows[path] = None
        with suppress(ValueError, *PARQUET_ERRORS), self._folder.parquet(path) as opened:
            at = opened.schema.names.index(self._column)
            groups = map(opened.metadata.row_group, range(opened.num_row_groups))
            statistics: Iterator[Any] = (group.column(at).statistics for group in groups)
            may_hold = [
                number
                for number, known in enumerate(statistics)
                if known is None
                or not known.has_min_max
                or known.min.rstrip(PADDING) <= self._study <= known.max
            ]
            batches = opened.iter_batches(row_groups=may_hold, columns=[self._column])
            # The type of texts differs between files. Some types, such as views, do not compare.
            # Old files of the template may have UIDs with padding.
            texts = (pc.utf8_rtrim(b.column(0).cast(pa.string()), PADDING) for b in batches)
            self._rows[path] = sum(pc.sum(pc.equal(t, self._study)).as_py() or 0 for t in texts)

    def remains(self) -> Remains:
        log = self._folder.log()
        every = list(_entries(self._folder, log))
        old = [f for f in self.files if f.path not in self._active and self._rows[f.path]]
        unreadable = [f for f in self.files if self._rows[f.path] is None]
        unreadable += self._folder.unfinished()
        entries = [entry for entry in every if any(map(self._may_describe, entry.added.items()))]
        removed = {path: when for entry in every for path, when in entry.removed.items()}
        until = [removed.get(f.path, f.modified) + self._retention for f in (*old, *unreadable)]
        return Remains(
            rows=sum(self._rows[path] or 0 for path in self._active),
            old_files=len(old),
            unreadable=len(unreadable),
            files_until=max(until, default=None),
            entries=len(entries),
            entries_until=self._entries_until(log, entries) if entries else None,
        )

    def _may_describe(self, added: tuple[str, Mapping[str, Any]]) -> bool:
        path, statistics = added
        # The rows of the file decide. When the file is gone, only its statistics can exclude them.
        if path in self._rows:
            return self._rows[path] != 0
        least = statistics.get("minValues", {}).get(self._column, self._study)
        greatest = statistics.get("maxValues", {}).get(self._column, self._study)
        return bool(least.rstrip(PADDING) <= self._study <= greatest)

    def _entries_until(self, log: Log, entries: Sequence["_Entry"]) -> datetime | None:
        """Return when the last of the entries may be removed: once a later checkpoint is old."""
        if any(self._rows.get(path) for path in self._active):
            return None
        newest = max(entry.version for entry in entries)
        later = [version for version in log.checkpoints if version > newest]
        retention = timedelta(days=30)  # Delta's default
        if interval := _INTERVAL.fullmatch(self._snapshot.property(_LOG_RETENTION) or ""):
            retention = timedelta(**{f"{interval[2]}s": int(interval[1])})
        if later:
            return max(part.modified for part in log.checkpoints[min(later)]) + retention
        return max(entry.modified for entry in entries) + CHECKPOINT_AGE + retention


class _Entry:
    """A commit or checkpoint: the statistics of the files it adds, and when it removed files."""

    def __init__(self, version: int, file: Stored, actions: Sequence[Mapping[str, Any]]) -> None:
        self.version, self.modified = version, file.modified
        adds = [action["add"] for action in actions if action.get("add")]
        removes = [action["remove"] for action in actions if action.get("remove")]
        self.added = {stored_path(a["path"]): json.loads(a.get("stats") or "{}") for a in adds}
        self.removed = {
            stored_path(remove["path"]): datetime.fromtimestamp(when / 1_000, UTC)
            for remove in removes
            if (when := remove.get("deletionTimestamp"))
        }


def _entries(folder: Folder, log: Log) -> Iterator[_Entry]:
    for version, commit in log.commits.items():
        try:
            actions = folder.actions(commit)
        except ValueError:
            actions = [{"add": {"path": ""}}]  # a cut commit may have held anything
        yield _Entry(version, commit, actions)
    for version, parts in log.checkpoints.items():
        for part in parts:
            with raise_table_errors(folder.table, folder.url), folder.parquet(part.path) as opened:
                actions = opened.read(columns=["add", "remove"]).to_pylist()
            yield _Entry(version, part, actions)
