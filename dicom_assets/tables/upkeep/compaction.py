"""Compaction: join small data files of a table into fewer, one commit for each new file.

An hour leaves one or two small files in each table, a year thousands, and every reader opens them
all. Files of one data partition that are older than a week are written as one, its rows sorted by
the table's layout, in bounded memory (`tables.delta.join`).

`DeltaTable.optimize` is not used: it commits on a version that it has not looked at, and it writes
a growing file again every night (measured: docs/decisions/maintenance.md). The commit of
`tables.delta.files` is on the version looked at, or fails.

The cost is bounded: a row is rewritten only into a file of at least twice the size of its present
one, so at most 17 times, and never again once its file is half full. In a table of ten million
rows only the newest files are rewritten.

Commits of other runs go first: the files are looked up again, files that another run has rewritten
are skipped, and after repeated conflicts the rest is left for the next night.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from dicom_assets.errors import ConflictError
from dicom_assets.schema import Table
from dicom_assets.tables.delta.files import DataFile, Replacement, commit, data_files
from dicom_assets.tables.delta.join import join
from dicom_assets.tables.delta.retry import Run, converge
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.outcome import Progress

# A file that has half of this, in rows or bytes, is left alone. Readers skip files and row groups
# (20,000 rows), and a file with fewer rows is mostly overhead. Of larger ones less can be skipped,
# and an hour that touches one row rewrites all of them. The bytes are held in memory.
FULL_ROWS: Final = 100_000
FULL_BYTES: Final = 128 * 2**20
# Fewer files are not worth a commit, unless they fill one: a reader opens ten in the time of one or
# two round trips.
LEAST_FILES: Final = 10
# Younger files are still rewritten by updates and deletes. Files that this job wrote wait as long,
# so no row is compacted twice in a week.
RESTING: Final = timedelta(days=7)
# Limits of one night and table, because hours wait for the pool meanwhile. The first compaction of
# a table of years takes several nights.
NIGHT_ROWS: Final = 1_000_000
NIGHT_BYTES: Final = 4 * 2**30
NIGHT_SECONDS: Final = 300.0


def groups(
    files: Iterable[DataFile], before: int, full_rows: int = FULL_ROWS
) -> list[list[DataFile]]:
    """Return the groups of files to join, the largest number of files first. Pure.

    Only files added before `before` (milliseconds since 1970) are in a group.
    """
    by_partition: dict[tuple[tuple[str, str | None], ...], list[DataFile]] = defaultdict(list)
    for file in files:
        is_small = file.rows is not None and not _is_half_full([file], full_rows)
        if is_small and file.since < before:
            by_partition[tuple(sorted(file.partition.items()))].append(file)
    tiers: list[list[DataFile]] = []
    for small in by_partition.values():
        tiers.append([])
        for file in sorted(small, key=lambda f: (f.rows or 0, f.since, f.path)):
            own, rows, size = file.rows or 0, _rows(tiers[-1]), _bytes(tiers[-1])
            # The joined file would be less than twice as large as this one, or too large.
            if own > max(rows, 1) or rows + own > full_rows or size + file.size > FULL_BYTES:
                tiers.append([])
            tiers[-1].append(file)
    due = (
        t for t in tiers if len(t) >= LEAST_FILES or (len(t) > 1 and _is_half_full(t, full_rows))
    )
    by_age = (sorted(tier, key=lambda f: (f.since, f.path)) for tier in due)
    return sorted(by_age, key=len, reverse=True)


def _is_half_full(files: Sequence[DataFile], full_rows: int) -> bool:
    return 2 * _rows(files) >= full_rows or 2 * _bytes(files) >= FULL_BYTES


def _bytes(files: Iterable[DataFile]) -> int:
    return sum(file.size for file in files)


def _rows(files: Iterable[DataFile]) -> int:
    return sum(file.rows or 0 for file in files)


def compact(store: Store, table: Table, run: Run) -> Counter[str]:
    """Join the small files of a table that are older than RESTING, within the limits of a night.

    Returns the numbers of files joined (`compacted`) and `written`, of `rows_written`, of
    `conflicts`, and of files left for the next night (`postponed`).
    """
    before = int((run.now - RESTING).timestamp() * 1_000)
    due = groups(data_files(store.open(table)), before, table.file_rows or FULL_ROWS)
    night = _Night(store, table, run, sum(map(_rows, due)))
    begun, spent = time.monotonic(), Counter[str]()
    for at, group in enumerate(due):
        spent.update(rows=_rows(group), size=_bytes(group))
        late = time.monotonic() - begun > NIGHT_SECONDS
        much = spent["rows"] > NIGHT_ROWS or spent["size"] > NIGHT_BYTES
        if late or (much and at) or not night.join(group):
            night.totals["postponed"] = left = sum(map(len, due[at:]))
            run.say(
                f"{table.name}: {left:,} small files are left for the next night, after "
                f"{night.totals['conflicts']} conflicts with other runs"
            )
            break
    return night.totals


class _Night:
    """The compaction of one table in one night, with the totals so far."""

    def __init__(self, store: Store, table: Table, run: Run, rows: int) -> None:
        self._store, self._table, self._run = store, table, run
        names = ("compacted", "written", "rows_written", "conflicts", "postponed")
        self.totals = Counter(dict.fromkeys(names, 0))
        self._read = 0
        self._progress = Progress(run.say, f"{table.name}: compacted {{}} of {rows:,} rows")

    def join(self, group: Sequence[DataFile]) -> bool:
        """Write the files as one and exchange them. False after repeated conflicts."""
        snapshot = self._store.open(self._table)
        if not _are_in(group, data_files(snapshot)):
            return True  # another run has rewritten some: its new files are too young
        replacement = join(snapshot, group, "compact-", self._show)
        try:
            converge(lambda: self._exchange(replacement))
        except ConflictError:
            return False
        return True

    def _show(self, rows: int) -> None:
        self._read += rows
        self._progress(self._read)

    def _exchange(self, replacement: Replacement) -> None:
        snapshot = self._store.open(self._table)
        active = data_files(snapshot)
        # After an error the commit may be in the log all the same.
        if not _are_in([replacement.new], active):
            if not _are_in(replacement.olds, active):
                return
            note = {"run_id": self._run.run_id, "compacted": len(replacement.olds)}
            try:
                commit(snapshot, [replacement], note)
            except ConflictError:
                self.totals["conflicts"] += 1
                raise
        rows = replacement.new.rows or 0
        self.totals.update(compacted=len(replacement.olds), written=1, rows_written=rows)


def _are_in(files: Iterable[DataFile], active: Iterable[DataFile]) -> bool:
    return {file.path for file in files} <= {file.path for file in active}
