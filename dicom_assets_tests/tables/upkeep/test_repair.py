"""What another program wrote is found in the log, and derived anew: the tables are right again."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dicom_assets.errors import DoubledRowsError, NotYetError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Table
from dicom_assets.tables.catalogue import TABLES
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Snapshot
from dicom_assets.tables.sync import digests_of, open_hours
from dicom_assets.tables.upkeep.repair import find_foreign_rows, repair_table
from dicom_assets.window import HOUR, Bounds, Window
from dicom_assets_tests.support.samples import SOAK, crossed
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import (
    Bench,
    at,
    hours,
    key,
    ticks,
)

HOURS = 4
Attack = Callable[[DeltaTable], object]
LOADED = {"created_date", "run_id", "attempts", "next_attempt"}
LATER = Run("repair", datetime(2026, 2, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Four hours of four studies: one updated, one with a deletion, one entry rejected."""
    bench = Bench(store_in(tmp_path_factory.mktemp("repair")))
    for study in range(4):
        for sop in ("1", "2"):
            of = key(sop, study=str(study))
            bench.archive.create(60 * study + 1 + int(sop), of=of, patientname=f"Doe{study}")
    bench.archive.update(70, of=key("1", study="0"), patientname="Roe")
    bench.archive.delete(130, of=key("2", study="1"))
    bench.archive.unusable.append(Rejection(900, ticks(125), "no such thing"))
    for hour in range(HOURS):
        bench.sync(hours(hour))
    return bench


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    """The same, in a folder of its own."""
    return template.copied(tmp_path)


def contents(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table, but for times of loading and marks, which must all be there."""
    rows = {
        table.name: [
            {n: v for n, v in row.items() if n not in LOADED and not n.endswith("At")}
            for row in bench.store.open(table).rows().to_pylist()
        ]
        for table in TABLES
    }
    assert not open_hours(bench.store)
    return {name: sorted(table, key=repr) for name, table in rows.items()}


def settle(bench: Bench) -> None:
    """The runs that sensor and schedule ask for have been."""
    for _ in range(3):
        sealed = digests_of(bench.store, Bounds(hours(0, HOURS - 1)))
        due = {*open_hours(bench.store)} | {at(60 * h) for h in range(HOURS)} - {*sealed}
        # Neighbours in one run, as the sensor asks for them.
        for _, group in groupby(enumerate(sorted(due)), lambda one: one[1] - one[0] * HOUR):
            span = [hour for _, hour in group]
            # Until `instance` is repaired too, the run is red after its step of `instance`.
            with suppress(DoubledRowsError):
                bench.sync(Window.between(span[0], span[-1] + HOUR), LATER)


def mend(bench: Bench, *, everything: Table | None = None) -> None:
    """The command has been run until it finds nothing, and what it asks for as well."""
    for _ in range(3):
        found = [
            find_foreign_rows(bench.store, table, everything=table == everything)
            for table in bench.store.tables.values()
        ]
        everything = None
        try:
            for one in found:
                if not one.is_empty:
                    repair_table(bench.store, one, LATER)
        except NotYetError:
            settle(bench)
            continue
        break
    settle(bench)


def updated(**columns: str) -> Attack:
    """Somebody has set columns of every row, or of those of a condition."""
    where = columns.pop("where", None)
    return lambda delta: delta.update(updates=columns, predicate=where)


def deleted(delta: DeltaTable) -> None:
    """Somebody has deleted the rows of one file."""
    some = delta.to_pyarrow_table().slice(0, 1).to_pylist()[0]
    name = next(n for n in ("sequence", "hour") if some.get(n) is not None)
    delta.delete(f"\"{name}\" = '{some[name]}'")


def emptied(delta: DeltaTable) -> None:
    """Somebody has deleted all rows."""
    delta.delete()


def doubled(delta: DeltaTable) -> None:
    """Somebody has inserted all rows a second time."""
    write_deltalake(delta, delta.to_pyarrow_table(), mode="append")


def overwritten(delta: DeltaTable) -> None:
    """Somebody has replaced all rows by one."""
    write_deltalake(delta, delta.to_pyarrow_table().slice(0, 1), mode="overwrite")


def restored(delta: DeltaTable) -> None:
    """Somebody has gone back to a version with a row or two."""
    delta.restore(2)


def merged(delta: DeltaTable) -> None:
    """Somebody has merged their own rows by key: of a matched row the sequence is other."""
    rows = delta.to_pyarrow_table()
    names = [n for n in ("sequence", "hour") if n in rows.column_names]
    changed = "digest" if "digest" in rows.column_names else "filepath"
    changed = "reason" if "reason" in rows.column_names else changed
    changed = changed if changed in rows.column_names else "patientName"
    merger = delta.merge(
        rows, f"t.`{names[-1]}` = s.`{names[-1]}`", source_alias="s", target_alias="t"
    )
    merger.when_matched_update({changed: "'another'"}).execute()


def null_key(delta: DeltaTable) -> None:
    """Somebody has written rows without a key."""
    rows = delta.to_pyarrow_table().slice(0, 1)
    nulls = [pa.nulls(1, f.type) for f in rows.schema]
    write_deltalake(delta, pa.Table.from_arrays(nulls, schema=rows.schema), mode="append")


ATTACKS: list[Attack] = [
    deleted,
    emptied,
    doubled,
    overwritten,
    restored,
    merged,
    null_key,
]
PLAIN = [table for table in TABLES if table != SERIES]
OF_TABLE: list[tuple[Table, Attack]] = [
    (INSTANCE, updated(patientname="'Impostor'")),
    (INSTANCE, updated(sequence="sequence + 1000")),
    (INSTANCE, updated(sequence="sequence + 1000", where="studyinstanceuid = '1.1'")),
    (INSTANCE, updated(sopinstanceuid="concat(sopinstanceuid, '.7')")),
    (INSTANCE, updated(partitionName="'elsewhere'")),
    (INSTANCE, updated(studyinstanceuid="'1.77'")),
    (CHANGE, updated(sequence="NULL")),
    (CHANGE, updated(action="'Delete'")),
    (CHANGE, updated(state="'Deleted'")),
    (CHANGE, updated(timestamp_ticks="timestamp_ticks + 36000000000")),
    (CHANGE, updated(timestamp_ticks="timestamp_ticks + 3600000000000000")),
    (SERIES, updated(patientName="'Impostor'")),
    (STUDY, updated(studyInstanceUid="'1.77'")),
    (SYNC, updated(digest="'0'")),
    (SYNC, updated(hour="hour + INTERVAL '10 hours'")),
    (SYNC, updated(instanceAt="NULL")),
    (REJECTED, updated(sequence="sequence + 1")),
    (REJECTED, updated(next_attempt="next_attempt + INTERVAL '1000 days'")),
    (REJECTED, updated(window_start="window_start + INTERVAL '10 hours'")),
]
# What the same does to another table, or to another of its columns.
ALSO: list[tuple[Table, Attack]] = [
    (INSTANCE, updated(sequence="NULL")),
    (CHANGE, updated(sequence="sequence + 1000")),
    (CHANGE, updated(studyinstanceuid="'1.77'")),
    (STUDY, updated(partitionName="'elsewhere'")),
    (STUDY, updated(wadoRsUri="'http://elsewhere'")),
]


@pytest.mark.parametrize(
    ("table", "attack"),
    # `series` is repaired as `study` is. `rejected` has no earlier version.
    [case for case in crossed(PLAIN, ATTACKS) if case != (REJECTED, restored)]
    + OF_TABLE
    + (ALSO if SOAK else []),
)
def test_the_tables_are_right_after_a_repair(bench: Bench, table: Table, attack: Attack) -> None:
    """Whatever somebody has done to any of them; a second look finds nothing."""
    before = contents(bench)
    attack(bench.store.delta(table))
    mend(bench)
    assert contents(bench) == before
    assert all(find_foreign_rows(bench.store, one).is_empty for one in TABLES)


def test_nothing_is_found_in_tables_of_ours(bench: Bench) -> None:
    """Nor is anything changed by others' compaction."""
    for table in TABLES:
        bench.store.delta(table).optimize.compact()
        bench.store.delta(table).alter.set_table_properties({"delta.appendOnly": "false"})
        assert find_foreign_rows(bench.store, table).is_empty


def test_only_what_a_commit_changed_is_touched(bench: Bench) -> None:
    """A file of many studies is rewritten for one row; after a vacuum all of them count."""
    bench.store.delta(INSTANCE).optimize.compact()
    updated(patientname="'Impostor'", where="studyinstanceuid = '1.3'")(bench.store.delta(INSTANCE))
    found = find_foreign_rows(bench.store, INSTANCE)
    assert (found.written, found.touched) == (frozenset({"1.3"}), frozenset({"1.3"}))
    delta = bench.store.delta(INSTANCE)
    delta.vacuum(0, dry_run=False, full=True, enforce_retention_duration=False)
    bench = Bench(replace(bench.store), bench.archive)  # another process never read the old files
    found = find_foreign_rows(bench.store, INSTANCE)
    assert (found.written, found.touched) == (frozenset({"1.0", "1.1", "1.2", "1.3"}), None)
    before = bench.archive.asked.copy()
    repair_table(bench.store, found, LATER)
    assert {row["patientname"] for row in bench.store.open(INSTANCE).rows().to_pylist()} >= {"Doe2"}
    settle(bench)
    assert len([s for asked in bench.archive.asked[len(before) :] for s in asked]) == 7
    assert "Impostor" not in str(contents(bench))


@pytest.mark.parametrize("table", PLAIN, ids=lambda table: table.name)
def test_rows_whose_files_are_gone_are_all_made_anew(bench: Bench, table: Table) -> None:
    """A vacuum has removed what somebody wrote first and what they wrote over it."""
    before = contents(bench)
    for _ in range(2):
        merged(bench.store.delta(table))
    delta = bench.store.delta(table)
    delta.vacuum(0, dry_run=False, full=True, enforce_retention_duration=False)
    found = find_foreign_rows(bench.store, table)
    assert (found.written, found.touched) == (None, None)
    mend(bench)
    assert contents(bench) == before


def test_a_restore_costs_no_headers(bench: Bench) -> None:
    """Its rows are ours, and only those that it took away are read again."""
    before, asked = contents(bench), len(bench.archive.asked)
    restored(bench.store.delta(INSTANCE))
    gone = len(before[INSTANCE.name]) - bench.store.open(INSTANCE).count()
    mend(bench)
    assert contents(bench) == before
    assert 0 < sum(map(len, bench.archive.asked[asked:])) <= gone + 2


def test_a_repair_that_is_killed_anywhere_is_begun_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its commits may be its last; in `make soak`, in each of the tables."""
    before = contents(bench)
    commits = [0, 0]

    class Killed(BaseException):
        pass

    def dying(name: str) -> None:
        whole = getattr(Snapshot, name)

        def commit(*given: object) -> object:
            commits[0] += 1
            if commits[0] == commits[1]:
                raise Killed
            return whole(*given)

        monkeypatch.setattr(Snapshot, name, commit)

    for name in ("commit", "delete", "set_property"):
        dying(name)
    for table, attack in (
        (INSTANCE, updated(sequence="sequence + 1000")),
        (CHANGE, updated(state="'Deleted'")),
        (SERIES, doubled),
    )[: None if SOAK else 1]:
        for number in range(1, 12):
            attack(bench.store.delta(table))
            commits[:] = [0, number]
            with suppress(Killed):
                repair_table(bench.store, find_foreign_rows(bench.store, table), LATER)
            survived, commits[1] = commits[0] < number, 0
            mend(bench)
            assert contents(bench) == before
            if survived:
                break
        else:
            raise AssertionError("it never came to its end")


def test_instance_waits_for_the_log(bench: Bench) -> None:
    """Rows whose entries are about to be read again are not taken for ghosts."""
    before = contents(bench)
    doubled(bench.store.delta(CHANGE))
    updated(patientname="'Impostor'")(bench.store.delta(INSTANCE))
    repair_table(bench.store, find_foreign_rows(bench.store, CHANGE), LATER)
    rows = bench.store.open(INSTANCE).count()
    with pytest.raises(NotYetError, match="4 hours are not in the change log"):
        repair_table(bench.store, find_foreign_rows(bench.store, INSTANCE), LATER)
    assert bench.store.open(INSTANCE).count() == rows
    mend(bench)
    assert contents(bench) == before


def test_no_uid_is_in_the_log_of_a_repaired_table(bench: Bench) -> None:
    """A log outlives the rows: erasure counts on that."""
    for table in (CHANGE, INSTANCE, STUDY):
        doubled(bench.store.delta(table))
    mend(bench)
    for table in TABLES:
        told = [str(commit["operationParameters"]) for commit in bench.store.delta(table).history()]
        assert not [text for text in told if "1.3" in text]
