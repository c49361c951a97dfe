"""Random histories: what an archive was told, when, and with which headers.

A history is made from a `random.Random`: a seeded one for sweeps of thousands, or hypothesis' own,
which records every choice, so that it can shrink the history and print a blob that replays it.
Here: operations and how they are told to an archive and to the oracle. What headers hold is in
`headers`, the runs over a history are in `world` and `pure`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

from dicom_assets_tests.property.headers import RICH, changes, header, minimal_header
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Key, Replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_assets_tests.property.expected import Header

START = 1_767_225_600 * 10_000_000  # 2026-01-01 00:00 UTC
# Before every UID, so that it is long enough to be told from other numbers with dots.
UIDS = "1.2.826.0.1"
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
        study, series = f"{self.root}.{r.randrange(2)}", f"{UIDS}.7.{r.randrange(2)}"
        return Key(PARTITIONS[r.randrange(3) == 0], study, series, f"{UIDS}.8.{r.randrange(3)}")

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
        made = header(self.chooser(), key, self.attributes)
        # Some UIDs have a space. No choice is drawn for it, so that seeds make the same histories.
        turn, rest = divmod(len(self.stored), 5)
        if rest == 0:
            uids = (f"{uid}{' ' * (turn >> level & 1)}" for level, uid in enumerate(key[1:]))
            made = made | minimal_header(Key(key.partition, *uids))
        return Operation("store", at, *key, header=made)

    def chooser(self) -> Random:
        """What a header is chosen by: for a rich one, hypothesis would record a hundred choices."""
        if self.attributes < RICH:
            return self.random
        return Random(self.random.getrandbits(64))


def history_of(
    random: Random, *, hours: int, operations: int, root: str = f"{UIDS}.5", attributes: int = RICH
) -> History:
    """A history of so many operations within so many hours."""
    maker = _Maker(random, hours, root, attributes)
    return History(tuple(maker.operations(operations)), hours)
