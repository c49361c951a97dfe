"""A difference applied to a table: the files that it touches anew, everything else appended.

An hour costs what it holds, whatever the size of the table, because Parquet files never change:

- Only files that may hold a row to remove or to patch are opened, key columns first. `study_files`
  says which, or the log's statistics of a key.
- **One old file gives at most one new file, its rows in their order.** Nothing is fused, so that
  an hour that touches five rows of old files leaves as many files as there were.
- Rows that are new, and the new state of updated rows, are appended in one file of each partition.
- One commit removes the old files and adds the new ones, on the version that was looked at, or
  raises ConflictError. A reader sees all of it or nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pyarrow as pa
from deltalake import write_deltalake

from dicom_assets.tables.delta.arrow import Values, flat, is_in, padded, pc, position, taken
from dicom_assets.tables.delta.commit import (
    HOOKS,
    WITHOUT_STATISTICS,
    Committed,
    Difference,
    add_missing,
    arrow_schema,
    mark_unfilled,
    once,
    parquet_properties,
)
from dicom_assets.tables.delta.files import (
    PIECE_ROWS,
    DataFile,
    Replacement,
    commit,
    files_with,
    pieces_of,
    read_columns,
    with_columns,
    write,
)
from dicom_assets.tables.delta.study_files import StudyFiles
from dicom_assets.tables.delta.table_errors import conflict_error

if TYPE_CHECKING:
    from dicom_assets.tables.delta.snapshot import Snapshot

_SEQUENCE: Final = pa.schema([("sequence", pa.int64())])
_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


def apply(snapshot: "Snapshot", difference: Difference, note: Mapping[str, object]) -> Committed:
    """Commit a difference on top of a version of a table that exists.

    Rows to update, delete or patch that the table does not have are left out, as are those whose
    stored sequence is greater (guarded tables). Raises ConflictError when another commit came
    first.
    """
    note = {**note, **difference.counts()}
    if difference.replaced is not None:
        return _replace(snapshot, difference, note)
    changes = _Changes(snapshot, difference)
    studies = snapshot.studies if snapshot.table.has_studies else None
    replacements = [r for file in changes.candidates(studies) if (r := changes.applied_to(file))]
    staged = difference.staged
    appended = changes.unrefused(staged) if staged else changes.appended()
    replacements.append(Replacement((), tuple(appended)))
    if not any(replacement.olds or replacement.news for replacement in replacements):
        return Committed(snapshot.version, snapshot.count())
    version = commit(snapshot, replacements, note)
    olds = [old for replacement in replacements for old in replacement.olds]
    news = [new for replacement in replacements for new in replacement.news]
    added, removed = (sum(file.rows or 0 for file in files) for files in (news, olds))
    return Committed(version, snapshot.count() + added - removed)


def with_columns_of(snapshot: "Snapshot") -> "Snapshot":
    """Add the columns that the table lacks, each in a version of its own; return that version."""
    delta = cast("Any", snapshot.delta)
    if delta.version() != snapshot.version:
        raise conflict_error(snapshot.table)  # a snapshot that shares the handle has moved it
    add_missing(delta, snapshot.table)
    mark_unfilled(delta, snapshot.table)
    return (
        snapshot
        if delta.version() == snapshot.version
        else replace(snapshot, version=delta.version())
    )


def write_rows(snapshot: "Snapshot", rows: pa.Table) -> Iterator[DataFile]:
    """Write rows, sorted, to one file of each partition that no commit names yet."""
    table, schema = snapshot.table, arrow_schema(snapshot.delta)
    rows, column = padded(rows, schema), table.partition_column
    # Headers are taken piece by piece from the parts they came in, never copied whole.
    long = [name for name in schema.names if name in WITHOUT_STATISTICS]
    (short,) = rows.drop_columns(long).combine_chunks().to_batches()
    order = pc.sort_indices(short, [(name, "ascending") for name in table.layout])
    groups: list[tuple[dict[str, str | None], Any]] = [({}, order)]
    if column is not None:
        values = short[column].take(order)
        groups = [
            ({column: value}, order.filter(pc.is_in(values, pa.array([value], values.type))))
            for value in pc.unique(values).to_pylist()
        ]
    schema = pa.schema([field for field in schema if field.name != column])

    def piece(at: "pa.Array[Any]") -> pa.RecordBatch:
        arrays = [taken(rows[n], at) if n in long else short[n].take(at) for n in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    for partition, at in groups:
        pieces = (piece(at.slice(i, PIECE_ROWS)) for i in range(0, len(at), PIECE_ROWS))
        yield write(snapshot, pieces, partition)


def _replace(snapshot: "Snapshot", difference: Difference, note: Mapping[str, object]) -> Committed:
    """Let the inserts stand for all rows of a condition."""
    delta = snapshot.own_handle()
    write_deltalake(
        delta,
        padded(cast("pa.Table", difference.inserts), arrow_schema(delta)),
        mode="overwrite",
        predicate=difference.replaced,
        commit_properties=once(note),
        post_commithook_properties=HOOKS,
        writer_properties=parquet_properties(snapshot.table),
    )
    return Committed(delta.version(), delta.count())


class _Changes:
    """The rows of a difference, looked up by key."""

    def __init__(self, snapshot: "Snapshot", difference: Difference) -> None:
        self._snapshot, self._table = snapshot, snapshot.table
        self._schema = arrow_schema(snapshot.delta)
        empty = self._table.arrow().empty_table()
        parts = (difference.inserts, difference.updates, difference.deletes, difference.patches)
        # In the table's own types: keys that a query found may be texts of another one.
        self._inserts, self._updates, self._deletes, self._patches = (
            padded(part, pa.schema([f for f in self._schema if f.name in part.column_names]))
            for part in (empty if part is None else part for part in parts)
        )
        self._updated = [False] * len(self._updates)
        # Columns of somebody else, and what updated rows have in them, by the place of the update.
        self._others = [name for name in self._schema.names if name not in self._table.names]
        self._kept = list[pa.Table]()
        # The column of the key by which files are chosen, and the changes that may concern them.
        self._column = self._table.key[0]
        if self._table.has_studies and self._table.study_column in self._table.key:
            self._column = self._table.study_column
        changed = (self._updates, self._deletes, self._patches)
        values = [chunk for part in changed for chunk in part[self._column].chunks]
        self._wanted = pc.unique(
            pa.chunked_array(values, self._updates[self._column].type)
        ).drop_null()

    def _key(self, rows: pa.Table) -> "pa.Array[Any]":
        columns = [rows[name].cast(pa.string()) for name in self._table.key]
        return flat(pc.binary_join_element_wise(*columns, "|"), pa.string())

    def candidates(self, studies: StudyFiles | None) -> list[DataFile]:
        """Return the files that may have a row to remove or to patch."""
        wanted = self._wanted.to_pylist()
        if not wanted:
            return []
        if studies is not None and self._column == self._table.study_column:
            return studies.of(wanted)
        return files_with(self._snapshot, self._column, wanted)

    def applied_to(self, file: DataFile) -> Replacement | None:
        """Return the file without the rows to remove, and with patches; None when it has none."""
        guard = ["sequence"] if self._table.is_guarded and "sequence" in self._schema.names else []
        names = [*dict.fromkeys([*self._table.key, *guard])]
        stored = read_columns(self._snapshot, file, names)
        # Most rows have no key near one that changes, and keys are long.
        is_near = flat(is_in(stored[self._column], self._wanted), pa.bool_())
        stored = stored.filter(is_near)
        keyed, near = self._key(stored), pc.unique(stored[self._column])
        updated, deleted, patched = (
            pc.replace_with_mask(
                pa.nulls(len(is_near), pa.int32()),
                is_near,
                self._places(keyed, stored, near, part, newer).cast(pa.int32()),
            )
            for part, newer in (
                (self._updates, pc.less),
                (self._deletes, pc.less_equal),
                (self._patches, pc.equal),
            )
        )
        for at in pc.unique(updated.drop_null()).to_pylist():
            self._updated[at] = True
        if self._others and updated.null_count < len(updated):
            others = read_columns(self._snapshot, file, self._others).append_column(
                "at", updated.cast(pa.int64())
            )
            self._kept.append(others.filter(pc.is_valid(updated)))
        kept = pc.and_(pc.is_null(updated), pc.is_null(deleted))
        patched = pc.if_else(kept, patched, None)
        removed = len(kept) - pc.sum(kept.cast(pa.int64())).as_py() if len(kept) else 0
        if not removed and patched.null_count == len(patched):
            return None
        if removed == len(kept):
            return Replacement((file,), ())
        rows = None if file.rows is None else file.rows - removed
        pieces = self._pieces(file, kept, patched)
        return Replacement((file,), (write(self._snapshot, pieces, file.partition, rows),))

    def _places(
        self,
        keyed: "pa.Array[Any]",
        stored: pa.Table,
        near: Values,
        part: pa.Table,
        newer: Callable[[Values, Values], Values],
    ) -> "pa.Array[Any]":
        """Return the place of each stored row in a part, null where the part leaves it as it is."""
        rows = pc.indices_nonzero(is_in(part[self._column], near))
        part = part.take(rows)
        # As in SQL, a key with a null is equal to none.
        at = pc.index_in(keyed, self._key(part), skip_nulls=True)
        # A table that was taken over may have no sequence, nor may the keys that leave it.
        is_guarded = self._table.is_guarded and "sequence" in stored.column_names
        if is_guarded and at.null_count < len(at):
            allowed = newer(stored["sequence"], padded(part, _SEQUENCE)["sequence"].take(at))
            if newer is not pc.equal:
                allowed = pc.or_kleene(pc.is_null(stored["sequence"]), allowed)
            allowed = pc.fill_null(allowed, False)  # noqa: FBT003 - Arrow's own signature
            at = flat(pc.if_else(allowed, at, None), pa.int32())
        places: pa.Array[Any] = rows.take(at)
        return places

    def _pieces(
        self,
        file: DataFile,
        kept: "pa.Array[Any]",
        patched: "pa.Array[Any]",
        filled_from: "pa.Array[Any] | None" = None,
    ) -> Iterator[pa.RecordBatch]:
        done = 0
        for piece in pieces_of(self._snapshot, file):
            at, keep = (column.slice(done, len(piece)) for column in (patched, kept))
            if filled_from is not None:
                piece = self._filled(piece, filled_from.slice(done, len(piece)))  # noqa: PLW2901
            done += len(piece)
            # Most pieces have no row that changes. They are not copied.
            changed = with_columns(
                piece, self._patched(piece, at) if at.null_count < len(at) else None
            )
            left = changed if pc.all(keep).as_py() else changed.filter(keep)
            if left.num_rows:
                yield left

    def _patched(self, piece: pa.RecordBatch, at: "pa.Array[Any]") -> pa.RecordBatch:
        names = [name for name in self._patches.column_names if name not in self._table.key]
        patches, is_patched = self._patches.take(at), pc.is_valid(at)
        values = [pc.if_else(is_patched, flat(patches[n], piece[n].type), piece[n]) for n in names]
        return pa.RecordBatch.from_arrays(values, names=names)

    def unrefused(self, staged: Iterable[DataFile]) -> Iterator[DataFile]:
        """Yield staged files, written anew where rows of updates were refused or are to be filled.

        Refused are those that the table does not have, or has newer. Filled are columns of others.
        """
        updates = self._key(self._updates)
        is_refused = pc.invert(pa.array(self._updated, pa.bool_()))
        for file in staged:
            if not self._kept and not pc.any(is_refused).as_py():
                yield file
                continue
            keys = self._key(read_columns(self._snapshot, file, self._table.key))
            at = pc.index_in(keys, updates, skip_nulls=True)
            kept = pc.invert(pc.fill_null(is_refused.take(at), False))  # noqa: FBT003 - as above
            if not self._kept and pc.all(kept, min_count=0).as_py():
                yield file
            elif pc.any(kept).as_py():
                pieces = self._pieces(file, kept, pa.nulls(len(kept), pa.int32()), filled_from=at)
                yield write(self._snapshot, pieces, file.partition)

    def appended(self) -> Iterator[DataFile]:
        """Write the rows that are new, and the new state of updated rows; yield the files."""
        at = pc.indices_nonzero(pa.array(self._updated, pa.bool_()))
        updates = self._filled(padded(self._updates.take(at), self._schema), at)
        rows = [part for part in (padded(self._inserts, self._schema), updates) if len(part)]
        return write_rows(self._snapshot, pa.concat_tables(rows)) if rows else iter(())

    def _filled(self, rows: _Rows, at: "pa.Array[Any]") -> _Rows:
        """Return rows of updates, by their places, with the stored values in columns of others."""
        if not self._kept:
            return rows
        stored = pa.concat_tables(self._kept)
        found = stored.take(position(at.cast(pa.int64()), stored["at"]))
        columns = [
            flat(found[f.name], f.type) if f.name in self._others else rows[f.name]
            for f in rows.schema
        ]
        return type(rows).from_arrays(columns, schema=rows.schema)
