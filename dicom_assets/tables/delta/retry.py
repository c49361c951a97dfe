"""Retries after another run committed first.

Every write has three steps: open the target, derive the difference from upstream as it stands now,
and commit on top of the version that was opened. A run whose commit comes too late does all three
again, never the commit alone.
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
    """Log nothing."""


@dataclass(frozen=True)
class Run:
    """The run that writes: its id in Dagster, and the moment that its rows are stamped with.

    `say` logs the progress of long steps: counts, never a value. With `retries_resting`, rejected
    entries of its hours are tried again although they rest. `seals` is True for a run that has
    sealed its hours itself. `marks_later` is True while another step of it follows in this process,
    which sets the marks of this one, too.
    """

    run_id: str
    now: datetime
    say: Callable[[str], None] = silent
    retries_resting: bool = False
    seals: bool = False
    marks_later: bool = False


def converge(attempt: Callable[[], T]) -> T:
    """Return the result of the attempt, which is retried while other runs commit first.

    Raises ConflictError when they still do after two minutes and five attempts.
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
    """Return how many attempts came too late before the current one."""
    return _CONFLICTS.get()


def settle(
    version: Callable[[], int], attempt: Callable[[], T], before: int | None = None
) -> list[T]:
    """Return the results of all attempts, the last one made while upstream did not move.

    `version` returns the version of upstream. It is read before and after each attempt, because
    upstream may have got rows after the attempt has read it. `before` is the version that the
    caller has just read.
    """
    results = []
    before = version() if before is None else before
    while True:
        results.append(converge(attempt))
        after = version()
        if after == before:
            return results
        before = after
