"""Which pages hold the headers that are wanted: decided from the log, without asking anybody.

The log gives the exact bounds of a page: a start time, the rows of that very tick to skip, an end
time and a count. So pages are independent of one another and can be read at once. Reading them,
and what to do when the service holds more than the log knows, is in `heavy_read`.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# An unwanted row costs the service a blob and us its bytes; a page costs a round trip, which with
# eight in flight is worth about as much as ten rows.
GAP: Final = 10


@dataclass(frozen=True)
class PageRange:
    """A page to ask for: `limit` rows from the `offset`-th of tick `start`, all before `end`.

    `wanted` holds the sequences that it is read for, with their ticks.
    """

    start: int
    offset: int
    end: int
    limit: int
    wanted: dict[int, int]


def cut(
    ticks: Sequence[int], sequences: Sequence[int], wanted: Collection[int], batch_size: int
) -> Iterator[PageRange]:
    """Yield the spans that together hold every wanted sequence, each once.

    The log's rows are given as two columns ordered by (tick, sequence). A span holds at most
    `batch_size` rows of it, begins and ends with a wanted one, and has nowhere more than GAP
    unwanted rows in a row.
    """
    rows: list[int] = []
    for row, sequence in enumerate(sequences):
        if sequence not in wanted:
            continue
        if rows and (row - rows[-1] > GAP + 1 or row - rows[0] >= batch_size):
            yield _page_range(ticks, sequences, rows)
            rows = []
        rows.append(row)
    if rows:
        yield _page_range(ticks, sequences, rows)


def _page_range(ticks: Sequence[int], sequences: Sequence[int], rows: list[int]) -> PageRange:
    """Return the span of the wanted rows, given by their places in the log."""
    first, last = rows[0], rows[-1]
    return PageRange(
        start=ticks[first],
        offset=first - bisect_left(ticks, ticks[first], 0, first),
        end=ticks[last] + 1,
        limit=last - first + 1,
        wanted={sequences[row]: ticks[row] for row in rows},
    )
