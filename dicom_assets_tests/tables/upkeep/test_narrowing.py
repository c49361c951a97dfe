"""Data partitions that are not kept any more: their rows go, and what is left is true."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets.tables import sync
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.snapshot import Snapshot
from dicom_assets.tables.questions.audit import audit
from dicom_assets.tables.upkeep.narrowing import remove_unwanted, unwanted_rows
from dicom_assets_tests.support.steps import derive, store_in
from dicom_assets_tests.support.tables import (
    DEFAULT,
    Bench,
    at,
    bounds,
    contents,
    hours,
    key,
    run,
    ticks,
)
from dicom_assets_tests.support.toy import TOY, WITH_TOY

OTHER = "clinic-b"
KEPT = frozenset({DEFAULT})
ROWS = {"change": {OTHER: 3}, **{name: {OTHER: 1} for name in ("instance", "series", "study")}}


@pytest.fixture
def read(tmp_path: Path) -> Bench:
    """Three hours of two data partitions are read; then only the default one is kept."""
    return two_partitions(Bench(store_in(tmp_path / "read")))


def two_partitions(bench: Bench) -> Bench:
    """The same, on any tables."""
    bench.archive.create(1)
    bench.archive.create(2, of=key(partition=OTHER))
    bench.archive.create(70, of=key("2", partition=OTHER))
    bench.archive.delete(80, of=key(partition=OTHER))
    bench.archive.unusable = [Rejection(90, ticks(5), "action is unknown")]
    bench.archive.create(125, of=key("3"))
    bench.sync(hours(0, 3))
    bench.archive.kept = KEPT
    return bench


def state(bench: Bench) -> list[object]:
    """Return the rows of all tables, without load times."""
    seals = [name for name in SYNC.names if name != "sealedAt"]
    return [
        contents(bench.store, CHANGE, "sequence", "partitionName"),
        contents(bench.store, INSTANCE, "sequence", "partitionName"),
        contents(bench.store, SERIES, "partitionName", "instanceCount"),
        contents(bench.store, STUDY, "partitionName", "instanceCount"),
        contents(bench.store, REJECTED, "sequence"),
        contents(bench.store, SYNC, *seals),
    ]


def only_the_default(root: Path) -> list[object]:
    """Return the rows of tables that have never read another data partition."""
    bench = Bench(store_in(root))
    two_partitions(bench)
    never = Bench(store_in(root / "never"), bench.archive)
    never.sync(hours(0, 3))
    return state(never)


def test_rows_are_counted_by_table_and_data_partition(read: Bench) -> None:
    """Nothing of those that are kept."""
    assert unwanted_rows(read.store, KEPT) == ROWS
    assert unwanted_rows(read.store, KEPT | {OTHER}) == {}


def test_what_is_left_is_what_a_narrow_reading_gives(read: Bench, tmp_path: Path) -> None:
    """Rows, digests, counts and notes; the hours stay shown, and the audit agrees."""
    remove_unwanted(read.store, KEPT, run())
    assert state(read) == only_the_default(tmp_path / "expected")
    assert sync.followed(read.store, bounds(0, 3, DEFAULT)) == {at(0), at(60), at(120)}
    assert audit(read.store, bounds(0, 3, DEFAULT), read.archive, run()).passed
    assert unwanted_rows(read.store, KEPT) == {}


def test_a_wider_setting_reads_them_again(read: Bench) -> None:
    """No hour is shown until then; afterwards the tables are as they were."""
    before = state(read)
    remove_unwanted(read.store, KEPT, run())
    assert sync.followed(read.store, bounds(0, 3)) == set()
    assert sync.followed(read.store, bounds(0, 3, DEFAULT, OTHER)) == set()
    read.archive.kept = None
    read.sync(hours(0, 3))
    assert state(read) == before
    assert sync.followed(read.store, bounds(0, 3)) == {at(0), at(60), at(120)}


class KilledError(Exception):
    """The process ended here."""


@pytest.mark.parametrize("number", range(1, 6))
def test_it_may_be_killed_after_any_commit(
    read: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Meanwhile no hour promises what is gone, and done again it ends as without the kill."""
    made = list[int]()
    expected = only_the_default(tmp_path / "expected")
    kinds = {name: getattr(Snapshot, name) for name in ("commit", "delete")}

    def counted(name: str) -> Callable[..., object]:
        def method(snapshot: Snapshot, *given: object) -> object:
            version = read.store.version(snapshot.table)
            returned = kinds[name](snapshot, *given)
            # Columns and properties have commits of their own.
            if read.store.version(snapshot.table) > version:
                made.append(version)
                if len(made) == number:
                    raise KilledError
            return returned

        return method

    with monkeypatch.context() as patched:
        for name in kinds:
            patched.setattr(Snapshot, name, counted(name))
        with pytest.raises(KilledError):
            remove_unwanted(read.store, KEPT, run())
    assert sync.followed(read.store, bounds(0, 3)) == set()
    assert audit(read.store, bounds(0, 3, DEFAULT), read.archive, run()).lost == 0
    remove_unwanted(read.store, KEPT, run())
    assert unwanted_rows(read.store, KEPT) == {}
    read.sync(hours(0, 3))
    assert state(read) == expected


def test_an_entry_that_waits_and_is_not_wanted_is_tried_no_more(read: Bench) -> None:
    """It is in the log and in `rejected`, and leaves both."""
    read.archive.kept = None
    read.archive.create(190, of=key("5", partition=OTHER))
    read.archive.unreadable = {read.archive.next_sequence - 1: "header cannot be decoded"}
    read.sync(hours(3))
    remove_unwanted(read.store, KEPT, run())
    assert contents(read.store, REJECTED, "sequence") == [(90,)]


def test_a_run_that_read_more_seals_nothing_when_its_rows_are_removed(
    read: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the hour would promise a data partition that the log lacks."""
    monkeypatch.setattr("dicom_assets.tables.delta.retry.CONFLICT_SECONDS", 0)
    monkeypatch.setattr("dicom_assets.tables.delta.retry.LONGEST_PAUSE_SECONDS", 0)
    read.archive.kept = None
    seal = sync.seal

    def late(*given: object, **named: object) -> int:
        monkeypatch.setattr(sync, "seal", seal)
        remove_unwanted(read.store, KEPT, run())
        return seal(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(sync, "seal", late)
    with pytest.raises(Exception, match="removed from the change log"):
        read.change(hours(0, 3))
    remove_unwanted(read.store, KEPT, run())
    assert sync.followed(read.store, bounds(0, 3)) == set()


def test_an_hour_whose_seal_was_not_true_is_read_again(read: Bench) -> None:
    """A digest that agrees with nothing is no reason to seal the hour anew."""
    patch = (
        SYNC.arrow(["hour", "digest"])
        .empty_table()
        .from_pylist([{"hour": at(60), "digest": "another"}], schema=SYNC.arrow(["hour", "digest"]))
    )
    read.store.open(SYNC).commit(Difference(SYNC, patches=patch), {})
    remove_unwanted(read.store, KEPT, run())
    assert list(sync.open_hours(read.store)) == [at(60)]


def test_a_table_with_a_function_of_its_own_is_derived_again(tmp_path: Path) -> None:
    """Nobody knows from which data partitions it takes its rows."""
    bench = two_partitions(Bench(store_in(tmp_path, WITH_TOY)))
    bench.archive.kept = None
    bench.archive.create(190, of=key("4", partition=OTHER))
    bench.sync(hours(3))
    derive(bench.store, TOY, hours(0, 4), run())
    assert len(bench.store.open(TOY).rows()) == 2
    remove_unwanted(bench.store, KEPT, replace(run(), run_id="narrow"))
    assert len(bench.store.open(TOY).rows()) == 1
