"""Conflicts between runs: commits derived again, as counted in the notes of the Delta logs."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from dicom_assets.tables.delta.commit import CONFLICTS, NOTE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.delta.table_errors import raise_table_errors

# The newest commits read per table: an hour makes ten in all tables, `sync` four of them.
MOST_COMMITS = 200


@dataclass(frozen=True)
class Conflicts:
    """Numbers of our commits in all, and of conflicts by table."""

    commits: int
    conflicts: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """The part of the attempts to commit that conflicted, from 0 to 1."""
        lost = self.conflicts.total()
        return lost / (self.commits + lost) if lost else 0.0


def conflicts_since(store: Store, since: datetime) -> Conflicts:
    """Return the conflicts of the commits since a moment, of MOST_COMMITS per table at most."""
    commits, lost = 0, Counter[str]()
    for table in store.tables.values():
        snapshot = store.open(table)
        if snapshot.delta is None:
            continue
        with raise_table_errors(table, snapshot.url):
            history = snapshot.delta.history(MOST_COMMITS)
        notes = [
            json.loads(commit[NOTE])
            for commit in history
            if NOTE in commit and commit["timestamp"] >= since.timestamp() * 1000
        ]
        commits += len(notes)
        lost[table.name] += sum(note.get(CONFLICTS, 0) for note in notes)
    return Conflicts(commits, lost)
