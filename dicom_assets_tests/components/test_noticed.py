"""Histories in which somebody meddles with settings, tables, logs or rows: nothing is silent.

A history is loaded by the schedule. Then somebody changes a setting, removes a table or a version,
or writes to a table. From there on a daemon and a person go on: the checks run, what the schedule
and the sensor request is carried out, and the person does what a failed check's remedy says. In the
end the tables are what the oracle says. If they were not right all the time, something said so.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from deltalake import DeltaTable, write_deltalake

from dicom_assets.commands.home import initialise_home
from dicom_assets.defs.schedules import slices
from dicom_assets.errors import NotYetError
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep.narrowing import remove_unwanted
from dicom_assets.tables.upkeep.repair import find_foreign_rows, repair_table
from dicom_assets.window import datetime_of
from dicom_assets_tests.property import world
from dicom_assets_tests.property.histories import PARTITIONS
from dicom_assets_tests.support.names import AUDIT, DAILY, HOURLY, JOB, REOPENED
from dicom_assets_tests.support.samples import TIMES
from dicom_assets_tests.support.ticks import carry_out, tick
from dicom_assets_tests.support.world import World as Project

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicom_assets_tests.property.oracle import Span

# dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated")
# A round is a look of all checks, the remedies, and the runs that are requested after them.
ROUNDS = 6
# Checks of the values, which are odd in these histories, and of the machine.
OTHERS = {"future", "parsing", "rates", "growth"}


@dataclass
class House:
    """The tables of one archive, the Dagster that looks after them, and a person who reads."""

    made: world.World
    instance: dg.DagsterInstance
    partitions: tuple[str, ...] | None
    said: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    @property
    def root(self) -> Path:
        """The folder of the tables."""
        return Path(str(self.made.root))

    @property
    def span(self) -> Span:
        """What the tables have to show."""
        kept = None if self.partitions is None else frozenset(self.partitions)
        return self.made.scenario.span()._replace(partitions=kept)

    @property
    def project(self) -> Project:
        """The definitions for the settings of now."""
        span = self.span
        return Project(
            Settings(
                service_url=self.made.url,
                batch_size=7,
                start_time=datetime_of(span.start),
                end_time=datetime_of(span.end),
                tables_url=str(self.root),
                retry_seconds=5,
                data_partitions=self.partitions,
            )
        )

    def is_right(self) -> bool:
        """Whether the tables are what the oracle says."""
        try:
            world.compare(self.root, self.made.told, self.span, self.made.url)
        except (AssertionError, KeyError):
            return False
        return True

    def round(self) -> bool:
        """Look, mend and run once; return whether anything was said or requested."""
        before = len(self.said)
        project = self.project
        for job in (HOURLY, DAILY, AUDIT):
            self._look(project, job.job)
        return self._run(project) or len(self.said) > before

    def _look(self, project: Project, job: str) -> None:
        result = project.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False
        )
        self.said += [f"{job} is red" for e in result.all_events if e.is_step_failure]
        for evaluation in result.get_asset_check_evaluations():
            if not evaluation.passed and evaluation.check_name not in OTHERS:
                self.said.append(evaluation.check_name)
                self._mend(project, evaluation.check_name)

    def _mend(self, project: Project, check: str) -> None:
        """Do what the remedy of a failed check says, where a person has to do something."""
        run = Run("remedy", datetime.now(UTC))
        if check == "commits":
            for table in project.store.tables.values():
                everything = table.name in self.lost
                found = find_foreign_rows(project.store, table, everything=everything)
                # A table may have to wait for hours that a run reads first: tried again then.
                with suppress(NotYetError):
                    repair_table(project.store, found, run)
        if check == "data_partitions" and self.partitions is not None:
            remove_unwanted(project.store, frozenset(self.partitions), run)

    def _run(self, project: Project) -> bool:
        moment = datetime_of(self.span.end) + timedelta(hours=1)
        repository = project.definitions.get_repository_def()
        sensor = repository.get_sensor_def(REOPENED)
        with dg.build_sensor_context(instance=self.instance, repository_def=repository) as context:
            reopened = list(sensor.evaluate_tick(context).run_requests or ())
        requested = [*reopened, *([] if reopened else tick(project, self.instance, moment))]
        for request in requested:
            self.said.append(f"{JOB} is requested")
            if not carry_out(project, self.instance, request):
                self.said.append(f"{JOB} is red")
        return bool(requested)

    def rest(self) -> None:
        """Rounds until nothing is said."""
        for _ in range(ROUNDS):
            if not self.round():
                return


def table_of(house: House, name: str) -> DeltaTable:
    """A table as another program opens it."""
    return DeltaTable(str(house.root / name))


def widen(house: House, _: Random) -> None:
    """All data partitions are kept from now on."""
    house.partitions = None


def narrow(house: House, _: Random) -> None:
    """One data partition is kept from now on."""
    house.partitions = PARTITIONS[:1]


def remove_tables(house: House, random: Random) -> None:
    """The folders of some tables are gone."""
    names = ["change", "instance", "series", "study"]
    for name in random.sample(names, random.choice((1, 1, 2, 4))):
        shutil.rmtree(house.root / name, ignore_errors=True)


def lose_commits(house: House, random: Random) -> None:
    """The newest commits of a table are gone."""
    name = random.choice(("change", "instance", "series", "study"))
    log = house.root / name / "_delta_log"
    commits = sorted(log.glob("*.json"))
    if len(commits) > 1:
        commits[-1].unlink()
        house.lost.add(name)


def restore(house: House, random: Random) -> None:
    """An older version of a table is restored."""
    name = random.choice(("change", "instance", "series", "study"))
    with suppress(Exception):
        table = table_of(house, name)
        table.restore(random.randrange(table.version()) if table.version() else 0)


def rename_patients(house: House, _: Random) -> None:
    """Somebody updates a column of all rows."""
    with suppress(Exception):
        table_of(house, "instance").update(updates={"patientname": "'SOMEBODY'"})


def raise_sequences(house: House, _: Random) -> None:
    """Somebody raises the sequences of all rows."""
    table_of(house, "instance").update(updates={"sequence": "sequence + 1000000"})


def delete_rows(house: House, random: Random) -> None:
    """Somebody deletes rows."""
    name = random.choice(("change", "instance", "series", "study"))
    column = {"change": "sequence", "instance": "sequence", "series": "instanceCount"}.get(
        name, "instanceCount"
    )
    table_of(house, name).delete(f'"{column}" % 2 = {random.randrange(2)}')


def insert_ghosts(house: House, random: Random) -> None:
    """Somebody appends the rows of a study that never was."""
    name, column = random.choice((("instance", "studyinstanceuid"), ("series", "studyInstanceUid")))
    rows = table_of(house, name).to_pyarrow_table()
    if rows.num_rows:
        at = rows.schema.get_field_index(column)
        ghosts = rows.set_column(at, rows.schema.field(at), [["1.2.3.999"] * rows.num_rows])
        write_deltalake(str(house.root / name), ghosts, mode="append")


MEDDLING: dict[str, Callable[[House, Random], None]] = {
    f.__name__: f
    for f in (
        widen,
        narrow,
        remove_tables,
        lose_commits,
        restore,
        rename_patients,
        raise_sequences,
        delete_rows,
        insert_ghosts,
    )
}


@pytest.mark.timeout(600)  # a dozen runs of Dagster
# One of each kind; FAULTS of each in `make soak`.
@pytest.mark.parametrize("seed", range(len(MEDDLING) * TIMES))
def test_what_somebody_did_is_noticed_and_mended(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checks, the schedule, the sensor and the commands that the remedies name."""
    # The time between two rounds is over at once.
    monkeypatch.setattr(slices, "FIRST_REST", timedelta(0))
    random = Random(seed)
    kind = list(MEDDLING)[seed % len(MEDDLING)]
    scenario = replace(
        world.scenario_of(random, moves=False), clip=False, partitions=None, between=()
    )
    kept = PARTITIONS[:1] if kind == "widen" else None
    home = initialise_home(tmp_path / "home")
    with dg.DagsterInstance.from_config(str(home)) as instance, world.World(scenario) as made:
        house = House(made, instance, kept)
        house.rest()
        assert house.is_right(), f"not right before {kind}: {house.said}"
        house.said.clear()
        MEDDLING[kind](house, random)
        was_right = house.is_right()
        house.rest()
        world.compare(house.root, made.told, house.span, made.url)
        assert was_right or house.said, f"{kind} was silent"
        house.said.clear()
        house.rest()
        assert house.said == [], "it does not come to rest"
