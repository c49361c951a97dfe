"""Small data files become fewer: the same rows, in the same order, in one commit for each new file.

An hour leaves a small file or two in each table, a year thousands, and every reader opens them all.
So files of the same data partition that have rested for a week are written as one, row after row,
in bounded memory. `DeltaTable.optimize` is not used: it commits on whatever version it meets,
against the rule of `store`, and goes by bytes alone, so that it writes a growing file anew every
night. Here the commit is that of `files`: on the version looked at, or not at all.

It pays as follows. Rewriting a row costs what writing it did. A row is written anew only into a
file of at least twice the size of the one it was in, so at most 17 times in its life, and never
again once its file has SMALL_ROWS; a table of ten million rows is left alone but for its newest.

Other runs may commit meanwhile, and go first: what they commit is looked at again, files that they
have rewritten are left to them, and after some conflicts the rest is left for the next night.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from dicom_assets.errors import ConflictError
from dicom_assets.schema import Table
from dicom_assets.tables.delta.files import DataFile, Replacement, commit, data_files, join
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.outcome import Progress

# Readers skip by file and by row group (20,000 rows): below 50,000 rows a file is mostly overhead,
# above 100,000 skipping gets coarse, and a merge that touches one row writes all of them anew.
SMALL_ROWS: Final = 50_000
FULL_ROWS: Final = 100_000
FULL_BYTES: Final = 256 * 2**20
# Fewer are not worth a commit: a reader opens ten files in the time of one round trip or two.
LEAST_FILES: Final = 10
# Younger files are still updated and deleted from, each time as a whole; and what this job wrote
# waits as long, so no row is written twice in a week.
RESTING: Final = timedelta(days=7)
# What a night does to a table at most, and how long it keeps the hours waiting: a first night on a
# table of years takes several.
NIGHT_ROWS: Final = 1_000_000
NIGHT_BYTES: Final = 4 * 2**30
NIGHT_SECONDS: Final = 300.0
_PREFIX: Final = "compact-"
_MILLISECONDS: Final = 1_000


def groups(files: Iterable[DataFile], before: int) -> list[list[DataFile]]:
    """Return which files shall become one, those that save most first; pure.

    `before` is a moment in milliseconds since 1970: what came into the table later rests.
    """
    by_partition: dict[tuple[tuple[str, str | None], ...], list[DataFile]] = defaultdict(list)
    for file in files:
        if file.rows is not None and file.rows < SMALL_ROWS and file.since < before:
            by_partition[tuple(sorted(file.partition.items()))].append(file)
    found = [group for small in by_partition.values() for group in _tiers(small)]
    return sorted(found, key=len, reverse=True)


def _tiers(small: list[DataFile]) -> Iterator[list[DataFile]]:
    """Yield groups of files alike in size, each in the order in which they came."""
    group: list[DataFile] = []
    for file in sorted(small, key=lambda f: (f.rows or 0, f.since, f.path)):
        if group and not _fits(file, group):
            yield from _worthwhile(group)
            group = []
        group.append(file)
    yield from _worthwhile(group)


def _fits(file: DataFile, group: Sequence[DataFile]) -> bool:
    """Whether the file joins: together not too large, and at least twice as large as it is now."""
    rows, size = _rows(group), sum(one.size for one in group)
    own = file.rows or 0
    return own <= max(rows, 1) and rows + own <= FULL_ROWS and size + file.size <= FULL_BYTES


def _worthwhile(group: list[DataFile]) -> Iterator[list[DataFile]]:
    if len(group) >= LEAST_FILES:
        yield sorted(group, key=lambda f: (f.since, f.path))


def _rows(files: Iterable[DataFile]) -> int:
    return sum(file.rows or 0 for file in files)


def compact(store: Store, table: Table, run: Run) -> Counter[str]:
    """Small files that have rested are fewer; the rows are the same.

    Returns how many files became how many, their rows, the conflicts met, and the files that are
    left for the next night.
    """
    resting = (run.now - RESTING).timestamp() * _MILLISECONDS
    due = groups(data_files(store.open(table)), int(resting))
    return _Night(store, table, run, due).work()


class _Night:
    """What one night does to a table: what is due, and what came of it."""

    def __init__(self, store: Store, table: Table, run: Run, due: list[list[DataFile]]) -> None:
        """Nothing is done."""
        self._store, self._table, self._run, self._due = store, table, run, due
        names = ("compacted", "written", "rows_written", "conflicts", "postponed")
        self._totals = Counter(dict.fromkeys(names, 0))
        self._read = 0
        text = f"{table.name}: compacted {{}} of {sum(map(_rows, due)):,} rows"
        self._progress = Progress(run.say, text)

    def work(self) -> Counter[str]:
        """One new file after the other is in the table, until the night is over."""
        begun, spent = time.monotonic(), Counter[str]()
        for at, group in enumerate(self._due):
            spent.update(rows=_rows(group), size=sum(file.size for file in group))
            late = time.monotonic() - begun > NIGHT_SECONDS
            much = spent["rows"] > NIGHT_ROWS or spent["size"] > NIGHT_BYTES
            if late or (much and at) or not self._is_done(group):
                self._postpone(self._due[at:])
                break
        return self._totals

    def _postpone(self, left: Sequence[Sequence[DataFile]]) -> None:
        self._totals["postponed"] = sum(map(len, left))
        self._run.say(
            f"{self._table.name}: {self._totals['postponed']:,} small files are left for the next "
            f"night, after {self._totals['conflicts']} conflicts with other runs"
        )

    def _is_done(self, group: Sequence[DataFile]) -> bool:
        """Write the files as one and exchange them; False when other runs did not let it."""
        snapshot = self._store.open(self._table)
        if not _are_in(group, data_files(snapshot)):
            return True  # another run was here: what it left rests first
        replacement = join(snapshot, group, _PREFIX, self._tell)
        try:
            converge(lambda: self._exchange(replacement))
        except ConflictError:
            return False
        return True

    def _tell(self, rows: int) -> None:
        self._read += rows
        self._progress(self._read)

    def _exchange(self, replacement: Replacement) -> None:
        snapshot = self._store.open(self._table)
        active = data_files(snapshot)
        # An error of a commit may mean that it holds.
        if not _are_in([replacement.new], active):
            if not _are_in(replacement.olds, active):
                return
            note = {"run_id": self._run.run_id, "compacted": len(replacement.olds)}
            try:
                commit(snapshot, [replacement], note)
            except ConflictError:
                self._totals["conflicts"] += 1
                raise
        rows = replacement.new.rows or 0
        self._totals.update(compacted=len(replacement.olds), written=1, rows_written=rows)


def _are_in(files: Iterable[DataFile], active: Iterable[DataFile]) -> bool:
    return {file.path for file in files} <= {file.path for file in active}
