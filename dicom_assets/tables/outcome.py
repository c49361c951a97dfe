"""What a step did: numbers by hour, totals, and the versions between which it happened."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store

PROGRESS_SECONDS = 2.0
# What may become of an entry, in the order of the rule.
FATES = ("applied", "deleted", "superseded", "unchanged", "rejected", "awaiting")
# What an entry of an hour may come to that a later attempt of the same run sees as unchanged.
_DONE = ("applied", "deleted")


@dataclass(frozen=True)
class Outcome:
    """What bringing a table to a window came to.

    `hours` counts, for each hour of the window that has entries (its start in ticks), what became
    of them; `totals` is about the run; `unparsable` counts by column the values that became null;
    `seconds` is the time by stage.
    """

    version_before: int
    version_after: int
    rows: int
    hours: Mapping[int, Counter[str]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    unparsable: Counter[str] = field(default_factory=Counter)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def then(self, later: "Outcome") -> "Outcome":
        """Return both attempts as one; what the first one did counts, whatever the second saw."""
        hours = {**self.hours, **later.hours}
        both = self.hours.keys() & later.hours.keys()
        stages = self.seconds.keys() | later.seconds.keys()
        return Outcome(
            version_before=self.version_before,
            version_after=later.version_after,
            rows=later.rows,
            hours=hours | {h: _done_first(self.hours[h], later.hours[h]) for h in both},
            totals=added(self.totals, later.totals),
            unparsable=added(self.unparsable, later.unparsable),
            seconds={s: self.seconds.get(s, 0.0) + later.seconds.get(s, 0.0) for s in stages},
        )


def added(first: Mapping[str, int], second: Mapping[str, int]) -> Counter[str]:
    """Return the sums by name; what is nought stays, because it was measured."""
    both = Counter(first)
    both.update(second)
    return both


def _done_first(before: Counter[str], after: Counter[str]) -> Counter[str]:
    # Only what the second attempt calls unchanged can be what the first one did.
    both = Counter(after)
    for name in _DONE:
        moved = min(before[name], both["unchanged"])
        both.update({name: moved, "unchanged": -moved})
    return both


class TableUpdate(ABC):
    """What is to be done to one table, as a value that an IO manager commits."""

    @abstractmethod
    def commit(self, store: Store, run: Run) -> Outcome:
        """Commit what is missing, and return what that came to. Safe to call again."""


class Progress:
    """Says how far something has come, every few seconds at most."""

    def __init__(self, say: Callable[[str], None], text: str) -> None:
        """Begin now; `text` has a place for the count."""
        self._say = say
        self._text = text
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, count: int) -> None:
        """Say the count, if nothing was said for a while."""
        if time.monotonic() >= self._next:
            self._say(self._text.format(f"{count:,}"))
            self._next = time.monotonic() + PROGRESS_SECONDS


class Stopwatch:
    """The seconds that each stage took, under its name."""

    def __init__(self) -> None:
        """Begin with no stage."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The time inside is added to the stage."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
