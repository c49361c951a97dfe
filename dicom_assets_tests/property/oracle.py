"""The oracle: what the tables must hold, replayed in plain Python from what the archive was told.

Here: the archive's rules (what each write does to an instance and to the feed) and the columns,
both written from the specification. Nothing of the project is imported, nor Arrow, nor pydicom, so
that a fault on either side shows. How histories come about is in `histories`, how the tables are
read and compared in `world`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

TICKS_PER_HOUR = 36_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STRING, LONG, DATE, TIMESTAMP = "string", "long", "date", "timestamp"

Header = dict[str, Any]
Row = dict[str, Any]


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


# --- the columns of `instance`: name, Delta type, tag, and how it is read ------------------------

_HEADER_MAP = {
    "type": "map",
    "keyType": "string",
    "valueType": {
        "type": "struct",
        "fields": [
            {"name": "vr", "type": "string", "nullable": True, "metadata": {}},
            {
                "name": "Value",
                "type": {"type": "array", "elementType": "string", "containsNull": True},
                "nullable": True,
                "metadata": {},
            },
        ],
    },
    "valueContainsNull": True,
}

INSTANCE: tuple[tuple[str, Any, str, str], ...] = (
    ("partitionName", STRING, "", ""),
    ("studyinstanceuid", STRING, "", ""),
    ("seriesinstanceuid", STRING, "", ""),
    ("sopinstanceuid", STRING, "", ""),
    ("lastModifiedTimestamp", TIMESTAMP, "", ""),
    ("studydate", STRING, "00080020", "text"),
    ("studydate_formatted", DATE, "00080020", "date"),
    ("studydescription", STRING, "00081030", "text"),
    ("issuerofpatientid", STRING, "00100021", "text"),
    ("patientid", STRING, "00100020", "text"),
    ("patientname", STRING, "00100010", "name"),
    ("modality", STRING, "00080060", "text"),
    ("sopclassuid", STRING, "00080016", "text"),
    ("filepath", STRING, "", ""),
    ("metadata", _HEADER_MAP, "", ""),
    ("metadata_string", STRING, "", ""),
    ("created_date", TIMESTAMP, "", ""),
    ("patientbirthdate", STRING, "00100030", "text"),
    ("accessionnumber", STRING, "00080050", "text"),
    ("referringphysicianname", STRING, "00080090", "name"),
    ("modalitiesinstudy", STRING, "00080061", "text"),
    ("performedprocedurestepstartdate", STRING, "00400244", "text"),
    ("manufacturermodelname", STRING, "00081090", "text"),
    ("studytime", STRING, "00080030", "text"),
    ("timezoneoffsetfromutc", STRING, "00080201", "text"),
    ("numberofstudyrelatedseries", STRING, "00201206", "number"),
    ("numberofstudyrelatedinstances", STRING, "00201208", "number"),
    ("seriesnumber", STRING, "00200011", "number"),
    ("seriesdescription", STRING, "0008103E", "text"),
    ("numberofseriesrelatedinstances", STRING, "00201209", "number"),
    ("bodypartexamined", STRING, "00180015", "text"),
    ("laterality", STRING, "00200060", "text"),
    ("seriesdate", STRING, "00080021", "text"),
    ("seriestime", STRING, "00080031", "text"),
    ("instancenumber", STRING, "00200013", "number"),
    ("documenttitle", STRING, "00420010", "text"),
    ("sequence", LONG, "", ""),
    ("received_timestamp", TIMESTAMP, "", ""),
)

_OF_STUDY: tuple[tuple[str, Any, str], ...] = (
    ("lastModifiedTimestamp", TIMESTAMP, "lastModifiedTimestamp"),
    ("studyDate", DATE, "studydate_formatted"),
    ("studyDescription", STRING, "studydescription"),
    ("issuerOfPatientId", STRING, "issuerofpatientid"),
    ("patientId", STRING, "patientid"),
    ("patientName", STRING, "patientname"),
)
SERIES: tuple[tuple[str, Any, str], ...] = (
    ("partitionName", STRING, "partitionName"),
    ("studyInstanceUid", STRING, "studyinstanceuid"),
    ("seriesInstanceUid", STRING, "seriesinstanceuid"),
    *_OF_STUDY,
    ("modality", STRING, "modality"),
    ("instanceCount", LONG, "#instances"),
    ("sequence", LONG, "sequence"),
)
STUDY: tuple[tuple[str, Any, str], ...] = (
    ("partitionName", STRING, "partitionName"),
    ("studyInstanceUid", STRING, "studyinstanceuid"),
    *_OF_STUDY,
    ("seriesCount", LONG, "#series"),
    ("instanceCount", LONG, "#instances"),
    ("sequence", LONG, "sequence"),
)

COLUMNS: dict[str, list[tuple[str, Any]]] = {
    "instance": [(name, type_) for name, type_, _, _ in INSTANCE],
    "series": [(name, type_) for name, type_, _ in SERIES],
    "study": [(name, type_) for name, type_, _ in STUDY],
}


def text_of(values: list[Any]) -> str | None:
    r"""Values without their padding, joined by `\`; null when nothing but padding is left."""
    texts = ["" if value is None else str(value).rstrip(" \0") for value in values]
    return "\\".join(texts) if any(texts) else None


def name_of(values: list[Any]) -> str | None:
    """The alphabetic groups of persons' names."""
    return text_of([(value or {}).get("Alphabetic") for value in values])


def number_of(values: list[Any]) -> str | None:
    """Whole numbers as text; spaces on both sides are padding (PS3.5 6.2, IS)."""
    text = text_of(values)
    return None if text is None else text.strip(" ") or None


def date_of(values: list[Any]) -> date | None:
    """The day of `YYYYMMDD` or `YYYY.MM.DD`; null for anything else."""
    text = text_of(values) or ""
    if re.fullmatch(r"[0-9]{4}\.[0-9]{2}\.[0-9]{2}", text):
        text = text.replace(".", "")
    if not re.fullmatch(r"[0-9]{8}", text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


_READ = {"text": text_of, "name": name_of, "number": number_of, "date": date_of}


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

    A write is told the sequences that the archive gave to it.
    """

    entries: list[Entry] = field(default_factory=list)
    headers: dict[Key, Header] = field(default_factory=dict)
    current: dict[Key, int] = field(default_factory=dict)
    known: list[Key] = field(default_factory=list)

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
        row: Row = {
            name: _READ[how](header.get(tag, {}).get("Value") or [])
            for name, _, tag, how in INSTANCE
            if tag
        }
        row |= zip(_KEY, entry.key, strict=True)
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
_KEY = ("partitionName", "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid")


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


def roll_up(
    instances: list[Row], columns: tuple[tuple[str, Any, str], ...], depth: int
) -> list[Row]:
    """The rows of `series` (depth 3) or `study` (depth 2) that the rows of `instance` make."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(instances, key=lambda row: -row["sequence"]):
        groups.setdefault(tuple(row[name] for name in _KEY[:depth]), []).append(row)
    return [{name: _rolled(of, rows) for name, _, of in columns} for rows in groups.values()]


def _rolled(source: str, newest_first: list[Row]) -> object:
    if source == "#instances":
        return len(newest_first)
    if source == "#series":
        return len({row["seriesinstanceuid"] for row in newest_first})
    return next((row[source] for row in newest_first if row[source] is not None), None)


def series_of(instances: list[Row]) -> list[Row]:
    """The rows of `series`."""
    return roll_up(instances, SERIES, 3)


def studies_of(instances: list[Row]) -> list[Row]:
    """The rows of `study`."""
    return roll_up(instances, STUDY, 2)
