"""The rule, row by row: what the log says of a key against what the table holds."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.plan import Plan, key_of, make_plan, newest_of
from dicom_assets_tests.support.tables import DEFAULT, Row, at, key, log_of, logged, row, stored_of

MISSING = "no row"


def keys(*of: tuple[str, str, str, str]) -> "pa.ChunkedArray[pa.StringScalar]":
    """Touched keys, as `key_of` gives them."""
    return pa.chunked_array([["|".join(k) for k in of]], pa.string())


def plan(log: list[Row], stored: list[Row], paused: tuple[int, ...] = ()) -> Plan:
    """The plan for the default key, which the window touched."""
    return make_plan(log_of(*log), stored_of(*stored), keys(key()), paused)


def holds(held: int | str | None) -> list[Row]:
    """Return the rows of the default key: one at this sequence, or none."""
    return [] if held == MISSING else [row(held if isinstance(held, int) else None)]


def said(planned: Plan) -> tuple[list[object], list[object], list[object]]:
    """The sequences that are read, deleted and patched."""
    parts = (planned.read, planned.deletes, planned.patches)
    read, deleted, patched = (part["sequence"].to_pylist() for part in parts)
    return read, deleted, patched


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("Delete", "Deleted"),
        ("Delete", "Current"),
        ("Delete", "Replaced"),
        ("Create", "Deleted"),
        ("Update", "Deleted"),
    ],
)
@pytest.mark.parametrize(
    ("held", "deleted"),
    [(4, [5]), (5, [5]), (None, [5]), (0, [5]), (6, []), (MISSING, [])],
)
def test_a_key_that_is_gone_loses_its_row_unless_the_row_is_newer(
    action: str, state: str, held: int | str | None, deleted: list[int]
) -> None:
    """A Delete, or any entry served as Deleted; a stored sequence of null is less than any."""
    planned = plan([logged(1), logged(5, action, state)], holds(held))
    assert said(planned)[:2] == ([], deleted)


@pytest.mark.parametrize("action", ["Create", "Update"])
@pytest.mark.parametrize("state", ["Current", "Replaced"])
@pytest.mark.parametrize(
    ("held", "read"),
    [(4, [5]), (None, [5]), (MISSING, [5]), (5, []), (6, [])],
)
def test_a_key_that_is_not_gone_is_read_unless_the_row_is_as_new(
    action: str, state: str, held: int | str | None, read: list[int]
) -> None:
    """Whatever the state was when the entry was logged: the header read sees the state of now."""
    planned = plan([logged(5, action, state)], holds(held))
    assert said(planned)[:2] == (read, [])


def test_only_the_newest_entry_of_a_key_counts() -> None:
    """Whatever the order of the log's rows and of their times."""
    log = [logged(9, minutes=1), logged(3, "Delete", "Deleted", minutes=9), logged(7, "Update")]
    assert said(plan(log, holds(3))) == ([9], [], [])
    assert plan(log, []).newest["sequence"].to_pylist() == [9]


def test_an_entry_of_a_later_hour_keeps_a_deleted_row_deleted() -> None:
    """The window touched the Create; the Delete of a later hour, already logged, decides."""
    log = [logged(1, minutes=5), logged(8, "Delete", "Deleted", minutes=300)]
    assert said(plan(log, [])) == ([], [], [])


def test_an_entry_of_a_later_hour_is_read_instead_of_the_windows() -> None:
    """One header per key: the newest there is."""
    log = [logged(1, minutes=5), logged(8, "Update", minutes=300)]
    planned = plan(log, holds(1))
    assert said(planned) == ([8], [], [])
    assert planned.read["timestamp_ticks"].to_pylist() == [log[1]["timestamp_ticks"]]


@pytest.mark.parametrize(
    ("held", "exists", "shown"), [(2, True, 2), (None, True, None), (MISSING, False, None)]
)
def test_what_is_read_says_what_the_table_holds(
    held: int | str | None, exists: bool, shown: int | None
) -> None:
    """A row without sequence exists all the same: it is updated, not inserted beside."""
    planned = plan([logged(5)], holds(held)).read
    assert planned["exists"].to_pylist() == [exists]
    assert planned["stored"].to_pylist() == [shown]


def test_a_paused_entry_is_neither_read_nor_patched_but_named() -> None:
    """Its row stays as it is until the pause has passed."""
    planned = plan([logged(1), logged(5, "Update")], holds(1), paused=(5, 77))
    assert said(planned) == ([], [], [])
    assert planned.paused == (5,)


@pytest.mark.parametrize("held", [5, 6])
def test_a_pause_that_the_row_has_overtaken_is_not_named(held: int) -> None:
    """Nothing is left to wait for."""
    assert plan([logged(5)], holds(held), paused=(5,)).paused == ()


def test_a_paused_entry_does_not_hold_back_a_newer_one() -> None:
    """Nor does it hold back a deletion."""
    assert said(plan([logged(5), logged(6, "Update")], [], paused=(5,)))[0] == [6]
    gone = plan([logged(5), logged(6, "Delete", "Deleted")], holds(4), paused=(5, 6))
    assert said(gone)[1] == [6]
    assert gone.paused == ()


def test_keys_that_the_window_did_not_touch_are_left_alone() -> None:
    """Though the log and the table were read study by study."""
    log = log_of(logged(1), logged(2, of=key("2")), logged(3, "Delete", of=key("3")))
    planned = make_plan(log, stored_of(row(1, "2"), row(1, "3")), keys(key()))
    assert said(planned) == ([1], [], [])
    assert planned.newest["sequence"].to_pylist() == [1]


def test_a_touched_key_that_the_log_does_not_know_asks_for_nothing() -> None:
    """It cannot happen; and if it does, no row is lost."""
    planned = make_plan(log_of(logged(1)), stored_of(row(1, "2")), keys(key("2")))
    assert said(planned) == ([], [], [])


@pytest.mark.parametrize("part", range(4))
def test_keys_that_differ_in_one_part_are_different(part: int) -> None:
    """The same UIDs in another data partition are another instance, and so on for each part."""
    other = tuple(f"{value}9" if i == part else value for i, value in enumerate(key()))
    planned = make_plan(
        log_of(logged(1), logged(2, "Delete", of=(other[0], other[1], other[2], other[3]))),
        stored_of(row(1)),
        keys(key(), (other[0], other[1], other[2], other[3])),
    )
    assert said(planned) == ([], [], [1])
    assert planned.patches["received_timestamp"].to_pylist() == [at(1)]


def test_parts_of_a_key_do_not_run_into_one_another() -> None:
    """1.2 + 3 is not 1 + 2.3: the separator stands neither in a UID nor in a partition's name."""
    one, two = (DEFAULT, "1.2", "3", "4"), (DEFAULT, "1", "2.3", "4")
    joined = key_of(log_of(logged(1, of=one), logged(2, of=two))).to_pylist()
    assert joined == [f"{DEFAULT}|1.2|3|4", f"{DEFAULT}|1|2.3|4"]


def test_nothing_logged_and_nothing_touched_asks_for_nothing() -> None:
    """Empty tables of the right form are enough, and keep their form."""
    planned = make_plan(log_of(), stored_of(), keys())
    assert said(planned) == ([], [], [])
    assert planned.paused == ()
    assert planned.deletes.column_names == [*INSTANCE.key, "sequence"]
    assert planned.patches.column_names == [*INSTANCE.key, "sequence", "received_timestamp"]
    assert said(make_plan(log_of(logged(1)), stored_of(row(1)), keys())) == ([], [], [])


def received(log: list[Row], stored: list[Row]) -> list[object]:
    """The received_timestamp that a read entry gets."""
    return plan(log, stored).read["received_timestamp"].to_pylist()


def test_a_read_entry_was_received_with_the_greatest_create_not_above_it() -> None:
    """Not with the first, nor with an Update; by sequence, not by time."""
    log = [logged(1), logged(2, "Delete"), logged(4, minutes=2), logged(6, "Update")]
    assert received(log, []) == [at(2)]


def test_an_entry_without_a_create_keeps_what_the_table_holds() -> None:
    """Its Create lies before the start: null, or what was known, never lost."""
    assert received([logged(6, "Update")], []) == [None]
    assert received([logged(6, "Update")], [row(2, received_timestamp=at(-9))]) == [at(-9)]


def patched(log: list[Row], stored: list[Row]) -> list[tuple[object, object]]:
    """Sequence and received_timestamp of each patch."""
    patches = plan(log, stored).patches
    columns = ("sequence", "received_timestamp")
    return list(zip(*(patches[name].to_pylist() for name in columns), strict=True))


def test_an_older_create_that_arrives_later_patches_the_row() -> None:
    """An old hour was filled after a new one: no header is read for it."""
    log = [logged(1), logged(6, "Update")]
    assert patched(log, [row(6)]) == [(6, at(1))]
    assert patched(log, [row(6, received_timestamp=at(0))]) == [(6, at(1))]
    assert said(plan(log, [row(6)]))[0] == []


def test_a_patch_is_made_for_the_sequence_that_the_row_holds() -> None:
    """A Create above it belongs to what the row does not show."""
    log = [logged(1), logged(4), logged(6, "Update")]
    assert patched(log, [row(7, received_timestamp=at(1))]) == [(7, at(4))]
    assert patched([logged(1), logged(2)], [row(2, received_timestamp=at(1))]) == [(2, at(2))]


def test_a_row_that_outlived_an_older_delete_is_patched_like_any_other() -> None:
    """The Create in the log is not above it."""
    log = [logged(1), logged(2, "Delete", "Deleted")]
    assert patched(log, [row(5, received_timestamp=None)]) == [(5, at(1))]


def test_a_known_time_is_never_overwritten_by_none() -> None:
    """The log holds no Create of the key, or one above the row."""
    assert patched([logged(6, "Update")], [row(6, received_timestamp=at(-9))]) == []
    assert patched([logged(6, "Update")], [row(6)]) == []


def test_a_time_that_is_right_is_not_patched() -> None:
    """So a second run writes nothing."""
    assert patched([logged(1), logged(6, "Update")], [row(6, received_timestamp=at(1))]) == []


def test_a_time_of_receipt_is_the_logs_own_timestamp() -> None:
    """Cut down to the microsecond once, so that both tables say the same before 1970."""
    eve = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    early = logged(1) | {"timestamp_ticks": -1, "timestamp": eve}
    assert received([early], []) == [eve]


def test_the_newest_row_of_each_key_is_the_one_with_the_greatest_sequence() -> None:
    """One per key, in the log's order; none of an empty log."""
    log = log_of(logged(4), logged(9, of=key("2")), logged(7), logged(1, of=key("2")))
    assert newest_of(log)["sequence"].to_pylist() == [9, 7]
    assert newest_of(log_of()).num_rows == 0


def test_thousands_of_keys_are_planned_at_once() -> None:
    """Each by itself: odd ones are stored as they stand, even ones are new."""
    count = 4_000
    log = log_of(*(logged(n, of=key(str(n)), minutes=1) for n in range(1, count + 1)))
    stored = stored_of(*(row(n, str(n), received_timestamp=at(1)) for n in range(1, count, 2)))
    read, deleted, patches = said(make_plan(log, stored, key_of(log)))
    assert sorted(map(str, read)) == sorted(map(str, range(2, count + 1, 2)))
    assert (deleted, patches) == ([], [])
