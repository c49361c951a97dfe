"""The pages that hold the wanted headers: checked against a service that only counts."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_assets.feed.header_read import GAP, PageRange, cut


@dataclass(frozen=True)
class Case:
    """A log ordered by (tick, sequence), and what is wanted of it."""

    rows: list[tuple[int, int]]
    wanted: set[int]
    batch_size: int

    def spans(self) -> list[PageRange]:
        """The spans that are cut for the case."""
        ticks, sequences = [row[0] for row in self.rows], [row[1] for row in self.rows]
        return list(cut(ticks, sequences, self.wanted, self.batch_size))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Logs with many rows of one tick, and any part of them wanted."""
    ticks = draw(st.lists(st.integers(0, 12), max_size=60))
    rows = sorted(zip(ticks, draw(st.permutations(range(len(ticks)))), strict=True))
    wanted = {s for _, s in rows if draw(st.booleans())}
    return Case(rows, wanted, draw(st.sampled_from([1, 2, 7, 200])))


def served(rows: list[tuple[int, int]], span: PageRange) -> list[tuple[int, int]]:
    """Return the page that a service with exactly these rows serves for a span."""
    inside = [row for row in rows if span.start <= row[0] < span.end]
    return inside[span.offset : span.offset + span.limit]


@given(cases())
def test_every_wanted_row_is_on_the_page_that_is_read_for_it(case: Case) -> None:
    """Together the pages hold what is wanted, each once, with its tick."""
    found: list[int] = []
    for span in case.spans():
        page = served(case.rows, span)
        assert span.wanted.items() <= {sequence: tick for tick, sequence in page}.items()
        found += span.wanted
    assert sorted(found) == sorted(case.wanted)


@given(cases())
def test_a_page_begins_and_ends_with_a_wanted_row_and_is_not_too_long(case: Case) -> None:
    """Nothing is read before or after what is wanted, nor across many rows that are not."""
    for span in case.spans():
        page = [sequence for _, sequence in served(case.rows, span)]
        assert 0 < len(page) == span.limit <= case.batch_size
        assert page[0] in case.wanted
        assert page[-1] in case.wanted
        gaps = "".join("x" if s in case.wanted else "." for s in page).split("x")
        assert max(map(len, gaps)) <= 10


@given(cases())
def test_no_two_neighbouring_pages_could_be_one(case: Case) -> None:
    """A page ends because it is full, or because too many unwanted rows follow."""
    places = {sequence: place for place, (_, sequence) in enumerate(case.rows)}
    spans = case.spans()
    for one, other in pairwise(spans):
        last, first = places[list(one.wanted)[-1]], places[next(iter(other.wanted))]
        start = places[next(iter(one.wanted))]
        assert first - last - 1 > GAP or first - start >= case.batch_size


def test_the_bounds_of_a_page_are_exact() -> None:
    """It starts at its first row's tick, skips the rows of that tick, and ends after its last."""
    rows = [(10, 1), (20, 2), (20, 3), (20, 4), (30, 5), (40, 6)]
    assert Case(rows, {4, 5}, 200).spans() == [
        PageRange(start=20, offset=2, end=31, limit=2, wanted={4: 20, 5: 30})
    ]


@pytest.mark.parametrize(("between", "pages"), [(10, 1), (11, 2)])
def test_ten_unwanted_rows_are_read_and_eleven_are_not(between: int, pages: int) -> None:
    """A page costs about as much as ten rows."""
    rows = [(tick, tick) for tick in range(between + 2)]
    assert len(Case(rows, {0, between + 1}, 200).spans()) == pages


def test_nothing_wanted_is_no_page() -> None:
    """Nor is there one for an empty log."""
    assert Case([(1, 1)], set(), 200).spans() == []
    assert Case([], set(), 200).spans() == []


def test_a_tie_of_thousands_is_cut_by_its_offsets() -> None:
    """Each page of a tick skips those before it."""
    rows = [(7, sequence) for sequence in range(5_000)]
    spans = Case(rows, set(range(5_000)), 200).spans()
    assert [span.offset for span in spans] == list(range(0, 5_000, 200))
    assert {(span.start, span.end, span.limit) for span in spans} == {(7, 8, 200)}
