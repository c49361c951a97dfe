"""How many commits came too late and had to be derived again: what the Delta logs tell of it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.snapshot import CONFLICTS, NOTE, Border, Store

# Of each table so many commits are looked at: an hour makes ten in all, `sync` four of them.
MOST_COMMITS = 200


@dataclass(frozen=True)
class Conflicts:
    """Commits of ours since a moment, and how often another was first, in all and by table."""

    commits: int
    conflicts: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Which part of the attempts to commit came too late, from 0 to 1."""
        lost = self.conflicts.total()
        return lost / (self.commits + lost) if lost else 0.0


def look(store: Store, since: datetime) -> Conflicts:
    """Return what the newest commits of all tables say of those that were made since a moment."""
    commits, lost = 0, Counter[str]()
    for table in TABLES:
        snapshot = store.open(table)
        if snapshot.delta is None:
            continue
        with Border(table, snapshot.url):
            history = snapshot.delta.history(MOST_COMMITS)
        notes = [
            json.loads(commit[NOTE])
            for commit in history
            if NOTE in commit and commit["timestamp"] >= since.timestamp() * 1000
        ]
        commits += len(notes)
        lost[table.name] += sum(note.get(CONFLICTS, 0) for note in notes)
    return Conflicts(commits, lost)
