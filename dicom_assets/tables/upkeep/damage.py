"""Damage of a table: gaps and cuts in its log since the last checkpoint, lost or cut data files.

Some damage makes every read fail with an error of the engine that names no remedy. Some loses rows
without an error, such as a last commit that is empty after a power failure. Here each raises
DamagedTableError, and docs/operate/repair.md has the remedies. `maintenance` checks every night,
before it removes anything. A run that fails looks for a damage that explains it (`named_damage`). A
table whose log is gone altogether is found by `tables.sync`.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from dicom_assets.errors import (
    ConflictError,
    DamagedTableError,
    TableError,
    TableUnavailableError,
)
from dicom_assets.tables.delta.commit import NOTE
from dicom_assets.tables.delta.files import DataFile, data_files, is_decodable
from dicom_assets.tables.delta.folder import HINT, PARQUET_ERRORS, Folder, Log, Stored
from dicom_assets.tables.delta.snapshot import Snapshot, Store

# The most data files that are decoded at once: in a night for a table, or after a failure.
DECODED_FILES: Final = 200
DECODED_SECONDS: Final = 60.0
# By action where a commit counts its own actions: in our note, or in metrics of append and merge.
_COUNTED: Final = {
    "add": ("added", "num_added_files", "num_target_files_added"),
    "remove": ("removed", "num_removed_files", "num_target_files_removed"),
}


def require_whole_log(folder: Folder) -> None:
    """Raise DamagedTableError unless the log is whole from its newest checkpoint to its end.

    Entries before that checkpoint are not needed and not checked. A loss of all the newest commits
    cannot be detected here: `questions.seals` detects it for `change`.
    """
    log = folder.log()
    begin = _require_checkpoint(folder, log)
    for version in range(begin, max(log.commits, default=-1) + 1):
        if version not in log.commits:
            raise _damaged(folder, f"commit {version} is missing")
        _require_commit(folder, version, log.commits[version])


def _require_checkpoint(folder: Folder, log: Log) -> int:
    """Return the first version whose commit is needed. Raise unless the checkpoint is whole."""
    hinted = _hinted_version(folder, log)
    if hinted is not None and hinted not in log.checkpoints:
        raise _damaged(folder, f"its hint names checkpoint {hinted}, which is not there")
    newest = log.newest_checkpoint
    if newest is None:
        return 0
    for part in log.checkpoints[newest]:
        if part.path.endswith(".json"):
            continue
        try:
            with folder.parquet(part.path) as opened:
                rows = opened.metadata.num_rows
        except PARQUET_ERRORS:
            rows = 0
        if not rows:
            raise _damaged(folder, f"checkpoint {newest} is cut or empty")
    return newest + 1


def _hinted_version(folder: Folder, log: Log) -> int | None:
    if HINT not in log.files:
        return None
    try:
        hint = json.loads(folder.read(HINT))
    except ValueError:
        return None  # readers ignore a cut hint, and the next checkpoint writes it again
    version = hint.get("version") if isinstance(hint, dict) else None
    return version if isinstance(version, int) else None


def _require_commit(folder: Folder, version: int, file: Stored) -> None:
    try:
        actions = folder.actions(file)
    except ValueError:
        raise _damaged(folder, f"commit {version} is cut") from None
    if not actions:
        raise _damaged(folder, f"commit {version} is empty")
    infos = [action["commitInfo"] for action in actions if "commitInfo" in action]
    info = infos[0] if infos else {}
    metrics = json.loads(info.get(NOTE, "{}")) | (info.get("operationMetrics") or {})
    for kind, names in _COUNTED.items():
        counts = [metrics[name] for name in names if name in metrics]
        if counts and sum(kind in action for action in actions) < int(counts[0]):
            raise _damaged(folder, f"commit {version} lacks files that it counts")


def require_data(snapshot: Snapshot, stored: Mapping[str, Stored]) -> None:
    """Raise DamagedTableError unless every data file of the version has the size in the log.

    `stored` are the files of the folder, listed after the version was opened.
    """
    folder = Folder(snapshot.table, snapshot.url, snapshot.options)
    files = data_files(snapshot)
    if lost := [file for file in files if file.path not in stored]:
        raise _damaged(folder, f"{len(lost)} of its data files are missing")
    if cut := [file for file in files if stored[file.path].size < file.size]:
        raise _damaged(folder, f"{len(cut)} of its data files are cut ({_names(cut)})")


def require_rows(snapshot: Snapshot, files: Iterable[DataFile], until: float) -> int:
    """Raise DamagedTableError unless the rows of data files can be decoded.

    Return how many files were decoded until the moment of the monotonic clock.
    """
    count = 0
    for file in files:
        if time.monotonic() > until:
            break
        if not is_decodable(snapshot, file):
            folder = Folder(snapshot.table, snapshot.url, snapshot.options)
            raise _damaged(folder, f"a data file cannot be decoded ({_names([file])})")
        count += 1
    return count


@contextmanager
def named_damage(store: Store) -> Iterator[None]:
    """Raise DamagedTableError in place of an error that the damage of a table explains.

    A reader of a damaged table gets an error of the storage. A writer after a commit that is empty
    conflicts with it for ever.
    """
    try:
        yield
    except (TableUnavailableError, ConflictError) as error:
        raise _damage_behind(store, error) or error from None


def _damage_behind(store: Store, error: TableError) -> DamagedTableError | None:
    until = time.monotonic() + DECODED_SECONDS
    for table in store.tables.values():
        try:
            folder = Folder.of(store, table)
            require_whole_log(folder)
            snapshot = store.open(table)
            require_data(snapshot, folder.data())
            if isinstance(error, TableUnavailableError):
                require_rows(snapshot, data_files(snapshot)[: -DECODED_FILES - 1 : -1], until)
        except DamagedTableError as damage:
            return damage
        except TableError:
            continue
    return None


def _names(files: Iterable[DataFile]) -> str:
    return ", ".join(file.path.rpartition("/")[2] for file in files)


def _damaged(folder: Folder, what: str) -> DamagedTableError:
    return DamagedTableError(
        f"table {folder.table.name} at {folder.url} is damaged: {what}. Nothing was changed. The "
        "remedies are in docs/operate/repair.md"
    )
