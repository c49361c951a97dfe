"""Damage of a table: gaps and cuts in its log since the last checkpoint, lost or cut data files.

Some damage makes every read fail with an error of the engine that names no remedy. Some loses rows
without an error, such as a last commit that is empty after a power failure. Here each raises
DamagedTableError, and docs/operate/repair.md has the remedies. `maintenance` checks every night,
before it removes anything.
"""

import json
from collections.abc import Mapping
from typing import Final

from dicom_assets.errors import DamagedTableError
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.folder import HINT, PARQUET_ERRORS, Folder, Log, Stored
from dicom_assets.tables.delta.snapshot import Snapshot

# By action the metrics in which a commit counts its own actions, for append and merge.
_COUNTED: Final = {
    "add": ("num_added_files", "num_target_files_added"),
    "remove": ("num_removed_files", "num_target_files_removed"),
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
        actions = [json.loads(line) for line in folder.read(file.path).splitlines() if line]
    except ValueError:
        raise _damaged(folder, f"commit {version} is cut") from None
    if not actions:
        raise _damaged(folder, f"commit {version} is empty")
    infos = [action["commitInfo"] for action in actions if "commitInfo" in action]
    metrics = infos[0].get("operationMetrics") or {} if infos else {}
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
        raise _damaged(folder, f"{len(cut)} of its data files are cut")


def _damaged(folder: Folder, what: str) -> DamagedTableError:
    return DamagedTableError(
        f"table {folder.table.name} at {folder.url} is damaged: {what}. Nothing was changed. The "
        "remedies are in docs/operate/repair.md"
    )
