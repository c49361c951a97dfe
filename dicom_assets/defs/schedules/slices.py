"""Which hours are asked for, and in which slices: decided from facts, without asking anybody.

An hour that failed rests, longer after each attempt, and the run that failed comes again in
halves: an hour that cannot be read holds fewer others back each time, and in the end none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple, TypeAlias

from dicom_assets.window import HOUR, Span

# After the first attempt, and twice as long after each other one: at a tick each hour the second
# attempt is the next tick's, and a fault of the service that lasts a night is met a few times.
FIRST_REST = timedelta(minutes=30)
# Never given up: a service that comes back after a week is read without a person.
LONGEST_REST = timedelta(days=1)
# A slice is read, held in memory and committed as one; one of a quiet month takes seconds, one of
# so many entries minutes.
SLICE_HOURS = 720
SLICE_ENTRIES = 50_000


class Failure(NamedTuple):
    """A run over hours that failed: which attempt at them it was, from 1, and when it ended."""

    hours: Span
    attempt: int
    ended: datetime

    @property
    def rests_until(self) -> datetime:
        """When the hours are asked for again."""
        doublings = min(self.attempt - 1, 16)
        return self.ended + min(FIRST_REST * (1 << doublings), LONGEST_REST)


# Hours that are missing, with the tables that owe them.
Owed: TypeAlias = Mapping[datetime, frozenset[str]]


class Gap(NamedTuple):
    """Adjacent hours that are due for the same tables, and the run over them that failed last."""

    hours: Span
    failure: Failure | None = None
    tables: frozenset[str] = frozenset()


class Slice(NamedTuple):
    """The hours and tables of one run, and the number of this attempt at them, from 1."""

    hours: Span
    attempt: int = 1
    tables: frozenset[str] = frozenset()


def gaps(owed: Owed, failures: Sequence[Failure], now: datetime) -> tuple[list[Gap], int]:
    """Return the gaps among hours, the oldest first, and how many hours rest.

    Of failures over the same hour the last one counts.
    """
    last = sorted(failures, key=lambda failure: failure.ended, reverse=True)
    met = [(h, (next((f for f in last if f.hours.holds(h)), None), owed[h])) for h in sorted(owed)]
    due = [(h, alike) for h, alike in met if not alike[0] or alike[0].rests_until <= now]
    # Adjacent hours differ from their numbers by the same amount.
    numbered = groupby(enumerate(due), lambda item: (item[1][0] - item[0] * HOUR, item[1][1]))
    runs = [([hour for _, (hour, _) in group], alike) for (_, alike), group in numbered]
    return [Gap(Span(run[0], run[-1]), *alike) for run, alike in runs], len(met) - len(due)


def slices(gap: Gap, entries_of: Callable[[Span], int], *, newest_first: bool) -> Iterator[Slice]:
    """Yield the gap in slices that finish in minutes; after a failure, in halves of what failed.

    `entries_of` tells about how many entries hours have.
    """
    attempt = gap.failure.attempt + 1 if gap.failure else 1
    longest = min(SLICE_HOURS, -(-gap.failure.hours.count // 2) if gap.failure else SLICE_HOURS)
    waiting = [gap.hours]
    while waiting:
        hours = waiting.pop()
        if hours.count == 1 or (hours.count <= longest and entries_of(hours) <= SLICE_ENTRIES):
            yield Slice(hours, attempt, gap.tables)
        else:
            waiting += hours.halves() if newest_first else hours.halves()[::-1]
