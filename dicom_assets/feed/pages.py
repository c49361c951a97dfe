"""The pages that hold the wanted headers, computed from the log without a request.

The log gives the exact bounds of a page: a start time, the number of rows of that tick to skip, an
end time and a count. So pages are independent and can be read in parallel. They are read in
`header_read`, also when the service lists more than the log has.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

# An unwanted row costs the service a blob read, and us its bytes. A page costs a round trip, which
# with eight in flight takes about as long as ten rows.
GAP: Final = 10


@dataclass(frozen=True)
class PageRange:
    """A page to request: `limit` rows from the `offset`-th of tick `start` on, all before `end`.

    `wanted` maps the wanted sequences in it to their ticks.
    """

    start: int
    offset: int
    end: int
    limit: int
    wanted: dict[int, int]


def cut(
    ticks: Sequence[int], sequences: Sequence[int], wanted: Collection[int], batch_size: int
) -> Iterator[PageRange]:
    """Yield the page ranges that together hold every wanted sequence once.

    The log's rows are given as two columns ordered by (tick, sequence). A range has at most
    `batch_size` of them, starts and ends with a wanted one, and has at most GAP unwanted rows side
    by side.
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
    first, last = rows[0], rows[-1]
    return PageRange(
        start=ticks[first],
        offset=first - bisect_left(ticks, ticks[first], 0, first),
        end=ticks[last] + 1,
        limit=last - first + 1,
        wanted={sequences[row]: ticks[row] for row in rows},
    )
