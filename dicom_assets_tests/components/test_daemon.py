"""Under the real daemon: a standstill is made good at one tick, and killed runs leave no hole."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.commands import home
from dicom_assets.defs.partitions import hour_key
from dicom_assets.defs.run_tags import ATTEMPT_TAG, UNFINISHED, tagged_hours
from dicom_assets.emulator.archive import Archive
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.sync import followed, open_hours, reopen
from dicom_assets.window import HOUR, Bounds, Span, Window, floor_hour, ticks_of
from dicom_assets_tests.support.daemon import daemon
from dicom_assets_tests.support.history import alive, header
from dicom_assets_tests.support.processes import environment, slots_taken
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import World, world

LOCATION = "dicom_assets_tests.support.locations.impatient"
STANDSTILL = 30
BEFORE = 6
HOLE = 3
DELAY = timedelta(minutes=15)
FAST = timedelta(hours=2)
"""By so much this machine's clock is ahead of the service's."""
TICK_SECONDS = 150
WAIT_SECONDS = 480
KILLS = [
    f"{table.name} {moment}"
    for table in (CHANGE, INSTANCE, SERIES, STUDY, CHANGE)
    for moment in ("before", "after")
]

pytestmark = [
    pytest.mark.timeout(1200),  # ten runs are killed, and what each left is made good
    # dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]


@dataclass(frozen=True)
class Clinic:
    """A service whose days are told, the tables, and the folder of the Dagster beside them."""

    service: Service
    world: World
    folder: Path
    start: datetime

    def hour(self, number: int) -> datetime:
        """The start of an hour, by number."""
        return self.start + number * HOUR

    def store(self, study: int, hour: int, sop: int = 1) -> None:
        """An instance was stored in an hour."""
        moment = self.hour(hour) + timedelta(minutes=20, seconds=study)
        self.service.archive.store(header(study, sop=sop), at=ticks_of(moment))

    def environment(self) -> dict[str, str]:
        """The settings of the daemon: a tick each minute."""
        return environment(self.folder, self.service) | {
            "DICOM_START_TIME": self.start.isoformat(),
            "DICOM_END_TIME": (self.start + 10_000 * HOUR).isoformat(),
            "DICOM_SCHEDULE": "* * * * *",
        }

    def runs(self, statuses: list[dg.DagsterRunStatus] | None = None) -> list[dg.DagsterRun]:
        """The runs over hours, the oldest first."""
        with dg.DagsterInstance.from_config(str(self.folder / "home")) as instance:
            found = instance.get_runs(dg.RunsFilter(job_name="dicom_tables", statuses=statuses))
        return list(found)[::-1]

    def is_whole(self) -> bool:
        """Whether all tables show every hour that was read, and no run is at work."""
        return not open_hours(self.world.store) and not self.runs(UNFINISHED)


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """Tables that were filled for six hours but one, and then nothing ran for thirty."""
    start = floor_hour(datetime.now(UTC) - FAST - DELAY) - (BEFORE + STANDSTILL) * HOUR
    home.initialise_home(tmp_path / "home")
    with serving(Archive(tmp_path / "archive")) as service:
        service.behind = FAST
        end = start + 10_000 * HOUR
        made = world(service, tmp_path / "tables", start_time=start, end_time=end)
        clinic = Clinic(service, made, tmp_path, start)
        for number in range(BEFORE + STANDSTILL):
            clinic.store(number, number)
        with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
            for first, last in ((0, HOLE - 1), (HOLE + 1, BEFORE - 1)):
                keys = [hour_key(clinic.hour(number)) for number in (first, last)]
                made.run(*keys, instance=instance)
        yield clinic


def _await(what: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "the daemon did not come to it"
        time.sleep(0.5)


def test_a_standstill_is_made_good_at_one_tick_and_killed_runs_leave_no_hole(
    clinic: Clinic,
) -> None:
    """First exactly the missing hours are asked for; then ten runs are killed, each elsewhere.

    In the end no hour is missing, no row is twice, and no slot of the pool is held.
    """
    with daemon(clinic.folder, clinic.environment(), LOCATION):
        # A tick creates its runs one after the other.
        _await(lambda: len(clinic.runs()) > 1, TICK_SECONDS)
        _require_exactly_the_missing_hours(clinic)
        _await(clinic.is_whole)
        assert clinic.world.alive() == alive(clinic.service.archive)
        for number, kill in enumerate(KILLS, start=1):
            _open_hours_again(clinic, number)
            (clinic.folder / "kill").write_text(kill, encoding="utf-8")
            _await(lambda: not (clinic.folder / "kill").exists())
        _await(clinic.is_whole)
        _await(lambda: slots_taken(clinic.folder) == 0)
    _require_every_hour_once(clinic)


def _require_exactly_the_missing_hours(clinic: Clinic) -> None:
    """The hole and the standstill, up to the newest hour closed by the slower of both clocks."""
    asked = {tagged_hours(run.tags) for run in clinic.runs()}
    newest = floor_hour(datetime.now(UTC) - FAST - DELAY) - HOUR
    hole = Span(clinic.hour(HOLE), clinic.hour(HOLE))
    # The hour may have turned between the tick and now.
    assert asked in (
        {hole, Span(clinic.hour(BEFORE), newest)},
        {hole, Span(clinic.hour(BEFORE), newest - HOUR)},
    )
    assert {run.tags[ATTEMPT_TAG] for run in clinic.runs()} == {"1"}


def _open_hours_again(clinic: Clinic, number: int) -> None:
    """Some hours have a late entry, and the audit has found that; no other round has them.

    An hour that is opened while a run is in it fails that run, which is not a kill.
    """
    hours = range(number - 1, BEFORE + STANDSTILL, len(KILLS))
    for hour in hours:
        clinic.store(1_000 + hour, hour, sop=number)
    run = Run("audit", datetime.now(UTC), print)
    reopen(clinic.world.store, [clinic.hour(hour) for hour in hours], run)


def _require_every_hour_once(clinic: Clinic) -> None:
    made = clinic.world
    keys = [tuple(row[name] for name in INSTANCE.key) for row in made.rows(INSTANCE)]
    assert len(keys) == len(set(keys))
    assert made.alive() == alive(clinic.service.archive)
    bounds = Bounds(Window.between(clinic.start, clinic.hour(BEFORE + STANDSTILL)))
    assert len(followed(made.store, bounds)) >= BEFORE + STANDSTILL
    assert not clinic.runs(UNFINISHED)
    assert len(clinic.runs([dg.DagsterRunStatus.FAILURE])) == len(KILLS)
