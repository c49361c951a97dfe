"""The data files of a table in which a study has rows: a cache beside the table.

UIDs are random, so the least and the greatest one of a file tell nothing: without this, each look
for a study would open every file. Data files never change, so the list of the studies of a file is
true for ever, and the cache can be believed for a file that it lists by path and size.

- It lies in CACHE_FOLDER in the table. Readers and vacuum leave names that begin with `_` alone,
  and no name ends in `.parquet`, though each part is a Parquet file: two columns, a hash of 40 bits
  and the number of a file, sorted by hash in groups that are read one by one.
- `recent` lists the files of the last commits, and names the `base`, which lists the older ones. It
  is written anew after each commit, the base when `recent` has grown.
- Hashes are keyed by the table's ID. A hash that two studies share costs one needless look.
- What is absent, damaged, another table's or outdated is not believed: a file that no part lists is
  read itself. So nobody else has to know of the cache, and a lost write costs time only.
"""

import json
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from dicom_assets.tables.delta.arrow import Values, ints, is_in, numbers, packed, pc
from dicom_assets.tables.delta.files import WHOLE_BYTES, DataFile, column_of, data_files
from dicom_assets.tables.delta.handles import Output, folder_of

if TYPE_CHECKING:
    from dicom_assets.tables.delta.snapshot import Snapshot

CACHE_FOLDER: Final = "_studies"
_RECENT: Final = "recent.index"
# So few files are read themselves in the time of the requests for a cache.
FEW_FILES: Final = 4
# `recent` is written in each commit. Beyond this it goes into the base.
RECENT_ENTRIES: Final = 20_000
RECENT_FILES: Final = 200
# Files that are read between two writes of the cache, so that a rebuild goes on where it ended.
REBUILT_AT_ONCE: Final = 100
GROUP_ENTRIES: Final = 16_384

_NOTE: Final = b"dicom_assets.studies"
_DIGEST: Final = b"dicom_assets.digest"
_ERRORS: Final = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)
# The path and the size of a data file.
_Place: TypeAlias = tuple[str, int]
# The first hash of a group, its number of entries and their digest.
_Group: TypeAlias = tuple[int, int, str]


class StudyFiles:
    """The files of one version of a table in which a study has rows."""

    def __init__(self, snapshot: "Snapshot") -> None:
        """List the files of the version. The cache is read at the first look."""
        # A copy, because a circle would keep the handle in use.
        self._snapshot = replace(snapshot)
        self._active = {(file.path, file.size): file for file in data_files(snapshot)}
        self._known = dict[_Place, Values]()
        self._table_id = str(cast("Any", snapshot.delta).metadata().id)
        self._storage = folder_of(snapshot.delta)

    def of(self, studies: Sequence[str]) -> list[DataFile]:
        """Return the files that have rows of one of the studies, and seldom one that has none."""
        hashes = self.hashes(studies)
        try:
            found = {place for part in self._parts for place in part.places_of(hashes)}
        except _ERRORS:
            self._parts, found = (_NONE, _NONE), set()
        for place, own in self._unlisted():
            if pc.any(is_in(own, hashes)).as_py():
                found.add(place)
        return [file for place, file in self._active.items() if place in found]

    def hashes(self, studies: Iterable[str]) -> "pa.Array[Any]":
        """Return the hash of each study, keyed by the table."""
        key = self._table_id.encode()[:64]
        made = (blake2b(study.encode(), digest_size=5, key=key).digest() for study in studies)
        return numbers(int.from_bytes(digest) for digest in made)

    def exchange(self, olds: Iterable[DataFile], news: Mapping[_Place, Values]) -> None:
        """List the files of the next version: without `olds`, and with `news` and their hashes.

        An error is ignored: the commit has happened, and this is only a cache.
        """
        active = {*self._active, *news} - {(old.path, old.size) for old in olds}
        if len(active) > FEW_FILES:
            try:
                self._exchange(active, news)
            except _ERRORS:
                self._parts = _NONE, _NONE
                with suppress(*_ERRORS):
                    self._exchange(active, news)

    def _exchange(self, active: set[_Place], news: Mapping[_Place, Values]) -> None:
        recent, base = self._parts
        known = {**recent.entries(), **self._known, **news}
        fresh = {place: known[place] for place in active & known.keys() - set(base.places)}
        name = base.name
        if len(fresh) > RECENT_FILES or sum(map(len, fresh.values())) > RECENT_ENTRIES:
            both = {**base.entries(), **fresh}
            name, fresh = f"base-{uuid.uuid4()}.index", {}
            self._write(name, {place: both[place] for place in active & both.keys()}, name)
            self._remove_bases({name, base.name})
        self._write(_RECENT, fresh, f"{_RECENT} of {hash(frozenset(active))}", base=name)

    def _unlisted(self) -> Iterator[tuple[_Place, Values]]:
        """Yield the files that no part lists with their hashes, read from the files."""
        yield from self._known.items()
        recent, base = self._parts
        unlisted = self._active.keys() - {*recent.places, *base.places} - self._known.keys()
        for count, place in enumerate(sorted(unlisted), 1):
            column = self._snapshot.table.study_column
            studies = column_of(self._snapshot, self._active[place], column)
            self._known[place] = self.hashes(s for s in studies.to_pylist() if s is not None)
            yield place, self._known[place]
            if count % REBUILT_AT_ONCE == 0:
                self.exchange((), {})

    # --- the parts --------------------------------------------------------------------------------

    @cached_property
    def _parts(self) -> "tuple[_Part, _Part]":
        """The part of the last commits, and the base."""
        few = len(self._active) <= FEW_FILES
        recent = _NONE if few else self._read(_RECENT)
        return recent, self._read(recent.base) if recent.base else _NONE

    def _read(self, name: str) -> "_Part":
        handles, url = self._snapshot.handles, self._snapshot.url
        # A base never changes. `recent` is believed as it was for the very same files.
        at = f"{name} of {hash(frozenset(self._active))}" if name == _RECENT else name
        try:
            source: Any = handles.kept(url, at)
            if source is None:
                source = self._storage.open_input_file(f"{CACHE_FOLDER}/{name}")
                if source.size() <= WHOLE_BYTES:
                    source = handles.keep(url, at, bytes(source.read()))
            is_here = isinstance(source, bytes)
            parquet = pq.ParquetFile(
                pa.BufferReader(source) if is_here else source,
                # By other threads, which is for requests at once.
                pre_buffer=not is_here,
                page_checksum_verification=True,
            )
            texts = parquet.metadata.metadata or {}
            if texts[_DIGEST] != _digest(texts[_NOTE]):
                return _NONE
            note = json.loads(texts[_NOTE])
            if note["table"] != self._table_id:
                return _NONE
            places = [(path, size) for path, size in note["files"]]
            groups = [(first, count, digest) for first, count, digest in note["groups"]]
            return _Part(name, parquet, places, groups, note["base"])
        except _ERRORS:
            return _NONE

    def _write(self, name: str, files: Mapping[_Place, Values], at: str, *, base: str = "") -> None:
        """Write a part, and keep it under the name `at`."""
        places = list(files)
        rows = pa.table(
            {
                "hash": pa.chunked_array([files[place] for place in places], pa.int64()),
                "file": pa.chunked_array(
                    [
                        pa.array([at] * len(files[place]), pa.int32())
                        for at, place in enumerate(places)
                    ],
                    pa.int32(),
                ),
            }
        ).sort_by("hash")
        starts = range(0, len(rows), GROUP_ENTRIES)
        groups = [_group_of(rows.slice(start, GROUP_ENTRIES)) for start in starts]
        note = {"table": self._table_id, "base": base, "files": places, "groups": groups}
        text = json.dumps(note).encode()
        told: Any = {_NOTE: text, _DIGEST: _digest(text)}
        layout: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": ["file"],
            "column_encoding": {"hash": "DELTA_BINARY_PACKED"},
            "write_page_checksum": True,
            "write_statistics": False,
            "store_schema": False,
        }
        with (
            Output(self._storage, f"{CACHE_FOLDER}/{name}", WHOLE_BYTES) as sink,
            pq.ParquetWriter(cast("Any", sink), rows.schema, **layout) as writer,
        ):
            writer.write_table(rows, GROUP_ENTRIES)
            # Not as metadata of the columns, which would be lost without Arrow's own schema.
            writer.add_key_value_metadata(told)
        if sink.content is not None:
            self._snapshot.handles.keep(self._snapshot.url, at, sink.content)

    def _remove_bases(self, kept: Collection[str]) -> None:
        """Remove all bases but those that a reader may still read."""
        for info in self._storage.get_file_info(pyarrow.fs.FileSelector(CACHE_FOLDER)):
            name = info.path.rpartition("/")[2]
            if name.startswith("base-") and name not in kept:
                self._storage.delete_file(f"{CACHE_FOLDER}/{name}")


@dataclass(frozen=True)
class _Part:
    """A part of the cache: its files in order, and first hash, length and digest of each group.

    A damaged group raises an error, and then the part is not believed. Checksums of pages do not
    tell all: Parquet's own footer, which says where they lie, has none.
    """

    name: str
    parquet: pq.ParquetFile | None
    places: Sequence[_Place]
    groups: Sequence[_Group]
    base: str

    def places_of(self, hashes: Values) -> set[_Place]:
        """Return the files that have one of the hashes."""
        groups, firsts = set[int](), [first for first, _, _ in self.groups]
        for value in ints(hashes):
            # Equal hashes may begin in the group before.
            groups |= set(range(bisect_left(firsts, value) - 1, bisect_right(firsts, value)))
        rows = self._rows(sorted(groups - {-1}))
        found = rows.filter(is_in(rows["hash"], hashes))["file"]
        return {self.places[at] for at in ints(pc.unique(found))}

    def entries(self) -> dict[_Place, Values]:
        """Return the hashes of each file."""
        rows = self._rows(range(len(self.groups))).sort_by("file")
        # A file of nulls only has no hash.
        found, start = dict[_Place, Values](dict.fromkeys(self.places, numbers(()))), 0
        for counted in pc.value_counts(rows["file"]).to_pylist():
            hashes = rows["hash"].slice(start, counted["counts"])
            found[self.places[counted["values"]]], start = hashes, start + len(hashes)
        return found

    def _rows(self, groups: Sequence[int]) -> pa.Table:
        if self.parquet is None or not groups:
            return pa.table({"hash": numbers(()), "file": pa.array([], pa.int32())})
        rows, start = self.parquet.read_row_groups(list(groups), use_threads=False), 0
        for group in map(self.groups.__getitem__, groups):
            if _group_of(rows.slice(start, group[1])) != group:
                raise ValueError("a group of the study cache is damaged")
            start += group[1]
        return rows


_NONE: Final = _Part("", None, (), (), "")


def _group_of(rows: pa.Table) -> _Group:
    (batch,) = rows.combine_chunks().to_batches()
    # Not of all buffers: whether there is a mask of nulls differs.
    return (
        batch["hash"][0].as_py(),
        len(batch),
        _digest(b"".join(map(packed, batch.columns))).decode(),
    )


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).hexdigest().encode()
