"""The cache of studies and files: right whatever becomes of it, and small enough to be read."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from dicom_assets.schema import CHANGE, INSTANCE
from dicom_assets.tables.delta import files, study_files
from dicom_assets.tables.delta.arrow import ints, numbers, texts
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import DataFile, data_files
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.delta.study_files import CACHE_FOLDER, StudyFiles
from dicom_assets.tables.upkeep import compaction
from dicom_assets_tests.support.samples import SOAK, TIMES
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import insert
from dicom_assets_tests.tables.delta.spoilt import RECENT, SPOILED, make_small, parts

NOTE = {"run_id": "r"}
STUDIES = [f"1.2.276.0.7230010.3.1.{n * 7919}" for n in range(60)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a few rows have a cache with all of its parts."""
    make_small(monkeypatch)
    monkeypatch.setattr(compaction, "LEAST_FILES", 3)


@pytest.fixture
def read_itself(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the data files that were read because no part of the cache lists them."""
    paths, column_of = list[str](), files.column_of

    def noted(snapshot: Snapshot, file: DataFile, column: str) -> Any:  # noqa: ANN401 - Arrow's
        paths.append(file.path)
        return column_of(snapshot, file, column)

    monkeypatch.setattr(study_files, "column_of", noted)
    return paths


class Log:
    """The log, of random studies: a row for each sequence, each commit a data file."""

    def __init__(self, store: Store, seed: int = 1) -> None:
        self.store, self.random, self.next = store, Random(seed), 0

    @property
    def here(self) -> Snapshot:
        """The newest version."""
        return self.store.open(CHANGE)

    @property
    def base(self) -> str:
        """The name of the base that the increments name."""
        return StudyFiles(self.here)._parts[1].name

    @property
    def folder(self) -> Path:
        """Where the cache lies."""
        return Path(self.store.urls[CHANGE.name]) / CACHE_FOLDER

    def rows(self, count: int) -> list[dict[str, object]]:
        """New rows, some of the same study, some of none."""
        self.next += count
        return [
            {
                "sequence": sequence,
                "studyinstanceuid": self.random.choice([*STUDIES[:50], None]),
                "sopinstanceuid": f"1.2.3.4.5.6.7.{sequence}",
            }
            for sequence in range(self.next - count, self.next)
        ]

    def append(self, files: int = 1, rows: int = 8) -> "Log":
        """So many commits of new rows."""
        for _ in range(files):
            insert(self.store, CHANGE, self.rows(rows))
        return self


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Twelve files, the cache complete."""
    return Log(store_in(tmp_path / "tables")).append(12)


def scanned(snapshot: Snapshot) -> dict[str, list[int]]:
    """The sequences of each study, by a scan of all rows that the engine makes."""
    rows = snapshot.query("SELECT studyinstanceuid AS study, sequence FROM t").to_pylist()
    found: dict[str, list[int]] = {study: [] for study in STUDIES}
    for row in rows:
        if row["study"] is not None:
            found[row["study"]].append(row["sequence"])
    return {study: sorted(own) for study, own in found.items()}


def is_right(snapshot: Snapshot) -> bool:
    """Whether the rows of each study, and of all, are those of a full scan."""
    expected = scanned(snapshot)
    column = snapshot.table.study_column
    found: dict[str, list[int]] = {study: [] for study in STUDIES}
    for row in snapshot.rows_of(column, STUDIES, [column, "sequence"]).to_pylist():
        found[row[column]].append(row["sequence"])
    one = Random(snapshot.version).choice(STUDIES)
    alone = snapshot.rows_of(column, [one], ["sequence"])["sequence"]
    assert sorted(ints(alone)) == expected[one]
    assert {study: sorted(own) for study, own in found.items()} == expected
    return True


def studies_of_files(snapshot: Snapshot) -> dict[str, set[str]]:
    """The studies of each data file, read from the files."""
    column, root = snapshot.table.study_column, Path(snapshot.url)
    return {
        file.path: set(texts(pq.ParquetFile(root / file.path).read([column])[column]))
        for file in data_files(snapshot)
    }


def needless(snapshot: Snapshot, lookups: int) -> int:
    """The number of files that some random look-ups name in vain. None is missing in any."""
    random, held, looked, vain = Random(3), studies_of_files(snapshot), snapshot.studies, 0
    for _ in range(lookups):
        wanted = random.sample(STUDIES, random.randint(1, 3))
        right = {path for path, own in held.items() if not own.isdisjoint(wanted)}
        found = {file.path for file in looked.of(wanted)}
        assert right <= found
        vain += len(found - right)
    return vain


# --- what a look finds ----------------------------------------------------------------------------


def test_a_look_names_the_files_of_a_study_and_hardly_another(
    log: Log, read_itself: list[str]
) -> None:
    """A thousand times, from the two parts of the cache alone."""
    parts = [pq.ParquetFile(log.folder / name) for name in (RECENT, log.base)]
    assert min(part.num_row_groups for part in parts) > 1
    assert needless(log.here, 1_000) <= 1
    assert read_itself == []


def test_a_commit_reads_no_file_that_it_does_not_touch(log: Log, read_itself: list[str]) -> None:
    """Hour after hour: what a commit writes is listed with it, in base or increments."""
    for _ in range(8):
        log.append()
        assert is_right(log.here)
    assert read_itself == []
    bases = [path for path in log.folder.iterdir() if path.name != RECENT]
    assert 1 <= len(bases) <= 2  # a reader may still read the one before


def test_few_files_have_no_cache(
    log: Log, monkeypatch: pytest.MonkeyPatch, read_itself: list[str]
) -> None:
    """They are read themselves, once by each look."""
    monkeypatch.setattr(study_files, "FEW_FILES", 12)
    shutil.rmtree(log.folder)
    assert needless(log.here, 10) == 0
    assert len(read_itself) == 12
    assert not log.folder.exists()


def test_equal_studies_of_two_tables_have_other_hashes(tmp_path: Path) -> None:
    """A list of hashes of one table tells nothing about another."""
    one, two = (Log(store_in(tmp_path / name)).append().here.studies for name in "ab")
    assert not {*one.hashes(STUDIES).to_pylist()} & {*two.hashes(STUDIES).to_pylist()}


def test_a_file_without_studies_is_listed_too(log: Log, read_itself: list[str]) -> None:
    """In the increments and in the base: no hour reads it again."""
    rows = [row | {"studyinstanceuid": None} for row in log.rows(5)]
    insert(log.store, CHANGE, rows)
    for _ in range(8):
        log.append()
    assert is_right(log.here)
    assert read_itself == []


# --- what may become of table and cache -----------------------------------------------------------


def _commit(log: Log) -> None:
    rows = log.here.rows(["sequence"])
    chosen = log.random.sample(ints(rows["sequence"]), 5)
    updates = [row | {"sequence": s} for s, row in zip(chosen[:3], log.rows(3), strict=True)]
    schema = log.here.table.arrow()
    log.here.commit(
        Difference(
            CHANGE,
            inserts=schema.empty_table().from_pylist(log.rows(4), schema=schema),
            updates=schema.empty_table().from_pylist(updates, schema=schema),
            deletes=rows.from_pydict({"sequence": chosen[3:]}),
        ),
        NOTE,
    )


def _compact(log: Log) -> None:
    night = Run("night", datetime.now(UTC) + timedelta(days=8))
    compaction.compact(log.store, CHANGE, night)


def _restore(log: Log) -> None:
    delta = log.store.delta(CHANGE)
    delta.restore(max(1, delta.version() - log.random.randint(1, 4)))


def _optimize(log: Log) -> None:
    log.store.delta(CHANGE).optimize.compact()


def _foreign_append(log: Log) -> None:
    schema = log.here.table.arrow()
    rows = schema.empty_table().from_pylist(log.rows(4), schema=schema)
    write_deltalake(log.store.delta(CHANGE), rows, mode="append")


def _foreign_delete(log: Log) -> None:
    sequence = log.random.choice(ints(log.here.rows(["sequence"])["sequence"]))
    log.store.delta(CHANGE).delete(f"sequence IN ({sequence}, {sequence + 1})")


def _replace(log: Log) -> None:
    schema = log.here.table.arrow()
    given = [row | {"sequence": s} for s, row in zip((2, 4), log.rows(2), strict=True)]
    rows = schema.empty_table().from_pylist(given, schema=schema)
    log.here.commit(Difference(CHANGE, inserts=rows, replaced="sequence < 5"), NOTE)


HAPPENED = (_commit, _commit, _compact, _restore, _optimize, _foreign_append, _foreign_delete)


@pytest.mark.parametrize("seed", range(1, 1 + TIMES))
def test_rows_of_a_study_are_those_of_a_scan_whatever_happens(tmp_path: Path, seed: int) -> None:
    """Commits, night work and foreign hands in any order, the cache spoiled at any moment."""
    log = Log(store_in(tmp_path), seed).append(6)
    happened = [*HAPPENED, _replace] * 3
    log.random.shuffle(happened)
    older = dict[str, bytes]()
    for number, happen in enumerate(happened):
        happen(log)
        assert is_right(log.here)
        SPOILED[(number + seed) % len(SPOILED)](log.folder, log.random)
        assert is_right(log.here)
        if log.random.random() < 0.3:  # an older copy comes back
            log.folder.mkdir(exist_ok=True)
            for name, held in older.items():
                (log.folder / name).write_bytes(held)
            older = {path.name: path.read_bytes() for path in parts(log.folder)}
            assert is_right(log.here)


def test_the_cache_of_another_table_is_not_believed(
    log: Log, tmp_path: Path, read_itself: list[str]
) -> None:
    """Of the same paths, sizes and rows, too: it is read as if there were none."""
    other = Log(store_in(tmp_path / "other"), seed=2).append(12)
    shutil.rmtree(log.folder)
    shutil.copytree(other.folder, log.folder)
    assert is_right(log.here)
    assert len(set(read_itself)) == 12


def test_a_file_of_another_size_is_not_believed(log: Log, read_itself: list[str]) -> None:
    """A path alone does not say what is in a file."""
    (listed, *_) = data_files(log.here)
    studies = log.here.studies
    (place,) = [place for place in studies._active if place[0] == listed.path]
    studies._active[listed.path, 1] = studies._active.pop(place)
    assert studies.of(STUDIES)
    assert read_itself == [listed.path]


def test_a_part_with_other_rows_is_not_believed(log: Log, read_itself: list[str]) -> None:
    """Pages whose checksums are right, in the place of others: the rows have a digest, too."""
    path = log.folder / log.base
    part = pq.ParquetFile(path)
    told: Any = part.metadata.metadata
    rows = part.read()
    assert rows.num_rows > 7
    rows = rows.set_column(1, "file", rows["file"].take(numbers(reversed(range(len(rows))))))
    with pq.ParquetWriter(path, rows.schema, store_schema=False) as writer:
        writer.write_table(rows, 7)
        writer.add_key_value_metadata(told)
    assert is_right(log.here)
    assert read_itself != []


def spoilt(log: Log, name: str) -> Iterator[tuple[int, bytes]]:
    """Each byte of a part with one bit flipped, and each of its beginnings; a sample of them."""
    path = log.folder / name
    held = path.read_bytes()
    places = range(len(held)) if SOAK else sorted(Random(5).sample(range(len(held)), 60))
    for at in places:
        yield at, held[:at] + bytes([held[at] ^ (1 << at % 8)]) + held[at + 1 :]
        if at % 3 == 0:
            yield at, held[:at]
    path.write_bytes(held)


@pytest.mark.parametrize("part", ["recent", "base"])
def test_a_damaged_byte_anywhere_hides_no_file(log: Log, part: str) -> None:
    """The damage is found, or it changes nothing."""
    name = RECENT if part == "recent" else log.base
    snapshot, held = log.here, studies_of_files(log.here)
    wrong = []
    for at, damaged in spoilt(log, name):
        (log.folder / name).write_bytes(damaged)
        looked = StudyFiles(snapshot)
        for study in STUDIES[:50:6]:
            right = {path for path, own in held.items() if study in own}
            if not right <= {file.path for file in looked.of([study])}:
                wrong.append((at, len(damaged)))
        looked.exchange((), {})  # what is written from it is right, too
        again = StudyFiles(snapshot)
        right = {path for path, own in held.items() if not own.isdisjoint(STUDIES[:25])}
        if not right <= {file.path for file in again.of(STUDIES[:25])}:
            wrong.append((at, -1))
    assert wrong == []


# --- a rebuild ------------------------------------------------------------------------------------


def test_a_rebuild_goes_on_where_it_ended(
    log: Log, monkeypatch: pytest.MonkeyPatch, read_itself: list[str]
) -> None:
    """Killed at its eighth file of twelve, it has to read at most those since its last write."""
    shutil.rmtree(log.folder)
    column_of = getattr(study_files, "column_of")  # noqa: B009 - it is imported there

    def die(snapshot: Snapshot, file: DataFile, column: str) -> Any:  # noqa: ANN401 - Arrow's
        if len(read_itself) == 7:
            raise KeyboardInterrupt
        return column_of(snapshot, file, column)

    with monkeypatch.context() as patch:
        patch.setattr(study_files, "column_of", die)
        with pytest.raises(KeyboardInterrupt):
            log.here.studies.of(STUDIES)
    done = set(read_itself[:6])
    read_itself.clear()
    assert is_right(log.here)
    assert set(read_itself) == {file.path for file in data_files(log.here)} - done
    read_itself.clear()
    assert needless(log.here, 50) == 0
    assert read_itself == []


# --- what others see ------------------------------------------------------------------------------


def said(log: Log) -> Iterator[bytes]:
    """Everything in the cache: the bytes as they lie there, and what they say when read."""
    for path in parts(log.folder):
        yield path.name.encode()
        yield path.read_bytes()
        part = pq.read_table(path)
        assert {str(column.type) for column in part.columns} <= {"int64", "int32"}
        yield json.dumps(
            [{k.decode(): v.decode() for k, v in part.schema.metadata.items()}]
        ).encode()


def test_no_uid_is_in_the_cache(log: Log) -> None:
    """Neither as it is nor in a compressed page: it outlives the rows of an erased study."""
    assert {RECENT, log.base} <= {path.name for path in parts(log.folder)}
    for text in said(log):
        for uid in (*STUDIES, "1.2.276.0", "1.2.3.4.5.6.7"):
            assert uid.encode() not in text


def test_others_leave_the_cache_alone(log: Log, read_itself: list[str]) -> None:
    """A full vacuum, and readers of all Parquet files below the table of a partitioned one."""
    assert not [path for path in parts(log.folder) if path.suffix == ".parquet"]
    before = {path.name: path.read_bytes() for path in parts(log.folder)}
    log.store.delta(CHANGE).vacuum(
        retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True
    )
    assert {path.name: path.read_bytes() for path in parts(log.folder)} == before
    assert is_right(log.here)
    assert read_itself == []


def test_readers_of_a_glob_meet_data_files_only(tmp_path: Path) -> None:
    """Polars and DuckDB on `*/*.parquet`: each row once, no column too many."""
    store = store_in(tmp_path)
    for number in range(4):
        of = {"studyinstanceuid": STUDIES[number], "seriesinstanceuid": "1.1"}
        row = {"partitionName": "p", **of, "sopinstanceuid": f"1.1.{number}", "sequence": number}
        insert(store, INSTANCE, [row])
    assert [*(Path(store.urls[INSTANCE.name]) / CACHE_FOLDER).iterdir()]
    glob = f"{store.urls[INSTANCE.name]}/*/*.parquet"
    by_polars = pl.scan_parquet(glob, hive_partitioning=True).select("sequence").collect()
    by_duckdb = duckdb.execute("SELECT sequence FROM read_parquet(?)", [glob]).fetchall()
    assert (
        sorted(by_polars["sequence"].to_list()) == sorted(s for (s,) in by_duckdb) == [0, 1, 2, 3]
    )
