"""Replacing data files of a Delta table: what is read, what is written, and the one commit."""

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder, TableFeatures, write_deltalake
from deltalake.schema import Field, PrimitiveType, Schema

from dicom_assets.errors import ConflictError, ForeignTableError, TableUnavailableError
from dicom_assets.schema import Table
from dicom_assets.tables.delta import files
from dicom_assets.tables.delta.arrow import ints
from dicom_assets.tables.delta.commit import ROW_GROUP_ROWS
from dicom_assets.tables.delta.files import DataFile, Replacement, data_files, rewrite
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.tables.widened import (
    DAY,
    NARROW,
    PARTITION,
    WIDE,
    Row,
    append,
    filled,
    held,
    opened,
    read,
    row,
    store_at,
    widen,
)

SECRET = "PHI-Doe^Jane"
NAME = "part-test-"
COLUMNS = ("age", "room")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root without the table."""
    return store_at(tmp_path)


def made(store: Store, *groups: list[Row]) -> list[Row]:
    """The table exists with one file for each group, and the added columns; returns its rows."""
    for group in groups:
        append(store, group)
    widen(store)
    return [r for group in groups for r in group]


def values(piece: pa.RecordBatch) -> pa.RecordBatch:
    """Return the values in the headers of a piece."""
    table, _ = read(piece, COLUMNS)
    return table.combine_chunks().to_batches()[0]


def written(store: Store, change: files.Change = values) -> list[Replacement]:
    """Every file of the table written anew where the change says so."""
    snapshot = opened(store)
    found = [rewrite(snapshot, f, change, NAME) for f in data_files(snapshot)]
    return [replacement for replacement in found if replacement is not None]


def exchange(store: Store, change: files.Change = values) -> int:
    """Every file is written anew and exchanged; returns the version."""
    return files.commit(opened(store), written(store, change), {"run_id": "r"})


def on_disk(store: Store) -> set[Path]:
    """Every Parquet file under the table."""
    return set(Path(store.urls["kept"]).rglob("*.parquet"))


def paths(store: Store) -> list[Path]:
    """Where the table's data files lie."""
    return [Path(store.urls["kept"]) / file.path for file in data_files(opened(store))]


def parquet(store: Store) -> pq.FileMetaData:
    """Return the metadata of the only data file of the table."""
    (path,) = paths(store)
    return pq.read_metadata(path)


def told(store: Store) -> list[dict[str, Any]]:
    """The actions of the newest commit."""
    log = sorted((Path(store.urls["kept"]) / "_delta_log").glob("*.json"))
    return [json.loads(line) for line in log[-1].read_text(encoding="utf-8").splitlines()]


def statistics(store: Store) -> dict[str, Any]:
    """Return the statistics of the only file that the newest commit adds."""
    (add,) = [action["add"] for action in told(store) if "add" in action]
    found: dict[str, Any] = json.loads(add["stats"])
    return found


# --- what is there --------------------------------------------------------------------------------


def test_an_absent_table_has_no_files(store: Store) -> None:
    """Looking at it creates nothing."""
    assert data_files(opened(store)) == []


def test_files_come_with_partition_size_and_rows_the_oldest_first(store: Store) -> None:
    """As the log has them."""
    made(store, [row(1), row(2)], [row(3)])
    first, second = data_files(opened(store))
    assert (first.rows, second.rows) == (2, 1)
    assert first.partition == {"partitionName": PARTITION}
    assert first.size == (Path(store.urls["kept"]) / first.path).stat().st_size


ODD_PARTITIONS = [
    "a b",
    "a%b",
    "a%20b",
    "a/b",
    "a:b",
    "a#b?c",
    "a=b",
    "a+b&c",
    "it's",
    '*[x]{y}^|\\"<>~`',
    "ü日本",
    "",
    None,
]


@pytest.mark.parametrize("partition", ODD_PARTITIONS)
def test_a_data_partition_of_any_name_keeps_its_rows(store: Store, partition: str | None) -> None:
    """Paths are encoded twice over, and an empty name is another than none."""
    rows = made(store, [row(1) | {"partitionName": partition}], [row(2)])
    folders = {path.parent for path in on_disk(store)}
    exchange(store)
    expected = [filled(r) for r in rows]
    assert held(store) == sorted(expected, key=lambda r: str(r["partitionName"]))
    new = [path for path in on_disk(store) if path.name.startswith(NAME)]
    assert {path.parent for path in new} == folders
    assert len(data_files(opened(store))) == len(new) == 2


def test_a_table_without_data_partitions_can_be_exchanged(tmp_path: Path) -> None:
    """Its files lie in its own folder."""
    url = str(tmp_path / "flat")
    table = Table("flat", ("sequence",), NARROW.columns[1:])
    write_deltalake(url, pa.Table.from_pylist([row(1)], schema=table.arrow()))
    store = Store({"flat": url}, {"flat": table}, 720)
    snapshot = store.open(table)
    (file,) = data_files(snapshot)
    other = pa.record_batch({"name": ["other"]})
    replacement = rewrite(snapshot, file, lambda _: other, NAME)
    assert replacement is not None
    assert file.partition == replacement.new.partition == {}
    assert "/" not in replacement.new.path
    files.commit(snapshot, [replacement], {})
    assert store.open(table).rows(["sequence", "name"]).to_pylist() == [
        {"sequence": 1, "name": "other"}
    ]


# --- what is written ------------------------------------------------------------------------------


def test_nothing_is_written_when_nothing_changes(store: Store) -> None:
    """No file, not even one that is thrown away."""
    made(store, [row(1)], [row(2)])
    before = on_disk(store)
    assert written(store, lambda _: None) == []
    assert on_disk(store) == before


def test_other_columns_and_the_order_of_rows_stay(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any piece may be the first to change, and each is read once."""
    monkeypatch.setattr(files, "READ_ROWS", 3)
    rows = made(store, [row(n) for n in (5, 3, 9, 1, 8, 2, 7, 6, 4, 0)])
    asked: list[list[int]] = []

    def change(piece: pa.RecordBatch) -> pa.RecordBatch | None:
        asked.append(ints(piece.column("sequence")))
        return values(piece) if len(asked) in {2, 4} else None

    exchange(store, change)
    assert asked == [[5, 3, 9], [1, 8, 2], [7, 6, 4], [0]]
    changed = {1, 8, 2, 0}
    expected = [
        filled(r) if r["sequence"] in changed else r | {"age": None, "room": None} for r in rows
    ]
    (path,) = paths(store)
    assert pq.read_table(path, partitioning=None).to_pylist() == [
        {n: v for n, v in r.items() if n != "partitionName"} for r in expected
    ]
    assert path.name.startswith(NAME)


def test_a_written_file_is_zstd_and_keeps_no_statistics_of_headers(store: Store) -> None:
    """As `store` writes its own."""
    made(store, [row(n) for n in range(5)])
    exchange(store)
    group = parquet(store).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {n for n, c in columns.items() if not c.is_stats_set} == {"metadata_string"}


def test_row_groups_are_bounded_by_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is filled as far as pieces go; readers skip by them."""
    monkeypatch.setattr(files, "READ_ROWS", 7_000)
    rows = [row(1, header="{}")] * (2 * ROW_GROUP_ROWS + 1)
    made(store, rows)
    exchange(store)
    found = parquet(store)
    sizes = [found.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert sizes == [14_000, 14_000, 12_001]


def test_row_groups_and_pieces_are_bounded_by_bytes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long headers make few rows a piece: memory follows neither the file nor its row groups."""
    monkeypatch.setattr(files, "PIECE_BYTES", 200_000)
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 500_000)
    made(store, [row(n, padding=os.urandom(25_000).hex()) for n in range(40)])
    lengths = []

    def change(piece: pa.RecordBatch) -> pa.RecordBatch:
        lengths.append(piece.num_rows)
        return values(piece)

    exchange(store, change)
    assert sum(lengths) == 40
    assert max(lengths) <= 4
    found = parquet(store)
    sizes = [found.row_group(i).num_rows for i in range(found.num_row_groups)]
    assert sum(sizes) == 40
    assert max(sizes) <= 10


def foreign_file(store: Store, table: pa.Table, **how: Any) -> None:  # noqa: ANN401 - Arrow's own
    """Another engine adds a file of its own making: snappy, and a blank in its path."""
    append(store, [row(0)])
    widen(store)
    root = Path(store.urls["kept"])
    path = "partitionName=of them/part-00000-f.c000.snappy.parquet"
    (root / path).parent.mkdir()
    pq.write_table(table, root / path, **how)
    add = {
        "path": quote(path, safe="/="),
        "partitionValues": {"partitionName": "of them"},
        "size": (root / path).stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
    }
    commit = root / "_delta_log" / f"{2:020}.json"
    commit.write_text(json.dumps({"add": add}), encoding="utf-8")


def theirs(**columns: "pa.Array[Any]") -> pa.Table:
    """The columns of one row, as another engine writes them; some in another order."""
    base = {
        "metadata_string": pa.array(['{"age": 7, "room": "A"}']),
        "moment": pa.array([DAY], pa.timestamp("us", "UTC")),
        "sequence": pa.array([1], pa.int64()),
        "name": pa.array(["n"]),
    }
    return pa.table(base | columns)


FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
VARIANTS: dict[str, tuple[pa.Table, dict[str, Any]]] = {
    "as ours": (theirs(), {}),
    "large texts": (theirs(name=pa.array(["n"], pa.large_string())), {}),
    "dictionary": (theirs(name=pa.array(["n"]).dictionary_encode()), {}),
    "views": (theirs(name=pa.array(["n"], pa.string_view())), {}),
    "nanoseconds": (theirs(moment=pa.array([DAY], pa.timestamp("ns", "UTC"))), {}),
    "without zone": (theirs(moment=pa.array([DAY.replace(tzinfo=None)], pa.timestamp("us"))), {}),
    "INT96": (theirs(), {"use_deprecated_int96_timestamps": True}),
    "INT96, the last": (
        theirs(moment=pa.array([LAST.replace(year=9000)], pa.timestamp("us", "UTC"))),
        {"use_deprecated_int96_timestamps": True},
    ),
    "the first": (theirs(moment=pa.array([FIRST], pa.timestamp("us", "UTC"))), {}),
    "the last": (theirs(moment=pa.array([LAST], pa.timestamp("us", "UTC"))), {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_of_another_engine_becomes_one_of_ours(store: Store, variant: str) -> None:
    """Snappy, without statistics, without the added columns, in other types and another order."""
    table, how = VARIANTS[variant]
    foreign_file(store, table, **how)
    before = held(store)
    assert before[1]["moment"] == table["moment"].cast(pa.timestamp("us", "UTC"))[0].as_py()
    exchange(store)
    assert held(store) == [filled(r) for r in before]
    assert pl.read_delta(store.urls["kept"]).height == 2
    for path in paths(store):
        assert [f.type for f in pq.read_schema(path)] == [f.type for f in WIDE.arrow()][1:]


def test_a_file_whose_rows_the_log_does_not_tell_is_counted(store: Store) -> None:
    """The file that replaces it has a count."""
    foreign_file(store, theirs())
    assert [file.rows for file in data_files(opened(store))] == [None, 1]
    exchange(store)
    assert [file.rows for file in data_files(opened(store))] == [1, 1]


def test_a_column_that_the_table_does_not_have_is_not_lost(store: Store) -> None:
    """Names differ in case, say: the file is refused, and nothing is committed."""
    foreign_file(store, theirs(Room=pa.array([SECRET])))
    with pytest.raises(ForeignTableError, match="has 1 columns that the table does not") as caught:
        exchange(store)
    assert SECRET not in str(caught.value)
    assert opened(store).version == 2


def test_a_value_that_does_not_fit_is_refused_without_showing_it(store: Store) -> None:
    """Arrow would quote it."""
    foreign_file(store, theirs(sequence=pa.array([SECRET])))
    with pytest.raises(TableUnavailableError, match="could not be read or written") as caught:
        exchange(store)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_lost_file_makes_the_table_unavailable(store: Store) -> None:
    """It is not taken for one without rows."""
    made(store, [row(1)])
    for path in on_disk(store):
        path.unlink()
    with pytest.raises(TableUnavailableError):
        written(store)


def test_a_file_with_other_rows_than_the_log_says_is_refused(store: Store) -> None:
    """One of both is damaged: the number of rows must not change here."""
    made(store, [row(1), row(2)])
    snapshot = opened(store)
    (file,) = data_files(snapshot)
    wrong = DataFile(file.path, file.partition, file.size, 3)
    with pytest.raises(TableUnavailableError, match="has 2 rows, and the table's log says 3"):
        rewrite(snapshot, wrong, values, NAME)


@pytest.mark.parametrize("feature", [TableFeatures.DeletionVectors, TableFeatures.ColumnMapping])
def test_a_table_whose_rows_are_not_what_lies_in_its_files_is_refused(
    store: Store, feature: TableFeatures
) -> None:
    """Rewriting a file would bring deleted rows back."""
    made(store, [row(1)])
    delta = DeltaTable(store.urls["kept"])
    delta.alter.add_feature(feature, allow_protocol_versions_increase=True)
    with pytest.raises(ForeignTableError, match=r"plain Delta of its readers \(reader version"):
        data_files(opened(store))


# --- the commit -----------------------------------------------------------------------------------


def test_readers_see_the_same_rows_with_other_values_in_the_columns(store: Store) -> None:
    """Ours, and two that are not; in one version, which says what was done."""
    rows = made(store, [row(n) for n in range(5)], [row(n) for n in range(5, 9)])
    before = opened(store).version
    old = pl.read_delta(store.urls["kept"]).sort("sequence")
    assert exchange(store) == opened(store).version == before + 1
    assert held(store) == [filled(r) for r in rows]
    new = pl.read_delta(store.urls["kept"]).sort("sequence")
    assert new.drop(COLUMNS).equals(old.drop(COLUMNS))
    assert new.to_dicts() == [filled(r) for r in rows]
    (entry,) = DeltaTable(store.urls["kept"]).history(1)
    assert json.loads(entry["dicom_assets"]) == {"run_id": "r", "added": 2, "removed": 2, "rows": 9}
    assert opened(store).count() == 9


def test_what_was_written_is_other_data_for_who_follows_the_commits(store: Store) -> None:
    """And each removal says what it removes, for engines that keep files for time travel."""
    made(store, [row(1)])
    old = data_files(opened(store))[0]
    exchange(store)
    (remove,) = [action["remove"] for action in told(store) if "remove" in action]
    (add,) = [action["add"] for action in told(store) if "add" in action]
    assert add["dataChange"]
    assert remove["dataChange"]
    assert (remove["path"], remove["size"]) == (old.path, old.size)
    assert remove["partitionValues"] == add["partitionValues"] == {"partitionName": PARTITION}


def test_the_old_version_can_still_be_read(store: Store) -> None:
    """Until vacuum removes its files."""
    made(store, [row(1)])
    before = opened(store).version
    exchange(store)
    old = DeltaTable(store.urls["kept"], version=before)
    assert pl.read_delta(old)["age"].to_list() == [None]


Other = Callable[[Store], object]


def merged(store: Store) -> object:
    """A row is changed, and one comes."""
    rows = pa.Table.from_pylist([row(1) | {"name": "new"}, row(50)], schema=NARROW.arrow())
    merger = DeltaTable(store.urls["kept"]).merge(rows, "s.sequence = t.sequence", "s", "t")
    new = {n: f"s.{n}" for n in NARROW.names}
    return merger.when_matched_update(new).when_not_matched_insert(new).execute()


OTHERS: dict[str, Other] = {
    "append": lambda store: append(store, [row(50)], WIDE),
    "merge": merged,
    "delete": lambda store: DeltaTable(store.urls["kept"]).delete("sequence = 1"),
    "compact": lambda store: DeltaTable(store.urls["kept"]).optimize.compact(),
    "metadata": lambda store: DeltaTable(store.urls["kept"]).alter.set_column_metadata(
        "name", {"a": "b"}
    ),
    "column": lambda store: DeltaTable(store.urls["kept"]).alter.add_columns(
        Field("their_note", PrimitiveType("string"))
    ),
    "exchange": exchange,
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_commit_on_a_version_that_is_no_longer_the_newest_conflicts(
    store: Store, other: str
) -> None:
    """Whatever came between; by default the engine would put this on top of a compaction."""
    made(store, [row(1), row(2)], [row(3)])
    snapshot = opened(store)
    replacements = written(store)
    OTHERS[other](store)
    version, rows = opened(store).version, held(store)
    with pytest.raises(ConflictError, match="another run committed to table kept first"):
        files.commit(snapshot, replacements, {})
    assert (opened(store).version, held(store)) == (version, rows)


def test_a_file_that_is_no_longer_there_is_not_exchanged(store: Store) -> None:
    """On the newest version too: the log would take both, and hold the rows twice."""
    rows = made(store, [row(1), row(2)], [row(3)])
    replacements = written(store)
    DeltaTable(store.urls["kept"]).optimize.compact()
    with pytest.raises(ConflictError):
        files.commit(opened(store), replacements, {})
    assert [r["sequence"] for r in held(store)] == [r["sequence"] for r in rows]


def test_the_same_exchange_a_second_time_conflicts(store: Store) -> None:
    """An error after the commit may hide that it happened: trying again doubles no row."""
    rows = made(store, [row(1), row(2)])
    replacements = written(store)
    files.commit(opened(store), replacements, {})
    with pytest.raises(ConflictError):
        files.commit(opened(store), replacements, {})
    assert held(store) == [filled(r) for r in rows]


def test_a_snapshot_whose_table_has_moved_on_is_not_committed_on(store: Store) -> None:
    """Its files were listed at another version."""
    made(store, [row(1)])
    snapshot, replacements = opened(store), written(store)
    append(store, [row(2)], WIDE)
    assert snapshot.delta is not None
    snapshot.delta.update_incremental()
    with pytest.raises(ConflictError):
        files.commit(snapshot, replacements, {})


def test_of_several_who_exchange_the_same_files_at_once_one_succeeds(store: Store) -> None:
    """Round after round, from one version: no row is lost, none is there twice."""
    rows = made(store, [row(n) for n in range(6)], [row(n) for n in range(6, 9)])
    for _ in range(10):
        tries = [(opened(store), written(store)) for _ in range(4)]
        barrier = threading.Barrier(len(tries))
        won: list[int] = []

        def commit(at: int, barrier: threading.Barrier = barrier, won: list[int] = won) -> None:
            snapshot, replacements = tries[at]  # noqa: B023 - joined before the next round
            barrier.wait()
            try:
                won.append(files.commit(snapshot, replacements, {}))
            except ConflictError:
                return

        threads = [threading.Thread(target=commit, args=(at,)) for at in range(len(tries))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert held(store) == [filled(r) for r in rows]


def test_an_uncommitted_file_shows_nowhere_and_a_full_vacuum_takes_it(store: Store) -> None:
    """A killed run leaves such a file."""
    rows = made(store, [row(1)])
    (replacement,) = written(store)
    assert held(store) == [r | {"age": None, "room": None} for r in rows]
    delta = DeltaTable(store.urls["kept"])
    found = delta.vacuum(0, dry_run=True, enforce_retention_duration=False, full=True)
    assert found == [replacement.new.path]


# --- statistics -----------------------------------------------------------------------------------


def test_statistics_are_those_that_the_engine_wrote(store: Store) -> None:
    """Their rows are the same; the numbers too. Of the key and the sequence only."""
    append(store, [row(n) for n in range(1, 9)])
    before = statistics(store)
    widen(store)
    exchange(store)
    after = statistics(store)
    for kind in ("minValues", "maxValues", "nullCount"):
        assert after[kind] == {name: before[kind][name] for name in ("sequence",)}
    assert after["numRecords"] == 8


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("sequence = 1", 1),
        ("sequence = 8", 1),
        ("sequence > 16", 0),
        ("sequence >= 16", 1),
        ("name = 'name 5'", 1),
        ("moment >= '2026-01-01T00:00:00.000016Z'", 1),
        ("moment <= '2026-01-01T00:00:00.000001Z'", 1),
        ("\"partitionName\" = 'Microsoft.Default'", 9),
        ("age = 80", 1),
        ("age IS NOT NULL", 9),
        ("age IS NULL", 0),
        ("room = 'room 1'", 2),
    ],
)
def test_a_reader_that_skips_files_finds_every_row(store: Store, where: str, count: int) -> None:
    """Also where the old file had told that its values are null, each and every one."""
    rows = [row(n) for n in range(1, 9)]
    append(store, [rows[0]])
    widen(store)
    wide = [r | {"age": None, "room": None} for r in rows[1:]]
    append(store, wide, WIDE)
    append(store, [row(16)], WIDE)
    assert len(held(store, "WHERE age IS NULL")) == 9
    exchange(store)
    assert len(held(store, f"WHERE {where}")) == (count if "room" not in where else 4)


def test_counts_and_extremes_of_the_columns_are_those_of_the_rows(store: Store) -> None:
    """An engine may answer these from statistics alone."""
    append(store, [row(1)])
    widen(store)
    append(store, [row(2) | {"age": 0, "room": None}, row(3, age=None)], WIDE)
    exchange(store)
    found = held_of(store, "SELECT count(age) c, min(age) a, max(age) b, count(*) n FROM t")
    assert found == [{"c": 2, "a": 10, "b": 20, "n": 3}]


def held_of(store: Store, sql: str) -> list[Row]:
    """Return the result of a query, by the engine and by Polars."""
    url = store.urls["kept"]
    engine = pa.table(files_query(url, sql)).to_pylist()
    assert pl.SQLContext(t=pl.scan_delta(url)).execute(sql).collect().to_dicts() == engine
    return engine


def files_query(url: str, sql: str) -> Any:  # noqa: ANN401 - the engine's own table
    """Return the result of the engine."""
    return QueryBuilder().register("t", DeltaTable(url)).execute(sql).read_all()


def test_schema_metadata_survives(store: Store) -> None:
    """The commit adds no schema of its own."""
    made(store, [row(1)])
    before = Schema.to_json(DeltaTable(store.urls["kept"]).schema())
    exchange(store)
    assert json.loads(DeltaTable(store.urls["kept"]).schema().to_json()) == json.loads(before)
    assert not [action for action in told(store) if "metaData" in action]
