"""Backfill of columns that were added to a table with rows, or that an earlier edition has made.

The values come from the header that a row holds, and no request goes to the service. Data files are
read one after the other and rewritten where a value differs, many of them in one commit
(`tables.delta.files`). A row without a usable header keeps its values.

A run that ends anywhere is finished by the next one, without a memory of its progress: the name of
a file says that this job wrote it, and every other file is read. Other runs may commit meanwhile. A
file that they rewrote is not exchanged, and their new files are read in turn. Columns are marked as
filled on a version of which every file is done.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa

from dicom_assets.schema import Column, Table
from dicom_assets.tables.delta.arrow import Values, flat, pc
from dicom_assets.tables.delta.commit import add_missing, unfilled
from dicom_assets.tables.delta.files import DataFile, Replacement, commit, data_files, rewrite
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Snapshot, Store, mark_filled
from dicom_assets.tables.delta.table_errors import raise_table_errors
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch

# Limits of one commit, passed by one file at most: a year of hours is not 8,760 commits, and a run
# that is killed loses no more work than this.
GROUP_ROWS: Final = 100_000
GROUP_BYTES: Final = 256 * 2**20
GROUP_FILES: Final = 1_000


@dataclass(frozen=True)
class Extract:
    """The derivation of values from the columns of a row, with the result of a sync.

    `read` takes the `needs` columns of some rows and the names of the columns to fill. It returns
    the values of the latter, and by row whether its header is usable. `makes` are the columns that
    it can fill, None for all. `setting` names what the values depend on beside the catalogue: the
    time zone of the site and the edition of the code that reads headers. With `anew` it fills all
    columns, not only the unfilled ones. `keep` gives what is left of values without a header.
    """

    read: Callable[[pa.RecordBatch, Sequence[str]], tuple[pa.Table, Values]]
    needs: tuple[str, ...] = ("metadata_string",)
    makes: frozenset[str] | None = None
    setting: str = ""
    anew: bool = False
    keep: Callable[[Column, Values], Values] = lambda _, old: old


def fill(store: Store, table: Table, extract: Extract, run: Run) -> Outcome:
    """Fill the unfilled columns of a table in every row with a usable header, and mark them.

    The outcome's totals are of this run: the columns, the files and rows read, those rewritten, the
    commits of files, and the rows without a usable header. Raises ConflictError when other runs
    keep committing.
    """
    watch = Stopwatch()

    def widened() -> Snapshot:
        snapshot = store.open(table)
        if snapshot.delta is not None:
            with raise_table_errors(snapshot.table, snapshot.url):
                add_missing(snapshot.delta, snapshot.table)
        return store.open(table)

    with watch.stage("fill"):
        first = converge(widened)
        job = _Job(store, first, extract, run)
        if job.columns:
            converge(job.finish)
    last = store.open(table)
    return Outcome(
        first.version, last.version, last.count(), totals=job.totals, seconds=watch.seconds
    )


class _Job:
    """The backfill of one table: its columns, and the totals so far."""

    def __init__(self, store: Store, first: Snapshot, extract: Extract, run: Run) -> None:
        names = [] if first.delta is None else unfilled(first.delta)
        if first.delta is not None and extract.anew:
            names = first.table.names
        # A header cannot fill columns of the feed, nor those of a newer version of this project.
        known = first.table.names if extract.makes is None else extract.makes
        self.columns = tuple(name for name in names if name in known)
        counted = ("files", "rows", "files_written", "rows_written", "commits", "unusable")
        self.totals = Counter({**dict.fromkeys(counted, 0), "columns": len(self.columns)})
        self._store, self._table = store, first.table
        self._extract, self._run = extract, run
        # The prefix is a digest of all that the values depend on.
        parts = "\n".join([extract.setting, *(repr(self._table[name]) for name in self.columns)])
        self._prefix = f"part-{hashlib.sha256(parts.encode()).hexdigest()[:16]}-"
        self._same: set[str] = set()
        left = self._left(first)
        # The log may lack the number of rows of a file, and then there is no total.
        total = sum(file.rows or 0 for file in left)
        of = "" if any(file.rows is None for file in left) else f"of {total:,} "
        self._progress = Progress(run.say, f"filled {{}} {of}rows")

    def finish(self) -> None:
        """Exchange file after file, then mark the columns as filled."""
        while True:
            snapshot = self._store.open(self._table)
            left = self._left(snapshot)
            if not left:
                return mark_filled(snapshot, self.columns, self._run)
            converge(partial(self._exchange, list(self._group(snapshot, left))))

    def _left(self, snapshot: Snapshot) -> list[DataFile]:
        """Return the files that are neither written by this job nor found to be right."""
        return [
            file
            for file in data_files(snapshot)
            if file.path not in self._same
            and not file.path.rpartition("/")[2].startswith(self._prefix)
        ]

    def _group(self, snapshot: Snapshot, left: Sequence[DataFile]) -> Iterator[Replacement]:
        """Rewrite files and yield them, until they are enough for a commit."""
        rows = size = count = 0
        for file in left:
            written = rewrite(snapshot, file, self._change, self._prefix)
            self.totals["files"] += 1
            if written is None:
                self._same.add(file.path)
                continue
            yield written
            rows, size, count = rows + (written.new.rows or 0), size + file.size, count + 1
            if rows >= GROUP_ROWS or size >= GROUP_BYTES or count >= GROUP_FILES:
                return

    def _change(self, piece: pa.RecordBatch) -> pa.RecordBatch | None:
        """Return the columns with the values of the headers, None when nothing changes."""
        values, usable = self._extract.read(piece.select(list(self._extract.needs)), self.columns)
        usable = flat(pc.fill_null(usable, False), pa.bool_())  # noqa: FBT003 - Arrow's own
        unusable = usable.to_pylist().count(False)
        olds = [piece.column(name) for name in self.columns]
        news = [
            pc.if_else(
                usable,
                flat(values[name].cast(old.type), old.type),
                self._extract.keep(self._table[name], old) if unusable else old,
            )
            for name, old in zip(self.columns, olds, strict=True)
        ]
        self.totals["rows"] += len(piece)
        self.totals["unusable"] += unusable
        self._progress(self.totals["rows"])
        if all(new.equals(old) for new, old in zip(news, olds, strict=True)):
            return None
        return pa.RecordBatch.from_arrays(news, names=list(self.columns))

    def _exchange(self, group: Sequence[Replacement]) -> None:
        """Commit the files of the group, but for those that another run has rewritten."""
        snapshot = self._store.open(self._table)
        active = {file.path for file in data_files(snapshot)}
        if due := [one for one in group if active.issuperset(old.path for old in one.olds)]:
            commit(snapshot, due, {"run_id": self._run.run_id, "filled": len(self.columns)})
            written = sum(replacement.new.rows or 0 for replacement in due)
            self.totals.update(commits=1, files_written=len(due), rows_written=written)
