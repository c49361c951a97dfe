"""A run that is killed leaves nothing that the next one does not heal, and blocks nobody."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from dicom_assets_tests.support.history import ROOT_UID, alive
from dicom_assets_tests.support.processes import (
    copy_home,
    environment,
    finish,
    slots_taken,
    start,
    statuses,
    with_former_yaml,
)
from dicom_assets_tests.support.samples import SOAK
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

# Each run after the first has to heal what the one before left, and dies a step further on.
KILLS = ("change after", "instance before", "series after", "study before")

pytestmark = [
    pytest.mark.timeout(400),  # up to five processes of Dagster, on a busy machine
    # dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]


def _right(made: World, filled: World, service: Service) -> None:
    assert made.alive() == alive(service.archive)
    assert made.contents() == filled.contents()


@pytest.mark.parametrize("former", [False, True], ids=["today", "0.2"])
def test_a_run_killed_in_any_step_is_healed_by_the_next(
    service: Service, filled: World, fresh_home: Path, tmp_path: Path, *, former: bool
) -> None:
    """Four kills, one in every step, before or after its commit; the last run is green.

    With the dagster.yaml of 0.2 every run finds the pool's only slot held by the dead one before
    it, and goes on all the same. The dead are reported as failed.
    """
    home = copy_home(fresh_home, tmp_path)
    if former:
        with_former_yaml(home)
    environ = environment(tmp_path, service)
    # Each run of 0.2 is held up alike.
    kills = KILLS[:1] if former and not SOAK else KILLS
    for kill in kills:
        (tmp_path / "kill").write_text(kill, encoding="utf-8")
        ((code, output),) = finish([start(tmp_path, environ, "killed")])
        assert code == -signal.SIGKILL, output[-3000:]
        assert not (tmp_path / "kill").exists(), f"the run did not come to {kill}"
        assert slots_taken(tmp_path) == former
    ((code, output),) = finish([start(tmp_path, environ, "killed")])
    assert code == 0, output[-3000:]
    assert statuses(tmp_path) == ["FAILURE"] * len(kills) + ["SUCCESS"]
    assert slots_taken(tmp_path) == 0
    _right(world(service, tmp_path / "tables"), filled, service)
    assert ROOT_UID not in output
    kept = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert [path for path in kept if ROOT_UID.encode() in path.read_bytes()] == []


def test_two_runs_at_once_are_both_green(
    service: Service, filled: World, fresh_home: Path, tmp_path: Path
) -> None:
    """Two processes over the same hours, by hand: neither waits, and the tables are right."""
    copy_home(fresh_home, tmp_path)
    environ = environment(tmp_path, service)
    ended = finish([start(tmp_path, environ, "killed") for _ in range(2)])
    assert [code for code, _ in ended] == [0, 0], [output[-3000:] for _, output in ended]
    assert statuses(tmp_path) == ["SUCCESS", "SUCCESS"]
    assert slots_taken(tmp_path) == 0
    _right(world(service, tmp_path / "tables"), filled, service)


def test_a_run_by_hand_works_beside_one_that_does_not_end(
    service: Service, filled: World, fresh_home: Path, tmp_path: Path
) -> None:
    """There is no daemon. The second is green while the first waits, which then is green too."""
    copy_home(fresh_home, tmp_path)
    environ = environment(tmp_path, service)
    (tmp_path / "hold").touch()
    first = start(tmp_path, environ, "held")
    try:
        while not (tmp_path / "held").exists():
            assert first.poll() is None
            time.sleep(0.2)
        waiting = psutil.Process(first.pid)
        begun, used = time.monotonic(), sum(waiting.cpu_times()[:2])
        ((code, output),) = finish([start(tmp_path, environ, "held")])
        assert code == 0, output[-3000:]
        assert first.poll() is None
        spent = (sum(waiting.cpu_times()[:2]) - used) / (time.monotonic() - begun)
        print(f"{spent:.3f} s of the processor per second of waiting")  # noqa: T201 - measured
    finally:
        (tmp_path / "held").unlink(missing_ok=True)
        ((code, output),) = finish([first])
    assert code == 0, output[-3000:]
    assert statuses(tmp_path) == ["SUCCESS", "SUCCESS"]
    _right(world(service, tmp_path / "tables"), filled, service)


def test_another_locations_executor_runs_the_steps_in_processes(
    service: Service, filled: World, fresh_home: Path, tmp_path: Path
) -> None:
    """Merged under a prefix into a location whose executor starts a process for each step."""
    copy_home(fresh_home, tmp_path)
    environ = environment(tmp_path, service)
    ((code, output),) = finish([start(tmp_path, environ, "foreign", "imaging", "pacs")])
    assert code == 0, output[-3000:]
    assert statuses(tmp_path) == ["SUCCESS"]
    assert slots_taken(tmp_path) == 0
    _right(world(service, tmp_path / "tables"), filled, service)
