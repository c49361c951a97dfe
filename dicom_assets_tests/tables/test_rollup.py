"""`series` and `study` follow `instance` for every study that a window touched."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from deltalake import write_deltalake

from dicom_assets.errors import DoubledRowsError
from dicom_assets.schema import INSTANCE, INT64, SERIES, STUDY, SYNC, Table
from dicom_assets.schema.tables import rolled
from dicom_assets.tables.delta.commit import Committed
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.rollup import touched_studies
from dicom_assets_tests.support import steps
from dicom_assets_tests.support.tables import (
    NOW,
    Bench,
    at,
    contents,
    hours,
    insert,
    key,
    run,
    versions,
)


def studies(bench: Bench) -> list[tuple[object, ...]]:
    """Study, patient, counts and sequence of each row of `study`."""
    columns = ("studyInstanceUid", "patientId", "seriesCount", "instanceCount", "sequence")
    return contents(bench.store, STUDY, *columns)


def series(bench: Bench) -> list[tuple[object, ...]]:
    """Series, modality and count of each row of `series`."""
    return contents(bench.store, SERIES, "seriesInstanceUid", "modality", "instanceCount")


def test_touched_studies_are_derived_from_their_live_instances(bench: Bench) -> None:
    """All of them, also those of other hours."""
    bench.archive.create(10, patientid="A", modality="CT")
    bench.archive.create(20, of=key("2", series="2"), modality="MR")
    bench.sync(hours(0))
    bench.archive.create(70, of=key("3"), patientid="B")
    bench.sync(hours(1))
    assert studies(bench) == [("1.1", "B", 2, 3, 3)]
    assert series(bench) == [("1.1.1", "CT", 2), ("1.1.2", "MR", 1)]


def test_studies_that_were_not_touched_stay_as_they_are(bench: Bench) -> None:
    """Even when they are wrong: only an hour of theirs looks at them."""
    insert(bench.store, STUDY, [{"partitionName": "x", "studyInstanceUid": "1.9"}])
    bench.archive.create(10)
    bench.sync(hours(0))
    assert [row[0] for row in studies(bench)] == ["1.1", "1.9"]


def test_a_touched_study_that_is_wrong_is_put_right(bench: Bench) -> None:
    """A row that the template left behind goes, a wrong count is corrected."""
    bench.archive.create(10)
    bench.sync(hours(0))
    stale = {"partitionName": "x", "studyInstanceUid": "1.1", "instanceCount": 5}
    insert(bench.store, STUDY, [stale])
    bench.sync(hours(0))
    assert studies(bench) == [("1.1", None, 1, 1, 1)]


def test_a_series_that_lost_its_last_instance_goes_and_its_study_stays(bench: Bench) -> None:
    """With the counts of what is left."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2", series="2"))
    bench.sync(hours(0))
    bench.archive.delete(70, of=key("2", series="2"))
    bench.sync(hours(1))
    assert series(bench) == [("1.1.1", None, 1)]
    assert studies(bench) == [("1.1", None, 1, 1, 1)]


def test_a_study_that_lost_its_last_instance_goes(bench: Bench) -> None:
    """And leaves other studies alone."""
    bench.archive.create(10)
    bench.archive.create(20, of=key(study="2"))
    bench.sync(hours(0))
    bench.archive.delete(70)
    bench.sync(hours(1))
    assert [row[0] for row in studies(bench)] == ["1.2"]
    assert [row[0] for row in series(bench)] == ["1.2.1"]


@pytest.mark.parametrize("table", [SERIES, STUDY], ids=["series", "study"])
def test_an_hour_without_entries_writes_nothing_and_is_marked(bench: Bench, table: Table) -> None:
    """Most hours of a night are like that."""
    bench.change(hours(0))
    bench.instance(hours(0))
    outcome = bench.rollup(table, hours(0))
    assert (outcome.version_before, outcome.version_after, outcome.rows) == (0, 0, 0)
    assert contents(bench.store, SYNC, f"{table.name}At") == [(NOW,)]


def test_the_same_study_in_two_data_partitions_is_two_rows(bench: Bench) -> None:
    """Deleting one leaves the other."""
    for partition in ("a", "b"):
        bench.archive.create(10, of=key(partition=partition), patientid=partition)
    bench.sync(hours(0))
    bench.archive.delete(70, of=key(partition="a"))
    bench.sync(hours(1))
    assert contents(bench.store, STUDY, "partitionName", "patientId") == [("b", "b")]
    assert contents(bench.store, SERIES, "partitionName", "patientId") == [("b", "b")]


def test_a_run_again_writes_nothing(bench: Bench) -> None:
    """No version of any table."""
    bench.archive.create(10)
    bench.archive.update(20)
    bench.sync(hours(0))
    before = versions(bench.store)
    bench.sync(hours(0), run("later", at(9999)))
    assert versions(bench.store) == before


def test_series_and_study_do_not_wait_for_each_other(bench: Bench) -> None:
    """Either may come first, or alone."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.instance(hours(0))
    bench.rollup(STUDY, hours(0))
    assert bench.store.open(SERIES).count() == 0
    assert len(studies(bench)) == 1


def test_an_outcome_counts_studies_and_rows(bench: Bench) -> None:
    """Studies that were looked at, and rows by kind of change."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2", series="2"))
    bench.archive.create(30, of=key(study="2"))
    bench.change(hours(0))
    bench.instance(hours(0))
    outcome = bench.rollup(SERIES, hours(0))
    expected = {"studies": 2, "inserts": 3, "updates": 0, "deletes": 0}
    assert {name: outcome.totals[name] for name in expected} == expected
    assert outcome.rows == 3


def test_the_studies_of_a_window_are_those_of_its_log_rows(bench: Bench) -> None:
    """Deletes included; each once, in order."""
    bench.archive.create(10, of=key(study="2"))
    bench.archive.create(20, of=key(study="1"))
    bench.archive.delete(70, of=key(study="2"))
    bench.change(hours(0, 2))
    assert touched_studies(bench.store, hours(0)) == ["1.2", "1.1"]
    assert touched_studies(bench.store, hours(1)) == ["1.2"]
    assert touched_studies(bench.store, hours(5)) == []


@pytest.fixture
def before_commit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """A way to let another run act just before the next commit to `series`."""
    commit, pending = Snapshot.commit, list[Callable[[], object]]()

    def committed(self: Snapshot, *args: object) -> Committed:
        if self.table is SERIES and pending:
            pending.pop()()
        return commit(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Snapshot, "commit", committed)
    return pending.append


def test_an_instance_table_that_moved_is_looked_at_again(
    bench: Bench, before_commit: Callable[[Callable[[], object]], None]
) -> None:
    """Another run deleted an instance after this one had counted it."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.change(hours(0))
    bench.instance(hours(0))

    def other() -> None:
        bench.archive.delete(70, of=key("2"))
        bench.change(hours(1))
        bench.instance(hours(1))

    before_commit(other)
    bench.rollup(SERIES, hours(0))
    assert series(bench) == [("1.1.1", None, 1)]


def test_who_loses_the_race_counts_anew(
    bench: Bench, before_commit: Callable[[Callable[[], object]], None]
) -> None:
    """Another run saw a later `instance` and committed first: its count stands."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.instance(hours(0))

    def other() -> None:
        bench.archive.create(70, of=key("2"))
        bench.sync(hours(1))

    before_commit(other)
    bench.rollup(SERIES, hours(0))
    assert series(bench) == [("1.1.1", None, 2)]
    assert bench.store.version(SERIES) == 1


def addresses(bench: Bench) -> list[tuple[object, ...]]:
    """Study, count and address of each row of `study`."""
    return contents(bench.store, STUDY, "studyInstanceUid", "instanceCount", "wadoRsUri")


def test_a_study_has_its_address_in_the_service(bench: Bench) -> None:
    """None where the service has none that lasts."""
    bench.archive.create(10)
    bench.sync(hours(0))
    assert addresses(bench) == [("1.1", 1, None)]
    bench.store = replace(bench.store, service_base="https://host/v2")
    bench.archive.create(70, of=key(study="2"))
    bench.sync(hours(1))
    assert addresses(bench)[1:] == [("1.2", 1, "https://host/v2/studies/1.2")]


def test_a_service_that_moved_is_no_reason_to_write(bench: Bench) -> None:
    """A row that is written anyway gets the new address."""
    bench.store = replace(bench.store, service_base="https://old/v2")
    for study in "12":
        bench.archive.create(10, of=key(study=study))
    bench.sync(hours(0))
    bench.store = replace(bench.store, service_base="https://new/v2")
    before = versions(bench.store)
    bench.sync(hours(0))
    assert versions(bench.store) == before
    bench.archive.create(70, of=key("2", study="2"))
    bench.sync(hours(0, 2))
    assert addresses(bench) == [
        ("1.1", 1, "https://old/v2/studies/1.1"),
        ("1.2", 2, "https://new/v2/studies/1.2"),
    ]


def test_a_column_that_a_user_added_is_derived_too(bench: Bench) -> None:
    """From the hour on that touches its study, and in the rows that were there."""
    bench.archive.create(10, rows=256)
    bench.sync(hours(0))
    added = rolled("rowsInAll", "sum", "rows", type_=INT64)
    table = replace(STUDY, columns=(*STUDY.columns, added))
    bench.store = replace(bench.store, tables={**bench.store.tables, STUDY.name: table})
    bench.archive.create(70, of=key("2"), rows=512)
    bench.sync(hours(1))
    assert contents(bench.store, STUDY, "studyInstanceUid", "rowsInAll") == [("1.1", 768)]


def test_rollups_equal_a_count_of_instance(bench: Bench) -> None:
    """After creations, updates and deletions in several hours."""
    bench.archive.create(10)
    bench.archive.create(20, of=key("2"))
    bench.archive.create(30, of=key("3", series="2"))
    bench.archive.create(75, of=key("4", study="2"))
    bench.archive.delete(80, of=key("2"))
    bench.archive.update(130, of=key("3", series="2"))
    for hour in (2, 0, 1):
        bench.sync(hours(hour))
    assert counted(bench.store) == sorted(
        contents(bench.store, SERIES, "seriesInstanceUid", "instanceCount")
    )


def counted(store: Store) -> list[tuple[object, ...]]:
    """The instances of each series, counted from `instance`."""
    found = [uid for (uid,) in contents(store, INSTANCE, "seriesinstanceuid")]
    return sorted(((uid, found.count(uid)) for uid in set(found)), key=repr)


@pytest.mark.parametrize("table", [SERIES, STUDY])
def test_nothing_is_derived_from_doubled_rows(bench: Bench, table: Table) -> None:
    """Somebody has written to `instance`: the touched study's rows stay, and others go on."""
    bench.archive.create(10, of=key("1", "1"))
    bench.archive.create(70, of=key("1", "2"))
    bench.sync(hours(0, 2))
    doubled = bench.store.open(INSTANCE).rows(where="\"studyinstanceuid\" = '1.1'")
    write_deltalake(bench.store.delta(INSTANCE), doubled, mode="append")
    before = bench.store.version(table)
    with pytest.raises(DoubledRowsError, match="1 rows too many"):
        steps.derive(bench.store, table, hours(0), run())
    assert bench.store.version(table) == before
    steps.derive(bench.store, table, hours(1), run())
