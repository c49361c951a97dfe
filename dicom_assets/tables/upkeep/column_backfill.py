"""Columns that were added to a table with rows get their values in the old rows too.

The values come from what a row holds, its header, and not from the feed. Data files are read one
after the other and written anew where a value differs, many of them in one commit (`files`). A run
that ends anywhere is finished by the next one, and nothing remembers how far it came: what this
job wrote says so by its name, and every other file is looked at. A row without a usable header
keeps what it holds.

Other runs may commit meanwhile. A file that they rewrote is not exchanged, and what they wrote is
looked at in turn; columns are marked as filled on a version of which every file is done.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import pyarrow as pa

from dicom_assets.schema import Table
from dicom_assets.tables.delta.arrow import Values, flat, pc
from dicom_assets.tables.delta.files import DataFile, Replacement, commit, data_files, rewrite
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import (
    Border,
    Snapshot,
    Store,
    add_missing,
    mark_filled,
    unfilled,
)
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch

# What one commit exchanges at most, give or take a file: a year of hours is not 8,760 commits, and
# a run that is killed has no more than that to do again.
GROUP_ROWS: Final = 100_000
GROUP_BYTES: Final = 256 * 2**20
GROUP_FILES: Final = 1_000
_TOTALS: Final = ("files", "rows", "files_written", "rows_written", "commits", "unusable")

# The needed columns of some rows, and the names of the columns to fill, to the values of these, and
# to whether each row has a header that can be used.
Read: TypeAlias = Callable[[pa.RecordBatch, Sequence[str]], tuple[pa.Table, Values]]


@dataclass(frozen=True)
class Extract:
    """How values are made of what a row holds, exactly as a sync makes them of a header.

    `needs` are the columns that `read` looks at, `makes` those it can fill, None for all. `setting`
    is what the values depend on beside the catalogue, as text: the time zone of the site, the
    edition of the code that reads headers.
    """

    read: Read
    needs: tuple[str, ...] = ("metadata_string",)
    makes: frozenset[str] | None = None
    setting: str = ""


def fill(store: Store, table: Table, extract: Extract, run: Run) -> Outcome:
    """Every row with a usable header holds what a sync writes in the columns that were unfilled.

    The outcome's totals are of this run: the columns, the files and rows looked at, those written
    anew, the commits of files, and the rows without a usable header. Raises ConflictError when
    other runs commit without end.
    """
    watch = Stopwatch()
    with watch.stage("fill"):
        first = converge(lambda: _widened(store, table))
        job = _Job(store, first, extract, run)
        if job.columns:
            converge(job.finish)
    last = store.open(table)
    return Outcome(
        version_before=first.version,
        version_after=last.version,
        rows=last.count(),
        totals=job.totals,
        seconds=watch.seconds,
    )


def _widened(store: Store, table: Table) -> Snapshot:
    """Return the table with every column of the catalogue, if it exists."""
    snapshot = store.open(table)
    if snapshot.delta is not None:
        with Border(snapshot.table, snapshot.url):
            add_missing(snapshot.delta, snapshot.table)
    return store.open(table)


class _Job:
    """Filling the unfilled columns of a table: what is done so far, and what is left."""

    def __init__(self, store: Store, first: Snapshot, extract: Extract, run: Run) -> None:
        """Nothing is done but what earlier runs did."""
        names = [] if first.delta is None else unfilled(first.delta)
        # What a newer version of this project added, or the feed gives, no header can fill.
        known = first.table.names if extract.makes is None else extract.makes
        self.columns = tuple(name for name in names if name in known)
        self.totals = Counter({**dict.fromkeys(_TOTALS, 0), "columns": len(self.columns)})
        self._store, self._table = store, first.table
        self._extract, self._run = extract, run
        self._prefix = f"part-{self._digest()}-"
        self._same: set[str] = set()
        self._progress = Progress(run.say, _progress_text(self._left(first)))

    def finish(self) -> None:
        """Exchange file after file, and mark the columns once none is left.

        Raises ConflictError when another commit came between the last look and the mark.
        """
        while True:
            snapshot = self._store.open(self._table)
            left = self._left(snapshot)
            if not left:
                return mark_filled(snapshot, self.columns, self._run)
            converge(partial(self._exchange, list(self._group(snapshot, left))))

    def _digest(self) -> str:
        """Return what the values depend on, in short: another column or setting, another digest."""
        columns = [repr(self._table[name]) for name in self.columns]
        parts = "\n".join([self._extract.setting, *columns])
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def _left(self, snapshot: Snapshot) -> list[DataFile]:
        return [file for file in data_files(snapshot) if not self._is_done(file.path)]

    def _is_done(self, path: str) -> bool:
        return path in self._same or path.rpartition("/")[2].startswith(self._prefix)

    def _group(self, snapshot: Snapshot, left: Sequence[DataFile]) -> Iterator[Replacement]:
        """Yield what is written anew, until it is enough for a commit."""
        rows = size = count = 0
        for file in left:
            written = rewrite(snapshot, file, self.columns, self._change, self._prefix)
            self.totals["files"] += 1
            if written is None:
                self._same.add(file.path)
                continue
            yield written
            rows, size, count = rows + (written.new.rows or 0), size + file.size, count + 1
            if rows >= GROUP_ROWS or size >= GROUP_BYTES or count >= GROUP_FILES:
                return

    def _change(self, piece: pa.RecordBatch) -> pa.RecordBatch | None:
        """Return the columns with what the headers say, or None when they hold it already."""
        values, usable = self._extract.read(piece.select(list(self._extract.needs)), self.columns)
        usable = flat(pc.fill_null(usable, False), pa.bool_())  # noqa: FBT003 - Arrow's own
        held = [piece.column(name) for name in self.columns]
        wanted = [
            pc.if_else(usable, flat(values[name].cast(old.type), old.type), old)
            for name, old in zip(self.columns, held, strict=True)
        ]
        self.totals["rows"] += len(piece)
        self.totals["unusable"] += usable.to_pylist().count(False)
        self._progress(self.totals["rows"])
        if all(new.equals(old) for new, old in zip(wanted, held, strict=True)):
            return None
        return pa.RecordBatch.from_arrays(wanted, names=list(self.columns))

    def _exchange(self, group: Sequence[Replacement]) -> None:
        """Commit the files of the group that no other run has rewritten in the meantime."""
        snapshot = self._store.open(self._table)
        active = {file.path for file in data_files(snapshot)}
        due = [one for one in group if active.issuperset(old.path for old in one.olds)]
        if due:
            commit(snapshot, due, {"run_id": self._run.run_id, "filled": len(self.columns)})
            written = sum(replacement.new.rows or 0 for replacement in due)
            self.totals.update(commits=1, files_written=len(due), rows_written=written)


def _progress_text(left: Sequence[DataFile]) -> str:
    # A log that does not tell the rows of every file tells no total either.
    rows = [file.rows for file in left if file.rows is not None]
    return f"filled {{}} of {sum(rows):,} rows" if len(rows) == len(left) else "filled {} rows"
