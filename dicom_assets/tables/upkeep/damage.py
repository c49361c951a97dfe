"""Whether a table is whole: every commit of its log since the last checkpoint, every data file.

Some damage ends every read with an error of the engine that names no remedy; some loses rows in
silence, as a last commit that is empty after the power went. Here each has a sentence, and
docs/repair.md the remedy. `maintenance` looks every night, before it removes anything.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dicom_assets.errors import DamagedTableError
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.folder import HINT, UNREADABLE, Folder, Log, Stored
from dicom_assets.tables.delta.snapshot import Snapshot

# What a commit says of itself, by the action that it counts.
_COUNTED: Final = {
    "add": ("num_added_files", "num_target_files_added"),
    "remove": ("num_removed_files", "num_target_files_removed"),
}


def require_whole_log(folder: Folder) -> None:
    """The log can be read from its newest checkpoint to its end, and nothing in it is cut.

    Raises DamagedTableError. What lies before the newest checkpoint is not needed, and not looked
    at; that the newest commits are gone altogether cannot be seen.
    """
    log = folder.log()
    begin = _require_checkpoint(folder, log)
    for version in range(begin, max(log.commits, default=-1) + 1):
        if version not in log.commits:
            raise _damaged(folder, f"commit {version} is missing")
        _require_commit(folder, version, log.commits[version])


def _require_checkpoint(folder: Folder, log: Log) -> int:
    """Return the first version whose commit is needed: that after the newest checkpoint."""
    hinted = _hinted(folder, log)
    if hinted is not None and hinted not in log.checkpoints:
        raise _damaged(folder, f"its hint names checkpoint {hinted}, which is not there")
    newest = log.newest_checkpoint
    if newest is None:
        return 0
    for part in log.checkpoints[newest]:
        _require_parquet(folder, newest, part)
    return newest + 1


def _hinted(folder: Folder, log: Log) -> int | None:
    if HINT not in log.files:
        return None
    try:
        said = json.loads(folder.read(HINT))
    except ValueError:
        return None  # readers pass over a hint that is cut, and the next checkpoint renews it
    version = said.get("version") if isinstance(said, dict) else None
    return version if isinstance(version, int) else None


def _require_parquet(folder: Folder, version: int, part: Stored) -> None:
    if part.path.endswith(".json"):
        return
    try:
        with folder.parquet(part.path) as opened:
            whole = opened.metadata.num_rows > 0
    except UNREADABLE:
        whole = False
    if not whole:
        raise _damaged(folder, f"checkpoint {version} is cut or empty")


def _require_commit(folder: Folder, version: int, file: Stored) -> None:
    try:
        actions = [json.loads(line) for line in folder.read(file.path).splitlines() if line]
    except ValueError:
        raise _damaged(folder, f"commit {version} is cut") from None
    if not actions:
        raise _damaged(folder, f"commit {version} is empty")
    if not all(_has_as_many(actions, kind) for kind in _COUNTED):
        raise _damaged(folder, f"commit {version} lacks files that it counts")


def _has_as_many(actions: Sequence[Mapping[str, Any]], kind: str) -> bool:
    """Whether there are as many actions of a kind as the commit says, if it says it."""
    infos = [action["commitInfo"] for action in actions if "commitInfo" in action]
    metrics = infos[0].get("operationMetrics") or {} if infos else {}
    told = [metrics[name] for name in _COUNTED[kind] if name in metrics]
    return not told or sum(kind in action for action in actions) >= int(told[0])


def require_data(snapshot: Snapshot, stored: Mapping[str, Stored]) -> None:
    """Every data file of the version is there, in the size that the log tells.

    `stored` are the files of the folder, listed after the version was opened.
    Raises DamagedTableError.
    """
    folder = Folder(snapshot.table, snapshot.url, snapshot.options)
    files = data_files(snapshot)
    if lost := [file for file in files if file.path not in stored]:
        raise _damaged(folder, f"{len(lost)} of its data files are missing")
    if cut := [file for file in files if stored[file.path].size < file.size]:
        raise _damaged(folder, f"{len(cut)} of its data files are cut")


def _damaged(folder: Folder, what: str) -> DamagedTableError:
    return DamagedTableError(
        f"table {folder.table.name} at {folder.url} is damaged: {what}. Nothing was changed. What "
        "to do is in docs/repair.md"
    )
