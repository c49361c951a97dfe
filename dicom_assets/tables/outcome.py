"""The update of a table as a value, its outcome in numbers, and the log of its progress."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store

PROGRESS_SECONDS = 2.0
# The results of an entry, in the order of the rule.
FATES = ("applied", "deleted", "superseded", "unchanged", "rejected", "awaiting")


@dataclass(frozen=True)
class Outcome:
    """The numbers of one update of a table.

    `hours` counts the entries of each hour of the window by what the run did; the key is the start
    of the hour in ticks. `touched` has the numbers of each hour that the log says, which are the
    same in every run (`change.touched`). `totals` counts rows and requests of the run. `unparsable`
    counts by column the values that became null. `seconds` is the time by stage.
    """

    version_before: int
    version_after: int
    rows: int
    hours: Mapping[int, Counter[str]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    unparsable: Counter[str] = field(default_factory=Counter)
    seconds: Mapping[str, float] = field(default_factory=dict)
    touched: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def then(self, later: "Outcome") -> "Outcome":
        """Return the numbers of both attempts; what the first one did is not lost in the second."""
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
            touched={**self.touched, **later.touched},
        )


def added(first: Mapping[str, int], second: Mapping[str, int]) -> Counter[str]:
    """Return the sums by name, also those that are zero, because they were measured."""
    both = Counter(first)
    both.update(second)
    return both


def _done_first(before: Counter[str], after: Counter[str]) -> Counter[str]:
    # Entries that the first attempt changed are among those that the second found unchanged.
    both = Counter(after)
    for name in ("applied", "deleted"):
        moved = min(before[name], both["unchanged"])
        both.update({name: moved, "unchanged": -moved})
    return both


class TableUpdate(ABC):
    """The update of one table, as a value that an IO manager commits."""

    @abstractmethod
    def commit(self, store: Store, run: Run) -> Outcome:
        """Commit the rows that the table lacks, and return the numbers. Safe to call again."""


class Progress:
    """A count that is logged every few seconds at most. `text` has a place for it."""

    def __init__(self, say: Callable[[str], None], text: str) -> None:
        self._say = say
        self._text = text
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, count: int) -> None:
        """Log the count unless one was logged a moment ago."""
        if time.monotonic() >= self._next:
            self._say(self._text.format(f"{count:,}"))
            self._next = time.monotonic() + PROGRESS_SECONDS


class Stopwatch:
    """The seconds of each stage, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside the block to the stage."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
