"""Seals: what an hour was when it was read, and which tables have followed it."""

import hashlib
from datetime import timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from dicom_assets.errors import NotYetError
from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables import sync
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.upkeep.kept_headers import unfilled_columns
from dicom_assets.window import TICKS_PER_SECOND, Bounds, Window
from dicom_assets_tests.support.tables import (
    DEFAULT,
    NOW,
    Bench,
    Row,
    at,
    bounds,
    contents,
    hours,
    key,
    logged,
    run,
    ticks,
)

NONE_DIGEST = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
LATER = run("later", NOW + timedelta(hours=1))
MARKS = ("instanceAt", "seriesAt", "studyAt")


def found(rows: list[Row], *rejections: Rejection, first: float = 0, last: float = 1) -> list[Row]:
    """Return the seals of the hours of a window, for log rows and rejections."""
    changes = pa.Table.from_pylist(rows, schema=CHANGE.arrow())
    return [hour.seal_columns() for hour in sync.hours_of(hours(first, last), changes, rejections)]


def marks(bench: Bench) -> list[tuple[object, ...]]:
    """The three marks of every hour, in the order of the hours."""
    return [row[1:] for row in contents(bench.store, SYNC, "hour", *MARKS)]


def test_a_seal_says_counts_bounds_and_digest() -> None:
    """By action; the digest is over the sequences in ascending order, eight bytes each."""
    rows = [logged(5, minutes=1), logged(3, "Delete"), logged(4, "Update"), logged(9, minutes=8)]
    packed = b"".join(n.to_bytes(8, "little") for n in (3, 4, 5, 9))
    assert found(rows) == [
        {
            "creates": 2,
            "updates": 1,
            "deletes": 1,
            "rejected": 0,
            "firstSequence": 3,
            "lastSequence": 9,
            "digest": hashlib.sha256(packed).hexdigest(),
            "windowStart": at(0),
            "windowEnd": at(60),
        }
    ]


def test_the_digest_does_not_depend_on_the_order_of_rows() -> None:
    """But on every sequence."""
    rows = [logged(n) for n in (1, 2, 3)]
    assert found(rows) == found(rows[::-1])
    assert found(rows)[0]["digest"] != found(rows[:2])[0]["digest"]
    wide = [logged(2**62, minutes=1)]
    assert found(wide)[0]["digest"] == hashlib.sha256((2**62).to_bytes(8, "little")).hexdigest()


def test_an_empty_hour_has_a_seal_of_nothing() -> None:
    """It is known to be empty, which is not the same as unknown."""
    (said,) = found([])
    assert (said["creates"], said["firstSequence"], said["lastSequence"]) == (0, None, None)
    assert said["digest"] == NONE_DIGEST


def test_rows_belong_to_the_hour_of_their_time() -> None:
    """At the exact tick: the first of an hour is that hour's, the last as well."""
    edges = {1: 0, 2: ticks(60) - ticks(0) - 1, 3: ticks(60) - ticks(0)}
    rows = [logged(n) | {"timestamp_ticks": ticks(0) + off} for n, off in edges.items()]
    assert [(s["firstSequence"], s["lastSequence"]) for s in found(rows, last=3)] == [
        (1, 2),
        (3, 3),
        (None, None),
    ]


def test_a_rejected_entry_is_part_of_the_digest() -> None:
    """Once, though the log may hold it from an earlier read; one without a place is in no hour."""
    bad = [Rejection(2, ticks(5), "r"), Rejection(2, ticks(5), "r")]
    (said,) = found([logged(1)], *bad, Rejection(8, None, "r"))
    assert (said["rejected"], said["lastSequence"]) == (1, 2)
    assert said["digest"] == found([logged(1), logged(2)])[0]["digest"]


def test_entries_without_sequence_or_time_count_one_by_one_and_are_in_no_digest() -> None:
    """So a digest of an earlier release is the digest of this one."""
    nameless = [Rejection(None, ticks(5), "r", place=ticks(5)), Rejection(None, ticks(5), "r")]
    placed = [Rejection(None, None, "r", place=ticks(70)), Rejection(8, None, "r", place=ticks(71))]
    first, second = found([logged(1)], *nameless, *placed, last=2)
    assert (first["rejected"], second["rejected"]) == (2, 2)
    digests = [said["digest"] for said in found([logged(1)], last=2)]
    assert [first["digest"], second["digest"]] == digests


def test_hours_that_the_start_or_end_cuts_are_sealed_as_cut(bench: Bench) -> None:
    """Start 00:30, end 03:30: four hours, at their full starts, with what was read of them."""
    bench.archive.create(20)
    bench.archive.create(40, of=key("2"))
    bench.archive.create(200, of=key("3"))
    bench.change(hours(0.5, 3.5))
    columns = ("hour", "windowStart", "windowEnd", "creates")
    assert contents(bench.store, SYNC, *columns) == [
        (at(0), at(30), at(60), 1),
        (at(60), at(60), at(120), 0),
        (at(120), at(120), at(180), 0),
        (at(180), at(180), at(210), 1),
    ]
    bench.instance(hours(0.5, 3.5))
    assert [row[0] for row in marks(bench)] == [NOW] * 4


def test_another_start_changes_the_seal(bench: Bench) -> None:
    """Even when no entry comes with it: the hour is now known from its beginning."""
    bench.change(hours(0.5, 1))
    bench.instance(hours(0.5, 1))
    bench.change(hours(0), LATER)
    assert contents(bench.store, SYNC, "windowStart", "sealedAt", "instanceAt") == [
        (at(0), LATER.now, None)
    ]


def test_every_step_leaves_its_mark(bench: Bench) -> None:
    """With the moment of the run that took it."""
    bench.archive.create(10)
    bench.change(hours(0))
    assert marks(bench) == [(None, None, None)]
    bench.instance(hours(0))
    bench.rollup(STUDY, hours(0), LATER)
    assert marks(bench) == [(NOW, None, LATER.now)]


def test_marks_that_are_set_stay(bench: Bench) -> None:
    """A second run that changes nothing writes nothing, later moment or not."""
    bench.archive.create(10)
    bench.sync(hours(0))
    before = bench.store.version(SYNC)
    bench.sync(hours(0), LATER)
    assert marks(bench) == [(NOW, NOW, NOW)]
    assert bench.store.version(SYNC) == before


def test_a_late_entry_takes_the_marks_of_its_hour_only(bench: Bench) -> None:
    """The others must follow again; other hours keep theirs."""
    bench.archive.create(10)
    bench.archive.create(70, of=key("2"))
    bench.sync(hours(0, 2))
    bench.archive.create(20, of=key("3"))
    bench.change(hours(0, 2), LATER)
    assert marks(bench) == [(None, None, None), (NOW, NOW, NOW)]
    assert [row[0] for row in contents(bench.store, SYNC, "sealedAt")] == [NOW, LATER.now]


def test_series_and_study_do_not_mark_before_instance(bench: Bench) -> None:
    """They followed rows that had not followed the hour."""
    bench.archive.create(10)
    bench.change(hours(0))
    bench.rollup(SERIES, hours(0))
    assert marks(bench) == [(None, None, None)]


def test_a_seal_that_changed_meanwhile_is_not_marked(bench: Bench) -> None:
    """The hour is not the same as when the run began."""
    bench.archive.create(10)
    bench.change(hours(0))
    begun = sync.seals_of(bench.store, hours(0), run())
    bench.archive.create(20, of=key("2"))
    bench.change(hours(0))
    assert begun.mark(bench.store, "instanceAt", run()) == 0
    assert marks(bench) == [(None, None, None)]
    assert sync.seals_of(bench.store, hours(0), run()).mark(bench.store, "instanceAt", run()) == 1


def test_an_hour_that_is_not_in_the_log_is_said_to_be_missing(bench: Bench) -> None:
    """With how many, of which window, and what has to run first."""
    bench.change(hours(0))
    bench.change(hours(2))
    with pytest.raises(NotYetError) as caught:
        bench.instance(hours(0, 4))
    assert str(caught.value) == (
        "2 of the 4 hours from 2026-01-01 00:00:00 to 2026-01-01 04:00:00 UTC are not in the "
        "change log yet: materialize `change` for them first"
    )
    with pytest.raises(NotYetError):
        bench.rollup(SERIES, hours(1))


def test_a_seal_that_was_taken_away_counts_as_missing(bench: Bench) -> None:
    """The audit re-opens an hour so; reading it again seals it, with the same digest."""
    bench.change(hours(0))
    rows = bench.store.open(SYNC).rows().drop_columns(["sealedAt"])
    opened = rows.append_column(
        SYNC.arrow().field("sealedAt"), pa.nulls(1, pa.timestamp("us", "UTC"))
    )
    difference = Difference(SYNC, updates=opened.select(SYNC.names))
    bench.store.open(SYNC).commit(difference, {})
    with pytest.raises(NotYetError, match="1 of the 1 hours"):
        bench.instance(hours(0))
    assert bench.change(hours(0)).totals["sealed"] == 1
    bench.instance(hours(0))


def test_a_window_without_hours_needs_and_marks_nothing(bench: Bench) -> None:
    """It lies outside of start and end."""
    assert (
        sync.seals_of(bench.store, hours(1, 1), run()).mark(bench.store, "instanceAt", run()) == 0
    )
    assert bench.change(hours(1, 1)).hours == {}
    assert bench.store.version(SYNC) == 0


def test_followed_are_the_hours_that_all_tables_show(bench: Bench) -> None:
    """An hour without a seal, or without the mark of one table, is not among them."""
    bench.archive.create(10)
    bench.sync(hours(0, 3))
    assert sync.followed(bench.store, bounds(0, 3)) == {at(0), at(60), at(120)}
    sync.unmark(bench.store, hours(1), run())
    assert sync.followed(bench.store, bounds(0, 3)) == {at(0), at(120)}


def test_an_hour_that_was_read_in_part_is_followed_as_far_as_reading_goes(bench: Bench) -> None:
    """The end lay in the middle of it; when it moves, the hour has to be read again."""
    bench.archive.create(10)
    part = Window(hours(0).start, hours(0).end - TICKS_PER_SECOND)
    bench.sync(part)
    assert sync.followed(bench.store, Bounds(part)) == {at(0)}
    assert sync.followed(bench.store, bounds(0, 3)) == set()


def test_an_hour_read_with_fewer_data_partitions_is_not_shown(bench: Bench) -> None:
    """It is whole for these and for fewer, and read again it has the others too."""
    bench.archive.create(10)
    bench.archive.create(20, of=key(partition="a"))
    bench.archive.kept = frozenset({DEFAULT})
    bench.sync(hours(0))
    assert contents(bench.store, SYNC, "dataPartitions", "creates") == [(DEFAULT, 1)]
    assert sync.followed(bench.store, bounds(0, 1, DEFAULT)) == {at(0)}
    for kept in ((DEFAULT, "a"), ("a",), ()):
        assert sync.followed(bench.store, bounds(0, 1, *kept)) == set()
    bench.archive.kept = frozenset({DEFAULT, "a"})
    bench.sync(hours(0))
    assert contents(bench.store, SYNC, "dataPartitions", "creates") == [(f"{DEFAULT},a", 2)]
    for kept in ((DEFAULT,), (DEFAULT, "a")):
        assert sync.followed(bench.store, bounds(0, 1, *kept)) == {at(0)}
    assert sync.followed(bench.store, bounds(0)) == set()


def test_all_data_partitions_are_more_than_those_that_have_names(bench: Bench) -> None:
    """Those that come later are among them."""
    bench.sync(hours(0))
    assert contents(bench.store, SYNC, "dataPartitions") == [("*",)]
    assert sync.followed(bench.store, bounds(0, 1, DEFAULT)) == {at(0)}
    assert sync.followed(bench.store, bounds(0)) == {at(0)}


@pytest.fixture
def upgraded(bench: Bench) -> Bench:
    """Five hours of a release that noted no data partitions, which read the default one."""
    bench.archive.create(10)
    bench.archive.create(20, of=key(partition="a"))
    bench.archive.kept = frozenset({DEFAULT})
    bench.sync(hours(0, 5))
    snapshot = bench.store.open(SYNC)
    assert snapshot.delta is not None
    rows = snapshot.rows().drop_columns(["dataPartitions"])
    write_deltalake(snapshot.delta, rows, mode="overwrite", schema_mode="overwrite")
    return bench


def test_hours_of_an_earlier_release_are_taken_as_read_with_what_is_kept(upgraded: Bench) -> None:
    """No hour is read again, whatever is kept at the first start."""
    for kept in ((), (DEFAULT,), ("a",)):
        assert len(sync.followed(upgraded.store, bounds(0, 5, *kept))) == 5


def test_the_first_seal_notes_them_all_in_one_commit(upgraded: Bench) -> None:
    """Marks and seals stay, and from then on a wider setting is noticed."""
    marks = contents(upgraded.store, SYNC, "hour", "digest", *MARKS)
    upgraded.change(hours(5), LATER)
    assert contents(upgraded.store, SYNC, "hour", "digest", *MARKS)[:5] == marks
    assert contents(upgraded.store, SYNC, "dataPartitions") == [(DEFAULT,)] * 6
    assert unfilled_columns(upgraded.store) == {}
    assert sync.followed(upgraded.store, bounds(0, 5)) == set()
    version = upgraded.store.version(SYNC)
    upgraded.change(hours(6), LATER)
    assert upgraded.store.version(SYNC) == version + 1


def test_reading_such_an_hour_by_hand_reads_what_a_wider_setting_wants(upgraded: Bench) -> None:
    """The way to heal a setting that was widened before: the others stay as they are."""
    upgraded.archive.kept = None
    upgraded.sync(hours(0), LATER)
    assert contents(upgraded.store, INSTANCE, "partitionName") == [(DEFAULT,), ("a",)]
    assert contents(upgraded.store, SYNC, "creates", "dataPartitions") == [
        *[(0, "*")] * 4,
        (2, "*"),
    ]
    assert len(sync.followed(upgraded.store, bounds(0, 5))) == 5
