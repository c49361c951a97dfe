"""Commits in the log of a table that are not ours: without our note, and with other data.

Compaction, vacuum, properties and metadata of columns change no data, whoever commits them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from dicom_assets.tables.delta.commit import NOTE
from dicom_assets.tables.delta.files import DataFile, stored_path
from dicom_assets.tables.delta.folder import Folder, Log
from dicom_assets.tables.delta.snapshot import Snapshot

# Properties of a table: the last repair (`repaired_at`), and the version before it was taken over.
REPAIRED: Final = "dicom_assets.repaired"
TAKEN_OVER_AT: Final = "dicom_assets.versionBefore"
# Names of operations are the engine's own. Another text may hold anything.
_OPERATION: Final = re.compile(r"[A-Z][A-Z ]*")


@dataclass(frozen=True)
class ForeignCommit:
    """A commit of another program that added or removed data files."""

    version: int
    operation: str
    at: datetime | None
    added: tuple[DataFile, ...]
    removed: tuple[DataFile, ...]

    def __str__(self) -> str:
        """Return the commit in words, without a value."""
        when = "" if self.at is None else f" of {self.at:%Y-%m-%d %H:%M}"
        counts = f"{len(self.added)} files added, {len(self.removed)} removed"
        return f"version {self.version} ({self.operation}{when}, {counts})"


def foreign_commits(folder: Folder, log: Log, after: int) -> Iterator[ForeignCommit]:
    """Yield the foreign commits of the log after a version, the oldest first."""
    for version in sorted(version for version in log.commits if version > after):
        try:
            actions = folder.actions(log.commits[version])
        except ValueError:
            continue  # the nightly maintenance names this damage
        info: Mapping[str, Any] = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        added, removed = (
            tuple(
                DataFile(
                    stored_path(file["path"]),
                    file.get("partitionValues") or {},
                    file.get("size") or 0,
                    rows=None,
                )
                for action in actions
                if (file := action.get(kind)) and file.get("dataChange", True)
            )
            for kind in ("add", "remove")
        )
        if NOTE not in info and (added or removed):
            operation, when = str(info.get("operation")), info.get("timestamp")
            yield ForeignCommit(
                version,
                operation if _OPERATION.fullmatch(operation) else "an unnamed operation",
                datetime.fromtimestamp(when / 1_000, UTC) if isinstance(when, int) else None,
                added,
                removed,
            )


def repaired_at(moment: datetime, version: int) -> str:
    """Return the value of the property REPAIRED. A later repair has a greater value."""
    return f"{moment.isoformat()} {version}"


def known_until(snapshot: Snapshot) -> int:
    """Return the version up to which commits were repaired or taken over, -1 when none was."""
    repaired = (snapshot.property(REPAIRED) or "").rpartition(" ")[2]
    return max(int(version or -1) for version in (repaired, snapshot.property(TAKEN_OVER_AT)))
