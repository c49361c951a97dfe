"""How many requests run at once: halved by failures, one more by each answer."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from dicom_assets.feed.http.throttle import Throttle
from dicom_assets.feed.http.timeouts import Timeouts

NEVER = threading.Event()
FOR_EVER = float("inf")


@dataclass
class Clock:
    """A clock that only moves during `sleep`."""

    time: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        """Return the time."""
        return self.time

    def sleep(self, seconds: float, _: threading.Event) -> None:
        """Let the time pass at once."""
        self.slept.append(seconds)
        self.time += seconds

    def timeouts(self) -> Timeouts:
        """Return the pauses of production, counted by this clock."""
        return Timeouts(now=self.now, sleep=self.sleep)


def test_all_is_well() -> None:
    """Nobody waits, and as many run at once as may."""
    clock = Clock()
    throttle = Throttle(8, clock.timeouts())
    with throttle.turn(NEVER, FOR_EVER) as one, throttle.turn(NEVER, FOR_EVER) as other:
        assert one
        assert other
    throttle.speed_up()
    assert (throttle.limit, clock.slept) == (8, [])


def test_failures_halve_and_answers_add_one() -> None:
    """So that one bad answer is made good by a few, and a storm is met at once."""
    throttle = Throttle(8, Clock().timeouts())
    for limit in (4, 2, 1, 1, 1):
        throttle.slow_down()
        assert throttle.limit == limit
    for limit in (2, 3, 4, 5, 6, 7, 8, 8, 8):
        throttle.speed_up()
        assert throttle.limit == limit


def test_no_more_run_than_may() -> None:
    """The next caller waits until the time is over, and gets no turn."""
    clock = Clock()
    throttle = Throttle(2, clock.timeouts())
    with (
        throttle.turn(NEVER, FOR_EVER),
        throttle.turn(NEVER, FOR_EVER),
        throttle.turn(NEVER, 3.0) as third,
    ):
        assert not third
    assert 3.0 <= clock.time < 3.1
    with throttle.turn(NEVER, 0.0) as free:
        assert free


def test_a_storm_is_one_request_a_second() -> None:
    """All threads share it, until there is an answer."""
    clock = Clock()
    throttle = Throttle(8, clock.timeouts())
    started = []
    for _ in range(64):
        with throttle.turn(NEVER, FOR_EVER):
            started.append(clock.time)
            throttle.slow_down()
    assert started[3] == 0.0
    assert all(later - sooner >= 1.0 for sooner, later in pairwise(started[3:]))
    assert clock.time < 64
    throttle.speed_up()
    with throttle.turn(NEVER, FOR_EVER):
        assert clock.time < 64


def test_the_service_says_when_all_go_on() -> None:
    """Not only the request that it refused, and the longest time counts."""
    clock = Clock()
    throttle = Throttle(8, clock.timeouts())
    throttle.slow_down(30.0)
    throttle.slow_down(10.0)
    with throttle.turn(NEVER, 20.0) as early:
        assert not early
        assert clock.time == pytest.approx(20.0)
    with throttle.turn(NEVER, FOR_EVER) as turn:
        assert turn
        assert clock.time >= 30.0 - 1e-6


def test_a_read_that_is_given_up_waits_no_longer() -> None:
    """There is no turn for it."""
    clock, stop = Clock(), threading.Event()
    throttle = Throttle(1, clock.timeouts())
    stop.set()
    with throttle.turn(NEVER, FOR_EVER), throttle.turn(stop, FOR_EVER) as second:
        assert not second
    assert clock.slept == []


def test_turns_are_given_back_by_who_fails() -> None:
    """And by who had none, nothing is given back."""
    throttle = Throttle(1, Clock().timeouts())
    for _ in range(3):
        with suppress(KeyError), throttle.turn(NEVER, FOR_EVER):
            raise KeyError
    with throttle.turn(NEVER, FOR_EVER) as turn, throttle.turn(NEVER, 0.0) as none:
        assert (turn, none) == (True, False)
    with throttle.turn(NEVER, 0.0) as turn:
        assert turn
