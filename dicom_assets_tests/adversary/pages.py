"""Faults of a page that is well-formed JSON, and still not the page that was asked for.

An answer that is no page (a refusal, `/latest`) passes unchanged. A moved offset moves as the
version of the feed in the path means it: rows in version 2, sequences in version 1.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dicom_assets_tests.adversary.exchange import Answer, Fault

if TYPE_CHECKING:
    from dicom_assets_tests.adversary.exchange import Asked, Service


class PageFault(Fault, frozen=True):
    """A fault of the rows of one page."""

    def spoil(self, answer: Answer) -> Answer:
        """The page with other rows."""
        rows = answer.rows()
        return answer if rows is None else answer.with_rows(self.change(rows))

    def change(self, rows: list[bytes]) -> list[bytes]:
        """The rows that are answered."""
        return rows


class Shorter(PageFault, frozen=True):
    """The last `by` rows are left out, so that the page looks like the window's last."""

    by: int = 1

    def change(self, rows: list[bytes]) -> list[bytes]:
        """All but the last rows."""
        return rows[: max(0, len(rows) - self.by)]


class Empty(PageFault, frozen=True):
    """A page without rows, in the middle of a window."""

    def change(self, rows: list[bytes]) -> list[bytes]:
        """None."""
        return rows[:0]


class Gap(PageFault, frozen=True):
    """A row in the middle of the page is left out, and no later page has it."""

    rows: int = 1

    def change(self, rows: list[bytes]) -> list[bytes]:
        """Those before and after the gap."""
        start = max(0, (len(rows) - self.rows) // 2)
        return rows[:start] + rows[start + self.rows :]


class Duplicate(PageFault, frozen=True):
    """The page's first rows stand at its end once more."""

    rows: int = 1

    def change(self, rows: list[bytes]) -> list[bytes]:
        """The rows, some twice."""
        return rows + rows[: self.rows]


class Shuffle(PageFault, frozen=True):
    """The rows of the page in another order."""

    seed: int = 0

    def change(self, rows: list[bytes]) -> list[bytes]:
        """The same rows, the first never first."""
        order = rows[1:]
        random.Random(self.seed).shuffle(order)
        return order[:1] + rows[:1] + order[1:]


class Longer(Fault, frozen=True):
    """The page has `by` rows more than were asked for: those that follow."""

    by: int = 1

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """The page and the start of the next."""
        page = await service(asked)
        further = asked.with_parameters(offset=asked.offset + asked.limit, limit=self.by)
        rows, more = page.rows(), (await service(further)).rows()
        return page if rows is None or more is None else page.with_rows(rows + more)


class Shift(Fault, frozen=True):
    """Another offset is answered than was asked: below 0 rows come twice, above 0 some never."""

    by: int

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """The page at the other offset."""
        return await service(asked.with_parameters(offset=max(0, asked.offset + self.by)))


class Again(Fault, frozen=True):
    """The page that this route answered before: whole in place of the new one, or its last rows.

    With `rows` they stand before the new page's own; None for the whole page.
    """

    rows: int | None = None

    async def answer(self, asked: Asked, service: Service) -> Answer:
        """The old page, or the new one behind a part of the old."""
        page = await service(asked)
        old = asked.previous.rows() if asked.previous is not None else None
        rows = page.rows()
        if old is None or rows is None:
            return page
        return page.with_rows(old if self.rows is None else old[len(old) - self.rows :] + rows)
