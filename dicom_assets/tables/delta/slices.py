"""Rows that come in parts, written in slices to data files that no commit names yet.

Memory is bounded by a slice, however many rows come. A difference names the files (`staged`), so
that one commit has all of them. They outlive an attempt that lost its commit. Those of a run that
ended are garbage, which `upkeep.maintenance` removes.
"""

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from dicom_assets.tables.delta.arrow import Values, filter_out, is_in, pc
from dicom_assets.tables.delta.files import DataFile, read_columns

if TYPE_CHECKING:
    from dicom_assets.tables.delta.snapshot import Snapshot

# An hour is one file or a few, a backfill many.
SLICE_BYTES: Final = 32 * 2**20


class Slices:
    """The slices of a table whose rows have a sequence."""

    def __init__(self) -> None:
        self._slices = list[tuple[DataFile, Values]]()
        self._parts, self._size = list[pa.Table](), 0

    @property
    def files(self) -> list[DataFile]:
        """The data files, each of one slice."""
        return [file for file, _ in self._slices]

    @property
    def sequences(self) -> Values:
        """The sequences of the rows that are written."""
        return joined([sequences for _, sequences in self._slices])

    def add(self, rows: pa.Table, target: "Snapshot") -> None:
        """Add rows of a table that is `prepared`. Write a slice when they are enough for one."""
        self._parts.append(rows)
        self._size += rows.nbytes
        if self._size >= SLICE_BYTES:
            self.write(target)

    def write(self, target: "Snapshot") -> None:
        """Write the rows that are not written yet."""
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._stage(self.finished(pa.concat_tables(parts)), target)
            # Else the pool keeps most of what it had at once.
            pa.default_memory_pool().release_unused()

    def finished(self, rows: pa.Table) -> pa.Table:
        """Return the rows of a slice as they are written."""
        return rows

    def _stage(self, rows: pa.Table, target: "Snapshot") -> None:
        if rows.num_rows:
            self._slices += [(file, rows["sequence"]) for file in target.stage(rows)]

    def keep(self, wanted: Values) -> None:
        """Forget each slice that has a sequence which is not wanted."""
        self._slices = [one for one in self._slices if has_all(wanted, one[1])]

    def leave_out(self, known: Values, target: "Snapshot") -> None:
        """Write each slice anew, without the known sequences, that has one of them."""
        slices, self._slices = self._slices, []
        for file, sequences in slices:
            if pc.any(is_in(sequences, known)).as_py():
                rows = read_columns(target, file, target.table.names)
                self._stage(filter_out(rows, "sequence", known), target)
            else:
                self._slices.append((file, sequences))


def has_all(values: Values, wanted: Values) -> bool:
    """Return True when a column holds all of the values wanted."""
    return bool(pc.all(is_in(wanted, values), min_count=0).as_py())


def joined(parts: list[Values]) -> Values:
    """Return columns of whole numbers as one."""
    chunks = [c for part in parts for c in getattr(part, "chunks", [part])]
    return pa.chunked_array(chunks, pa.int64())
