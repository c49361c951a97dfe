"""How a benchmark measures and what it says: ratios within one run, by rounds that take turns."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Measured:
    """A ratio by its name, and the numbers beside it."""

    name: str
    ratio: float
    beside: Mapping[str, float] = field(default_factory=dict)


def alternately(
    first: Callable[[], object], second: Callable[[], object], *, rounds: int
) -> tuple[list[float], list[float]]:
    """Return the process seconds of both by round; what one leaves is no load on the other."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for what, seconds in zip((first, second), spent, strict=True):
            gc.collect()
            began = time.process_time()
            what()
            seconds.append(time.process_time() - began)
    return spent
