"""A difference makes of a table what the engine's own merge makes of it, file by file."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dicom_assets.errors import ConflictError
from dicom_assets.schema import CHANGE, INSTANCE, Table
from dicom_assets.tables.delta import apply as applied
from dicom_assets.tables.delta import files, slices
from dicom_assets.tables.delta.arrow import padded
from dicom_assets.tables.delta.commit import STATISTICS, Difference
from dicom_assets.tables.delta.files import data_files
from dicom_assets.tables.delta.snapshot import Snapshot
from dicom_assets.tables.delta.study_files import CACHE_FOLDER
from dicom_assets_tests.support.samples import SOAK, TIMES
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, contents, hours, key, run
from dicom_assets_tests.tables.delta.spoilt import SPOILED, make_small, parts
from dicom_assets_tests.tables.differences import (
    KINDS,
    Differences,
    Key,
    Kind,
    key_of,
    rows,
    tokens,
)

COMMITS = 6
NOTE = {"run_id": "r"}


def merged(delta: DeltaTable, difference: Difference) -> None:
    """The oracle: the same difference as one merge, guarded by the stored sequence."""
    table = difference.table
    columns = {name: f"s.`{name}`" for name in table.names}
    older = same = not_newer = ""
    if table.is_guarded:
        stored, new = "t.`sequence`", "s.`sequence`"
        older = f" AND ({stored} IS NULL OR {stored} < {new})"
        same = f" AND {stored} = {new}"
        not_newer = f" AND ({stored} IS NULL OR {stored} <= {new})"
    parts = {n: getattr(difference, n) for n in ("inserts", "updates", "deletes", "patches")}
    source = [
        padded(part, table.arrow()).append_column("_action", pa.array([name] * len(part)))
        for name, part in parts.items()
        if part is not None
    ]
    if not source:
        return
    on = " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)
    merger = delta.merge(pa.concat_tables(source), on, source_alias="s", target_alias="t")
    merger = merger.when_matched_delete(f"s._action = 'deletes'{not_newer}")
    merger = merger.when_matched_update(columns, f"s._action = 'updates'{older}")
    if parts["patches"] is not None:
        patched = {n: f"s.`{n}`" for n in parts["patches"].column_names if n not in table.key}
        merger = merger.when_matched_update(patched, f"s._action = 'patches'{same}")
    merger.when_not_matched_insert(columns, "s._action = 'inserts'").execute()


class Twins:
    """A table of random rows in several files, and the same rows for the oracle."""

    def __init__(self, folder: Path, kind: Kind, seed: int) -> None:
        self.kind, self.random = kind, Random(seed)
        self.store, self._other = store_in(folder / "ours"), store_in(folder / "oracle")
        self.table = self.store.tables[kind.table.name]
        self.kind = replace(kind, table=self.table)
        self.source = Differences(self.kind, self.random)
        keys = self.random.sample(kind.keys, len(kind.keys) // 2)
        for at in range(0, len(keys), 8):
            given = self.source.rows(keys[at : at + 8], nulls=self.table.is_guarded)
            for store in (self.store, self._other):
                store.open(self.table).commit(Difference(self.table, inserts=given), NOTE)

    @property
    def cache(self) -> Path:
        """The folder of the cache of ours."""
        return Path(self.here.url) / CACHE_FOLDER

    @property
    def here(self) -> Snapshot:
        """The newest version of ours."""
        return self.store.open(self.table)

    def next(self) -> Difference:
        """A random difference of the rows that there are."""
        stored = {k: row.get("sequence") for k, row in rows(self.here).items()}
        return self.source.next(stored)

    def updates(self, keys: Sequence[Key], sequence: int) -> Difference:
        """Each of the keys has another row, of this sequence where rows are guarded by it."""
        updates = self.source.rows(keys)
        if self.table.is_guarded:
            at = updates.schema.get_field_index("sequence")
            newer = pa.array([sequence] * len(keys), pa.int64())
            updates = updates.set_column(at, updates.schema.field(at), newer)
        return Difference(self.table, updates=updates)

    def commit(self, difference: Difference) -> None:
        """Both have the difference, and the same rows after it."""
        self.here.commit(difference, NOTE)
        self.follow(difference)

    def follow(self, difference: Difference) -> None:
        """The oracle has the difference, too, and then the same rows."""
        merged(self._other.delta(self.table), difference)
        assert rows(self.here) == rows(self._other.open(self.table))


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few rows have several pieces and row groups, and tables of a few files a cache."""
    make_small(monkeypatch)
    monkeypatch.setattr(files, "READ_ROWS", 2)
    monkeypatch.setattr(applied, "PIECE_ROWS", 2)
    monkeypatch.setattr(files, "ROW_GROUP_ROWS", 3)


@pytest.mark.parametrize("seed", range(1, 1 + TIMES))
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("pieces")
def test_commits_in_a_row_are_those_of_a_merge(tmp_path: Path, name: str, seed: int) -> None:
    """The rows, and of each old file at most one new file: what is left of it in its order.

    The cache is spoiled before any of them: lost, cut, damaged, outdated or another table's.
    """
    twins = Twins(tmp_path, KINDS[name], seed)
    older = [parts_in(twins.cache), parts_in(tmp_path / "oracle" / name / CACHE_FOLDER)]
    for _ in range(COMMITS):
        before, made = tokens(twins.here, twins.kind), twins.source.tokens
        _spoil(twins, older)
        twins.commit(twins.next())
        after = tokens(twins.here, twins.kind)
        assert _is_fresh(before, after, made)
        _assert_statistics(twins.here)


def test_a_row_without_a_data_partition_is_no_other_one(tmp_path: Path) -> None:
    """Null equals nothing: rows that a foreign hand wrote so stay, whatever names one of them."""
    twins = Twins(tmp_path, KINDS["series"], 2)
    keys = [(None, "1.2", f"1.2.{n}") for n in range(4)]
    twins.commit(Difference(twins.table, inserts=twins.source.rows(keys)))
    deletes = twins.source.rows(keys[1:2]).select(twins.table.key)
    twins.commit(replace(twins.updates(keys[:1], 100), deletes=deletes))
    assert set(keys) <= rows(twins.here).keys()


def parts_in(cache: Path) -> dict[str, bytes]:
    """The content of a cache, by name."""
    return {path.name: path.read_bytes() for path in parts(cache)}


def _spoil(twins: Twins, older: list[dict[str, bytes]]) -> None:
    if twins.random.random() < 0.3:
        twins.cache.mkdir(exist_ok=True)
        for name, held in twins.random.choice(older).items():
            (twins.cache / name).write_bytes(held)
    else:
        older.append(parts_in(twins.cache))
        twins.random.choice(SPOILED)(twins.cache, twins.random)


def _is_fresh(before: dict[str, list[str]], after: dict[str, list[str]], made: int) -> bool:
    """Whether each file is untouched, the rest of one old file in its order, or all new rows."""
    left = {token for own in after.values() for token in own}
    rest = sorted(
        [t for t in own if t in left] for path, own in before.items() if path not in after
    )
    new = [own for path, own in after.items() if path not in before]
    appended = [own for own in new if all(int(t.split()[1]) > made for t in own)]
    assert all(after[path] == own for path, own in before.items() if path in after)
    assert sorted(own for own in new if own not in appended) == [own for own in rest if own]
    return len(appended) <= len({path.rpartition("/")[0] for path in after})


def _assert_statistics(snapshot: Snapshot) -> None:
    """The log has the least, the greatest and the nulls of each file, of the property's columns."""
    assert snapshot.delta is not None
    actions: Any = pa.table(snapshot.delta.get_add_actions())
    named = snapshot.delta.metadata().configuration[STATISTICS].split(",")
    by_path = {file.path: file for file in data_files(snapshot)}
    for add in actions.to_pylist():
        file = by_path[files.stored_path(add["path"])]
        held = files.read_columns(snapshot, file, named)
        assert add["num_records"] == len(held)
        for name in named:
            values = [value for value in held[name].to_pylist() if value is not None]
            ends = (min(values), max(values)) if values else (None, None)
            assert (add["min"].get(name), add["max"].get(name)) == ends, name
            assert add["null_count"][name] == len(held) - len(values), name


@pytest.mark.parametrize("name", KINDS if SOAK else ["change"])
def test_a_trickle_fuses_no_files(tmp_path: Path, name: str) -> None:
    """Sixteen commits that touch five old rows each: only a file without rows goes."""
    twins = Twins(tmp_path, KINDS[name], 7)
    for count in range(16):
        before = tokens(twins.here, twins.kind)
        stored = rows(twins.here)
        chosen = twins.random.sample(sorted(stored), 5)
        twins.here.commit(twins.updates(chosen, 100 + count), NOTE)
        gone = {stored[k][twins.kind.token] for k in chosen}
        emptied = sum(gone.issuperset(own) for own in before.values())
        partitions = len({k[0] for k in chosen}) if twins.table.partition_column else 1
        assert len(data_files(twins.here)) == len(before) - emptied + partitions
        assert rows(twins.here).keys() == stored.keys()


def test_foreign_readers_skip_no_file_too_many(tmp_path: Path) -> None:
    """Polars and DuckDB find by sequence and day of the study what a full scan finds."""
    twins = Twins(tmp_path, KINDS["instance"], 3)
    for _ in range(6):
        twins.here.commit(twins.next(), NOTE)
    held = list(rows(twins.here).values())
    delta = twins.store.delta(twins.table)
    lazy = pl.scan_delta(delta)
    by_sql = duckdb.from_arrow(delta.to_pyarrow_dataset())
    assert len(data_files(twins.here)) > 6
    for column in ("sequence", "studydate_formatted"):
        for value in {row[column] for row in held} - {None}:
            expected = sorted(key_of(twins.table, row) for row in held if row[column] == value)
            by_polars = lazy.filter(pl.col(column) == value).select(twins.table.key).collect()
            assert sorted(by_polars.rows()) == expected
            found = by_sql.filter(duckdb.ColumnExpression(column) == value)
            assert sorted(found.select(*twins.table.key).fetchall()) == expected


# --- commits that fail ----------------------------------------------------------------------------


def _append(twins: Twins) -> None:
    missing = [k for k in twins.kind.keys if k not in rows(twins.here)][:1]
    write_deltalake(twins.store.delta(twins.table), twins.source.rows(missing), mode="append")


def _delete(twins: Twins) -> None:
    twins.store.delta(twins.table).delete(f"{twins.kind.token} = 'token 1'")


def _optimize(twins: Twins) -> None:
    twins.store.delta(twins.table).optimize.compact()


def _commit(twins: Twins) -> None:
    key = min(rows(twins.here))
    deletes = twins.source.rows([key]).select([*twins.table.key])
    if twins.table.is_guarded:
        deletes = deletes.append_column("sequence", pa.array([99], pa.int64()))
    twins.here.commit(Difference(twins.table, deletes=deletes), NOTE)


@pytest.mark.parametrize("other", [_append, _delete, _optimize, _commit])
@pytest.mark.parametrize("table", [INSTANCE, CHANGE], ids=lambda t: t.name)
def test_a_commit_on_an_older_version_changes_nothing(
    tmp_path: Path,
    table: Table,
    other: Any,  # noqa: ANN401 - one of those above
) -> None:
    """Whoever came first, and whatever they did."""
    twins = Twins(tmp_path, KINDS[table.name], 5)
    stale = twins.here
    difference = twins.next()
    other(twins)
    now, version = rows(twins.here), twins.here.version
    assert version > stale.version
    for _ in range(2):
        with pytest.raises(ConflictError):
            stale.commit(difference, NOTE)
    assert (rows(twins.here), twins.here.version) == (now, version)


def test_a_run_that_dies_before_its_commit_leaves_the_table_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files lie there and no reader sees them; the next run commits the same difference."""
    twins = Twins(tmp_path, KINDS["instance"], 9)
    difference, before = twins.next(), rows(twins.here)
    paths = {f.path for f in data_files(twins.here)}

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(applied, "commit", die)
        with pytest.raises(KeyboardInterrupt):
            twins.here.commit(difference, NOTE)
    on_disk = {str(p.relative_to(twins.here.url)) for p in Path(twins.here.url).rglob("*.parquet")}
    assert len({files.stored_path(p) for p in on_disk}) > len(paths)
    assert {f.path for f in data_files(twins.here)} == paths
    assert rows(twins.here) == before
    twins.commit(difference)


@pytest.mark.parametrize("name", KINDS)
def test_of_two_commits_on_one_version_one_wins(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have written their files when they commit; the other one changes nothing."""
    twins = Twins(tmp_path, KINDS[name], 11)
    both, commit = threading.Barrier(2), files.commit

    def at_once(*given: Any) -> int:  # noqa: ANN401 - as `commit`
        both.wait(60)
        return commit(*given)

    monkeypatch.setattr(applied, "commit", at_once)
    for count in range(4):
        snapshots, keys = [twins.here, twins.here], sorted(rows(twins.here))
        pair = [twins.updates(twins.random.sample(keys, 3), 100 + count) for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            won = list(threads.map(_won, snapshots, pair))
        assert sorted(won) == [False, True]
        assert twins.here.version == snapshots[0].version + 1
        twins.follow(pair[won.index(True)])


def _won(snapshot: Snapshot, difference: Difference) -> bool:
    try:
        snapshot.commit(difference, NOTE)
    except ConflictError:
        return False
    return True


# --- staged rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 1 + TIMES))
def test_staged_rows_are_those_of_a_difference(tmp_path: Path, seed: int) -> None:
    """Written in slices before the commit, or with it: the same rows, and the same numbers told."""
    twins = Twins(tmp_path, KINDS["instance"], seed)
    for count in range(4):
        stored = rows(twins.here)
        chosen = twins.random.sample(sorted(stored), 8)
        updates = twins.updates(chosen[:5], 100 + count).updates
        deletes = twins.updates(chosen[5:7], 200).updates
        assert updates is not None
        assert deletes is not None
        new = [k for k in twins.kind.keys if k not in stored][:4]
        guard = [*twins.table.key, "sequence"]
        inserts, gone = twins.source.rows(new), deletes.select(guard)
        whole = Difference(twins.table, inserts=inserts, updates=updates, deletes=gone)
        target = twins.here.prepared()
        both = pa.concat_tables([inserts, updates])
        both = both.take(pa.array(twins.random.sample(range(len(both)), len(both))))
        staged = [f for at in range(0, len(both), 4) for f in target.stage(both.slice(at, 4))]
        assert rows(twins.here) == stored
        sliced = replace(whole, inserts=None, updates=updates.select(guard), staged=staged)
        assert sliced.counts() == whole.counts()
        target.commit(sliced, NOTE)
        twins.follow(whole)
        assert {file.path for file in staged} <= {file.path for file in data_files(twins.here)}
        _assert_statistics(twins.here)


def test_staged_rows_of_refused_updates_are_left_out(tmp_path: Path) -> None:
    """The table has a newer sequence, or no row: none is there twice, and none comes back."""
    twins = Twins(tmp_path, KINDS["instance"], 4)
    chosen = twins.random.sample(sorted(rows(twins.here), key=repr), 9)
    twins.commit(twins.updates(chosen[:6], 100))
    deletes = twins.updates(chosen[6:], 200).updates
    assert deletes is not None
    guard = [*twins.table.key, "sequence"]
    twins.commit(Difference(twins.table, deletes=deletes.select(guard)))
    updates = pa.concat_tables(
        [cast("pa.Table", twins.updates([key], 98 + n).updates) for n, key in enumerate(chosen)]
    )
    new = [k for k in twins.kind.keys if k not in rows(twins.here) and k not in chosen][:3]
    inserts, target = twins.source.rows(new), twins.here.prepared()
    both = pa.concat_tables([updates, inserts])
    staged = [f for at in range(0, len(both), 2) for f in target.stage(both.slice(at, 2))]
    sliced = Difference(twins.table, updates=updates.select(guard), staged=staged)
    target.commit(sliced, NOTE)
    twins.follow(Difference(twins.table, inserts=inserts, updates=updates))
    _assert_statistics(twins.here)


def _raced(bench: Bench, *steps: Any) -> None:  # noqa: ANN401 - functions without arguments
    def take() -> None:
        for step in steps:
            step()

    bench.archive.meanwhile = take


def _three(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three instances are in the log; each header is a slice of its own."""
    monkeypatch.setattr(slices, "SLICE_BYTES", 1)
    for number in (1, 2, 3):
        bench.archive.create(number, of=key(str(number)), patientid=f"PHI-{number}")
    bench.change(hours(0))


def _shown(bench: Bench) -> list[tuple[object, ...]]:
    return contents(bench.store, INSTANCE, "sequence", "patientid")


def _on_disk(bench: Bench) -> int:
    return len([*Path(bench.store.urls[INSTANCE.name]).rglob("*.parquet")])


def test_a_run_that_lost_its_commit_keeps_what_it_has_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same plan again asks for nothing, and writes nothing again."""
    _three(bench, monkeypatch)
    of = key("4", study="2")
    _raced(
        bench,
        lambda: bench.archive.create(70, of=of, patientid="PHI-4"),
        lambda: bench.change(hours(1)),
        lambda: bench.instance(hours(1), run("other")),
    )
    bench.instance(hours(0))
    assert bench.archive.asked == [[1, 2, 3], [4]]
    assert _shown(bench) == [(n, f"PHI-{n}") for n in (1, 2, 3, 4)]
    assert _on_disk(bench) == len(data_files(bench.store.open(INSTANCE))) == 4


def test_a_run_that_lost_its_commit_reads_what_its_new_plan_wants_beyond(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One instance has a newer entry, one is gone, and one is as it was read."""
    _three(bench, monkeypatch)
    _raced(
        bench,
        lambda: bench.archive.update(70, of=key("1"), patientid="PHI-new"),
        lambda: bench.archive.delete(80, of=key("2")),
        lambda: bench.archive.create(130, of=key("4", study="2"), patientid="PHI-6"),
        lambda: bench.change(hours(1, 3)),
        lambda: bench.instance(hours(2), run("other")),
    )
    bench.instance(hours(0))
    assert bench.archive.asked == [[1, 2, 3], [6], [4]]
    assert _shown(bench) == [(3, "PHI-3"), (4, "PHI-new"), (6, "PHI-6")]
    assert len(data_files(bench.store.open(INSTANCE))) == 3


def test_a_run_that_another_has_overtaken_commits_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has read the same hour: no row is there twice."""
    _three(bench, monkeypatch)
    _raced(bench, lambda: bench.instance(hours(0), run("other")))
    bench.instance(hours(0))
    assert bench.archive.asked == [[1, 2, 3], [1, 2, 3]]
    assert _shown(bench) == [(n, f"PHI-{n}") for n in (1, 2, 3)]
    assert bench.store.version(INSTANCE) == 1
