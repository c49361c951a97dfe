"""Probes of the storage at DICOM_TABLES_URL: the root, access to it, each table.

A file is written, listed, read and deleted in a folder of its own below the root. A root that is
not there yet is made for it and removed again. All else is only read. A storage's answer is printed
as its meaning and a remedy, never in its own words, which may quote addresses.
"""

import errno
import os
import re
import shlex
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler

from dicom_assets.commands.check.probe import Finding, Probe, explained, ok, red, unseen, warn
from dicom_assets.errors import TableError, TableUnavailableError
from dicom_assets.feed.client import utc_now
from dicom_assets.schema import SYNC, Table
from dicom_assets.settings import grants
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.folder import LOG, Folder
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.conformity import deviations
from dicom_assets.tables.questions.growth import room
from dicom_assets.tables.sync import assumed_hours
from dicom_assets.tables.upkeep.damage import require_data, require_whole_log

STORAGE_GROUP: Final = "storage"
# Readers of the lake ignore names that begin with _, and no table has such a path by default.
FOLDER: Final = "_dicom_assets_check"
NOT_THERE: Final = "not there yet: the first run creates it"
_CONTENT: Final = pa.table({"dicom-assets": ["check wrote this, and may delete it"]})
# A storage that does not answer is red in seconds; runs retry for minutes.
_QUICK = {"max_retries": "1", "retry_timeout": "10s", "timeout": "15s", "connect_timeout": "5s"}
# For so long is it said that data partitions of earlier hours are assumed.
_ASSUMED_FOR: Final = timedelta(days=30)
_REFUSALS: Final = (OSError, DeltaError, pa.ArrowException)
_CONTRIBUTOR: Final = "give the identity the role `Storage Blob Data Contributor` on the container"
# The meaning of a network storage's refusal, by words and numbers in the engine's message. The
# last stands for all others.
_MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    r"token request": (
        "no token was given for the storage",
        "give the process an identity that the engine can find (docs/operate/identity.md)",
    ),
    r"invalid peer certificate": (
        "the certificate is not trusted",
        "name a PEM file in SSL_CERT_FILE that holds the authorities, your own or the proxy's too",
    ),
    r"ContainerNotFound|FilesystemNotFound|status code\W+404": (
        "the container is not there",
        "make the container (`az storage container create`), or correct DICOM_TABLES_URL",
    ),
    r"AuthorizationFailure": (
        "the storage lets nobody in from here",
        f"open its firewall to this network, or use its private endpoint; else {_CONTRIBUTOR}",
    ),
    r"status code\W+403": ("the identity may not do it (403)", _CONTRIBUTOR),
    r"status code\W+401": (
        "the storage does not take the identity (401)",
        "sign in to the tenant of the storage; a key or SAS has to be valid and of this account",
    ),
    r"Immutable|status code\W+409": (
        "the storage does not let files change (409)",
        "take the immutability policy from the container: tables need to delete what they replace",
    ),
    r"dns error": (
        "the account's name cannot be resolved",
        "is the account in DICOM_TABLES_URL spelled right, and the network open to it?",
    ),
    r"": (
        "the storage does not answer as one",
        "is DICOM_TABLES_URL right, and the network open to the storage?",
    ),
}
_NOT_ALLOWED: Final = (
    "this user may not write there",
    "give the user who runs Dagster the right to write there, or choose another root",
)
_ON_DISK: Final = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.ENOENT), _NOT_ALLOWED),
    errno.EROFS: ("the disk is read-only", "mount it for writing, or choose another root"),
    errno.ENOSPC: ("no space is left", "make room, or choose another root"),
}


@dataclass(frozen=True)
class StorageProbe:
    """The probes of one root of tables; less than `least_bytes` free on a disk is a warning."""

    root: str
    store: Store
    least_bytes: int

    def probes(self) -> list[Probe]:
        """Return the probes, in the order in which one needs the other."""
        names = tuple(table.name for table in TABLES)
        tables = [Probe(STORAGE_GROUP, t.name, partial(self.table, t), ("root",)) for t in TABLES]
        return [
            Probe(STORAGE_GROUP, "root", self.reach),
            Probe(STORAGE_GROUP, "access", self.access, ("root",)),
            Probe(STORAGE_GROUP, "room", self.room, ("access",)),
            *tables,
            Probe(STORAGE_GROUP, "schema", self.schema, names),
            Probe(STORAGE_GROUP, "data partitions", self.partitions, (SYNC.name,)),
        ]

    @cached_property
    def _quick(self) -> Store:
        return replace(self.store, options={**self.store.options, **_QUICK})

    @cached_property
    def _path(self) -> Path | None:
        """The root on a disk of this machine, None when it is a container."""
        return None if "://" in self.root else Path(self.root)

    def reach(self) -> Finding:
        """Red unless the root is there, or can be made."""
        if self._path is not None:
            nearest = next(p for p in (self._path, *self._path.parents) if p.exists())
            if not nearest.is_dir():
                return red("a file lies where the root's folder should be", "choose another root")
            if nearest == self._path:
                return self._mode()
            return ok("not there yet; the first run makes it")
        try:
            _listed(self._storage())
        except _REFUSALS as error:
            return red(*_meaning(error))
        return ok("the container answers")

    def _mode(self) -> Finding:
        """Warn when a folder with tables lets others in; on Windows its mode does not say."""
        is_filled = any(Path(url).exists() for url in self.store.urls.values())
        if os.name == "nt" or not (is_filled and grants(self.root, 0o077)):
            return ok("the folder is there")
        return warn(
            "the folder lets other users of this machine in",
            f"`chmod -R go= {shlex.quote(self.root)}`, unless you share the tables",
        )

    def access(self) -> Finding:
        """Red unless a file can be written, listed, read and deleted."""
        name, step = f"{FOLDER}/{uuid.uuid4()}", "written"
        try:
            with _root_made(self._path):
                storage = self._storage()
                # Parquet, as tables are written: the engine's own stream takes no plain bytes.
                pq.write_table(_CONTENT, name, filesystem=storage)
                step = "listed"
                if name not in _listed(storage):
                    raise OSError("what was written is not listed")
                step = "read"
                if not pq.read_table(name, filesystem=storage).equals(_CONTENT):
                    raise OSError("what was written reads differently")
                step = "deleted"
                storage.delete_file(name)
        except _REFUSALS as error:
            reason, remedy = _meaning(error)
            return red(f"a file cannot be {step}: {reason}", remedy)
        return ok("a file was written, listed, read, deleted")

    def _storage(self) -> pyarrow.fs.PyFileSystem:
        return pyarrow.fs.PyFileSystem(DeltaStorageHandler(self.root, dict(self._quick.options)))

    def room(self) -> Finding:
        """Warn when the disk is nearly full."""
        if self._path is None:
            return unseen("a container has no end")
        free = room(self._path)
        facts = f"{free / 1024**3:,.1f} GiB are free"
        if free < self.least_bytes:
            return warn(facts, "make room: a table is written once more before old files go")
        return ok(facts)

    def table(self, table: Table) -> Finding:
        """Red when the table is not this project's, or lacks files; unseen when it is absent."""
        place = f"{self._quick.urls[table.name]}/{LOG}"
        try:
            folder = Folder.of(self._quick, table)
            # Before the engine opens it, whose error does not tell damage from a refusal.
            require_whole_log(folder)
            snapshot = self._quick.open(table)
            if snapshot.delta is None:
                return self._absent(table)
            require_data(snapshot, folder.data())
            files = len(data_files(snapshot))
            return ok(f"version {snapshot.version}, rows {snapshot.count():,}, files {files:,}")
        except TableUnavailableError:
            return red(
                "the root can be read, and this table cannot",
                f"may this identity read {place}, and is every file in it whole? Else see "
                "docs/operate/repair.md",
            )
        except TableError as error:
            return explained(error, f"what {place} holds is no table of this project: move it away")

    def _absent(self, table: Table) -> Finding:
        """Return what it means that a table is not there: with hours in `sync` it may be a loss."""
        sync = self._quick.open(SYNC)
        if sync.delta is None or table.name == SYNC.name:
            return unseen(NOT_THERE)
        if not table.mark:
            return ok("not there: no entry was ever rejected")
        is_known = table.mark in sync.column_names
        followed = pc.count(sync.rows([table.mark])[table.mark]).as_py() if is_known else 0
        if not followed:
            return unseen(NOT_THERE)
        return warn(
            f"not there, though `sync` says that it shows {followed:,} hours",
            f"when {table.name} ever had a row, it was removed: see docs/operate/repair.md",
        )

    def schema(self) -> Finding:
        """Warn when the tables' columns, features or properties are not those of this version."""
        try:
            if all(self._quick.open(table).delta is None for table in TABLES):
                return unseen(NOT_THERE)
            by_table = deviations(self._quick)
        except TableError as error:
            return explained(error, "see the lines of the tables above, then look again")
        if by_table:
            facts = "; ".join(f"{name}: {', '.join(those)}" for name, those in by_table.items())
            return warn(facts, "what the check `schema` says in docs/reference/checks.md")
        return ok("columns, features and properties are as this version makes them")

    def partitions(self) -> Finding:
        """Warn of hours whose data partitions are assumed, for a month after an upgrade."""
        try:
            sync = self._quick.open(SYNC)
            assumed, since = assumed_hours(sync)
        except TableError as error:
            return explained(error, "see the line of `sync` above, then look again")
        facts = (
            f"{assumed:,} hours were read by a release that did not note the data partitions; they "
            "count as read with those that DICOM_DATA_PARTITIONS named at the first run since"
        )
        if assumed and (since is None or utc_now() - since < _ASSUMED_FOR):
            return warn(facts, "if it was widened or unset before: docs/operate/first-load.md")
        return ok(facts if assumed else "each hour says with which ones it was read")


def _listed(storage: pyarrow.fs.PyFileSystem) -> list[str]:
    selector = pyarrow.fs.FileSelector(FOLDER, allow_not_found=True)
    return [file.path for file in storage.get_file_info(selector)]


@contextmanager
def _root_made(path: Path | None) -> Iterator[None]:
    """Make the root's folder while the block runs; afterwards remove the folders that were made."""
    missing = [] if path is None else [p for p in (path, *path.parents) if not p.exists()]
    created: list[Path] = []
    try:
        for folder in reversed(missing):
            folder.mkdir(0o700)
            created.append(folder)
        yield
    finally:
        emptied = [] if path is None else [path / FOLDER, *reversed(created)]
        for folder in emptied:
            with suppress(OSError):  # another process has written there in the meantime
                folder.rmdir()


def _meaning(error: Exception) -> tuple[str, str]:
    """Return the meaning of the storage's refusal, and a remedy."""
    text = re.sub(r"\x1b\[\d*m|\s+", " ", str(error))
    match = re.search(r"\(os error (\d+)\)", text)
    number = getattr(error, "errno", None) or (match and int(match[1]))
    if number in _ON_DISK:
        return _ON_DISK[number]
    return next(meaning for pattern, meaning in _MEANINGS.items() if re.search(pattern, text))
