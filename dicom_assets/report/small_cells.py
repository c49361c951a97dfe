"""Numbers about fewer than ten patients: which cells of a table are withheld, so that none shows.

A sum that is shown, or known from elsewhere, gives a withheld cell away when it is alone, or when
the rest of the sum is small. So further cells are withheld, the smallest first. All are printed
alike. For each of them everything from 1 to more than LEAST remains possible.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

LEAST: Final = 10


class Cell(NamedTuple):
    """A number, and the patients that it is about; those of several cells may be the same."""

    number: int
    patients: int

    @property
    def is_small(self) -> bool:
        """True when the number is about fewer than LEAST patients. None at all is no secret."""
        return self.number > 0 and self.patients < LEAST


def withheld(
    line: Sequence[Cell], total: Cell, forced: Collection[int] = (), parts: Sequence[int] = ()
) -> set[int] | None:
    """Return the places of the cells that are withheld, in a line whose total is known.

    None means that the total gives them away whatever is withheld, so that it must not be shown.
    Cells at `forced` places are withheld for another reason. A withheld cell may consist of
    `parts` withheld numbers.
    """
    hidden = {n for n, cell in enumerate(line) if cell.is_small} | set(forced)
    others = [n for n in range(len(line)) if line[n].number and n not in hidden]
    others.sort(key=lambda n: line[n].number, reverse=True)
    while hidden and not _is_safe(line, total, hidden, parts):
        if not others:
            return None
        hidden.add(others.pop())
    return hidden


def _is_safe(line: Sequence[Cell], total: Cell, hidden: set[int], parts: Sequence[int]) -> bool:
    shown = [cell for n, cell in enumerate(line) if n not in hidden]
    # At least so many patients are behind the rest, which is a number that everybody can derive.
    patients = max(
        *(line[n].patients for n in hidden), total.patients - sum(cell.patients for cell in shown)
    )
    rest = total.number - sum(cell.number for cell in shown)
    least = sum(parts[n] if parts else 1 for n in hidden)
    # Twice, because one of the withheld cells may be known to be large.
    return len(hidden) > 1 and patients >= LEAST and rest - least >= 2 * (LEAST - 1)


def withheld_of_grid(
    grid: Sequence[Sequence[Cell]], totals: Sequence[Cell], all_: Cell
) -> tuple[list[set[int]], set[int]] | None:
    """Return the withheld places of each row of a grid, and the rows whose totals are withheld.

    The sum of all rows may be known, the sums of columns are not. A row without a total shows no
    number. None: the sum of all gives rows away whatever is withheld.
    """
    filled = [{n for n, cell in enumerate(row) if cell.number} for row in grid]
    rows = [withheld(row, total) for row, total in zip(grid, totals, strict=True)]
    forced = {n for n, hidden in enumerate(rows) if hidden is None}
    without = withheld(totals, all_, forced, [len(places) for places in filled])
    if without is None:
        return None
    hidden = [filled[n] if n in without else rows[n] or set() for n in range(len(grid))]
    return hidden, without
