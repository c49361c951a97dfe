"""Added columns get their values in old rows: from headers, file by file, whoever else writes."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from dicom_assets.errors import ConflictError
from dicom_assets.schema import STRING, Column, Table
from dicom_assets.tables import outcome
from dicom_assets.tables.delta import files
from dicom_assets.tables.delta import retry as converge
from dicom_assets.tables.delta.arrow import Values, ints
from dicom_assets.tables.delta.commit import FILLED, FILLED_AT, add_missing, unfilled
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot, Store, mark_filled
from dicom_assets.tables.upkeep import column_backfill as backfill
from dicom_assets.tables.upkeep.column_backfill import Extract
from dicom_assets_tests.tables import widened
from dicom_assets_tests.tables.widened import (
    ADDED,
    NARROW,
    NOW,
    WIDE,
    Row,
    append,
    fill,
    filled,
    held,
    opened,
    read,
    row,
    store_at,
    widen,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A root without the table."""
    return store_at(tmp_path)


def made(store: Store, count: int = 50, each: int = 10) -> list[Row]:
    """The table exists, in files of so many rows, and has the added columns; returns its rows."""
    rows = [row(n) for n in range(count)]
    for start in range(0, count, each):
        append(store, rows[start : start + each])
    widen(store)
    return rows


def totals(found: outcome.Outcome) -> Row:
    """The totals without those that are nought."""
    return {name: count for name, count in found.totals.items() if count}


def marks(store: Store) -> list[str]:
    """The columns that the table calls unfilled."""
    delta = opened(store).delta
    assert delta is not None
    return unfilled(delta)


def names(store: Store) -> set[str]:
    """The names of the table's files."""
    return {file.path for file in data_files(opened(store))}


class Reads:
    """An extract that remembers which rows it was asked for, and lets others act in between."""

    def __init__(self, meanwhile: Callable[[], object] | None = None, at: int = 1) -> None:
        """`meanwhile` is called once, while the piece of that number is read."""
        self.asked: list[int] = []
        self.pieces = 0
        self._meanwhile, self._at = meanwhile, at

    def read(self, piece: pa.RecordBatch, columns: Sequence[str]) -> tuple[pa.Table, Values]:
        """The added columns, as ever."""
        self.pieces += 1
        self.asked += ints(piece.column("sequence"))
        if self._meanwhile and self.pieces == self._at:
            self._meanwhile()
        return read(piece, columns)

    @property
    def extract(self) -> Extract:
        """This, in the form that is asked for."""
        return Extract(self.read, ("metadata_string", "sequence"))


def test_old_rows_hold_what_a_sync_writes(store: Store) -> None:
    """In the added columns; the others are as they were, as readers that are not ours see too."""
    rows = made(store)
    before = pl.read_delta(store.urls["kept"]).sort("sequence")
    found = fill(store)
    assert held(store) == [filled(r) for r in rows]
    after = pl.read_delta(store.urls["kept"]).sort("sequence")
    assert after.drop(ADDED).equals(before.drop(ADDED))
    assert after.to_dicts() == [filled(r) for r in rows]
    assert totals(found) == {
        "columns": 2,
        "files": 5,
        "rows": 50,
        "files_written": 5,
        "rows_written": 50,
        "commits": 1,
    }
    assert (found.version_before, found.version_after, found.rows) == (5, 7, 50)


def test_columns_are_marked_in_one_commit_that_keeps_what_was_said_of_them(store: Store) -> None:
    """Once they are filled; a column that is as old as the table has no mark."""
    made(store)
    assert marks(store) == ["age", "room"]
    fill(store)
    assert marks(store) == []
    said = {f.name: f.metadata for f in DeltaTable(store.urls["kept"]).schema().fields}
    marked = {"told": "age", FILLED: "false", FILLED_AT: NOW.isoformat()}
    assert said["age"] == marked
    assert said["name"] == {}


def test_a_table_that_is_filled_is_left_alone(store: Store) -> None:
    """No version, no file, and no header is read."""
    made(store)
    fill(store)
    version, before = opened(store).version, names(store)
    reads = Reads()
    assert totals(fill(store, reads.extract)) == {}
    assert (opened(store).version, names(store), reads.asked) == (version, before, [])


def test_a_table_that_is_absent_stays_absent(store: Store, tmp_path: Path) -> None:
    """There is nothing to fill."""
    found = fill(store)
    assert (found.version_after, found.rows, totals(found)) == (-1, 0, {})
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_rows_is_marked(store: Store) -> None:
    """It has no row that lacks a value."""
    append(store, [])
    widen(store)
    fill(store)
    assert marks(store) == []


def test_a_table_that_lacks_the_columns_gets_them(store: Store) -> None:
    """When no run has written since the catalogue has them."""
    append(store, [row(1), row(2)])
    fill(store)
    assert held(store) == [filled(row(1)), filled(row(2))]
    assert marks(store) == []


def test_a_row_without_a_usable_header_keeps_what_it_holds(store: Store) -> None:
    """Be it null or a value; its neighbours are filled."""
    append(store, [row(1, header=None), row(2, header="no JSON"), row(3)])
    widen(store)
    append(store, [row(4, header="[]") | {"age": 4, "room": "kept"}], WIDE)
    found = fill(store)
    assert [(r["age"], r["room"]) for r in held(store)] == [
        (None, None),
        (None, None),
        (30, "room 0"),
        (4, "kept"),
    ]
    assert totals(found)["unusable"] == 3


def test_a_value_that_the_header_does_not_have_is_null(store: Store) -> None:
    """Also where the row holds one: a sync would write null."""
    append(store, [row(1)])
    widen(store)
    append(store, [row(2, age=None) | {"age": 5, "room": "room 2"}], WIDE)
    fill(store)
    assert [r["age"] for r in held(store)] == [10, None]


def test_a_usable_header_that_nobody_vouches_for_is_none(store: Store) -> None:
    """An extract that leaves the question open changes nothing."""
    append(store, [row(1)])
    widen(store)

    def unsure(piece: pa.RecordBatch, columns: Sequence[str]) -> tuple[pa.Table, Values]:
        values, _ = read(piece, columns)
        return values, pa.nulls(len(piece), pa.bool_())

    fill(store, Extract(unsure))
    assert [r["age"] for r in held(store)] == [None]


def test_files_that_hold_every_value_are_not_written_again(store: Store) -> None:
    """Rows that came after the columns did; each file is looked at once."""
    made(store, 20)
    append(store, [filled(row(n)) for n in range(20, 30)], WIDE)
    before = names(store)
    reads = Reads()
    found = fill(store, reads.extract)
    assert len(before & names(store)) == 1
    assert totals(found)["files_written"] == 2
    assert sorted(reads.asked) == list(range(30))


def test_only_the_columns_that_are_unfilled_are_asked_for(store: Store) -> None:
    """What was filled before is not read again, nor what only a newer version knows."""
    made(store)
    fill(store)
    more = Table(
        "kept",
        WIDE.key,
        (*WIDE.columns, Column("ward", STRING, "new", added=True)),
        partition_column="partitionName",
    )
    newer = replace(more, columns=(*more.columns, Column("bed", STRING, "new", added=True)))
    widened = replace(store, tables={WIDE.name: newer}).open(newer)
    assert widened.delta is not None
    add_missing(widened.delta, newer)
    assert marks(store) == ["ward", "bed"]
    asked: list[Sequence[str]] = []

    def ward(piece: pa.RecordBatch, columns: Sequence[str]) -> tuple[pa.Table, Values]:
        asked.append(columns)
        wards = [f"ward {i}" for i in range(len(piece))]
        return pa.table({"ward": wards}), pa.array([True] * len(piece))

    backfill.fill(replace(store, tables={WIDE.name: more}), more, Extract(ward), Run("r", NOW))
    assert set(asked) == {("ward",)}
    assert marks(store) == ["bed"]


def test_many_files_are_exchanged_in_one_commit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as make so many rows."""
    monkeypatch.setattr(backfill, "GROUP_ROWS", 15)
    rows = made(store, 50, 5)
    found = fill(store)
    assert totals(found)["commits"] == 4
    assert held(store) == [filled(r) for r in rows]


@pytest.mark.parametrize(("limit", "value"), [("GROUP_BYTES", 1), ("GROUP_FILES", 1)])
def test_a_commit_is_bounded_by_bytes_and_files_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """A run that is killed has no more than that to do again."""
    monkeypatch.setattr(backfill, limit, value)
    made(store, 30)
    assert totals(fill(store))["commits"] == 3


def test_a_commit_of_files_says_run_and_columns(store: Store) -> None:
    """In the table's own history."""
    made(store)
    fill(store, run_id="r7")
    (_, entry) = DeltaTable(store.urls["kept"]).history(2)
    assert entry["dicom_assets"] == (
        '{"added": 5, "filled": 2, "removed": 5, "rows": 50, "run_id": "r7"}'
    )


def test_progress_is_said_in_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that were left when the run began."""
    monkeypatch.setattr(outcome, "PROGRESS_SECONDS", 0.0)
    made(store)
    said: list[str] = []
    backfill.fill(store, WIDE, widened.EXTRACT, Run("r", NOW, said.append))
    assert said == [f"filled {n} of 50 rows" for n in (10, 20, 30, 40, 50)]


# --- a run that ends anywhere ---------------------------------------------------------------------

# Before or after the numbered call of a step, and how many of five files are left then.
MOMENTS = [
    ("before rewrite 1", 5),
    ("after rewrite 2", 5),
    ("before commit 1", 5),
    ("after commit 1", 3),
    ("before rewrite 4", 3),
    ("before commit 2", 3),
    ("before commit 3", 1),
    ("after commit 3", 0),
]


def killed(root: Path, moment: str) -> None:
    """Another process fills the table, and ends with SIGKILL at the moment."""
    command = [sys.executable, "-m", widened.__name__, str(root), *moment.split()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -SIGKILL, done.stderr


@pytest.mark.parametrize(("moment", "left"), MOMENTS)
def test_a_killed_run_is_finished_by_the_next(
    store: Store, tmp_path: Path, moment: str, left: int
) -> None:
    """The table is before or after each commit; what is done is not read again."""
    rows = made(store)
    before = names(store)
    killed(tmp_path, moment)
    assert [r["sequence"] for r in held(store)] == [r["sequence"] for r in rows]
    assert marks(store) == ["age", "room"]
    assert len(before & names(store)) == left
    reads = Reads()
    fill(store, reads.extract)
    assert held(store) == [filled(r) for r in rows]
    assert len(reads.asked) == len(set(reads.asked)) == left * 10
    assert marks(store) == []


def test_a_run_that_is_killed_twice_is_finished_by_the_third(store: Store, tmp_path: Path) -> None:
    """Each goes on where the last one was."""
    rows = made(store)
    killed(tmp_path, "after commit 1")
    killed(tmp_path, "after rewrite 2")
    found = fill(store)
    assert totals(found)["rows"] == 30
    assert held(store) == [filled(r) for r in rows]


def test_a_run_that_ended_before_the_mark_is_finished_without_reading(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file says by its name that it is done."""
    made(store)
    with monkeypatch.context() as patched:
        patched.setattr(backfill, "mark_filled", lambda *_: None)
        fill(store)
    assert marks(store) == ["age", "room"]
    reads = Reads()
    fill(store, reads.extract)
    assert (reads.asked, marks(store)) == ([], [])


def test_what_was_written_under_another_setting_is_looked_at_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its values may be others now: a name says for which definition a file is done."""
    made(store)
    with monkeypatch.context() as patched:
        patched.setattr(backfill, "mark_filled", lambda *_: None)
        fill(store)

    def later(piece: pa.RecordBatch, columns: Sequence[str]) -> tuple[pa.Table, Values]:
        table, usable = read(piece, columns)
        rooms = pa.array(["elsewhere"] * len(piece))
        return table.set_column(table.column_names.index("room"), "room", rooms), usable

    fill(store, Extract(later, setting="Europe/Paris"))
    assert {r["room"] for r in held(store)} == {"elsewhere"}


# --- others in between ----------------------------------------------------------------------------


def merge(store: Store) -> None:
    """Another run changes a row, adds one, and deletes one, as `store` does."""
    table = pa.Table.from_pylist([filled(row(7, age=1)), filled(row(90))], schema=WIDE.arrow())
    delta = DeltaTable(store.urls["kept"])
    new = {n: f"s.`{n}`" for n in WIDE.names}
    merger = delta.merge(table, "s.sequence = t.sequence", "s", "t")
    merger.when_matched_update(new).when_not_matched_insert(new).execute()
    DeltaTable(store.urls["kept"]).delete("sequence = 23")


OTHERS: dict[str, Callable[[Store], object]] = {
    "append": lambda store: append(store, [filled(row(90))], WIDE),
    "append of unfilled rows": lambda store: append(store, [row(90) | dict.fromkeys(ADDED)], WIDE),
    "merge": merge,
    "compact": lambda store: DeltaTable(store.urls["kept"]).optimize.compact(),
    "another backfill": fill,
}


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("other", OTHERS)
def test_another_run_in_between_is_no_harm(
    store: Store, monkeypatch: pytest.MonkeyPatch, other: str, at: int
) -> None:
    """Its rows stay, as it wrote them; none is lost, none is there twice, all are filled."""
    monkeypatch.setattr(backfill, "GROUP_ROWS", 20)
    made(store)
    reads = Reads(lambda: OTHERS[other](store), at)
    fill(store, reads.extract)
    expected = {n: filled(row(n)) for n in range(50)}
    if other == "merge":
        expected[7] = filled(row(7, age=1))
        del expected[23]
    if other == "merge" or other.startswith("append"):
        expected[90] = filled(row(90))
    assert held(store) == list(expected.values())
    assert marks(store) == []


def test_a_commit_right_before_the_mark_is_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark holds on the version of which every file is done, or not at all."""
    made(store)
    mark, others = mark_filled, [row(90) | dict.fromkeys(ADDED)]

    def overtaken(snapshot: Snapshot, *given: Any) -> None:  # noqa: ANN401 - handed on
        if others:
            append(store, [others.pop()], WIDE)
        mark(snapshot, *given)

    monkeypatch.setattr(backfill, "mark_filled", overtaken)
    fill(store)
    assert held(store)[-1] == filled(row(90))
    assert marks(store) == []


def test_a_commit_right_before_the_exchange_is_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that another run rewrote at the last moment are dropped, the others exchanged.

    These are not written a second time for it.
    """
    made(store)
    others = [merge]

    def overtaken(snapshot: Snapshot, *given: Any) -> int:  # noqa: ANN401 - handed on
        if others:
            others.pop()(store)
        return files.commit(snapshot, *given)

    monkeypatch.setattr(backfill, "commit", overtaken)
    found = fill(store)
    kept = [n for n in (*range(50), 90) if n != 23]
    assert held(store) == [filled(row(n) if n != 7 else row(7, age=1)) for n in kept]
    assert totals(found)["files_written"] == 3 + 2
    assert totals(found)["rows"] == 50 + 11 + 9


def test_other_runs_without_end_are_an_error_and_not_a_mark(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written and could not be exchanged counts as left."""
    monkeypatch.setattr(converge, "CONFLICT_SECONDS", 0.0)
    monkeypatch.setattr(converge, "LONGEST_PAUSE_SECONDS", 0.0)
    rows = made(store, 10)

    def lost(*_: object) -> int:
        raise ConflictError("another run committed first")

    with monkeypatch.context() as patched:
        patched.setattr(backfill, "commit", lost)
        with pytest.raises(ConflictError):
            fill(store)
    assert marks(store) == ["age", "room"]
    fill(store)
    assert held(store) == [filled(r) for r in rows]


def test_a_mark_on_an_old_version_is_refused(store: Store) -> None:
    """It says that every row is filled, of a version in which that was seen."""
    made(store)
    stale = opened(store)
    append(store, [row(90) | dict.fromkeys(ADDED)], WIDE)
    with pytest.raises(ConflictError):
        mark_filled(stale, ADDED, Run("r", NOW + timedelta(hours=1)))
    assert marks(store) == ["age", "room"]


def test_a_table_of_the_old_catalogue_can_still_be_read(store: Store) -> None:
    """A column more is no obstacle for who does not know it."""
    rows = made(store)
    fill(store)
    old = replace(store, tables={NARROW.name: NARROW})
    assert old.open(NARROW).rows().sort_by("sequence").to_pylist() == rows
