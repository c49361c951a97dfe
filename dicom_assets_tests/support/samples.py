"""How much of a product of cases `make test` looks at; `make soak` looks at all of it.

A sample meets each case of each axis, so that no kind is left out; only combinations are.
"""

import os
from collections.abc import Sequence
from itertools import product
from typing import Any, Final

TIMES: Final = int(os.environ.get("FAULTS", "1"))
"""How many times as many random examples there are: one, in `make soak` FAULTS."""
SOAK: Final = os.environ.get("HYPOTHESIS_PROFILE") == "soak"


def crossed(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Each case of each axis at least once beside some of the others; in `make soak` with all."""
    if SOAK:
        return [*product(*axes)]
    return [tuple(axis[n % len(axis)] for axis in axes) for n in range(max(map(len, axes)))]
