"""Random histories: what an archive was told, when, and with which headers.

A history is made from a `random.Random`: a seeded one for sweeps of thousands, or hypothesis' own,
which records every choice, so that it can shrink the history and print a blob that replays it.
Here: operations and how they are told to an archive and to the oracle. The runs over a history are
in `world` and `pure`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Header, Key, Replay

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

START = 1_767_225_600 * 10_000_000  # 2026-01-01 00:00 UTC
PARTITIONS = ("Microsoft.Default", "clinic-b")
GAPS = (1, 2, 50, 2**31, 2**33)

Kind = Literal["store", "update", "delete", "expire", "skip"]


@dataclass(frozen=True)
class Operation:
    """One thing told to the archive; UIDs that are None stand for all.

    `header` is what is stored, or what an update changes; `count` the sequences that are skipped.
    """

    kind: Kind
    at: int = 0
    partition: str = ""
    study: str = ""
    series: str | None = None
    sop: str | None = None
    header: Header = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True)
class History:
    """Operations in the order in which they happen, within so many hours from START."""

    operations: tuple[Operation, ...]
    hours: int


class Told(Protocol):
    """What an archive can be told; the emulator's `Archive`, or nobody (`Imagined`)."""

    def store(self, header: Header, *, partition: str, at: int) -> int:
        """Store an instance; returns its sequence."""

    def update(
        self, studies: Sequence[str], changes: Header, *, partition: str, at: int
    ) -> list[int]:
        """Change the headers of studies; returns a sequence for each instance."""

    def delete(
        self, study: str, series: str | None, instance: str | None, *, partition: str, at: int
    ) -> list[int]:
        """Delete what lies under the UIDs; returns a sequence for each instance."""

    def expire(
        self, study: str, series: str | None, instance: str | None, *, partition: str
    ) -> int:
        """Delete it without telling the feed; returns how many instances that were."""

    def skip_sequences(self, count: int) -> None:
        """Leave a gap."""


def perform(operation: Operation, archive: Told, replay: Replay) -> bool:
    """The operation is done to both, if it can be: an instance lives at most once at a time."""
    o, place = operation, {"partition": operation.partition}
    if o.kind == "skip":
        archive.skip_sequences(o.count)
        return True
    keys = replay.live(o.partition, o.study, o.series, o.sop)
    if (o.kind == "store") == bool(keys):
        return False
    if o.kind == "store":
        key = Key(o.partition, o.study, o.series or "", o.sop or "")
        replay.store(key, o.header, o.at, archive.store(o.header, at=o.at, **place))
    elif o.kind == "update":
        replay.update(keys, o.header, o.at, archive.update([o.study], o.header, at=o.at, **place))
    elif o.kind == "delete":
        replay.delete(keys, o.at, archive.delete(o.study, o.series, o.sop, at=o.at, **place))
    else:
        assert archive.expire(o.study, o.series, o.sop, **place) == len(keys)
        replay.expire(keys)
    return True


@dataclass
class Imagined:
    """An archive that exists in the replay only: it gives the sequences, and nothing else."""

    replay: Replay
    top: int = 0

    def store(self, header: Header, *, partition: str, at: int) -> int:
        """The next sequence."""
        return self._next(1)[0]

    def update(
        self, studies: Sequence[str], changes: Header, *, partition: str, at: int
    ) -> list[int]:
        """A sequence for each live instance of the study."""
        return self._next(len(self.replay.live(partition, studies[0])))

    def delete(
        self, study: str, series: str | None, instance: str | None, *, partition: str, at: int
    ) -> list[int]:
        """A sequence for each live instance under the UIDs."""
        return self._next(len(self.replay.live(partition, study, series, instance)))

    def expire(
        self, study: str, series: str | None, instance: str | None, *, partition: str
    ) -> int:
        """How many live under the UIDs."""
        return len(self.replay.live(partition, study, series, instance))

    def skip_sequences(self, count: int) -> None:
        """The next sequence is so much greater."""
        self.top += count

    def _next(self, count: int) -> list[int]:
        self.top += count
        return list(range(self.top - count + 1, self.top + 1))


# --- headers -------------------------------------------------------------------------------------

TEXTS = ("HEAD", "Kopf ", " lead", "a\0", "", "  ", "çé 漢字 🩻", "it's", 'say "so"', "x|y", "null")
NAMES: tuple[dict[str, str] | None, ...] = (
    {"Alphabetic": "Doe^Jane"},
    {"Alphabetic": "Äö^ß ", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
    {"Ideographic": "山田^太郎"},
    {"Alphabetic": ""},
    {},
    None,
)
POOLS: dict[str, tuple[Any, ...]] = {
    "DA": ("20260131", "2024.02.29", "20230229", "20260131 ", "00000000", "2023-02-03", "2026", ""),
    "TM": ("101530.123", "0915", "10:15:30", "", "23 "),
    "IS": (3, 0, -7, 2**31, "12", " 12 ", "+5", "five", "", 41),
    "CS": ("CT", "MR", "", "US ", "Ct"),
    "SH": ("A1", "+0100", "", "x "),
    "UI": ("1.2.840.10008.5.1.4.1.1.2", "1.2.3\0", ""),
    "LO": TEXTS,
    "ST": (*TEXTS, "one\\two", "two\r\nlines"),
    "PN": NAMES,
}
ATTRIBUTES = {
    "00080020": "DA", "00081030": "LO", "00100021": "LO", "00100020": "LO", "00100010": "PN",
    "00080060": "CS", "00080016": "UI", "00100030": "DA", "00080050": "SH", "00080090": "PN",
    "00080061": "CS", "00400244": "DA", "00081090": "LO", "00080030": "TM", "00080201": "SH",
    "00201206": "IS", "00201208": "IS", "00200011": "IS", "0008103E": "LO", "00201209": "IS",
    "00180015": "CS", "00200060": "CS", "00080021": "DA", "00080031": "TM", "00200013": "IS",
    "00420010": "ST",
}  # fmt: skip
ROLLED = ("00080020", "00081030", "00100021", "00100020", "00100010", "00080060")
NOT_SHOWN: Header = {
    "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}}, {}]},
    "00180050": {"vr": "DS", "Value": [1.0, 2.5]},
    "00091001": {"vr": "LT", "Value": ["private \u2028 text"]},
}


def element(random: Random, vr: str) -> Header:
    """An attribute: empty in one of three ways, or with one or several values."""
    form = random.randrange(10)
    if form < 2:
        return {"vr": vr} if form else {"vr": vr, "Value": [None]}
    pool = POOLS[vr]
    several = random.randrange(2, 4) if form > 7 else 1
    return {"vr": vr, "Value": [random.choice(pool) for _ in range(several)]}


def minimal_header(key: Key) -> Header:
    """A header that names its instance, and nothing else."""
    uids = zip(("0020000D", "0020000E", "00080018"), key[1:], strict=True)
    return {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids}


def header(random: Random, key: Key, most: int) -> Header:
    """A header of an instance with up to so many attributes, and those of the rollups."""
    made = minimal_header(key)
    tags = random.sample(list(ATTRIBUTES), random.randrange(most + 1))
    tags += [tag for tag in ROLLED if random.randrange(4)]
    made |= {tag: element(random, ATTRIBUTES[tag]) for tag in tags}
    return made | (NOT_SHOWN if random.randrange(4) == 0 else {})


def changes(random: Random) -> Header:
    """What a bulk update changes: a few attributes, some of them emptied."""
    tags = random.sample(ROLLED[1:5], random.randrange(1, 4))
    return {tag: element(random, ATTRIBUTES[tag]) for tag in tags}


# --- histories -----------------------------------------------------------------------------------


@dataclass
class _Maker:
    """Makes the operations of one history; `root` goes before every study's UID."""

    random: Random
    hours: int
    root: str
    attributes: int
    moments: list[int] = field(default_factory=list)
    stored: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        """A few moments, so that many entries share one, at and around the full hours too."""
        self.moments = sorted(self.moment() for _ in range(self.random.randrange(2, 9)))
        self.is_ordered = self.random.randrange(3) > 0

    def moment(self) -> int:
        """A tick of one of the hours."""
        within = self.random.choice(
            (0, TICKS_PER_HOUR - 1, TICKS_PER_HOUR // 2, TICKS_PER_HOUR // 2 - 1, None)
        )
        if within is None:
            within = self.random.randrange(TICKS_PER_HOUR)
        return START + self.random.randrange(self.hours) * TICKS_PER_HOUR + within

    def key(self) -> Key:
        """A key of a small world: partitions share studies, studies share series' UIDs."""
        r = self.random
        study, series = f"{self.root}.{r.randrange(2)}", f"1.7.{r.randrange(2)}"
        return Key(PARTITIONS[r.randrange(3) == 0], study, series, f"1.8.{r.randrange(3)}")

    def operations(self, count: int) -> list[Operation]:
        """So many operations; the later ones are mostly later, or at any time."""
        made = []
        for number in range(count):
            place = number * len(self.moments) // count
            made.append(self.operation(self.moments[place] if self.is_ordered else None))
        if self.random.randrange(4) == 0:
            made += self.clearance()
        return made

    def clearance(self) -> list[Operation]:
        """A study ends, in all partitions: by deletion, or without a word."""
        kind: Kind = self.random.choice(("delete", "delete", "expire"))
        study, at = f"{self.root}.{self.random.randrange(2)}", self.moments[-1]
        return [Operation(kind, at, partition, study) for partition in PARTITIONS]

    def operation(self, at: int | None) -> Operation:
        """A store, or something done to what was stored before."""
        r = self.random
        if at is None or r.randrange(6) == 0:
            at = r.choice(self.moments)
        kind = r.randrange(12)
        if kind == 0:
            return Operation("skip", count=r.choice(GAPS))
        if kind < 6 or not self.stored:
            return self.store(at, self.key())
        key = r.choice(self.stored)
        if kind == 6:
            return self.store(at, key)
        if kind < 9:
            return Operation("update", at, key.partition, key.study, header=changes(r))
        depth = r.randrange(1, 4)
        uids = [uid if level < depth else None for level, uid in enumerate(key[1:])]
        what: Kind = "delete" if kind < 11 else "expire"
        return Operation(what, at, key.partition, key.study, uids[1], uids[2])

    def store(self, at: int, key: Key) -> Operation:
        """A store of the key."""
        self.stored.append(key)
        return Operation("store", at, *key, header=header(self.random, key, self.attributes))


def history_of(
    random: Random, *, hours: int, operations: int, root: str = "1.5", attributes: int = 8
) -> History:
    """A history of so many operations within so many hours."""
    maker = _Maker(random, hours, root, attributes)
    return History(tuple(maker.operations(operations)), hours)
