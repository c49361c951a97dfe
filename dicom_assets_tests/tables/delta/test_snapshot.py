"""A Delta table as this project uses it: snapshots, one commit on top, and the guard of a row."""

import json
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from dicom_assets.errors import ConflictError, ForeignTableError, TableError, TableUnavailableError
from dicom_assets.schema import CHANGE, INSTANCE, STUDY, SYNC, Table
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.commit import Difference, create_table
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import (
    DEFAULT,
    NOW,
    Row,
    at,
    contents,
    insert,
    instances,
    key,
    logged,
    row,
)

NOTE = {"run_id": "r1", "window": "w1"}
SECRET = "PHI-Doe^Jane"


def change(store: Store, **parts: Any) -> int:  # noqa: ANN401 - as Difference has them
    """A difference of `instance` is committed on its newest version; returns the version."""
    return store.open(INSTANCE).commit(Difference(INSTANCE, **parts), NOTE).version


def gone(*sops: tuple[str, int]) -> pa.Table:
    """Deletes of instances at their sequences."""
    rows = instances(*(row(sequence, sop) for sop, sequence in sops))
    return rows.select([*INSTANCE.key, "sequence"])


def patch(sequence: int, received: datetime, sop: str = "1") -> pa.Table:
    """A patch of one row's received_timestamp."""
    rows = instances(row(sequence, sop, received_timestamp=received))
    return rows.select([*INSTANCE.key, "sequence", "received_timestamp"])


def shown(store: Store) -> list[tuple[object, ...]]:
    """Key's last part, sequence and patient of each row."""
    found = contents(store, INSTANCE, "sopinstanceuid", "sequence", "patientid")
    return [(str(sop).rpartition(".")[2], *rest) for sop, *rest in found]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_an_absent_table_is_version_minus_one_without_rows(store: Store, table: Table) -> None:
    """It can be read like any other; nothing is created by looking."""
    snapshot = store.open(table)
    assert (snapshot.version, snapshot.count(), store.version(table)) == (-1, 0, -1)
    assert snapshot.rows().schema.equals(table.arrow())
    assert snapshot.rows_of(table.names[0], ["x"], table.names[:1]).num_rows == 0
    assert snapshot.greatest(table.names[0], table.names[:2]).num_rows == 0
    assert not Path(store.urls[table.name]).exists()


def test_an_absent_table_cannot_be_handed_on(store: Store) -> None:
    """The error says what has to run before."""
    with pytest.raises(TableUnavailableError, match="does not exist yet: materialize an hour"):
        store.delta(INSTANCE)
    insert(store, INSTANCE, [row(1)])
    assert store.delta(INSTANCE).version() == 1


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_first_commit_creates_the_table(store: Store, table: Table) -> None:
    """With every column, in order, and the partition column of the template."""
    values: Row = {"sequence": 1, "hour": at(0), "partitionName": DEFAULT}
    insert(store, table, [{name: values[name] for name in table.names if name in values}])
    delta = store.delta(table)
    found = pa.schema(pa.schema(delta.schema().to_arrow()))  # type: ignore[arg-type]
    assert [(f.name, f.type) for f in found] == [(f.name, f.type) for f in table.arrow()]
    assert delta.metadata().partition_columns == table.partition_columns
    assert store.open(table).count() == 1


def test_every_engine_can_read_and_write_a_table(store: Store) -> None:
    """Reader 1, writer 2: no column mapping, no deletion vectors."""
    insert(store, INSTANCE, [row(1)])
    change(store, updates=instances(row(2)))
    protocol = store.delta(INSTANCE).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
    assert not protocol.reader_features
    assert not protocol.writer_features


def files(store: Store, table: Table) -> list[Path]:
    """The table's live data files."""
    root = Path(store.urls[table.name])
    return [root / str(uri).removeprefix(f"{root}/") for uri in store.delta(table).file_uris()]


@pytest.mark.parametrize("merged", [False, True], ids=["appended", "merged"])
def test_files_are_zstd_and_keep_no_statistics_of_headers(store: Store, merged: bool) -> None:
    """Neither an append nor a merge copies a header into the log's statistics."""
    insert(store, INSTANCE, [row(1, "9")])
    parts = {"inserts": instances(row(2, metadata_string=SECRET, patientid="P"))}
    change(store, **parts, **({"deletes": gone(("9", 1))} if merged else {}))
    (last,) = [f for f in files(store, INSTANCE) if pq.read_metadata(f).num_rows == 1][-1:]
    group = pq.read_metadata(last).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert not columns["metadata_string"].is_stats_set
    assert columns["patientid"].is_stats_set
    commits = sorted((Path(store.urls["instance"]) / "_delta_log").glob("*.json"))
    assert SECRET not in commits[-1].read_text(encoding="utf-8")


def test_times_are_utc_and_stay_exact(store: Store) -> None:
    """To the microsecond, at both ends of the calendar."""
    moments = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)]
    insert(store, INSTANCE, [row(i, str(i), created_date=m) for i, m in enumerate(moments)])
    assert contents(store, INSTANCE, "sequence", "created_date") == list(enumerate(moments))


def told(store: Store, table: Table) -> dict[str, Any]:
    """Return the note of the newest commit."""
    (entry,) = store.delta(table).history(1)
    found: dict[str, Any] = json.loads(entry["dicom_assets"])
    return found


@pytest.mark.parametrize("merged", [False, True], ids=["appended", "merged"])
def test_a_commit_says_run_window_and_counts(store: Store, merged: bool) -> None:
    """In the table's own history, where Spark's DESCRIBE HISTORY shows it too."""
    insert(store, INSTANCE, [row(1, "9")])
    more = {"deletes": gone(("9", 1))} if merged else {}
    change(store, inserts=instances(row(2), row(3, "2")), **more)
    counts = {"inserts": 2, "updates": 0, "deletes": len(more), "patches": 0}
    written = {"added": 1, "removed": len(more), "rows": 2}
    assert told(store, INSTANCE) == {"run_id": "r1", "window": "w1", **counts, **written}


def test_a_commit_changes_inserts_deletes_and_patches_at_once(store: Store) -> None:
    """One version holds all four parts; other rows stay."""
    insert(store, INSTANCE, [row(1, sop, patientid=f"old{sop}") for sop in "1234"])
    before = store.version(INSTANCE)
    after = change(
        store,
        inserts=instances(row(2, "5", patientid="new5")),
        updates=instances(row(2, "1", patientid="new1")),
        deletes=gone(("2", 2)),
        patches=patch(1, at(7), "3"),
    )
    assert after == store.version(INSTANCE) == before + 1
    assert shown(store) == [("1", 2, "new1"), ("3", 1, "old3"), ("4", 1, "old4"), ("5", 2, "new5")]
    times = contents(store, INSTANCE, "sopinstanceuid", "received_timestamp")
    assert [when for _, when in times] == [None, at(7), None, None]


def test_each_part_works_alone(store: Store) -> None:
    """An insert, an update, a patch and a delete, each in a version of its own."""
    assert change(store, inserts=instances(row(1, patientid="a"))) == 1
    assert change(store, updates=instances(row(2, patientid="b"))) == 2
    assert change(store, patches=patch(2, at(3))) == 3
    assert contents(store, INSTANCE, "sequence", "patientid", "received_timestamp") == [
        (2, "b", at(3))
    ]
    assert change(store, deletes=gone(("1", 2))) == 4
    assert shown(store) == []


def test_an_update_writes_every_column(store: Store) -> None:
    """A column without a value in the new row becomes null."""
    insert(store, INSTANCE, [row(1, patientid="a", patientname="b", received_timestamp=at(1))])
    change(store, updates=instances(row(2, patientname="c")))
    columns = ("patientid", "patientname", "received_timestamp")
    assert contents(store, INSTANCE, *columns) == [(None, "c", None)]


def test_nothing_to_do_writes_nothing(store: Store, tmp_path: Path) -> None:
    """Neither a version, nor a file, nor a table."""
    assert change(store) == -1
    assert change(store, inserts=instances(), deletes=gone()) == -1
    assert list(tmp_path.iterdir()) == []
    insert(store, INSTANCE, [row(1)])
    before = sorted(tmp_path.rglob("*"))
    assert change(store, updates=instances()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("sequence", [4, 5])
def test_a_row_is_not_overwritten_by_a_sequence_that_is_not_greater(
    store: Store, sequence: int
) -> None:
    """Whatever a caller asks for."""
    insert(store, INSTANCE, [row(5, patientid="a")])
    change(store, updates=instances(row(sequence, patientid="b")))
    assert shown(store) == [("1", 5, "a")]


@pytest.mark.parametrize(("sequence", "left"), [(4, 1), (5, 0), (6, 0)])
def test_a_row_is_not_deleted_by_a_smaller_sequence(store: Store, sequence: int, left: int) -> None:
    """Its own is enough: it may turn out to be gone without a later entry."""
    insert(store, INSTANCE, [row(5)])
    change(store, deletes=gone(("1", sequence)))
    assert store.open(INSTANCE).count() == left


@pytest.mark.parametrize(("sequence", "when"), [(4, None), (5, at(1)), (6, None)])
def test_a_patch_is_for_one_sequence_only(store: Store, sequence: int, when: object) -> None:
    """It was derived for that row as it stood, and changes its sequence in no case."""
    insert(store, INSTANCE, [row(5)])
    change(store, patches=patch(sequence, at(1)))
    assert contents(store, INSTANCE, "sequence", "received_timestamp") == [(5, when)]


def test_a_stored_null_is_less_than_any_sequence(store: Store) -> None:
    """Rows of a table that was taken over can be replaced and deleted, by sequence 0 too."""
    insert(store, INSTANCE, [row(None, "1"), row(None, "2"), row(None, "3")])
    change(store, updates=instances(row(0, "1", patientid="b")), deletes=gone(("2", 0)))
    assert shown(store) == [("1", 0, "b"), ("3", None, None)]


def test_a_difference_applied_twice_is_applied_once(store: Store) -> None:
    """An error after the commit may hide that it happened: doing it again changes no row."""
    insert(store, INSTANCE, [row(1, sop, patientid="old") for sop in "123"])
    parts = {
        "updates": instances(row(2, "1", patientid="new")),
        "deletes": gone(("2", 2)),
        "patches": patch(1, at(7), "3"),
    }
    change(store, **parts)
    once = contents(store, INSTANCE, *[n for n in INSTANCE.names if n != "metadata"])
    change(store, **parts)
    assert contents(store, INSTANCE, *[n for n in INSTANCE.names if n != "metadata"]) == once


def test_keys_are_compared_with_their_data_partition(store: Store) -> None:
    """The same UIDs in two of them are two rows."""
    both = [instances({"sequence": 1}, of=key(partition=p)) for p in ("a", "b")]
    change(store, inserts=pa.concat_tables(both))
    change(store, deletes=both[0].select([*INSTANCE.key, "sequence"]))
    assert contents(store, INSTANCE, "partitionName") == [("b",)]


def test_a_table_without_guard_takes_every_update_and_delete(store: Store) -> None:
    """Rollups are derived anew, also when the greatest sequence went down."""
    named = {"partitionName": "a", "studyInstanceUid": "1"}
    insert(store, STUDY, [named | {"sequence": 9}, named | {"studyInstanceUid": "2"}])
    new = pa.Table.from_pylist([named | {"sequence": 3}], schema=STUDY.arrow())
    old = pa.table({"partitionName": ["a"], "studyInstanceUid": ["2"]})
    store.open(STUDY).commit(Difference(STUDY, updates=new, deletes=old), NOTE)
    assert contents(store, STUDY, "studyInstanceUid", "sequence") == [("1", 3)]


def test_a_patch_of_a_table_without_guard_sets_its_columns_only(store: Store) -> None:
    """The mark of a seal leaves the seal as it is."""
    insert(store, SYNC, [{"hour": at(0), "creates": 3, "digest": "d"}])
    marks = [{"hour": at(0), "instanceAt": NOW}]
    mark = pa.Table.from_pylist(marks, schema=store.tables["sync"].arrow(["hour", "instanceAt"]))
    store.open(SYNC).commit(Difference(SYNC, patches=mark), NOTE)
    assert contents(store, SYNC, "creates", "digest", "instanceAt", "studyAt") == [
        (3, "d", NOW, None)
    ]


@pytest.mark.parametrize("part", ["inserts", "updates", "deletes", "patches"])
def test_a_commit_on_a_version_that_is_no_longer_the_newest_conflicts(
    store: Store, part: str
) -> None:
    """And writes nothing: whoever lost looks again."""
    insert(store, INSTANCE, [row(1)])
    stale = store.open(INSTANCE)
    change(store, inserts=instances(row(1, "2")))
    given: dict[str, Any] = {
        "inserts": instances(row(1, "3")),
        "updates": instances(row(2)),
        "deletes": gone(("1", 1)),
        "patches": patch(1, at(1)),
    }
    with pytest.raises(ConflictError, match="another run committed to table instance first"):
        stale.commit(Difference(INSTANCE, **{part: given[part]}), NOTE)
    assert shown(store) == [("1", 1, None), ("2", 1, None)]
    assert store.version(INSTANCE) == 2


def test_who_creates_a_table_second_conflicts(store: Store) -> None:
    """Both saw it absent; the rows of the first stay, alone."""
    first, second = store.open(INSTANCE), store.open(INSTANCE)
    first.commit(Difference(INSTANCE, inserts=instances(row(1))), NOTE)
    with pytest.raises(ConflictError):
        second.commit(Difference(INSTANCE, inserts=instances(row(2))), NOTE)
    assert shown(store) == [("1", 1, None)]


def test_a_table_whose_creator_died_before_its_rows_is_empty_and_usable(store: Store) -> None:
    """Creating and filling are two versions; between them the table has no rows."""
    create_table(store.urls[INSTANCE.name], INSTANCE, store.retention_hours, store.options)
    assert (store.version(INSTANCE), store.open(INSTANCE).count()) == (0, 0)
    assert change(store, inserts=instances(row(1))) == 1


def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    """Later commits do not show in it."""
    insert(store, INSTANCE, [row(1)])
    snapshot = store.open(INSTANCE)
    change(store, updates=instances(row(2)))
    assert snapshot.version == 1
    assert snapshot.rows(["sequence"])["sequence"].to_pylist() == [1]


def test_a_snapshot_stays_what_it_was_after_its_own_commit(store: Store) -> None:
    """The commit's result is the new version; what was derived from the old one still says so."""
    insert(store, INSTANCE, [row(1)])
    snapshot = store.open(INSTANCE)
    appended = Difference(INSTANCE, inserts=instances(row(2, "2")))
    assert snapshot.commit(appended, NOTE) == (2, 2)
    assert snapshot.version == 1


def test_rows_come_in_the_tables_columns(store: Store) -> None:
    """Those asked for, in the table's order and types; all without a choice."""
    insert(store, INSTANCE, [row(1, metadata=[("00100020", {"vr": "LO", "Value": ["P"]})])])
    found = store.open(INSTANCE).rows(["sequence", "partitionName"])
    assert found.schema.equals(INSTANCE.arrow(["partitionName", "sequence"]))
    whole = store.open(INSTANCE).rows()
    assert whole.schema.equals(INSTANCE.arrow())
    assert whole["metadata"].to_pylist() == [[("00100020", {"vr": "LO", "Value": ["P"]})]]


def test_a_condition_chooses_rows(store: Store) -> None:
    """As SQL made of constants."""
    insert(store, CHANGE, [logged(1), logged(2), logged(3)])
    found = store.open(CHANGE).rows(["sequence"], '"sequence" > 1')
    assert sorted(map(str, found["sequence"].to_pylist())) == ["2", "3"]


@pytest.mark.parametrize(
    "value",
    ["", "it's", "''", '"', "a\\'b", "%", "_", "x' OR '1'='1", "né", "日本", "\U0001f9e0", "a\nb"],
)
def test_a_value_is_found_as_it_is(store: Store, value: str) -> None:
    """Quotes, wildcards and scripts of any kind; no other row comes with it."""
    insert(store, INSTANCE, [row(1, "1", patientid=value), row(2, "2", patientid="other")])
    found = store.open(INSTANCE).rows_of("patientid", [value])
    assert found.select(["patientid", "sequence"]).to_pylist() == [
        {"patientid": value, "sequence": 1}
    ]


def test_more_values_than_fit_one_query_are_all_found(store: Store) -> None:
    """Each once, in whichever piece it stands; numbers as well as texts."""
    count = 5_010
    rows = [logged(n, of=key(str(n)), minutes=1) for n in range(count)]
    insert(store, CHANGE, rows)
    log = store.open(CHANGE)
    numbers = log.rows_of("sequence", range(1, count + 50), ["sequence"])["sequence"].to_pylist()
    assert sorted(map(int, map(str, numbers))) == list(range(1, count))
    uids = [key(str(n))[3] for n in range(1, count + 50)]
    assert log.rows_of("sopinstanceuid", uids, ["sequence"]).num_rows == count - 1
    assert log.rows_of("sequence", [], ["sequence"]).num_rows == 0


def test_the_greatest_row_is_found(store: Store) -> None:
    """By value, not by text or place."""
    insert(store, CHANGE, [logged(9), logged(10, of=key("2")), logged(2)])
    found = store.open(CHANGE).greatest("sequence", ["sequence", "sopinstanceuid"])
    assert found.to_pylist() == [{"sequence": 10, "sopinstanceuid": key("2")[3]}]


def test_a_table_without_rows_has_no_greatest(store: Store) -> None:
    """It exists, and is empty again."""
    insert(store, INSTANCE, [row(1)])
    change(store, deletes=gone(("1", 1)))
    assert store.open(INSTANCE).greatest("sequence", ["sequence"]).num_rows == 0


def foreign(store: Store, rows: pa.Table, **how: Any) -> str:  # noqa: ANN401 - deltalake's own
    """Another table lies at the path of `instance`; the message with which it is refused."""
    write_deltalake(store.urls["instance"], rows, **how)
    with pytest.raises(ForeignTableError) as caught:
        store.open(INSTANCE)
    return str(caught.value)


def test_a_table_that_is_not_ours_is_refused_with_what_where_and_remedy(store: Store) -> None:
    """Nothing is written into it."""
    message = foreign(store, pa.table({"partitionName": [SECRET], "x": [1]}))
    assert store.urls["instance"] in message
    assert "is not the instance table of this version: 37 of 38 columns are missing" in message
    assert "studyinstanceuid" in message
    assert "Nothing was written." in message
    assert "DICOM_INSTANCE_TABLE_PATH or DICOM_TABLES_URL" in message
    assert SECRET not in message
    assert DeltaTable(store.urls["instance"]).version() == 0


def test_a_column_of_another_type_makes_a_table_foreign(store: Store) -> None:
    """The template's 16-bit sequence, for one; the column is named."""
    rows = instances(row(1))
    at_ = rows.schema.get_field_index("sequence")
    narrow = rows.set_column(at_, "sequence", rows["sequence"].cast(pa.int16()))
    message = foreign(store, narrow, partition_by=["partitionName"])
    assert "1 columns are of another type (sequence)" in message


def test_an_added_column_of_another_type_is_refused_with_the_remedy(store: Store) -> None:
    """The table is ours; what is asked of it contradicts what it holds."""
    rows = instances(row(1))
    at_ = rows.schema.get_field_index("rows")
    wide = rows.set_column(at_, "rows", rows["rows"].cast(pa.int64()))
    message = foreign(store, wide, partition_by=["partitionName"])
    assert "column rows of the instance table" in message
    assert "is int64, and DICOM_COLUMNS_FILE wants int32" in message


def test_an_added_column_is_null_until_the_first_commit_brings_it(store: Store) -> None:
    """A table of an earlier version goes on; older rows are marked as not filled."""
    old = instances(row(1, patientid="a")).drop_columns(["rows", "manufacturer"])
    write_deltalake(store.urls["instance"], old, partition_by=["partitionName"])
    assert store.open(INSTANCE).rows(["rows"]).to_pylist() == [{"rows": None}]
    assert store.open(INSTANCE).version == 0
    change(store, updates=instances(row(2, patientid="b", rows=512)))
    assert store.open(INSTANCE).rows(["sequence", "rows"]).to_pylist() == [
        {"sequence": 2, "rows": 512}
    ]
    ours = [c for c in store.delta(INSTANCE).history() if "dicom_assets" in c]
    assert [commit["version"] for commit in ours] == [2, 1]
    fields = {f.name: f.metadata for f in store.delta(INSTANCE).schema().fields}
    assert fields["rows"]["dicom_assets.filled"] == "false"
    assert fields["rows"]["dicom.keyword"] == "Rows"
    assert "dicom_assets.filled" not in fields["patientid"]


@pytest.mark.parametrize("partitions", [None, ["modality"], ["partitionName", "modality"]])
def test_other_partition_columns_make_a_table_foreign(
    store: Store, partitions: list[str] | None
) -> None:
    """Every column fits, and yet files lie otherwise."""
    rows = instances(row(1, modality="CT"))
    message = foreign(store, rows, partition_by=partitions)
    assert "its files are not partitioned by (partitionName)" in message


def test_columns_of_somebody_else_beside_ours_are_no_obstacle(store: Store) -> None:
    """A team may add its own; they are not read, and rows that stay keep them."""
    rows = instances(row(1, patientid="a")).append_column("their_note", pa.array(["n"]))
    write_deltalake(store.urls["instance"], rows, partition_by=["partitionName"])
    change(store, updates=instances(row(2, patientid="b")))
    assert shown(store) == [("1", 2, "b")]
    assert "their_note" in [f.name for f in store.delta(INSTANCE).schema().fields]


def refusal(store: Store, *, commit: bool) -> TableError:
    """The error with which a table is read, or written with a patient's row."""
    rows = instances(row(1, patientname=SECRET))
    with pytest.raises(TableUnavailableError) as caught:
        _ = change(store, inserts=rows) if commit else store.open(INSTANCE)
    return caught.value


def test_a_folder_without_a_log_is_an_absent_table(store: Store) -> None:
    """Only "not found" means absent, and that is what this is."""
    (Path(store.urls["instance"]) / "_delta_log").mkdir(parents=True)
    assert store.open(INSTANCE).version == -1


def broken_log(root: Path) -> None:
    """The newest commit is cut short."""
    commit = max((root / "_delta_log").glob("*.json"))
    commit.write_text(commit.read_text(encoding="utf-8")[:-30], encoding="utf-8")


def missing_first(root: Path) -> None:
    """The commit that holds schema and protocol is lost."""
    (root / "_delta_log" / f"{0:020}.json").unlink()


def missing_middle(root: Path) -> None:
    """A commit between two others is lost."""
    (root / "_delta_log" / f"{1:020}.json").unlink()


def unreadable(root: Path) -> None:
    """The log cannot be opened, by an administrator neither."""
    (root / "_delta_log").rename(root / "elsewhere")
    (root / "_delta_log").symlink_to(root / "_delta_log")


@pytest.mark.parametrize("damage", [broken_log, missing_first, missing_middle, unreadable])
def test_a_table_that_cannot_be_read_is_not_taken_for_absent(store: Store, damage: Any) -> None:  # noqa: ANN401 - a parameter
    """Else it would be created anew over what lies there."""
    insert(store, INSTANCE, [row(1)])
    insert(store, INSTANCE, [row(2, "2")])
    damage(Path(store.urls["instance"]))
    store = replace(store)  # as another process opens it
    error = refusal(store, commit=False)
    assert f"table instance at {store.urls['instance']} could not be read or written" in str(error)
    assert "run again" in str(error)
    with pytest.raises(TableUnavailableError):
        store.version(INSTANCE)


def test_a_file_at_the_tables_path_is_not_taken_for_absent(store: Store) -> None:
    """It stays as it is."""
    Path(store.urls["instance"]).write_text("mine", encoding="utf-8")
    refusal(store, commit=False)
    assert Path(store.urls["instance"]).read_text(encoding="utf-8") == "mine"


def test_a_passing_error_on_opening_is_no_absence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError of the storage, as a 503 becomes one: the table that exists is not replaced."""
    insert(store, INSTANCE, [row(1)])

    def fail(*_: object, **__: object) -> DeltaTable:
        raise OSError(SECRET)

    with monkeypatch.context() as patched:
        patched.setattr("dicom_assets.tables.delta.handles.DeltaTable", fail)
        assert SECRET not in str(refusal(replace(store), commit=True))
    assert store.version(INSTANCE) == 1


def test_a_root_that_cannot_be_written_is_refused_without_a_value(tmp_path: Path) -> None:
    """The message has table, path and remedy; the cause is not shown, and Dagster keeps none."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = store_in(tmp_path / "file")
    error = refusal(store, commit=True)
    assert f"table instance at {tmp_path}/file/instance could not be" in str(error)
    assert "Check that the path exists, may be written and has space" in str(error)
    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_a_data_file_that_is_lost_makes_the_table_unavailable(store: Store, write: bool) -> None:
    """Our own error crosses the border, not the engine's, whose text and type are anything."""
    insert(store, INSTANCE, [row(1, patientname=SECRET)])
    (lost,) = files(store, INSTANCE)
    lost.unlink()
    snapshot = replace(store).open(INSTANCE)  # this process has just written the file
    difference = Difference(INSTANCE, updates=instances(row(2)))
    with pytest.raises(TableUnavailableError, match="could not be read or written"):
        _ = snapshot.commit(difference, NOTE) if write else snapshot.rows()


def test_no_traceback_shows_the_engines_text(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Python's nor Dagster's, which follow a cause and a context unless suppressed."""

    def fail(*_: object, **__: object) -> DeltaTable:
        raise OSError(SECRET)

    monkeypatch.setattr("dicom_assets.tables.delta.handles.DeltaTable", fail)
    error = refusal(store, commit=False)
    assert SECRET not in "".join(traceback.format_exception(error))


def test_addresses_options_and_rows_do_not_show_in_a_printed_store(tmp_path: Path) -> None:
    """Options hold credentials; a traceback with local variables must not."""
    store = steps.store_of(
        {"instance": str(tmp_path)}, options={"azure_storage_account_key": SECRET}
    )
    assert SECRET not in repr(store)
    assert SECRET not in repr(store.open(INSTANCE))


def test_a_note_may_hold_a_time_as_text(store: Store) -> None:
    """The note is JSON."""
    moment = str(NOW + timedelta(hours=1))
    store.open(INSTANCE).commit(Difference(INSTANCE, inserts=instances(row(1))), {"at": moment})
    assert told(store, INSTANCE)["at"] == moment
