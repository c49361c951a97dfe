"""Owners of the pool's slots: a process counts as dead only when it is."""

import os
import subprocess
import sys

import pytest

from dicom_assets.defs.pool import is_dead, owner_of

RUN = "0d8f"


def test_a_living_process_is_not_dead() -> None:
    """Ours, for one."""
    assert not is_dead(owner_of(RUN, os.getpid()), RUN)


def test_a_process_that_was_killed_is_dead() -> None:
    """The next run may take its slot."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = owner_of(RUN, process.pid)
        assert not is_dead(owner, RUN)
        process.kill()
    assert is_dead(owner, RUN)


def test_a_number_that_another_process_has_now_is_dead() -> None:
    """Process ids come again; the moment of the start does not."""
    run, machine, pid, started = owner_of(RUN, os.getpid()).split("|")
    assert is_dead(f"{run}|{machine}|{pid}|{int(started) - 1}", RUN)


@pytest.mark.parametrize("tag", ["", "0d8f|elsewhere/|1|2", "0d8f"])
def test_what_cannot_be_looked_at_is_not_dead(tag: str) -> None:
    """A process on another machine, or in another container, may well live."""
    assert not is_dead(tag, RUN)


def test_a_tag_that_a_re_execution_took_over_says_nothing() -> None:
    """Dagster copies the tags of the run that failed to the one that tries again."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        owner = owner_of("parent", process.pid)
    assert is_dead(owner, "parent")
    assert not is_dead(owner, RUN)
