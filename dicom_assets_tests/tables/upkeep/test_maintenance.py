"""A night: what is removed, what stays, and what the log holds afterwards."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from dicom_assets.errors import ConflictError, SettingsError
from dicom_assets.feed_contract import Key
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SYNC, Table
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta import commit, files
from dicom_assets.tables.delta.commit import RETENTION, STATISTICS, Difference
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.join import join
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep import maintenance
from dicom_assets.tables.upkeep.maintenance import maintain
from dicom_assets_tests.support.maintained import HOURS, PATIENT, age, rows_of
from dicom_assets_tests.support.once import made_once
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import insert, instances, key, row

RETAINED_DAYS = 30


def night(store: Store, table: Table = INSTANCE, days: float = 0) -> dict[str, int]:
    """A night so many days from now; returns its numbers."""
    run = Run("night", datetime.now(UTC) + timedelta(days=days))
    return dict(maintain(store, table, run).totals)


def parquet(store: Store, table: Table = INSTANCE) -> set[str]:
    """The Parquet files outside the log, whether or not the table names them."""
    root = Path(store.urls[table.name])
    found = {str(path.relative_to(root)) for path in root.rglob("*.parquet")}
    return {path for path in found if not path.startswith("_delta_log")}


def live(store: Store, table: Table = INSTANCE) -> set[str]:
    """The files of the newest version."""
    return {file.path for file in data_files(store.open(table))}


def log_of(store: Store, table: Table, pattern: str = "*") -> list[str]:
    """The names in the log."""
    return sorted(p.name for p in (Path(store.urls[table.name]) / "_delta_log").glob(pattern))


# --- a whole night --------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_a_night_leaves_the_rows_and_says_what_it_did(store: Store, table: Table) -> None:
    """Compacted, and five weeks later the old files are gone; a foreign reader agrees."""
    before, files = rows_of(store, table), len(live(store, table))
    age(store, table, 8)
    told = night(store, table)
    assert (told["files_before"], told["files_after"], told["compacted"]) == (files, 1, files)
    assert told["bytes_after"] == sum(f.size for f in data_files(store.open(table)))
    assert rows_of(store, table) == before
    age(store, table, RETAINED_DAYS + 5)
    told = night(store, table)
    assert told["files_removed"] >= files
    assert told["bytes_removed"] > 0
    assert parquet(store, table) == live(store, table)
    assert rows_of(store, table) == before
    theirs = pl.read_delta(store.urls[table.name]).select(table.names).to_dicts()
    assert sorted(map(repr, theirs)) == sorted(map(repr, before))


def test_a_second_night_changes_nothing(store: Store) -> None:
    """No version, no file."""
    night(store, days=8)
    version, files = store.version(INSTANCE), parquet(store)
    told = night(store, days=8)
    unchanged = ("compacted", "files_removed", "checkpoints", "log_entries_removed")
    assert [told[name] for name in unchanged] == [0] * 4
    assert (store.version(INSTANCE), parquet(store)) == (version, files)


def test_an_absent_table_stays_absent(tmp_path: Path) -> None:
    """Nothing is made of nothing."""
    told = night(store_in(tmp_path), CHANGE)
    assert set(told.values()) == {0}
    assert not (tmp_path / "change").exists()


# --- what the table says of itself ----------------------------------------------------------------


@pytest.mark.parametrize("hours", [167, 0, -1])
def test_less_than_a_week_is_refused(store: Store, hours: int) -> None:
    """Here too, whoever made the store; nothing is changed."""
    version = store.version(INSTANCE)
    with pytest.raises(SettingsError, match="Set it to a whole number of at least 168"):
        night(replace(store, retention_hours=hours))
    assert store.version(INSTANCE) == version


def test_the_table_follows_the_setting(store: Store) -> None:
    """Longer and shorter; other engines vacuum by what the table says."""
    for hours in (168, 2_000):
        night(replace(store, retention_hours=hours))
        told = DeltaTable(store.urls["instance"]).metadata().configuration
        assert told[RETENTION] == f"interval {hours} hours"


def test_a_table_without_our_properties_gets_them_and_keeps_its_owners(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was taken over, or made by a release before."""
    monkeypatch.setattr(
        commit, "table_properties", lambda *_: {"delta.logRetentionDuration": "interval 400 days"}
    )
    url = store.urls["instance"]
    shutil.rmtree(url)
    insert(store, INSTANCE, [row(1)])
    monkeypatch.undo()
    night(store)
    told = DeltaTable(url).metadata().configuration
    assert told["delta.logRetentionDuration"] == "interval 400 days"
    assert told[RETENTION] == "interval 720 hours"
    assert "studyinstanceuid" in told[STATISTICS]
    assert DeltaTable(url).protocol().min_writer_version == 2


@pytest.mark.parametrize(("now", "then"), [("100", "10"), ("7", "7")], ids=["ours", "the owner's"])
def test_the_interval_of_checkpoints_that_an_earlier_release_wrote_is_shortened(
    store: Store, now: str, then: str
) -> None:
    """Any other value is somebody's choice."""
    url = store.urls["instance"]
    DeltaTable(url).alter.set_table_properties({"delta.checkpointInterval": now})
    night(store)
    assert DeltaTable(url).metadata().configuration["delta.checkpointInterval"] == then


def test_the_log_names_no_patient(store: Store) -> None:
    """It holds UIDs and times of files, and no other value of a row."""
    for table in TABLES:
        for entry in (Path(store.urls[table.name]) / "_delta_log").iterdir():
            assert PATIENT.encode() not in entry.read_bytes(), (table.name, entry.name)


# --- old files ------------------------------------------------------------------------------------


def replaced(store: Store) -> str:
    """A row is updated: returns the file that left the table."""
    before = live(store)
    update = instances({"sequence": 500, "patientname": "PHI-B"}, of=oldest())
    store.open(INSTANCE).commit(Difference(INSTANCE, updates=update), {"run_id": "writer"})
    (old,) = before - live(store)
    return old


def oldest() -> Key:
    """The key of the first instance."""
    return key("0.1", study="0", series="0")


@pytest.mark.parametrize(("days", "is_there"), [(29, True), (31, False)])
def test_an_old_file_stays_for_the_retention(store: Store, days: int, is_there: bool) -> None:
    """And so the versions that it was in can be read; the live one is never touched."""
    old = replaced(store)
    version = store.version(INSTANCE) - 1
    then = QueryBuilder().register("t", DeltaTable(store.urls["instance"], version=version))
    rows = sorted(map(repr, rows_of(store, INSTANCE)))
    age(store, INSTANCE, days)
    night(store)
    assert (old in parquet(store)) == is_there
    assert sorted(map(repr, rows_of(store, INSTANCE))) == rows
    if is_there:
        assert pa.table(then.execute("SELECT * FROM t").read_all()).num_rows == len(rows)


def test_a_shorter_retention_hastens_it(store: Store) -> None:
    """The setting is what counts, whatever the table was created with."""
    old = replaced(store)
    age(store, INSTANCE, 8)
    night(store)
    assert old in parquet(store)
    night(replace(store, retention_hours=168))
    assert old not in parquet(store)


def test_a_removal_that_a_checkpoint_forgot_is_not_forgotten(store: Store) -> None:
    """What a lite vacuum leaves for ever: it looks at the removals that the log still tells."""
    old = replaced(store)
    age(store, INSTANCE, RETAINED_DAYS + 1)
    delta = DeltaTable(store.urls["instance"])
    delta.create_checkpoint()
    assert DeltaTable(store.urls["instance"]).vacuum(720, dry_run=True) == []
    assert night(store)["files_removed"] == 1
    assert old not in parquet(store)


def test_garbage_of_a_killed_run_goes_after_the_retention(store: Store) -> None:
    """No version ever named it; while it is young, a run may still be about to commit it."""
    (some, *_) = live(store)
    root = Path(store.urls["instance"])
    shutil.copy(root / some, root / "partitionName=Microsoft.Default" / "part-killed.parquet")
    assert night(store)["files_removed"] == 0
    age(store, INSTANCE, RETAINED_DAYS + 1)
    assert night(store)["files_removed"] == 1
    assert not any("killed" in path for path in parquet(store))


def test_a_half_written_file_of_a_killed_run_goes_after_the_retention(store: Store) -> None:
    """On a local disk; the engine does not see it, and a run may still be writing it."""
    half = Path(store.urls["instance"]) / "part-killed.parquet#1"
    half.write_bytes(b"PAR1")
    assert night(store)["files_removed"] == 0
    assert half.exists()
    age(store, INSTANCE, RETAINED_DAYS + 1)
    told = night(store)
    assert (told["files_removed"], told["bytes_removed"]) == (1, 4)
    assert not half.exists()


def test_a_file_in_flight_is_left_to_its_writer(store: Store) -> None:
    """A whole night passes between the writing of a file and its commit: no row is lost."""
    before = rows_of(store, INSTANCE)
    age(store, INSTANCE, 5)
    snapshot = store.open(INSTANCE)
    flying = join(snapshot, data_files(snapshot), "flying-", lambda _: None)
    assert night(store)["files_removed"] == 0
    files.commit(store.open(INSTANCE), [flying], {"run_id": "writer"})
    assert live(store) == {flying.new.path}
    assert rows_of(store, INSTANCE) == before


def test_a_reader_of_the_live_version_does_not_fail(store: Store) -> None:
    """It has opened the table, and reads on through compaction, vacuum and clean-up."""
    replaced(store)
    lazy = pl.scan_delta(store.urls["instance"])
    reader = store.open(INSTANCE)
    before = sorted(map(repr, rows_of(store, INSTANCE)))
    age(store, INSTANCE, 8)
    told = night(replace(store, retention_hours=168))
    assert told["compacted"] >= HOURS
    assert told["files_removed"] == 1
    assert sorted(map(repr, reader.rows().to_pylist())) == before
    assert sorted(map(repr, lazy.select(INSTANCE.names).collect().to_dicts())) == before


ODD = ["a b", "a%b", "a%20b", "a:b", "a#b?c", "a=b", "it's", "*[x]{y}", "ü日本", "", None]


def test_data_partitions_of_any_name_are_compacted_and_vacuumed(tmp_path: Path) -> None:
    """Paths are encoded twice over: no live file is taken for an old one, no old one stays."""
    store = store_in(tmp_path)
    for number in range(10):
        rows = [row(number, str(number)) | {"partitionName": name} for name in ODD]
        insert(store, INSTANCE, rows)
    before = rows_of(store, INSTANCE)
    age(store, INSTANCE, 8)
    assert night(store)["written"] == len(ODD)
    age(store, INSTANCE, RETAINED_DAYS + 1)
    assert night(store)["files_removed"] == 10 * len(ODD)
    assert parquet(store) == live(store)
    assert rows_of(store, INSTANCE) == before


def test_a_vacuum_that_was_killed_is_finished_by_the_next(store: Store) -> None:
    """It removes one file after the other, and each of them is garbage already."""
    before = rows_of(store, INSTANCE)
    night(store, days=8)
    age(store, INSTANCE, RETAINED_DAYS + 1)
    root = Path(store.urls["instance"])
    due = sorted(parquet(store) - live(store))
    for path in due[: len(due) // 2]:
        (root / path).unlink()
    night(store)
    assert parquet(store) == live(store)
    assert rows_of(store, INSTANCE) == before


# --- the log --------------------------------------------------------------------------------------

COMMITS = 120


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a table of more than a hundred commits, and no checkpoint: each was killed."""
    return made_once(tmp_path_factory, "long", _grow)


def _grow(root: Path) -> None:
    store = store_in(root)
    insert(store, SYNC, [{"hour": datetime(2020, 1, 1, tzinfo=UTC), "creates": 0}])
    url = store.urls["sync"]
    DeltaTable(url).alter.set_table_properties({"delta.checkpointInterval": "100000"})
    rows = pa.Table.from_pylist(
        [{"hour": datetime(2021, 1, 1, tzinfo=UTC)}], store.tables["sync"].arrow()
    )
    for _ in range(COMMITS):
        write_deltalake(url, rows, mode="append")
    DeltaTable(url).alter.set_table_properties({"delta.checkpointInterval": "100"})


@pytest.fixture
def grown(long: Path, tmp_path: Path) -> Store:
    """The same, for one test."""
    return store_in(shutil.copytree(long, tmp_path / "grown"))


def test_a_long_log_gets_a_checkpoint(grown: Store) -> None:
    """From which reading begins; the next night finds it."""
    assert log_of(grown, SYNC, "*.checkpoint.parquet") == []
    assert night(grown, SYNC)["checkpoints"] == 1
    version = grown.version(SYNC)
    assert log_of(grown, SYNC, "*.checkpoint.parquet") == [f"{version:020}.checkpoint.parquet"]
    hint = Path(grown.urls["sync"]) / "_delta_log" / "_last_checkpoint"
    assert json.loads(hint.read_text(encoding="utf-8"))["version"] == version
    assert night(grown, SYNC)["checkpoints"] == 0
    assert grown.open(SYNC).count() == COMMITS + 1


def test_the_log_is_cleaned_up_to_what_its_retention_needs(grown: Store) -> None:
    """Only what lies before a checkpoint that is itself older; the rows stay, and open faster."""
    assert night(grown, SYNC)["log_entries_removed"] == 0
    version = grown.version(SYNC)
    age(grown, SYNC, 29)
    assert night(grown, SYNC)["log_entries_removed"] == 0
    age(grown, SYNC, 2)
    assert night(grown, SYNC)["log_entries_removed"] >= COMMITS
    assert log_of(grown, SYNC, "*.json")[0] == f"{version:020}.json"
    assert grown.open(SYNC).count() == COMMITS + 1
    insert(grown, SYNC, [{"hour": datetime(2022, 1, 1, tzinfo=UTC)}])
    assert pl.read_delta(grown.urls["sync"]).height == COMMITS + 2


def test_versions_within_the_retention_of_the_log_can_be_opened(grown: Store) -> None:
    """After a clean-up, too."""
    night(grown, SYNC)
    age(grown, SYNC, RETAINED_DAYS + 1)
    version = grown.version(SYNC)
    for year in range(2022, 2026):
        insert(grown, SYNC, [{"hour": datetime(year, 1, 1, tzinfo=UTC)}])
    night(grown, SYNC)
    assert log_of(grown, SYNC, "*.json")[0] == f"{version:020}.json"
    for seen in range(version, version + 5):
        assert DeltaTable(grown.urls["sync"], version=seen).count() == COMMITS + 1 + seen - version


def test_a_table_that_hardly_changes_forgets_too(store: Store) -> None:
    """A checkpoint a week, whatever the number of commits, so that the log can be cleaned up."""
    age(store, REJECTED, 8)
    assert night(store, REJECTED)["checkpoints"] == 1
    age(store, REJECTED, RETAINED_DAYS + 1)
    assert night(store, REJECTED)["log_entries_removed"] > 0
    assert len(rows_of(store, REJECTED)) == HOURS


# --- beside a writer ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", list(maintenance._STEPS))
def test_a_writer_may_commit_before_every_part(
    store: Store, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A row that it removes stays away, one that it adds stays, whatever comes next."""
    parts = dict(maintenance._STEPS)
    step: Any = parts[part]

    def late(care: Any) -> Any:  # noqa: ANN401 - as the part
        insert(store, INSTANCE, [row(900, "900")])
        gone = instances({"sequence": 1}, of=oldest()).select([*INSTANCE.key, "sequence"])
        store.open(INSTANCE).commit(Difference(INSTANCE, deletes=gone), {"run_id": "writer"})
        return step(care)

    monkeypatch.setattr(maintenance, "_STEPS", parts | {part: late})
    age(store, INSTANCE, 8)
    night(store)
    found = [r["sopinstanceuid"] for r in rows_of(store, INSTANCE)]
    assert len(found) == len(set(found)) == 2 * HOURS
    assert key("900")[3] in found
    assert oldest()[3] not in found


def test_a_writer_that_has_looked_before_the_night_looks_again(store: Store) -> None:
    """Its difference is refused, and the table is as the night left it."""
    stale = store.open(INSTANCE)
    age(store, INSTANCE, 8)
    night(store)
    with pytest.raises(ConflictError):
        stale.commit(Difference(INSTANCE, inserts=instances(row(900, "900"))), {"run_id": "w"})
    assert len(rows_of(store, INSTANCE)) == 2 * HOURS


def test_two_nights_at_once_leave_one_table(store: Store, tmp_path: Path) -> None:
    """In two processes: both end well, and nothing is there twice or missing."""
    before = rows_of(store, INSTANCE)
    night(store, days=8)
    insert(store, INSTANCE, [row(n, str(n)) for n in range(900, 910)])
    age(store, INSTANCE, RETAINED_DAYS + 1)
    root = str(tmp_path / "tables")
    command = [sys.executable, "-m", "dicom_assets_tests.support.maintained", root, "night"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert parquet(store) == live(store)
    assert len(rows_of(store, INSTANCE)) == len(before) + 10
