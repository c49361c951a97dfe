"""Plans by chance: every kind of failure that a client can survive, at a rate, from a seed.

Not here, because no client can tell: rows that are missing from the middle of a page (`Gap`), or
skipped by an offset (`Shift` above 0). A plan that wants them names them.
"""

from __future__ import annotations

from typing import Final

from dicom_assets_tests.adversary.answers import (
    ContentType,
    CutJson,
    Html,
    NoContent,
    Status,
    Trailing,
    WrongShape,
    cancelled,
)
from dicom_assets_tests.adversary.pages import Again, Duplicate, Empty, Longer, Shorter, Shuffle
from dicom_assets_tests.adversary.plan import AnyFault, OneOf, Plan, Rule
from dicom_assets_tests.adversary.wire import CutChunked, CutGzip, Reset, ShortLength

_REFUSALS: Final[tuple[AnyFault, ...]] = (
    Status(429),
    Status(429, retry_after="0"),
    Status(429, retry_after_date=0.0),
    Status(429, retry_after="-1"),
    Status(429, retry_after="soon"),
    Status(500),
    Status(502),
    Status(503),
    Status(503, retry_after="0"),
    Status(504),
    cancelled(),
)

LOUD: Final[tuple[AnyFault, ...]] = (
    *_REFUSALS,
    Reset(0),
    Reset(),
    ShortLength(),
    CutChunked(),
    CutGzip(),
    CutJson(),
    Trailing(),
    Html(),
    ContentType("text/plain"),
    ContentType(),
    WrongShape(),
)
"""Faults of any answer that a client can see in the answer itself."""

QUIET: Final[tuple[AnyFault, ...]] = (
    NoContent(),
    Shorter(),
    Empty(),
    Longer(),
    Again(),
    Again(rows=1),
    Duplicate(),
    Shuffle(),
)
"""Faults of a page that a client survives if it takes no page's word for the window's end."""


def random_faults(seed: int, rate: float, *, most_in_row: int = 2, quiet: bool = True) -> Plan:
    """Each request of the feed fails with the rate, none more than `most_in_row` times in a row.

    Pages get loud faults and, unless `quiet` is off, quiet ones; `/latest` gets loud ones.
    """
    page, latest = OneOf((*LOUD, *QUIET) if quiet else LOUD), OneOf(LOUD)
    return Plan(
        (
            Rule(page, "page", probability=rate, seed=seed, most_in_row=most_in_row),
            Rule(latest, "latest", probability=rate, seed=seed, most_in_row=most_in_row),
        )
    )
