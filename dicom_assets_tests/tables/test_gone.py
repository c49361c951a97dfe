"""Absent tables: those that had rows are gone, all others may be absent."""

import shutil
from pathlib import Path

import pytest

from dicom_assets.errors import DamagedTableError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, REJECTED, SERIES, STUDY, SYNC
from dicom_assets.tables import rejected
from dicom_assets.tables.sync import gone_tables, open_hours, require_tables
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench, hours, key, run, ticks

ALL = {table.name for table in (CHANGE, INSTANCE, SERIES, STUDY)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Empty tables, and an empty archive."""
    return Bench(store_in(tmp_path))


def lose(bench: Bench, *names: str) -> None:
    """The folders are gone, as if there had never been a row."""
    for name in names:
        shutil.rmtree(bench.store.urls[name])


def test_tables_that_had_no_row_are_not_gone(bench: Bench) -> None:
    """A release before has not made them: hours without entries, instances that came and went."""
    bench.sync(hours(0))
    lose(bench, *ALL, REJECTED.name)
    assert gone_tables(bench.store) == []
    bench.archive.create(70)
    bench.archive.delete(80)
    bench.sync(hours(1))
    lose(bench, INSTANCE.name, SERIES.name, STUDY.name)
    assert gone_tables(bench.store) == []
    lose(bench, CHANGE.name)
    assert CHANGE.name in gone_tables(bench.store)


def test_an_instance_that_waits_in_rejected_is_no_sign(bench: Bench) -> None:
    """Of an archive of which no header could be read, `instance` has no row."""
    bench.archive.unreadable[bench.archive.create(10)] = "no header"
    bench.sync(hours(0))
    lose(bench, INSTANCE.name, SERIES.name, STUDY.name)
    assert gone_tables(bench.store) == []


def test_tables_are_made_before_the_first_mark(bench: Bench) -> None:
    """Also by a run over tables of a release before, and without a word."""
    bench.change(hours(0))
    assert bench.store.absent(bench.store.tables.values()) == []
    lose(bench, STUDY.name, REJECTED.name)
    require_tables(bench.store, run())
    assert bench.store.absent(bench.store.tables.values()) == []


@pytest.mark.parametrize(
    ("name", "owing"),
    [
        ("change", ALL),
        ("instance", ALL - {"change"}),
        ("series", {"series"}),
        ("study", {"study"}),
    ],
)
def test_hours_lose_the_marks_of_a_table_and_of_those_below(
    bench: Bench, name: str, owing: set[str]
) -> None:
    """Told once, with the page; the next step goes on."""
    bench.archive.create(10)
    bench.archive.create(70, of=key("2"))
    bench.sync(hours(0, 2))
    lose(bench, name)
    with pytest.raises(DamagedTableError, match=f"{name} at .* docs/operate/repair.md"):
        bench.sync(hours(2))
    assert list(open_hours(bench.store).values())[:2] == [owing] * 2
    bench.sync(hours(0, 3))
    assert open_hours(bench.store) == {}


def test_entries_that_wait_in_rejected_are_read_again(bench: Bench) -> None:
    """Those that are in no other table from the feed, the others at their headers."""
    bench.archive.create(10)
    bench.archive.unreadable[bench.archive.create(70, of=key("2"))] = "no header"
    bench.archive.unusable.append(Rejection(99, ticks(20), "no key"))
    bench.sync(hours(0, 2))
    lose(bench, REJECTED.name)
    assert gone_tables(bench.store) == [REJECTED.name]
    with pytest.raises(DamagedTableError, match="rejected at"):
        bench.change(hours(2))
    assert list(open_hours(bench.store).values()) == [ALL, ALL - {"change"}]
    bench.sync(hours(0, 2))
    assert rejected.sequences(bench.store) == [2, 99]


def test_sync_is_gone_where_the_log_has_rows(bench: Bench) -> None:
    """Without rows it is a new root."""
    assert gone_tables(bench.store) == []
    bench.archive.create(10)
    bench.sync(hours(0))
    lose(bench, SYNC.name)
    assert gone_tables(bench.store) == [SYNC.name]
    with pytest.raises(DamagedTableError, match="sync at"):
        bench.change(hours(0))
    bench.sync(hours(0))
    assert gone_tables(bench.store) == []
