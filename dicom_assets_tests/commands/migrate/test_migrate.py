"""`dicom-assets migrate`, as a data engineer types it: the template's tables, check to restore.

A service lives through six hours while the template reads each of them. Two of its windows fail,
so that it loses rows and keeps ghosts; the stale rows are its own doing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, QueryBuilder

from dicom_assets.cli import main
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets.feed.rows import RowReader
from dicom_assets.schema import INSTANCE, SERIES, STUDY
from dicom_assets.tables.delta.retry import Run
from dicom_assets.window import Window
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.command import ROOT, complaint, environment, run
from dicom_assets_tests.support.feeds import feed_of
from dicom_assets_tests.support.history import (
    HOURS,
    OTHER_PARTITION,
    START,
    at,
    header,
    renamed,
    series_uid,
    sop_uid,
    study_uid,
)
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.template import INSTANCE as THEIR_INSTANCE
from dicom_assets_tests.support.template import SERIES as THEIR_SERIES
from dicom_assets_tests.support.template import STUDY as THEIR_STUDY
from dicom_assets_tests.support.template import Template, columns
from dicom_assets_tests.support.world import World as DagsterWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dicom_assets.tables.delta.snapshot import Store

CANARY: Final = "PHI^Canary"
GENERATIONS: Final = pytest.mark.parametrize("generation", [1, 2, 3])
WHOLE: Final = Window(at(0) - 7, at(HOURS) - 7)
THEIRS: Final = {"instance": THEIR_INSTANCE[3], "series": THEIR_SERIES, "study": THEIR_STUDY}
# dagster-deltalake's own `str_dict` calls a method that pydantic renamed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated"),
    pytest.mark.timeout(300),  # six hours of the template, then all of ours
]


def _stored(archive: Archive) -> None:
    for place, (series, sop) in enumerate([(1, 1), (1, 2), (2, 1)]):
        archive.store(header(1, series, sop, CANARY), at=at(0, 5, place))
    archive.store(header(2, name=CANARY), at=at(0, 59))


def _updated(archive: Archive) -> None:
    archive.store(header(3, name=CANARY), partition=OTHER_PARTITION, at=at(1))
    archive.update([study_uid(1)], renamed(f"{CANARY}^Second"), at=at(1, 30))


def _emptied(archive: Archive) -> None:
    """The last instance of a study and of a series goes, and the template sees it."""
    archive.delete(study_uid(2), at=at(2, 20))
    archive.delete(study_uid(1), series_uid(1, 2), at=at(2, 30))


def _lost(archive: Archive) -> None:
    """A window that fails: an instance that the template never reads."""
    archive.store(header(4, name=CANARY), at=at(3, 2))


def _lost_again(archive: Archive) -> None:
    """Another one: a delete, which leaves a ghost, and an update."""
    archive.delete(study_uid(1), series_uid(1, 1), sop_uid(1, 1, 2), at=at(4, 3))
    archive.update(
        [study_uid(3)], renamed(f"{CANARY}^Third"), partition=OTHER_PARTITION, at=at(4, 4)
    )


def _expired(archive: Archive) -> None:
    """One that goes without an entry, after the template has read it; and one that is whole."""
    archive.store(header(5, name=CANARY), at=at(5, 1))
    archive.store(header(6, name=CANARY), at=at(5, 2))


_LIFE: Final[tuple[Callable[[Archive], None], ...]] = (
    _stored,
    _updated,
    _emptied,
    _lost,
    _lost_again,
    _expired,
)


@dataclass(frozen=True)
class World:
    """A service, the template's tables in `folder/lake`, and those of a fresh sync beside them."""

    url: str
    folder: Path
    template: Template

    @property
    def lake(self) -> Store:
        """The template's tables."""
        return store_in(self.folder / "lake")

    @property
    def fresh(self) -> Store:
        """Tables that follow the same service from nothing."""
        return store_in(self.folder / "fresh")

    def settings(self, **settings: str) -> dict[str, str]:
        """The environment of the command."""
        return {
            "DICOM_SERVICE_URL": self.url,
            "DICOM_TABLES_URL": str(self.folder / "lake"),
            "DICOM_START_TIME": f"{START:%Y-%m-%dT%H:%M:%SZ}",
            "DICOM_END_TIME": f"{START + timedelta(hours=HOURS):%Y-%m-%dT%H:%M:%SZ}",
            "COLUMNS": "200",
        } | settings

    def command(self, *words: str, **settings: str) -> tuple[int, str]:
        """The exit code, and what the command said; in this process, which has Dagster loaded."""
        done = CliRunner().invoke(main, ["migrate", *words], env=self.settings(**settings))
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert "PHI" not in done.output
        return done.exit_code, re.sub(r"\s+", " ", done.stdout)


_LIVES: Final[dict[int, World]] = {}
"""By generation, for copies: where the first test that asked for it has made it."""


@contextmanager
def _world(folder: Path, generation: int) -> Iterator[World]:
    """A life of six hours, made once, in a folder and under an address of its own."""
    if generation not in _LIVES:
        _LIVES[generation] = _lived(folder / "lived", generation)
    life = _LIVES[generation]
    shutil.copytree(life.folder, folder, dirs_exist_ok=True)
    archive = _archive(folder)
    with server.start(archive) as running:
        yield World(running.url, folder, life.template)
    archive.close()


def _archive(folder: Path) -> Archive:
    return Archive(folder / "archive", external_storage="https://lake.example/dicom")


def _lived(folder: Path, generation: int) -> World:
    """The service has lived, and the template has followed it."""
    archive = _archive(folder)
    template = Template(folder / "lake", generation, batch_size=1)
    with server.start(archive) as running:
        for hour, happens in enumerate(_LIFE):
            happens(archive)
            start = START + timedelta(hours=hour)
            failing = 0 if happens in {_lost, _lost_again} else None
            template.run(running.url, start, start + timedelta(hours=1), fails_at=failing)
        archive.expire(study_uid(5))
    archive.close()
    return World(running.url, folder, template)


def sync(store: Store, url: str, header_columns: str = "string") -> None:
    """All hours have run, as the four assets run them, on two windows."""
    half = at(3) - 7
    with feed_of(url, reader=RowReader(header_columns=header_columns)) as feed:
        for window in (Window(WHOLE.start, half), Window(half, WHOLE.end)):
            run_ = Run("run", datetime.now(UTC))
            steps.add_entries(store, window, feed, run_)
            steps.follow_log(store, window, feed, run_)
            steps.derive(store, SERIES, window, run_)
            steps.derive(store, STUDY, window, run_)


def contents(store: Store) -> dict[str, list[dict[str, Any]]]:
    """The rows of the three tables in all columns but the time of loading, by key."""
    found = {}
    for table in (INSTANCE, SERIES, STUDY):
        names = [name for name in table.names if name != "created_date"]
        rows = store.open(table).rows(names).to_pylist()
        found[table.name] = sorted(rows, key=lambda row: tuple(row.values())[: len(table.key)])
    return found


def old_query(name: str) -> str:
    """What somebody has asked of a table of the third generation for years."""
    return f"SELECT {', '.join(columns(THEIRS[name]))} FROM {name} ORDER BY 1, 2, 3, 4"  # noqa: S608 - constants


def asked(url: str, sql: str, version: int | None = None) -> list[dict[str, Any]]:
    """What Delta's own engine answers of the table `t`."""
    query = QueryBuilder().register("t", DeltaTable(url, version=version))
    found: list[dict[str, Any]] = pa.table(query.execute(sql).read_all()).to_pylist()
    return found


@GENERATIONS
def test_tables_that_were_taken_over_equal_those_of_a_fresh_sync(
    tmp_path: Path, generation: int
) -> None:
    """Check, apply, all hours; then nothing is left of what the template lost, kept or miscounted.

    Old rows can be looked up, and a restore brings them back.
    """
    with _world(tmp_path, generation) as world:
        before = {name: len(table.rows) for name, table in world.template.tables.items()}
        code, said = world.command("check")
        assert code == 0, said
        assert f"template, generation {generation}" in said
        code, said = world.command("apply")
        assert code == 0, said
        sync(world.lake, world.url)
        sync(world.fresh, world.url, "both" if generation == 3 else "string")
    assert contents(world.lake) == contents(world.fresh)
    again = world.command("apply")
    assert again == (0, "Nothing to do: the tables have the form of this project. ")
    _restored(world, said, before)


def _restored(world: World, said: str, before: dict[str, int]) -> None:
    """The lines that the command printed are code, and do what they say."""
    lines = re.findall(r'(DeltaTable\("([^"]+/(\w+))"\)\.restore\((\d+)\))', said)
    assert [name for _, _, name, _ in lines] == ["instance", "series", "study"]
    for line, url, name, version in lines:
        assert int(version) == world.template.tables[name].version
        assert len(asked(url, "SELECT * FROM t", int(version))) == before[name]
        exec(line, {"DeltaTable": DeltaTable})  # noqa: S102 - what somebody would paste
        assert len(asked(url, "SELECT * FROM t")) == before[name]
        assert [f.name for f in DeltaTable(url).schema().fields] == list(
            world.template.tables[name].columns
        )


def test_the_faults_of_the_template_are_all_there(tmp_path: Path) -> None:
    """What the history was made for: lost rows, ghosts, stale rows, a lost update."""
    with _world(tmp_path, 3) as world:
        sync(world.fresh, world.url)
        lake, fresh = contents_of_keys(world.lake), contents_of_keys(world.fresh)
    lost, ghosts = fresh["instance"] - lake["instance"], lake["instance"] - fresh["instance"]
    assert {key[1] for key in lost} == {study_uid(4)}
    assert {key[1] for key in ghosts} == {study_uid(1), study_uid(5)}
    stale = {key[1] for key in lake["study"]} - {key[1] for key in lake["instance"]}
    assert stale == {study_uid(2)}
    assert len({key[1:3] for key in lake["series"]} - {key[1:3] for key in lake["instance"]}) == 2


def contents_of_keys(store: Store) -> dict[str, set[tuple[Any, ...]]]:
    """The keys of the three tables, as they lie."""
    found = {}
    for table, depth in (("instance", 4), ("series", 3), ("study", 2)):
        rows = asked(store.urls[table], "SELECT * FROM t")
        found[table] = {tuple(row.values())[:depth] for row in rows}
    return found


@pytest.mark.parametrize("name", THEIRS)
def test_old_queries_give_the_same_answers(tmp_path: Path, name: str) -> None:
    """By DuckDB, Polars and Delta's own engine: as many columns, in the template's order.

    Where the template was right the row is what it was, but for the header's text.
    """
    with _world(tmp_path, 3) as world:
        theirs = asked(world.lake.urls[name], old_query(name).replace(f"FROM {name}", "FROM t"))
        world.command("apply")
        sync(world.lake, world.url)
    url = world.lake.urls[name]
    by_delta = asked(url, old_query(name).replace(f"FROM {name}", "FROM t"))
    with duckdb.connect() as connection:
        connection.register(name, DeltaTable(url).scan())
        by_duckdb = connection.execute(old_query(name)).fetchall()
    by_polars = pl.SQLContext({name: pl.scan_delta(url)}).execute(old_query(name)).collect()
    names = list(columns(THEIRS[name]))
    assert [list(row) for row in by_delta] == [names] * len(by_delta)
    assert by_polars.columns == names
    assert len(by_duckdb) == len(by_polars) == len(by_delta) == len(contents(world.lake)[name])
    assert _of_study(by_delta, 6) == _of_study(theirs, 6) != []


@pytest.mark.parametrize("generation", [1, 2])
def test_old_names_are_a_view_away(tmp_path: Path, generation: int) -> None:
    """The page's own SQL: each column of the first two generations, its type, and its values."""
    names = columns(THEIR_INSTANCE[generation])
    with _world(tmp_path, generation) as world:
        theirs = asked(world.lake.urls["instance"], "SELECT * FROM t")
        world.command("apply")
        sync(world.lake, world.url)
    page = (ROOT / "docs" / "operate" / "migrating.md").read_text(encoding="utf-8")
    (view,) = re.findall(r"<!-- the view .*?```sql\n(.*?)```", page, re.DOTALL)
    query = f"SELECT {', '.join(names)} FROM instance_by_old_names"  # noqa: S608 - constants
    with duckdb.connect() as connection:
        connection.register("instance", DeltaTable(world.lake.urls["instance"]).scan())
        connection.execute(view.replace("CREATE VIEW", "CREATE TEMP VIEW"))
        found = [dict(zip(names, row, strict=True)) for row in connection.execute(query).fetchall()]
    assert _of_study(found, 6) == _of_study(theirs, 6) != []


def _of_study(rows: list[dict[str, Any]], study: int) -> list[dict[str, Any]]:
    """The rows of a study, without what the template wrote otherwise or at another time."""
    apart = {"metadata_string", "created_date"}
    kept = [row for row in rows if study_uid(study) in row.values()]
    return [{name: v for name, v in row.items() if name not in apart} for row in kept]


# --- the words, the codes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The third generation's tables beside a fresh sync, for tests that only look."""
    with _world(tmp_path_factory.mktemp("migrate"), 3) as world:
        sync(world.fresh, world.url)
        yield world


def test_check_says_what_it_finds_and_what_comes_next(lived: World) -> None:
    """As a process of its own, by DICOM_TABLES_URL; nothing is changed."""
    done = run(lived.folder, "migrate", "check", **lived.settings())
    said = re.sub(r"\s+", " ", done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    for shown in (
        "template, generation 3 │",
        "the map `metadata` is filled, and is filled on",
        "series: 2 rows have no instance any more, and are removed.",
        "5 rows of instance have no sequence",
        "Requests: 1;",
        f"dicom-assets migrate apply {lived.folder / 'lake'}",
    ):
        assert shown in said
    assert "PHI" not in said
    assert study_uid(1) not in said
    assert lived.lake.version(STUDY) == lived.template.tables["study"].version


def test_check_gives_the_same_facts_as_json(lived: World) -> None:
    """For scripts: nothing but JSON on stdout. A root may be named."""
    code, said = lived.command("check", str(lived.folder / "lake"), "--json", DICOM_TABLES_URL="x")
    told: dict[str, Any] = json.loads(said)
    assert (code, told["is_ready"]) == (0, True)
    assert [(t["name"], t["generation"], t["stale"]) for t in told["tables"]] == [
        ("instance", 3, 0),
        ("series", 3, 2),
        ("study", 3, 1),
    ]
    assert told["cost"] == {"rows": 5, "requests": 1, "minutes": pytest.approx(0.5 / 8 / 60)}


def test_a_root_without_tables_is_said(tmp_path: Path) -> None:
    """Somebody has mistyped it: one line, nothing is made."""
    line = complaint(tmp_path, "migrate", "check", "lake")
    assert "there is no table at" in line
    assert "DICOM_INSTANCE_TABLE_PATH" in line
    assert list(tmp_path.iterdir()) == []


def test_while_the_template_writes_nothing_is_taken_over(tmp_path: Path) -> None:
    """Check ends with one and says who; apply refuses."""
    template = Template(tmp_path / "lake", 3)
    template.tables["instance"].commit({}, datetime.now(UTC) - timedelta(minutes=90))
    done = run(tmp_path, "migrate", "check", "lake")
    assert done.returncode == 1
    assert "in the way: Apache-Spark" in done.stdout
    assert "nothing can be yet" in done.stdout
    assert "Stop the trigger in Data Factory" in complaint(tmp_path, "migrate", "apply", "lake")
    assert store_in(tmp_path / "lake").version(INSTANCE) == 0


def test_compare_names_what_the_template_lost_kept_and_miscounted(lived: World) -> None:
    """By day and cause; everything is explained, so it ends with zero."""
    roots = str(lived.folder / "lake"), str(lived.folder / "fresh")
    code, said = lived.command("compare", *roots)
    assert code == 0, said
    for shown in (
        "2024-03-01 │ instance │ ghost of the template │ 2 │",
        "2024-03-01 │ instance │ lost by the template │ 1 │",
        "2024-03-01 │ instance │ update lost by the template │ 1 │",
        "2024-03-01 │ study │ ghost of the template │ 1 │",
        "The template has read up to 2024-03-01 06:00 UTC.",
    ):
        assert shown in said
    assert study_uid(1) not in said


def test_compare_gives_json_and_a_file_of_keys(lived: World, tmp_path: Path) -> None:
    """UIDs are in the file alone, which nobody else may read."""
    roots = str(lived.folder / "lake"), str(lived.folder / "fresh")
    keys = tmp_path / "keys.csv"
    code, said = lived.command("compare", *roots, "--json", "--keys", str(keys))
    told: dict[str, Any] = json.loads(said)
    assert (code, told["is_explained"]) == (0, True)
    assert {
        "table": "instance",
        "day": "2024-03-01",
        "cause": "lost by the template",
        "rows": 1,
    } in (told["differences"])
    assert told["rows"]["instance"] == {"template": 5, "here": 4}
    assert study_uid(4) not in said
    rows = pl.read_csv(keys, infer_schema=False)
    assert len(rows) == sum(d["rows"] for d in told["differences"])
    lost = rows.filter(
        (pl.col("cause") == "lost by the template") & (pl.col("table") == "instance")
    )
    assert lost["sopinstanceuid"].to_list() == [sop_uid(4, 1, 1)]
    assert keys.stat().st_mode & 0o077 == 0


def test_compare_ends_with_one_where_ours_lack_something(lived: World, tmp_path: Path) -> None:
    """Hours that have not run here, and what to do."""
    store = store_in(tmp_path)
    with feed_of(lived.url) as feed:
        run_ = Run("run", datetime.now(UTC))
        steps.add_entries(store, WHOLE, feed, run_)
        window = Window(WHOLE.start, at(1) - 7)
        steps.follow_log(store, window, feed, run_)
        steps.derive(store, SERIES, window, run_)
        steps.derive(store, STUDY, window, run_)
    code, said = lived.command("compare", str(lived.folder / "lake"), str(tmp_path))
    assert code == 1
    assert "instance │ hour not read here │ 2 │" in said
    assert "run the hours of these days again" in said


# --- killed, and through Dagster ------------------------------------------------------------------

_KILLED: Final = """
import os, signal, sys
from dicom_assets.commands.migrate import migration
act = migration._add_columns
def killed(reader):
    if reader.layout.table.name == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    act(reader)
migration._add_columns = killed
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.steps import store_in
from dicom_assets.cli import main
main(["migrate", "apply", "lake"])
"""


@pytest.mark.parametrize("table", ["instance", "series"])
def test_whoever_is_killed_between_two_tables_runs_it_again(tmp_path: Path, table: str) -> None:
    """Dead in the middle of a table, and of all of them; the second command finishes."""
    with _world(tmp_path, 3) as world:
        command = [sys.executable, "-c", _KILLED, table]
        clean = environment(**world.settings()) | {"PYTHONPATH": str(ROOT)}
        died = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, check=False)
        assert died.returncode < 0
        code, said = world.command("apply")
        assert code == 0, said
        sync(world.lake, world.url)
        sync(world.fresh, world.url, "both")
    assert contents(world.lake) == contents(world.fresh)
    told = {
        n: DeltaTable(u).metadata().configuration for n, u in world.lake.urls.items() if n in THEIRS
    }
    assert {n: int(c["dicom_assets.versionBefore"]) for n, c in told.items()} == {
        name: table.version for name, table in world.template.tables.items()
    }


@pytest.mark.parametrize("asked_for", [None, "string"])
def test_dagster_fills_the_map_on_unless_a_setting_says_otherwise(
    tmp_path: Path, asked_for: str | None
) -> None:
    """DICOM_HEADER_COLUMNS unset means: as the table says."""
    from dicom_assets.settings import Settings

    with _world(tmp_path, 3) as world:
        world.command("apply")
        chosen = {} if asked_for is None else {"DICOM_HEADER_COLUMNS": asked_for}
        settings = Settings.from_environment(world.settings(**chosen))
        last = START + timedelta(hours=HOURS - 1)
        DagsterWorld(settings).run(f"{START:%Y-%m-%d-%H:%M}", f"{last:%Y-%m-%d-%H:%M}")
        sync(world.fresh, world.url, "string" if asked_for else "both")
    assert contents(world.lake)["instance"] == contents(world.fresh)["instance"]
