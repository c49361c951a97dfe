"""The plugin `canary` finds a value wherever Dagster could keep one: each place is planted."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import dagster as dg
import pytest

from dicom_assets_tests.support import canary
from dicom_assets_tests.support.canary import MARK, hits_in_home, homes
from dicom_assets_tests.support.processes import copy_home

LEAK = f"{MARK}leak"


@pytest.fixture
def home(fresh_home: Path, tmp_path: Path) -> Iterator[Path]:
    """A DAGSTER_HOME to spoil; it is gone before the session's homes are searched."""
    yield copy_home(fresh_home, tmp_path)
    shutil.rmtree(tmp_path / "home")


PLACES = (
    "asset metadata",
    "cause",
    "check metadata",
    "context",
    "description",
    "log line",
    "partition key",
    "run config",
    "run tag",
)
Leak = Callable[[str], str]
"""The text that is left in a place."""


def _nothing(place: str) -> str:
    return f"nothing in the {place}"


def _leak(place: str) -> str:
    assert place in PLACES
    return f"{LEAK} in the {place}"


def _fail(text: str) -> NoReturn:
    raise ValueError(text)


class _Config(dg.Config):
    patient: str


def _telling(leak: Leak) -> dg.AssetsDefinition:
    @dg.asset(description=leak("description"))
    def telling(context: dg.AssetExecutionContext, config: _Config) -> dg.MaterializeResult[None]:
        context.log.info("read %s", leak("log line"))
        return dg.MaterializeResult(metadata={"newest": leak("asset metadata")})

    return telling


def _compared(leak: Leak) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="telling")
    def compared() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, metadata={"worst": leak("check metadata")})

    return compared


def _with_cause(leak: Leak) -> dg.AssetsDefinition:
    @dg.asset
    def with_cause() -> None:
        try:
            _fail(leak("cause"))
        except ValueError as error:
            raise dg.Failure("the table cannot be written") from error

    return with_cause


def _with_context(leak: Leak) -> dg.AssetsDefinition:
    @dg.asset
    def with_context() -> None:
        try:
            _fail(leak("context"))
        except ValueError:
            raise dg.Failure("the table cannot be written")  # noqa: B904 - the leak is planted

    return with_context


def _run(instance: dg.DagsterInstance, leak: Leak) -> None:
    """One run leaves a text in every place that Dagster has for one."""
    instance.add_dynamic_partitions("studies", [leak("partition key")])
    dg.materialize(
        [_telling(leak), _compared(leak), _with_cause(leak), _with_context(leak)],
        instance=instance,
        tags={"study": leak("run tag")},
        run_config={"ops": {"telling": {"config": {"patient": leak("run config")}}}},
        raise_on_error=False,
    )


@pytest.fixture(scope="module")
def in_home(fresh_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What is found in a home where Dagster has kept a leak in every place, and only there."""
    home = copy_home(fresh_home, tmp_path_factory.mktemp("planted"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        _run(instance, _nothing)
        assert hits_in_home(home) == []
        _run(instance, _leak)
    yield "\n".join(hits_in_home(home))
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def in_memory() -> str:
    """What is found on its way to an instance in memory, which leaves no file."""
    canary._written.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        _run(instance, _nothing)
        assert canary._written == []
        _run(instance, _leak)
    return "\n".join(canary._written)


@pytest.mark.shows_patients("it is planted, so that it is found")
@pytest.mark.parametrize("place", PLACES)
def test_a_planted_value_is_found(place: str, in_home: str, in_memory: str) -> None:
    """Each by its own name; where nothing is planted, nothing is found."""
    assert _leak(place) in in_home
    assert _leak(place) in in_memory


def _in_pieces(place: int) -> bytes:
    """A database of small pages with one long text that holds the leak at a place."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("CREATE TABLE event (body TEXT)")
        database.execute(
            "INSERT INTO event VALUES (?)", ["x" * place + LEAK + "x" * (1024 - place)]
        )
        database.commit()
        return database.serialize()


def test_a_value_is_found_that_lies_in_two_pages(home: Path) -> None:
    """A long text is cut where a page ends: its file does not hold the word, its rows do."""
    file = home / "history" / "planted.db"
    cut = (made for made in map(_in_pieces, range(512)) if LEAK.encode() not in made)
    file.write_bytes(next(cut))
    assert any(LEAK in hit for hit in hits_in_home(home))


def test_a_value_is_found_that_is_in_the_write_ahead_log_only(home: Path) -> None:
    """A process that was killed leaves its last rows there."""
    with closing(sqlite3.connect(home / "history" / "planted.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        with database:
            database.execute("CREATE TABLE event (body TEXT)")
            database.execute("INSERT INTO event VALUES (?)", [LEAK])
        assert any("planted.db-wal" in hit for hit in hits_in_home(home))


def test_a_value_is_found_in_what_a_step_printed(home: Path) -> None:
    """Dagster keeps the output of steps in files."""
    file = home / "storage" / "run" / "compute_logs" / "step.err"
    file.parent.mkdir(parents=True)
    file.write_text(f"Traceback: {LEAK}", encoding="utf-8")
    assert any(str(file) in hit for hit in hits_in_home(home))


def test_tables_and_archives_in_a_home_hold_patients_rightly(home: Path) -> None:
    """Some tests keep them side by side."""
    for name in ("tables/instance/_delta_log/0.json", "archive/archive.sqlite"):
        file = home / name
        file.parent.mkdir(parents=True)
        file.write_text(LEAK, encoding="utf-8")
    assert hits_in_home(home) == []


def test_homes_are_found_however_they_were_made(home: Path, tmp_path: Path) -> None:
    """By our command, by Dagster's own without a dagster.yaml; the code itself is none."""
    (tmp_path / "theirs" / "history").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    for name in ("dagster.yaml", "__init__.py"):
        (tmp_path / "code" / name).touch()
    assert set(homes(tmp_path)) == {home, tmp_path / "theirs"}
