"""The log against its seals: rows that are gone are found, reopened and read again."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC, Table
from dicom_assets.tables import change, sync
from dicom_assets.tables.delta.snapshot import Snapshot, Store
from dicom_assets.tables.questions import seals
from dicom_assets.tables.questions.seals import SealComparison, compare_seals
from dicom_assets.tables.sync import open_hours
from dicom_assets.window import Window
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, at, contents, hours, key, logged, run, ticks

HOURS = 4
ALL = hours(0, HOURS)


def compared(bench: Bench, bounds: Window = ALL, days: int = 0) -> SealComparison:
    """A comparison, so many days later."""
    by = run()
    return compare_seals(bench.store, bounds, run(now=by.now + timedelta(days=days)))


def shown(bench: Bench) -> list[list[tuple[object, ...]]]:
    """All that the tables show, but the times of loading."""
    columns = {
        CHANGE: ("sequence", "action", "sopinstanceuid"),
        SYNC: ("hour", "creates", "updates", "deletes", "digest"),
        INSTANCE: (*INSTANCE.key, "sequence", "received_timestamp"),
        SERIES: (*SERIES.key, "instanceCount"),
        STUDY: (*STUDY.key, "instanceCount"),
    }
    return [contents(bench.store, table, *names) for table, names in columns.items()]


def repaired(bench: Bench) -> None:
    """The hours that are open are read again, as the sensor requests them."""
    for hour in open_hours(bench.store):
        bench.sync(Window.between(hour, hour + timedelta(hours=1)))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Four hours, each in runs of its own, the last without an entry."""
    bench = Bench(store_in(tmp_path_factory.mktemp("seals")))
    for minute in (10, 20, 30, 70, 80):
        bench.archive.create(minute, of=key(str(minute)))
    bench.archive.update(90, of=key("10"))
    bench.archive.delete(130, of=key("20"))
    for hour in range(HOURS):
        bench.sync(hours(hour))
    return bench


@pytest.fixture
def read(template: Bench, tmp_path: Path) -> Bench:
    """The same, for one test."""
    return template.copied(tmp_path)


def removed(where: str) -> Callable[[Bench], None]:
    """Somebody deletes rows of the log."""

    def lose(bench: Bench) -> None:
        bench.store.delta(CHANGE).delete(where)

    return lose


def restored(table: Table, back: int) -> Callable[[Bench], None]:
    """Somebody restores an older version of a table."""

    def lose(bench: Bench) -> None:
        bench.store.delta(table).restore(bench.store.version(table) - back)

    return lose


def newest_commit_lost(bench: Bench) -> None:
    """The storage lost it, and the table looks like an older one."""
    log = Path(bench.store.urls[CHANGE.name]) / "_delta_log"
    max(log.glob("*.json")).unlink()


def replaced(bench: Bench) -> None:
    """Somebody wrote another row for one of the log's, with the same action."""
    rows = bench.store.open(CHANGE).rows(where='"sequence" = 2')
    other = rows.set_column(0, "sequence", pa.array([0], pa.int64()))
    bench.store.delta(CHANGE).delete('"sequence" = 2')
    write_deltalake(bench.store.urls[CHANGE.name], other, mode="append")


LOSSES = [
    (removed('"sequence" = 2'), [0], 1),
    (removed('"sequence" = 1'), [0], 1),
    (removed("action = 'Delete'"), [130], 1),
    (removed('"sequence" <= 4'), [0, 60], 4),
    (removed("true"), [0, 60, 130], 7),
    (restored(CHANGE, 1), [130], 1),
    (restored(CHANGE, 2), [60, 130], 4),
    (newest_commit_lost, [130], 1),
]


def test_a_log_that_is_whole_passes_and_nothing_is_written(read: Bench) -> None:
    """Also hours without entries, each night."""
    version = read.store.version(SYNC)
    for days in range(3):
        assert compared(read, days=days) == SealComparison(4, 4, (), (), 0, 0)
    assert compared(read).passed
    assert read.store.version(SYNC) == version


def test_tables_that_do_not_exist_pass(bench: Bench) -> None:
    """Nothing was sealed."""
    assert compared(bench) == SealComparison(0, 0, (), (), 0, 0)


@pytest.mark.parametrize(("lose", "minutes", "missing"), LOSSES)
def test_rows_that_are_gone_are_found_and_read_again(
    read: Bench, lose: Callable[[Bench], None], minutes: list[int], missing: int
) -> None:
    """However they were lost; and the tables are what they were."""
    before = shown(read)
    lose(read)
    found = compared(read)
    expected = tuple(at(minute // 60 * 60) for minute in minutes)
    assert (found.reopened, found.missing, found.passed) == (expected, missing, False)
    assert tuple(open_hours(read.store)) == expected
    repaired(read)
    assert shown(read) == before
    assert compared(read).passed
    assert list(open_hours(read.store)) == []


def test_a_row_in_place_of_another_is_found_by_the_digest(read: Bench) -> None:
    """The counts are those of the seal, and the tables get back the row that was replaced."""
    replaced(read)
    assert compared(read).reopened == (at(0),)
    repaired(read)
    assert {2} <= {row[0] for row in contents(read.store, CHANGE, "sequence")}
    assert compared(read).passed


def test_an_older_version_of_the_seals_is_found(read: Bench) -> None:
    """The seal from before a late entry came back, with marks that are older than the log."""
    before = read.store.version(SYNC)
    read.archive.create(40, of=key("40"))
    read.sync(hours(0))
    expected = shown(read)
    restored(SYNC, read.store.version(SYNC) - before)(read)
    found = compared(read)
    assert (found.reopened, found.missing, found.surplus) == ((at(0),), 0, 1)
    repaired(read)
    assert shown(read) == expected


def test_hours_that_the_service_no_longer_serves_are_asked_for_once(read: Bench) -> None:
    """The new seal is that of the log: they are not asked for each night."""
    removed('"sequence" <= 3')(read)
    del read.archive.entries_[:3]
    assert compared(read).missing == 3
    repaired(read)
    assert compared(read).passed
    assert list(open_hours(read.store)) == []


def test_an_hour_outside_the_bounds_keeps_its_seal(read: Bench) -> None:
    """No run reads it again: a person has to know, each night."""
    removed('"sequence" = 1')(read)
    for _ in range(2):
        found = compared(read, hours(1, HOURS))
        assert (found.reopened, found.kept, found.missing) == ((), (at(0),), 1)
        assert not found.passed


def test_an_hour_that_the_start_cuts_is_compared_by_what_was_read_of_it(read: Bench) -> None:
    """Rows before the start are in the log, and not in the seal."""
    half = Window(ticks(25), hours(0).end)
    sync.reopen(read.store, [at(0)], run())
    read.sync(half)
    assert compared(read, half).passed
    removed('"sequence" = 3')(read)
    assert compared(read).reopened == (at(0),)


# --- rejected entries: in the seal, and not in the log -------------------------------------------


@pytest.fixture
def rejecting(read: Bench) -> Bench:
    """A hour whose first and last entries could not be used."""
    read.archive.unusable = [
        Rejection(number, ticks(minute), "unknown state") for number, minute in ((0, 5), (50, 55))
    ]
    read.sync(hours(0))
    return read


def test_entries_that_wait_are_not_gone(rejecting: Bench) -> None:
    """The seal has them, the log has not; `rejected` has."""
    assert contents(rejecting.store, SYNC, "firstSequence", "lastSequence")[0] != (1, 3)
    assert compared(rejecting).passed


def test_an_entry_that_could_be_used_later_is_not_too_many(rejecting: Bench) -> None:
    """A run for another hour added it to the log, and the seal stays."""
    rejecting.archive.unusable.pop()
    late = logged(50, of=key("50"), minutes=55)
    rejecting.archive.entries_.append(late)
    rejecting.archive.live[key("50")] = {}
    rejecting.archive.next_sequence = 51
    rejecting.sync(hours(3), run(now=run().now + timedelta(days=2)))
    assert (50,) in contents(rejecting.store, CHANGE, "sequence")
    assert compared(rejecting).passed
    assert list(open_hours(rejecting.store)) == []


def test_a_loss_beside_entries_that_wait_is_found(rejecting: Bench) -> None:
    """They do not make up for it."""
    removed('"sequence" = 2')(rejecting)
    assert compared(rejecting).reopened == (at(0),)


@pytest.mark.parametrize("sequence", [0, 50])
def test_an_entry_that_left_rejected_and_did_not_reach_the_log_is_found(
    rejecting: Bench, sequence: int
) -> None:
    """Somebody emptied the table: the hour is read again, and has it again."""
    rejecting.store.delta(REJECTED).delete(f'"sequence" = {sequence}')
    assert compared(rejecting).reopened == (at(0),)
    repaired(rejecting)
    assert (sequence,) in contents(rejecting.store, REJECTED, "sequence")
    assert compared(rejecting).passed


def test_an_entry_that_was_rejected_outside_its_hour_is_no_loss(read: Bench) -> None:
    """No seal has it, because another window listed it."""
    read.archive.unusable = [Rejection(40, ticks(40), "outside")]
    read.change(hours(0))
    read.archive.unusable = []
    sync.reopen(read.store, [at(0)], run())
    read.sync(hours(0))
    assert compared(read).passed


# --- runs beside ---------------------------------------------------------------------------------


def test_a_run_that_has_not_sealed_yet_is_no_fault(
    read: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hour got late rows, which its old seal lacks: it lost this seal before."""
    found: list[SealComparison] = []
    seal = change._seal

    def looked(*given: Any) -> Any:  # noqa: ANN401 - a step as it is
        found.append(compared(read))
        return seal(*given)

    read.archive.create(40, of=key("40"))
    monkeypatch.setattr(change, "_seal", looked)
    read.sync(hours(0))
    assert [one.passed for one in found] == [True]
    assert found[0].compared == HOURS - 1


def test_a_run_that_ends_before_the_seal_leaves_its_hour_open(
    read: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It added a late row: no table shows the hour until it is read again."""

    def die(*given: object) -> None:
        raise KeyboardInterrupt

    read.archive.create(40, of=key("40"))
    with monkeypatch.context() as patch:
        patch.setattr(change, "_seal", die)
        with pytest.raises(KeyboardInterrupt):
            read.change(hours(0))
    assert list(open_hours(read.store)) == [at(0)]


@pytest.mark.parametrize("table", [REJECTED, CHANGE], ids=lambda table: table.name)
def test_a_run_between_two_reads_is_no_fault(
    read: Bench, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seals are read first, and once more before an hour is called different."""
    opened, ran = Store.open, list[Table]()

    def meanwhile(store: Store, given: Table) -> Snapshot:
        if given == table and not ran:
            ran.append(given)
            read.archive.create(40, of=key("40"))
            read.sync(hours(0))
        return opened(store, given)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "open", meanwhile)
        assert compared(read).passed
    assert ran
    assert list(open_hours(read.store)) == []


# --- digests in turn -----------------------------------------------------------------------------


def test_every_digest_has_its_turn(read: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the hours each night, all of them in NIGHTS nights, however many portions."""
    monkeypatch.setattr(seals, "PORTION_ROWS", 1)
    monkeypatch.setattr(seals, "NIGHTS", 2)
    hashed = [compared(read, days=days).hashed for days in range(2)]
    assert sum(hashed) == HOURS
    assert max(hashed) < HOURS
    replaced(read)
    found = {compared(read, days=days).reopened for days in range(2)}
    assert found == {(), (at(0),)}
