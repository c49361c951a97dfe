"""Data files of one partition joined in one, its rows sorted by the table's layout.

UIDs are random, so least and greatest tell a reader something only where the rows of a study lie
side by side: who looks for a study decodes one row group of a sorted file.

Memory is bounded though headers are long. The columns of the layout are sorted for all rows, then
each row goes, as it is read, to the stretch of the new file in which its place lies. Stretches are
held compressed, and each is sorted alone when it is written. Every old file is decoded once.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from dicom_assets.tables.delta.arrow import ints, pc
from dicom_assets.tables.delta.files import (
    PIECE_ROWS,
    DataFile,
    Replacement,
    pieces_of,
    sort_keys,
    write,
)

if TYPE_CHECKING:
    from dicom_assets.tables.delta.snapshot import Snapshot

# Bytes of rows that are sorted at once, about, and of those that wait to be compressed together.
STRETCH_BYTES: Final = 32 * 2**20
_PLACE: Final = "_place"


def join(
    snapshot: "Snapshot", olds: Sequence[DataFile], name: str, progress: Callable[[int], None]
) -> Replacement:
    """Write files of one partition as one file, its rows sorted; equal ones keep their order.

    `progress` is called with the number of rows of each piece. The name of the new file begins with
    `name`.
    """
    rows = sum(old.rows or 0 for old in olds)
    pieces = _sorted(snapshot, olds, progress)
    new = write(snapshot, pieces, olds[0].partition, rows, name)
    return Replacement(tuple(olds), (new,), is_change=False)


def _sorted(
    snapshot: "Snapshot", olds: Sequence[DataFile], progress: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    parts = [sort_keys(snapshot, old) for old in olds]
    keys = pa.concat_tables([part for part, _ in parts])
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    places = pc.sort_indices(order).cast(pa.int64())  # of each row, in the new file
    count = 1 + sum(size for _, size in parts) // STRETCH_BYTES
    length, done, stretches = -(-len(places) // count), 0, dict[int, _Stretch]()
    for piece in (piece for old in olds for piece in pieces_of(snapshot, old)):
        progress(piece.num_rows)
        at = places.slice(done, len(piece))
        done += len(piece)
        placed, of = piece.append_column(_PLACE, at), pc.divide(at, length)
        for number in ints(pc.unique(of)):
            if number not in stretches:
                stretches[number] = _Stretch(placed.schema, STRETCH_BYTES // count)
            stretches[number].add(placed.filter(pc.equal(of, number)))
    for number in sorted(stretches):
        yield from stretches.pop(number).ordered()


class _Stretch:
    """Rows that lie side by side in the new file, with their places in it."""

    def __init__(self, schema: pa.Schema, loose_bytes: int) -> None:
        self._sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._stream = pa.ipc.new_stream(self._sink, schema, options=options)
        self._loose, self._size, self._most = list[pa.RecordBatch](), 0, loose_bytes

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows, in any order."""
        self._loose.append(rows)
        self._size += rows.nbytes
        if self._size > self._most:
            self._stream.write_table(pa.Table.from_batches(self._loose).combine_chunks())
            self._loose, self._size = [], 0

    def ordered(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, without their places."""
        self._stream.close()
        packed = list(pa.ipc.open_stream(self._sink.getvalue()))
        rows = pa.Table.from_batches([*packed, *self._loose]).combine_chunks()
        order, names = pc.sort_indices(rows[_PLACE]), rows.column_names[:-1]
        (batch,) = rows.select(names).to_batches()
        for start in range(0, len(order), PIECE_ROWS):
            yield batch.take(order.slice(start, PIECE_ROWS))
