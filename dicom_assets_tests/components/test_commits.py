"""F19 and F20 on Azurite: lost answers of commits, a storage that refuses, and many at once."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable

from dicom_assets.errors import ConflictError, TableError, TableUnavailableError
from dicom_assets.tables.delta import retry as converge
from dicom_assets_tests.components.gate import RESET, Fault
from dicom_assets_tests.components.test_histories import Container
from dicom_assets_tests.property import world
from dicom_assets_tests.property.test_core import _busy, _run_all, _windows
from dicom_assets_tests.property.world import World, carry_out
from dicom_assets_tests.support import steps

if TYPE_CHECKING:
    from dicom_assets_tests.components.cloud import Cloud
    from dicom_assets_tests.components.gate import Gate
    from dicom_assets_tests.property.world import Hours

WRITTEN = ("change", "sync", "instance", "series", "study")
HOURS = (0, 4)
ATTEMPTS = 40

pytestmark = pytest.mark.timeout(600)  # runs that are tried again


def run_until_green(made: World, hours: Hours = HOURS) -> Counter[str]:
    """One run over the hours, a process each as long as it is red; returns how it was red."""
    red = Counter[str]()
    for number in range(ATTEMPTS):
        try:
            store = steps.store_of(world.urls(made.root))
            carry_out(store, made.feed, made.window(hours), f"run-{number}")
        except TableError as error:
            red[type(error).__name__] += 1
        else:
            return red
    raise AssertionError(f"no run was green: {red}")


@pytest.mark.parametrize("status", [RESET, 500, 503])
@pytest.mark.parametrize("is_applied", [True, False])
def test_f19_a_commit_whose_answer_is_lost_is_there_once(
    signed_in: Cloud, gate: Gate, status: int, is_applied: bool
) -> None:
    """Applied or not, each commit ends once in a reset, a 500 or a 503: of creation, rows, merges.

    The engine may then see its own commit as another's: what is derived anew is nothing.
    """
    with World(_busy(1), Container(signed_in.root())) as made:
        gate.spoil(Fault("is_commit", status, is_applied))
        for hours in ((0, 2), HOURS):
            run_until_green(made, hours)
        assert gate.spoilt() >= 3 * len(WRITTEN)
        gate.spoil()
        made.check()
        assert {_created(made, name) for name in WRITTEN} == {1}


def _created(made: World, name: str) -> int:
    """How often the table was created: a second time, it would forget what it was told since."""
    history = DeltaTable(str(made.root / name)).history()
    return sum(commit["operation"] == "CREATE TABLE" for commit in history)


@pytest.mark.parametrize("status", [409, 412])
def test_f19_a_commit_that_is_refused_for_ever_is_red_in_time(
    signed_in: Cloud, gate: Gate, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The table is as it was; once the storage takes commits again, the next run is green."""
    monkeypatch.setattr(converge, "CONFLICT_SECONDS", 0.5)
    with World(_busy(1), Container(signed_in.root())) as made:
        gate.spoil(Fault("is_commit", status, times=10_000, below="/instance/"))
        with pytest.raises((ConflictError, TableUnavailableError)):
            carry_out(made.store, made.feed, made.window(HOURS), "refused")
        assert world.rows(made.root, "instance") == []
        gate.spoil()
        assert not run_until_green(made)
        made.check()


@pytest.mark.parametrize("name", ["change", "instance"])
def test_f19_a_table_that_may_not_be_read_is_not_taken_for_none(
    signed_in: Cloud, gate: Gate, name: str
) -> None:
    """A role is missing: red, and nothing is written, though that might be done."""
    with World(_busy(2), Container(signed_in.root())) as made:
        carry_out(made.store, made.feed, made.window((0, 2)), "before")
        before = made.versions()[name]
        gate.spoil(Fault("is_open", 403, times=10_000, below=f"/{name}/"))
        with pytest.raises(TableUnavailableError):
            carry_out(made.store, made.feed, made.window(HOURS), "refused")
        gate.spoil()
        assert made.versions()[name] == before
        assert not run_until_green(made)
        made.check()


def test_f19_a_refusal_on_open_that_passes_is_red(signed_in: Cloud, gate: Gate) -> None:
    """No table is taken for absent."""
    with World(_busy(2), Container(signed_in.root())) as made:
        carry_out(made.store, made.feed, made.window((0, 2)), "before")
        below = "/instance/_delta_log/_last_checkpoint"
        gate.spoil(Fault("is_open", 403, times=4, below=below))
        assert run_until_green(made) == {"TableUnavailableError": 4}
        gate.spoil()
        made.check()


@pytest.mark.parametrize("every", [2, 3, 5])
def test_f19_a_refusal_of_a_later_look_is_red_or_not_seen(
    signed_in: Cloud, gate: Gate, every: int
) -> None:
    """A handle that cannot be brought up to date is opened anew."""
    with World(_busy(2), Container(signed_in.root())) as made:
        carry_out(made.store, made.feed, made.window((0, 2)), "before")
        gate.spoil(Fault("is_list", 403, times=4, below="/instance/_delta_log/", every=every))
        assert set(run_until_green(made)) <= {"TableUnavailableError"}
        assert gate.spoilt() > 0
        gate.spoil()
        made.check()


@pytest.mark.parametrize("status", [503, RESET])
def test_f19_a_fault_on_open_that_passes_is_not_seen(
    signed_in: Cloud, gate: Gate, status: int
) -> None:
    """The first time that each file of a log, and each list of one, is asked for."""
    with World(_busy(2), Container(signed_in.root())) as made:
        gate.spoil(Fault("is_open", status))
        assert not run_until_green(made)
        assert gate.spoilt() >= 3 * len(WRITTEN)
        gate.spoil()
        made.check()


def test_f20_processes_that_run_the_same_hours_leave_one_truth(signed_in: Cloud) -> None:
    """Three at once, each through every hour in an order of its own; no table exists at first."""
    context = multiprocessing.get_context("spawn")  # Delta's threads do not survive a fork
    with World(_busy(3), Container(signed_in.root())) as made:
        works = [
            context.Process(target=_run_all, args=(made.url, made.root, _windows(made, number)))
            for number in (0, 0, 1)
        ]
        for work in works:
            work.start()
        for work in works:
            work.join(300)
        assert [work.exitcode for work in works] == [0, 0, 0]
        made.check()
