"""Withheld cells, by random tables: nothing that is shown gives away a number of few patients."""

from collections.abc import Collection, Sequence
from itertools import chain

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicom_assets.report.small_cells import LEAST, Cell, withheld, withheld_of_grid

# A cell is a list of series, each with its patient.
Series = list[int]
SERIES: st.SearchStrategy[Series] = st.one_of(
    st.just([]),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 60), min_size=5, max_size=60),
)
LINES = st.lists(SERIES, min_size=1, max_size=7)
GRIDS = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(SERIES, min_size=width, max_size=width), min_size=1, max_size=5)
)


def cell(*series: Series) -> Cell:
    """The number of series, and of their patients."""
    every = [patient for one in series for patient in one]
    return Cell(len(every), len(set(every)))


def require_secret(line: Sequence[Series], hidden: Collection[int], parts: int) -> None:
    """All that is known of the hidden numbers is their sum, which is of many patients.

    Each may be 1, and each may be LEAST or more. `parts` numbers make up the hidden ones.
    """
    rest = cell(*(line[n] for n in hidden))
    assert len(hidden) >= 2
    assert rest.patients >= LEAST
    assert rest.number - (parts - 1) >= LEAST


@settings(max_examples=2_000, deadline=None)
@example([[1] * 3, list(range(20)), list(range(40))])
@example([[patient] for patient in range(12)])
@example([[1], list(range(11))])
@given(LINES)
def test_a_line_with_its_total_tells_nothing_of_few_patients(line: list[Series]) -> None:
    """Also where one patient is in many cells."""
    cells = [cell(one) for one in line]
    hidden = withheld(cells, cell(*line))
    if hidden is None:
        return  # then the total is not shown, and it is all that is known
    assert not any(one.is_small for n, one in enumerate(cells) if n not in hidden)
    assert all(cells[n].number for n in hidden)
    if hidden:
        require_secret(line, hidden, len(hidden))


@settings(max_examples=2_000, deadline=None)
@given(GRIDS)
def test_a_grid_with_the_totals_of_its_rows_tells_nothing_of_few_patients(
    grid: list[list[Series]],
) -> None:
    """The sum of all rows is known, too."""
    rows = [list(chain(*row)) for row in grid]
    cells = [[cell(one) for one in row] for row in grid]
    found = withheld_of_grid(cells, [cell(row) for row in rows], cell(*rows))
    if found is None:
        return
    hidden, without = found
    for n, row in enumerate(cells):
        filled = {m for m, one in enumerate(row) if one.number}
        shown = [one for m, one in enumerate(row) if m not in hidden[n]]
        assert not any(one.is_small for one in shown)
        if n in without:
            assert hidden[n] == filled
        else:
            assert not cell(rows[n]).is_small
            if hidden[n]:
                require_secret(grid[n], hidden[n], len(hidden[n]))
    if without:
        require_secret(rows, without, sum(len(hidden[n]) for n in without))


def test_a_second_cell_is_withheld_with_a_small_one() -> None:
    """The smallest of the others, because it is missed least."""
    line = [Cell(500, 400), Cell(3, 2), Cell(70, 60), Cell(0, 0)]
    assert withheld(line, Cell(573, 460)) == {1, 2}


def test_small_cells_that_are_many_patients_together_need_no_other() -> None:
    """A device with a few patients a day shows how much it did in four weeks."""
    line = [Cell(20, 5)] * 10 + [Cell(90, 40)]
    assert withheld(line, Cell(290, 90)) == set(range(10))


def test_a_total_that_gives_every_cell_away_is_withheld() -> None:
    """One small cell alone, a dozen cells of one, and few patients in all."""
    assert withheld([Cell(3, 2), Cell(0, 0)], Cell(3, 2)) is None
    assert withheld([Cell(1, 1)] * 12, Cell(12, 12)) is None
    assert withheld([Cell(40, 4), Cell(50, 5)], Cell(90, 6)) is None


def test_a_line_of_large_cells_is_shown_whole() -> None:
    """None at all is no secret either."""
    assert withheld([Cell(20, 10), Cell(0, 0)], Cell(20, 10)) == set()
