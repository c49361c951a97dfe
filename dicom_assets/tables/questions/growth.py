"""Growth of the tables: their live bytes, files and Delta logs, and the room left on the disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dicom_assets.tables.delta.arrow import pc
from dicom_assets.tables.delta.folder import Folder
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.delta.table_errors import raise_table_errors

SMALL_BYTES = 8 << 20


@dataclass(frozen=True)
class TableSize:
    """The size of one table: its live `bytes` and `files`, and numbers of its Delta log.

    `small_files` have less than SMALL_BYTES. `log_entries` are the commits that the log still
    holds, `unchecked` the versions since its newest checkpoint.
    """

    bytes: int
    files: int
    small_files: int
    log_entries: int
    unchecked: int


def sizes(store: Store) -> dict[str, TableSize]:
    """Return the size of each table that exists, by name."""
    found = dict[str, TableSize]()
    for snapshot in (store.open(table) for table in store.tables.values()):
        if snapshot.delta is None:
            continue
        with raise_table_errors(snapshot.table, snapshot.url):
            live = pa.table(snapshot.delta.get_add_actions())["size_bytes"]
        log = Folder.of(store, snapshot.table).log()
        found[snapshot.table.name] = TableSize(
            bytes=pc.sum(live, min_count=0).as_py(),
            files=len(live),
            small_files=pc.sum(pc.less(live, SMALL_BYTES), min_count=0).as_py(),
            log_entries=len(log.commits),
            unchecked=snapshot.version - max(log.checkpoints, default=-1),
        )
    return found


def free_bytes(store: Store) -> int | None:
    """Return the free bytes where the tables lie, None when that is no local disk."""
    paths = [Path(url) for url in store.urls.values() if "://" not in url]
    return min((room(path) for path in paths), default=None)


def room(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist yet."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(existing).free
