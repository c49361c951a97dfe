"""What tables live through before others read them: each step leaves a copy, and our reading of it.

Two roots: one that is ours from the first hour on, through updates, deletes, added columns and
nights of maintenance, and one that Data Factory's template began. Values are odd where the
standard lets them be, names of data partitions wherever the service does.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import dagster as dg
import pytest

from dicom_assets.commands.migrate import migration
from dicom_assets.emulator.archive import Archive, InstanceKey
from dicom_assets.schema import REJECTED
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep import compaction, maintenance
from dicom_assets_tests.support.history import (
    KEYS,
    START,
    alive,
    at,
    header,
    renamed,
    series_uid,
    sop_uid,
    study_uid,
)
from dicom_assets_tests.support.maintained import age
from dicom_assets_tests.support.names import COLUMNS_JOB
from dicom_assets_tests.support.template import Template
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import World, world

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

PARTITIONS: Final = ("Microsoft.Default", "007", "1e5", "2024-02-30", "null", "__.-..")
"""Names that a reader may take for numbers, dates, nothing, or something hidden."""
TEXTS: Final = (
    "",
    " ",
    "a\\b",
    "\"'`",
    "zwei\nZeilen",
    "Größe 漢字 😀",
    "NULL",
    "\\N",
    "x" * 3_000,
)
DAYS: Final = ("19000101", "19691231", "20240229", "20991231")
FAR_DAYS: Final = ("00010101", "15821010", "15821015", "99991231")
"""Days that the standard allows and some engines have no room for. The first two become null."""
TIMES: Final = ("000000", "235959.999999", "123456.000001")
COLUMNS: Final = """
packs = ["ct", "names"]

[[columns]]
path = "InstanceCreationDate"
type = "date32"

[[columns]]
path = "SmallestImagePixelValue"
name = "meanSmallest"
level = "series"
aggregate = "mean"
"""
FILES_OF_A_NIGHT: Final = 2
OLD_DAYS: Final = 40


@dataclass(frozen=True)
class Step:
    """The tables after a step: their root, and of each the rows that we read."""

    name: str
    root: Path
    ours: Mapping[str, pa.Table]


@dataclass
class Life:
    """A service, the tables that follow it, and the steps so far."""

    service: Service
    world: World
    folder: Path
    steps: dict[str, Step] = field(default_factory=dict)

    def keep(self, name: str) -> None:
        """What there is now is kept as a step; `instance` holds exactly what is live."""
        store, root = self.world.store, self.folder / name
        refused = {row["sequence"] for row in self.world.rows(REJECTED)}
        live = {each for each in alive(self.service.archive) if each[4] not in refused}
        assert self.world.alive() == live, name
        shutil.copytree(self.world.settings.tables_url, root)
        snapshots = [store.open(table) for table in TABLES]
        ours = {s.table.name: s.rows() for s in snapshots if s.delta is not None}
        self.steps[name] = Step(name, root, ours)

    def run(self, hour: int) -> None:
        """An hour is in the tables."""
        self.world.run(KEYS[hour])


def instance(number: int, study: int, day: str = DAYS[2], sop: int = 1) -> dict[str, Any]:
    """The header of an instance whose values are odd, by number."""
    text, time = TEXTS[number % len(TEXTS)], TIMES[number % len(TIMES)]
    return header(study, series=1 + number % 2, sop=sop) | {
        "00080020": {"vr": "DA", "Value": [day]},
        "00080030": {"vr": "TM", "Value": [time]},
        "00080201": {"vr": "SH", "Value": ["-0330"]},
        "00080060": {"vr": "CS", "Value": [("CT", "MR", "PT")[number % 3]]},
        "00081030": {"vr": "LO", "Value": [text]},
        "00081010": {"vr": "SH"},
        # Without an alphabetic group: a name to us, a text without letters to the template.
        "00080090": {"vr": "PN", "Value": [{"Ideographic": "PHI-漢字"}]},
        "00280030": {"vr": "DS", "Value": [0.1 + number, 1e-300]},
        "00280106": {"vr": "US", "Value": [number]},
        "00080012": {"vr": "DA", "Value": [day]},
    }


def _created(life: Life) -> None:
    archive = life.service.archive
    for number in range(len(TEXTS)):
        archive.store(instance(number, 1 + number // 2, sop=number + 1), at=at(0, 5, number))
    for number, day in enumerate((*DAYS, *FAR_DAYS)):
        archive.store(instance(number, 20 + number, day), at=at(0, 20, number))
    life.run(0)


def _partitions(life: Life) -> None:
    for number, partition in enumerate(PARTITIONS):
        life.service.archive.store(instance(number, 40), partition=partition, at=at(1, 0, number))
    # Beyond what a double tells apart.
    life.service.archive.skip_sequences(2**53)
    life.service.archive.store(instance(3, 41), partition=PARTITIONS[1], at=at(1, 59, 59))
    life.run(1)


def _updated(life: Life) -> None:
    archive = life.service.archive
    archive.update([study_uid(1), study_uid(2)], renamed("PHI-Second"), at=at(2, 1))
    archive.update([study_uid(40)], renamed("PHI-Else"), partition=PARTITIONS[3], at=at(2, 2))
    life.run(2)


def _deleted(life: Life) -> None:
    archive = life.service.archive
    archive.delete(study_uid(1), series_uid(1, 2), sop_uid(1, 2, 2), at=at(3, 1))
    archive.delete(study_uid(3), at=at(3, 2))
    archive.delete(study_uid(40), partition=PARTITIONS[2], at=at(3, 3))
    life.run(3)


def _rejected(life: Life) -> None:
    of = InstanceKey(PARTITIONS[0], study_uid(50), series_uid(50, 1), sop_uid(50, 1, 9))
    (sequence,) = life.service.archive.put(instance(2, 50), key=of, at=at(3, 30))
    assert sequence > 2**53
    life.run(3)


def _widened(life: Life) -> None:
    """New rows have the columns, old ones not yet."""
    file = life.folder / "columns.toml"
    file.write_text(COLUMNS, encoding="utf-8")
    life.world = World(replace(life.world.settings, columns_file=str(file)))
    archive = life.service.archive
    archive.store(instance(5, 60), partition=PARTITIONS[5], at=at(4, 1))
    archive.update([study_uid(2)], renamed("PHI-Third"), at=at(4, 2))
    life.run(4)


def _filled(life: Life) -> None:
    with dg.DagsterInstance.ephemeral() as scratch:
        job = life.world.definitions.resolve_job_def(COLUMNS_JOB)
        assert job.execute_in_process(instance=scratch).success


def _compacted(life: Life) -> None:
    """Files have rested, and two are enough for a new one; the log has a checkpoint."""
    told = _maintained(life, 8)
    assert told["compacted"] > told["written"] > 0
    assert told["checkpoints"] > 0


def _cleaned(life: Life) -> None:
    """Old files are gone, and commits before the checkpoint."""
    told = _maintained(life, OLD_DAYS)
    assert min(told[n] for n in ("files_removed", "log_entries_removed")) > 0


def _maintained(life: Life, days: int) -> dict[str, int]:
    store, run = life.world.store, Run("night", datetime.now(UTC))
    totals: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "LEAST_FILES", FILES_OF_A_NIGHT)
        for table in TABLES:
            age(store, table, days)
            for name, count in maintenance.maintain(store, table, run).totals.items():
                totals[name] = totals.get(name, 0) + count
    return totals


def _gone_on(life: Life) -> None:
    """Commits on top of a checkpoint, with updates and deletes of what was compacted."""
    archive = life.service.archive
    archive.store(instance(7, 70), at=at(5, 1))
    archive.update([study_uid(20)], renamed("PHI-Fourth"), at=at(5, 2))
    archive.delete(study_uid(21), at=at(5, 3))
    life.run(5)


STEPS: Final[dict[str, Callable[[Life], None]]] = {
    "created": _created,
    "partitions": _partitions,
    "updated": _updated,
    "deleted": _deleted,
    "rejected": _rejected,
    "widened": _widened,
    "filled": _filled,
    "compacted": _compacted,
    "cleaned": _cleaned,
    "gone_on": _gone_on,
}
TAKEN: Final = ("taken_over", "followed")
"""The steps of the other root: rows as the template wrote them, then as ours."""


def lived(folder: Path) -> dict[str, Step]:
    """The tables have lived through all steps; returns them by name."""
    with serving(Archive(folder / "archive")) as service:
        plain = world(service, folder / "tables").settings
        life = Life(service, World(replace(plain, header_columns="both")), folder)
        for name, happens in STEPS.items():
            happens(life)
            life.keep(name)
    return life.steps


def taken_over(folder: Path) -> dict[str, Step]:
    """Tables of the template's third generation are ours, before and after our first run."""
    archive = Archive(folder / "archive", external_storage="https://lake.example/dicom")
    with serving(archive) as service:
        life = Life(service, world(service, folder / "tables"), folder)
        template = Template(folder / "tables", batch_size=2)
        for number, partition in enumerate(PARTITIONS):
            given = instance(number, 1 + number)
            service.archive.store(given, partition=partition, at=at(0, number))
        template.run(service.url, START, START + timedelta(hours=1))
        migration.take_over_tables(life.world.store, datetime.now(UTC))
        snapshots = [life.world.store.open(table) for table in TABLES]
        ours = {s.table.name: s.rows() for s in snapshots if s.delta is not None}
        shutil.copytree(folder / "tables", folder / TAKEN[0])
        life.steps[TAKEN[0]] = Step(TAKEN[0], folder / TAKEN[0], ours)
        service.archive.update([study_uid(1)], renamed("PHI-Second"), at=at(1, 1))
        life.world.run(KEYS[0], KEYS[1])
        life.keep(TAKEN[1])
    return life.steps
