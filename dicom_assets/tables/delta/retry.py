"""Running again what another run has overtaken.

Every write is: open the target, derive the difference from upstream as it stands now, commit on
top of what was opened. Whoever loses the race does all three again, never the commit alone.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    wait_random_exponential,
)

from dicom_assets.errors import ConflictError

T = TypeVar("T")

CONFLICT_SECONDS = 120.0
LEAST_ATTEMPTS = 5
LONGEST_PAUSE_SECONDS = 2.0
_CONFLICTS: ContextVar[int] = ContextVar("conflicts", default=0)


def silent(_text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Run:
    """Who writes, and when: the Dagster run, and the moment that its rows are stamped with.

    What takes long is said now and then through `say`: counts, never a value.
    """

    run_id: str
    now: datetime
    say: Callable[[str], None] = silent


def converge(attempt: Callable[[], T]) -> T:
    """Return what the attempt returns, made again for as long as other runs commit first.

    Raises ConflictError when that has not ended after two minutes and five attempts.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(ConflictError),
        # An attempt may itself take longer, where it reads many headers.
        stop=stop_all(stop_after_delay(CONFLICT_SECONDS), stop_after_attempt(LEAST_ATTEMPTS)),
        wait=wait_random_exponential(multiplier=0.05, max=LONGEST_PAUSE_SECONDS),
        reraise=True,
    )

    def counted() -> T:
        before = _CONFLICTS.set(retrying.statistics["attempt_number"] - 1)
        try:
            return attempt()
        finally:
            _CONFLICTS.reset(before)

    return retrying(counted)


def conflicts() -> int:
    """Return how many attempts came too late before the one that is made now."""
    return _CONFLICTS.get()


def settle(version: Callable[[], int], attempt: Callable[[], T]) -> list[T]:
    """Return what each attempt returned, the last one made on an upstream that no longer moved.

    `version` tells the upstream's version; it is read before and after each attempt, because an
    upstream that moved after the attempt looked at it may hold what the attempt did not see.
    """
    done = []
    seen = version()
    while True:
        done.append(converge(attempt))
        now = version()
        if now == seen:
            return done
        seen = now
