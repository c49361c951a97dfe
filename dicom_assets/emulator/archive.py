"""The archive: the memory of the DICOM service, in one SQLite file.

Here: instances, their headers, the entries of the feed, and the effect of each write on them. The
state and the metadata of an entry *now*, on which all depends, are the SQL of `_VIEW`. Not here:
HTTP (`application`), reading DICOM files (`headers`), sample content (`sample`).

Three tables. `instance` has a row per key that was ever stored; `header` is its DICOM JSON as
text, null once it is gone; `current` is the sequence of the entry that holds it. UIDs keep the
spaces at their ends and are compared without them, as SQL Server does. `entry` has a
row per change and is never removed, nor altered but for its file path: an entry reads Deleted when
its instance has no header, Current when the instance points at it, else Replaced. So a write
touches one row of `instance` however long its history is.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import crc32

from dicom_assets.emulator.ticks import now as now_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MICROSOFT_DEFAULT: Final = "Microsoft.Default"
INT64_MAX: Final = 2**63 - 1

_UID_TAGS: Final = ("0020000D", "0020000E", "00080018")  # study, series, instance
_UID: Final = re.compile(r"[0-9.]{0,63}[0-9] *")
_PARTITION: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FORMAT: Final = 1

_SCHEMA: Final = """
CREATE TABLE instance (
    id INTEGER PRIMARY KEY,
    data_partition TEXT NOT NULL,
    study TEXT NOT NULL COLLATE RTRIM,
    series TEXT NOT NULL COLLATE RTRIM,
    sop TEXT NOT NULL COLLATE RTRIM,
    current INTEGER,
    header TEXT,
    UNIQUE (data_partition, study, series, sop)
);
CREATE TABLE entry (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    instance INTEGER NOT NULL REFERENCES instance (id),
    action TEXT NOT NULL,
    ticks INTEGER NOT NULL,
    file_path TEXT
);
CREATE INDEX entry_by_time ON entry (ticks, sequence);
CREATE TABLE operation (
    id TEXT PRIMARY KEY,
    ticks INTEGER NOT NULL,
    studies INTEGER NOT NULL,
    instances INTEGER NOT NULL
);
"""

_COUNTS: Final = """
WITH alive AS (SELECT data_partition, study, series FROM instance WHERE header IS NOT NULL)
SELECT (SELECT count(*) FROM (SELECT DISTINCT data_partition, study FROM alive)),
    (SELECT count(*) FROM (SELECT DISTINCT data_partition, study, series FROM alive)),
    (SELECT count(*) FROM alive), (SELECT count(*) FROM entry)
"""

# With external storage only. Files have numbers of their own, for a delete writes none.
_FILE_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS file (number INTEGER PRIMARY KEY)",
    "CREATE INDEX IF NOT EXISTS entry_by_instance ON entry (instance)",
)

# An entry as it stands now, not as it was when it was new: its instance may have changed since.
_VIEW: Final = """
SELECT entry.sequence, data_partition, file_path, study, series, sop, action, ticks,
       CASE WHEN instance.header IS NULL THEN 'Deleted'
            WHEN instance.current = entry.sequence THEN 'Current'
            ELSE 'Replaced' END,
       {header}
FROM entry JOIN instance ON instance.id = entry.instance
"""

_PAGE_OF_INSTANCES: Final = """
SELECT data_partition, study, series, sop, current, header FROM instance
WHERE (data_partition, study, series, sop) > (?, ?, ?, ?) AND header IS NOT NULL
      AND (? IS NULL OR data_partition = ?)
ORDER BY data_partition, study, series, sop LIMIT 1000
"""


class ArchiveError(Exception):
    """A refused write, of which nothing was kept."""


class AlreadyStored(ArchiveError):  # noqa: N818 - the service's own word for it
    """An instance that is live already: delete it first (failure reason 45070)."""

    code: Final = 45070


class InvalidInstance(ArchiveError):  # noqa: N818 - the service's own word for it
    """A header without valid UIDs of an instance (failure reason 43264)."""

    code: Final = 43264


class NotStored(ArchiveError):  # noqa: N818 - the service's own word for it
    """UIDs under which nothing lives."""


class InstanceKey(NamedTuple):
    """Key of an instance: its data partition and three UIDs."""

    partition: str
    study: str
    series: str
    sop: str


class ArchiveEntry(NamedTuple):
    """A row of the feed as it stands now; `header` is JSON text, or None."""

    sequence: int
    partition: str
    file_path: str | None
    study: str
    series: str
    sop: str
    action: str
    ticks: int
    state: str
    header: str | None


class Instance(NamedTuple):
    """A live instance: its key, the sequence that holds it, and its header as JSON text."""

    key: InstanceKey
    sequence: int
    header_text: str

    @property
    def uids(self) -> tuple[str, ...]:
        """Study, series and instance UID, without padding."""
        return tuple(uid.rstrip(" ") for uid in self.key[1:])

    @property
    def header(self) -> dict[str, Any]:
        """The DICOM JSON of the instance."""
        loaded: dict[str, Any] = json.loads(self.header_text)
        return loaded


class Operation(NamedTuple):
    """A bulk update over HTTP that is done."""

    id: str
    ticks: int
    studies: int
    instances: int


def is_uid(text: object) -> bool:
    """Return True for a UID as the service takes it: 64 digits and dots at most, then spaces."""
    return isinstance(text, str) and _UID.fullmatch(text) is not None


def is_partition(text: str) -> bool:
    """Return True for a name of a data partition as the service takes it."""
    return _PARTITION.fullmatch(text) is not None


def instance_key(header: Mapping[str, Any], partition: str = MICROSOFT_DEFAULT) -> InstanceKey:
    """Return the key in a header; raise InvalidInstance unless it has one."""
    if not is_partition(partition):
        raise InvalidInstance("a data partition has 1 to 64 letters, digits, '.', '-' or '_'")
    return InstanceKey(partition, *(_uid(header, tag) for tag in _UID_TAGS))


def _uid(header: Mapping[str, Any], tag: str) -> str:
    match header.get(tag):
        # Spaces at the end are kept, and do not count (SQL Server compares so): RTRIM above.
        case {"Value": [str(uid)]} if is_uid(uid.rstrip(" ")):
            return uid
    raise InvalidInstance(f"{tag} must hold one UID of at most 64 digits and dots")


def encode(header: Mapping[str, Any]) -> str:
    """Return the header as compact JSON text, its keys ascending, fit for UTF-8."""
    ordered = dict(sorted(header.items()))
    try:
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form; JSON can still carry it as an escape.
        return json.dumps(ordered, separators=(",", ":"), allow_nan=False)
    return text


class Archive:
    """A persistent archive in `directory`, open to several processes and threads at once.

    Every write is one transaction under SQLite's write lock. `at` is the timestamp of its entries
    in ticks. The default is the clock, read under the lock, so that timestamps ascend with
    sequences unless a caller wants them otherwise.

    `external_storage` is the path of a folder of Data Lake storage: entries then have file paths in
    it, and an update gives every entry of its instances a new one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], int] = now_ticks,
        external_storage: str | None = None,
    ) -> None:
        """Open the archive, a new one if there is none; ArchiveError if it has another format."""
        directory.mkdir(0o700, parents=True, exist_ok=True)
        self.path = directory / "archive.sqlite"
        self.clock = clock
        self._external_storage = external_storage
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        with self._writing() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_FORMAT}")
            elif version != _FORMAT:
                raise ArchiveError(
                    f"the archive has format {version}, expected {_FORMAT}: fill a new directory"
                )

    def store(
        self,
        header: Mapping[str, Any],
        *,
        partition: str = MICROSOFT_DEFAULT,
        at: int | None = None,
        file_path: str | None = None,
    ) -> int:
        """Make the instance live, and return the sequence of its Create.

        `file_path` is the path of its file, for an archive of files that lie where they are.
        """
        key = instance_key(header, partition)
        text = encode(header)
        with self._writing() as database:
            identity, is_live = self._row(database, key)
            if is_live:
                raise AlreadyStored("the instance is stored already; delete it first")
            moment = self._moment(at)
            sequence = self._append(database, identity, "Create", moment, file_path)
            database.execute(
                "UPDATE instance SET current = ?, header = ? WHERE id = ?",
                (sequence, text, identity),
            )
            self._write_file(database, identity, sequence)
        return sequence

    def put(
        self,
        header: Mapping[str, Any],
        *,
        key: InstanceKey | None = None,
        actions: Sequence[str] = ("Create",),
        at: int | None = None,
    ) -> list[int]:
        """Make the header live in place of any other; return the sequences, one per action.

        For the possible behaviour of newer services: create twice, delete and create, change a
        header without an entry, or under a key that is not its own. The header belongs to the last
        new entry, else to the entry of the old header.
        """
        text = encode(header)
        with self._writing() as database:
            moment = self._moment(at)
            identity, is_live = self._row(database, key or instance_key(header))
            if not (is_live or actions):
                raise NotStored("nothing live whose header could be changed in silence")
            sequences = [self._append(database, identity, name, moment) for name in actions]
            database.execute(
                "UPDATE instance SET current = coalesce(?, current), header = ? WHERE id = ?",
                (max(sequences, default=None), text, identity),
            )
        return sequences

    def delete(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        partition: str = MICROSOFT_DEFAULT,
        at: int | None = None,
    ) -> list[int]:
        """Delete all that lives under the UIDs: one Delete per instance, all with one timestamp."""
        with self._writing() as database:
            moment = self._moment(at)
            removed = _remove(database, partition, study, series, instance)
            if not removed:
                raise NotStored("nothing live lies under the UIDs")
            return [self._append(database, identity, "Delete", moment) for identity in removed]

    def expire(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        partition: str = MICROSOFT_DEFAULT,
    ) -> int:
        """Remove all that lives under the UIDs without a Delete in the feed; return the number."""
        with self._writing() as database:
            return len(_remove(database, partition, study, series, instance))

    def update(
        self,
        studies: Sequence[str],
        changes: Mapping[str, Any],
        *,
        partition: str = MICROSOFT_DEFAULT,
        at: int | None = None,
    ) -> list[int]:
        """Change every live header of the studies: one Update each, all with one timestamp."""
        with self._writing() as database:
            moment = self._moment(at)
            # A study given twice, or absent, is no reason to refuse the others.
            once = dict.fromkeys(studies)
            rows = [row for study in once for row in _under(database, partition, study)]
            if not rows:
                raise NotStored("nothing live in the studies to update")
            sequences = []
            for identity, text in rows:
                sequence = self._append(database, identity, "Update", moment)
                database.execute(
                    "UPDATE instance SET current = ?, header = ? WHERE id = ?",
                    (sequence, encode({**json.loads(text), **changes}), identity),
                )
                self._write_file(database, identity)
                sequences.append(sequence)
        return sequences

    def skip_sequences(self, count: int) -> None:
        """Leave out `count` sequences, as after rollbacks or a lost identity cache."""
        with self._writing() as database:
            newest = "SELECT seq FROM sqlite_sequence WHERE name = 'entry'"
            (top,) = database.execute(newest).fetchone() or (0,)
            database.execute("DELETE FROM sqlite_sequence WHERE name = 'entry'")
            database.execute("INSERT INTO sqlite_sequence VALUES ('entry', ?)", (top + count,))

    def entries(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        offset: int = 0,
        limit: int = 100,
        header: bool = True,
    ) -> list[ArchiveEntry]:
        """Return a page of the entries with start <= ticks < end, by (ticks, sequence) (v2)."""
        where = (
            "WHERE sequence IN (SELECT sequence FROM entry WHERE ticks >= ? AND ticks < ?"
            " ORDER BY ticks, sequence LIMIT ? OFFSET ?)"
            " ORDER BY ticks, entry.sequence"
        )
        first = -INT64_MAX if start is None else start
        last = INT64_MAX if end is None else end
        return self._read(where, (first, last, limit, offset), header=header)

    def entries_by_sequence(
        self, *, after: int = 0, width: int = 10, header: bool = True
    ) -> list[ArchiveEntry]:
        """Return the entries with after < sequence <= after + width, by sequence (v1)."""
        where = "WHERE sequence > ? AND sequence <= ? ORDER BY sequence"
        last = min(after + width, INT64_MAX)
        return self._read(where, (after, last), header=header)

    def latest(self, *, by_sequence: bool = False, header: bool = True) -> ArchiveEntry | None:
        """Return the newest entry: the greatest (ticks, sequence), for v1 the greatest sequence."""
        order = "sequence DESC" if by_sequence else "ticks DESC, sequence DESC"
        where = f"WHERE sequence = (SELECT sequence FROM entry ORDER BY {order} LIMIT 1)"  # noqa: S608 - no values
        return next(iter(self._read(where, (), header=header)), None)

    def headers(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        partition: str = MICROSOFT_DEFAULT,
    ) -> list[str]:
        """Return the live headers under the UIDs as JSON texts, in the order they were stored."""
        with self._connection() as database:
            return [row[1] for row in _under(database, partition, study, series, instance)]

    def current(self, key: InstanceKey) -> ArchiveEntry | None:
        """Return the entry that holds a live instance, None if it is not live."""
        where = (
            "WHERE instance.current = entry.sequence AND data_partition = ? AND study = ?"
            " AND series = ? AND sop = ?"
        )
        return next(iter(self._read(where, key, header=True)), None)

    def since(self, sequence: int) -> list[ArchiveEntry]:
        """Return all entries from a sequence on, without headers."""
        return self._read("WHERE sequence >= ? ORDER BY sequence", (sequence,), header=False)

    def partitions(self) -> list[str]:
        """Return the data partitions in which something was ever stored, and the default one."""
        rows = self._ask("SELECT DISTINCT data_partition FROM instance", ())
        return sorted({MICROSOFT_DEFAULT, *(name for (name,) in rows)})

    def counts(self) -> tuple[int, int, int, int]:
        """Return how many studies, series and instances are alive, and the number of entries."""
        ((studies, series, instances, entries),) = self._ask(_COUNTS)
        return studies, series, instances, entries

    def instances(self, partition: str | None = None) -> Iterator[Instance]:
        """Yield the live instances of one data partition or of all, by key without padding."""
        last = InstanceKey(partition or "", "", "", "")
        # A page at a time: the archive may be written to between two of them.
        while rows := self._ask(_PAGE_OF_INSTANCES, (*last, partition, partition)):
            for *key, sequence, text in rows:
                last = InstanceKey(*(part.rstrip(" ") for part in key))
                yield Instance(last, sequence, text)

    def remember(self, operation: Operation) -> None:
        """Keep the operation, for every process that opens the archive."""
        with self._writing() as database:
            database.execute("INSERT INTO operation VALUES (?, ?, ?, ?)", operation)

    def operation(self, identifier: str) -> Operation | None:
        """Return the operation of that id, None if there was none."""
        rows = self._ask("SELECT * FROM operation WHERE id = ?", (identifier,))
        return next((Operation(*row) for row in rows), None)

    def close(self) -> None:
        """Close every connection of this object; the directory may be opened again."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one use; as many exist as were ever in use at once."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            # close() may come from another thread than the one that opened.
            connection = sqlite3.connect(
                self.path, timeout=60, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA journal_mode = WAL")
            # In WAL mode NORMAL may lose the last commits in a power cut, and never corrupts.
            connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield connection
        finally:
            with self._lock:
                self._idle.append(connection)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Commit all that happens inside, or roll it back."""
        with self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            finally:
                # A full disk has rolled back by itself.
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def _ask(self, query: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._connection() as database:
            return database.execute(query, tuple(values)).fetchall()

    def _moment(self, at: int | None) -> int:
        return self.clock() if at is None else at

    def _read(
        self, where: str, values: tuple[int | str, ...], *, header: bool
    ) -> list[ArchiveEntry]:
        view = _VIEW.format(header="instance.header" if header else "NULL")
        return [ArchiveEntry(*row) for row in self._ask(view + where, values)]

    def _row(self, database: sqlite3.Connection, key: InstanceKey) -> tuple[int, bool]:
        """Return the row of a key, new if there is none, and True if the instance is live."""
        row = database.execute(
            "SELECT id, header IS NOT NULL FROM instance"
            " WHERE data_partition = ? AND study = ? AND series = ? AND sop = ?",
            key,
        ).fetchone()
        if row is None:
            insert = "INSERT INTO instance (data_partition, study, series, sop) VALUES (?, ?, ?, ?)"
            return _row_id(database.execute(insert, key)), False
        return int(row[0]), bool(row[1])

    def _append(
        self,
        database: sqlite3.Connection,
        identity: int,
        action: str,
        moment: int,
        file_path: str | None = None,
    ) -> int:
        insert = "INSERT INTO entry (instance, action, ticks, file_path) VALUES (?, ?, ?, ?)"
        return _row_id(database.execute(insert, (identity, action, moment, file_path)))

    def _write_file(
        self, database: sqlite3.Connection, identity: int, sequence: int | None = None
    ) -> None:
        """Set the path of a new file on the entry, by default on every entry of the instance."""
        if self._external_storage is None:
            return
        for statement in _FILE_SCHEMA:
            database.execute(statement)
        number = _row_id(database.execute("INSERT INTO file DEFAULT VALUES"))
        named = "SELECT data_partition FROM instance WHERE id = ?"
        (partition,) = database.execute(named, (identity,)).fetchone()
        path = f"{self._external_storage}/{partition}/{number}_{crc32(b'%d' % number):08x}.dcm"
        column, value = ("instance", identity) if sequence is None else ("sequence", sequence)
        database.execute(f"UPDATE entry SET file_path = ? WHERE {column} = ?", (path, value))  # noqa: S608 - one of two columns


def _row_id(cursor: sqlite3.Cursor) -> int:
    return int(cursor.lastrowid or 0)


def _under(database: sqlite3.Connection, *levels: str | None) -> list[tuple[int, str]]:
    """Return the live instances under a data partition and UIDs, (id, header), by first store."""
    columns = zip(("data_partition", "study", "series", "sop"), levels, strict=False)
    given = {column: value for column, value in columns if value is not None}
    where = " AND ".join(f"{column} = ?" for column in given)
    return database.execute(
        f"SELECT id, header FROM instance WHERE {where} AND header IS NOT NULL ORDER BY id",  # noqa: S608
        list(given.values()),
    ).fetchall()


def _remove(database: sqlite3.Connection, *levels: str | None) -> list[int]:
    """Remove the live headers under a data partition and UIDs, and return their rows."""
    rows = [(identity,) for identity, _ in _under(database, *levels)]
    database.executemany("UPDATE instance SET current = NULL, header = NULL WHERE id = ?", rows)
    return [identity for (identity,) in rows]
