"""The oracle: what the tables must hold, replayed in plain Python from what the archive was told.

Here: the archive's rules, what each write does to an instance and to the feed, written from the
specification. Nothing of the project is imported, nor Arrow, nor pydicom, so that a fault on either
side shows. What the columns show is in `expected`, how histories come about in `histories`, how the
tables are read and compared in `world`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dicom_assets_tests.property.expected import INSTANCE, KEY, Column, Header, Row, shown

TICKS_PER_HOUR = 36_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Key(NamedTuple):
    """What names an instance."""

    partition: str
    study: str
    series: str
    sop: str


class Entry(NamedTuple):
    """A row of the feed, without what it would show of the instance."""

    sequence: int
    ticks: int
    key: Key
    action: str


class Span(NamedTuple):
    """What the tables were brought to: a half-open span of ticks, and the data partitions kept."""

    start: int
    end: int
    partitions: frozenset[str] | None = None

    def holds(self, entry: Entry) -> bool:
        """Whether the entry is one of those that had to be read."""
        kept = self.partitions is None or entry.key.partition in self.partitions
        return kept and self.start <= entry.ticks < self.end


def moment_of(ticks: int) -> datetime:
    """The moment of a tick, cut to the microsecond."""
    return EPOCH + timedelta(microseconds=ticks // 10)


def served(header: Header) -> str:
    """The header as the service writes it: compact, its keys ascending."""
    ordered = {tag: header[tag] for tag in sorted(header)}
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))


@dataclass
class Replay:
    """The archive, replayed: `entries` is the feed, `headers` what lives, `current` who holds it.

    A write is told the sequences that the archive gave to it. `columns` are those that rows of
    `instance` show of headers.
    """

    entries: list[Entry] = field(default_factory=list)
    headers: dict[Key, Header] = field(default_factory=dict)
    current: dict[Key, int] = field(default_factory=dict)
    known: list[Key] = field(default_factory=list)
    columns: tuple[Column, ...] = INSTANCE

    def live(
        self, partition: str, study: str, series: str | None = None, sop: str | None = None
    ) -> list[Key]:
        """The live instances under the UIDs, in the order in which each was first stored."""
        wanted = (partition, study, series, sop)
        return [
            key
            for key in self.known
            if key in self.headers and all(w in {None, k} for w, k in zip(wanted, key, strict=True))
        ]

    def next_sequence(self) -> int:
        """A sequence greater than all so far, for an archive that exists in memory only."""
        return self.entries[-1].sequence + 1 if self.entries else 1

    def store(self, key: Key, header: Header, at: int, sequence: int) -> None:
        """The instance lives, and the feed has a Create."""
        if key not in self.known:
            self.known.append(key)
        self.headers[key], self.current[key] = header, sequence
        self.entries.append(Entry(sequence, at, key, "Create"))

    def update(self, keys: list[Key], changes: Header, at: int, sequences: list[int]) -> None:
        """The changes are in the headers, and the feed has an Update for each."""
        for key, sequence in zip(keys, sequences, strict=True):
            self.headers[key], self.current[key] = {**self.headers[key], **changes}, sequence
            self.entries.append(Entry(sequence, at, key, "Update"))

    def delete(self, keys: list[Key], at: int, sequences: list[int]) -> None:
        """The instances are gone, and the feed has a Delete for each."""
        for key, sequence in zip(keys, sequences, strict=True):
            self.entries.append(Entry(sequence, at, key, "Delete"))
        self.expire(keys)

    def expire(self, keys: list[Key]) -> None:
        """The instances are gone, and the feed has nothing new."""
        for key in keys:
            del self.headers[key], self.current[key]

    def state(self, entry: Entry) -> str:
        """How the feed shows an entry now."""
        if entry.key not in self.headers:
            return "Deleted"
        return "Current" if self.current[entry.key] == entry.sequence else "Replaced"

    def read(self, span: Span) -> list[Entry]:
        """The entries that had to be read."""
        return [entry for entry in self.entries if span.holds(entry)]

    def instances(self, span: Span) -> list[Row]:
        """The rows of `instance`: what lives, if an entry of it had to be read.

        One that was changed after the end shows as it stands now, at the newest entry that was
        read: an end is no snapshot. One that had been deleted by the end is gone, although it was
        stored again later: nothing that was read speaks of the new one.
        """
        history: dict[Key, list[Entry]] = {}
        for entry in self.read(span):
            history.setdefault(entry.key, []).append(entry)
        return [
            self.row(max(entries), entries)
            for key, entries in history.items()
            if key in self.headers and max(entries).action != "Delete"
        ]

    def row(self, entry: Entry, history: list[Entry]) -> Row:
        """The row of `instance` that a Current entry makes; `history` holds its key's entries."""
        header = self.headers[entry.key]
        row = shown(header, self.columns)
        row |= zip(KEY, entry.key, strict=True)
        row |= {"filepath": None, "metadata": None, "metadata_string": served(header)}
        row |= {"sequence": entry.sequence, "lastModifiedTimestamp": moment_of(entry.ticks)}
        return row | {"received_timestamp": received(entry.sequence, history)}

    def sync(self, span: Span) -> list[Row]:
        """The rows of `sync`, one for each hour of the span."""
        return [
            _hour(start, span, [e for e in self.read(span) if start <= e.ticks < end])
            for start in range(span.start // TICKS_PER_HOUR * TICKS_PER_HOUR, span.end, _HOUR)
            for end in [start + _HOUR]
        ]


_HOUR = TICKS_PER_HOUR


def received(sequence: int, history: list[Entry]) -> datetime | None:
    """The time of the greatest Create that is not above a sequence."""
    creates = [e for e in history if e.action == "Create" and e.sequence <= sequence]
    return moment_of(max(creates).ticks) if creates else None


def _hour(start: int, span: Span, entries: list[Entry]) -> Row:
    sequences = sorted(entry.sequence for entry in entries)
    packed = b"".join(sequence.to_bytes(8, "little", signed=True) for sequence in sequences)
    actions = [entry.action for entry in entries]
    return {
        "hour": moment_of(start),
        "creates": actions.count("Create"),
        "updates": actions.count("Update"),
        "deletes": actions.count("Delete"),
        "rejected": 0,
        "firstSequence": sequences[0] if sequences else None,
        "lastSequence": sequences[-1] if sequences else None,
        "digest": hashlib.sha256(packed).hexdigest(),
        "windowStart": moment_of(max(start, span.start)),
        "windowEnd": moment_of(min(start + _HOUR, span.end)),
    }
