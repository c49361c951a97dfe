"""The plugin `canary` finds a value wherever Dagster could keep one: each place is planted."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets_tests.support import canary
from dicom_assets_tests.support.canary import MARK, hits_in_home, homes
from dicom_assets_tests.support.processes import copy_home

LEAK = f"{MARK}leak"
PLACES = ("cause", "description", "log line", "metadata", "partition key", "run tag")


@pytest.fixture
def home(fresh_home: Path, tmp_path: Path) -> Iterator[Path]:
    """A DAGSTER_HOME to spoil; it is gone before the session's homes are searched."""
    yield copy_home(fresh_home, tmp_path)
    shutil.rmtree(tmp_path / "home")


@dg.asset(description=f"{LEAK} in the description")
def telling(context: dg.AssetExecutionContext) -> None:
    """Fail, with a value in every place that an asset has for one."""
    context.log.info("%s in the log line", LEAK)
    metadata = {"newest": f"{LEAK} in the metadata"}
    raise dg.Failure("failed", metadata=metadata) from ValueError(f"{LEAK} in the cause")


def _run(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("studies", [f"{LEAK} in the partition key"])
    tags = {"study": f"{LEAK} in the run tag"}
    dg.materialize([telling], instance=instance, tags=tags, raise_on_error=False)


@pytest.mark.shows_patients("it is planted, so that it is found")
def test_a_planted_value_is_found(home: Path) -> None:
    """In the files of a home, and on its way to an instance in memory, which leaves none."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert hits_in_home(home) == []
        _run(instance)
    canary._written.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        _run(instance)
    for leaks in map(str, (hits_in_home(home), canary._written)):
        assert [place for place in PLACES if f"{LEAK} in the {place}" not in leaks] == []


def _in_pieces(place: int) -> bytes:
    """Return a database of small pages with one long text that holds the leak at a place."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("CREATE TABLE event (body TEXT)")
        text = "x" * place + LEAK + "x" * (1024 - place)
        database.execute("INSERT INTO event VALUES (?)", [text])
        database.commit()
        return database.serialize()


def test_a_value_is_found_in_any_file_of_a_home(home: Path) -> None:
    """Cut in two by the pages of a database; in a write-ahead log; in the output of a step."""
    cut, log = home / "history" / "cut.db", home / "history" / "log.db"
    cut.write_bytes(next(made for made in map(_in_pieces, range(512)) if LEAK.encode() not in made))
    step = home / "storage" / "run" / "compute_logs" / "step.err"
    step.parent.mkdir(parents=True)
    step.write_text(f"Traceback: {LEAK}", encoding="utf-8")
    with closing(sqlite3.connect(log)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        with database:
            database.execute("CREATE TABLE event (body TEXT)")
            database.execute("INSERT INTO event VALUES (?)", [LEAK])
        leaks = "\n".join(hits_in_home(home))
    assert [file for file in (cut, f"{log}-wal", step) if f"{file}: " not in leaks] == []


def test_homes_are_found_without_tables_and_archives(home: Path, tmp_path: Path) -> None:
    """With or without a dagster.yaml; tables and archives in them hold patients rightly."""
    for name in ("tables/instance/_delta_log/0.json", "archive/archive.sqlite"):
        file = home / name
        file.parent.mkdir(parents=True)
        file.write_text(LEAK, encoding="utf-8")
    assert hits_in_home(home) == []
    (tmp_path / "theirs" / "history").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    for name in ("dagster.yaml", "__init__.py"):
        (tmp_path / "code" / name).touch()
    assert set(homes(tmp_path)) == {home, tmp_path / "theirs"}
