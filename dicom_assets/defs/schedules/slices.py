"""The hours that are requested, in slices: pure functions of facts.

Hours that failed rest, longer after each attempt, and the failed run is requested again in halves.
So an hour that cannot be read delays fewer other hours each time, and in the end none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from dicom_assets.window import Span, spans_of

# The rest after the first attempt, doubled after each further one. With a tick each hour the second
# attempt is at the next tick, and a fault of the service that lasts a night fails a few runs only.
FIRST_REST = timedelta(minutes=30)
# Hours are never given up: a service that comes back after a week is read without a person.
LONGEST_REST = timedelta(days=1)
# A slice is read, kept in memory and committed as one, and the newest hour waits for it. 15 minutes
# are 50,000 entries at 55 in a second, and the slowest run that was measured did 80 (see
# docs/operate/first-load.md). A quiet month took 5 minutes at most.
SLICE_HOURS = 720
SLICE_ENTRIES = 50_000


class Failure(NamedTuple):
    """A failed run over hours: number of the attempt, from 1, its end, its tables (None: all)."""

    hours: Span
    attempt: int
    ended: datetime
    tables: frozenset[str] | None = None

    def delays(self, hour: datetime, tables: frozenset[str]) -> bool:
        """True when the run was over the hour, and over every table that owes it."""
        return self.hours.holds(hour) and (self.tables is None or tables <= self.tables)

    @property
    def rests_until(self) -> datetime:
        """The time from which the hours are requested again."""
        doublings = min(self.attempt - 1, 16)
        return self.ended + min(FIRST_REST * (1 << doublings), LONGEST_REST)


# The hours that are missing, each with the tables that owe it.
Owed: TypeAlias = Mapping[datetime, frozenset[str]]


class Gap(NamedTuple):
    """Adjacent hours that are due for the same tables, and the last failed run over them."""

    hours: Span
    failure: Failure | None = None
    tables: frozenset[str] = frozenset()


class Slice(NamedTuple):
    """The hours and tables of one run, and the number of the attempt, from 1."""

    hours: Span
    attempt: int = 1
    tables: frozenset[str] = frozenset()


def gaps(owed: Owed, failures: Sequence[Failure], now: datetime) -> tuple[list[Gap], int]:
    """Return the gaps that the owed hours form, the oldest first, and the number of resting hours.

    Of several failures over an hour the last one counts.
    """
    latest = sorted(failures, key=lambda failure: failure.ended, reverse=True)
    alike = defaultdict[tuple[Failure | None, frozenset[str]], list[datetime]](list)
    resting = 0
    for hour, tables in owed.items():
        failure = next((failure for failure in latest if failure.delays(hour, tables)), None)
        if failure and failure.rests_until > now:
            resting += 1
        else:
            alike[failure, tables].append(hour)
    due = [Gap(span, *key) for key, hours in alike.items() for span in spans_of(hours)]
    return sorted(due, key=lambda gap: gap.hours.first), resting


def slices(gap: Gap, entries_of: Callable[[Span], int], *, newest_first: bool) -> Iterator[Slice]:
    """Yield the gap in slices that finish in minutes; after a failure, in halves of the failed run.

    `entries_of` returns about how many entries hours have.
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
