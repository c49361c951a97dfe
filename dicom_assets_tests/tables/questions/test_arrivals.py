"""Silent devices and columns that got worse, in the real table `series` of a made-up hospital."""

from datetime import timedelta

import pytest

from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.arrivals import Device, arrivals, silent_now, worse_columns
from dicom_assets.window import HOUR, Bounds, Window
from dicom_assets_tests.support.hospital import DAY, MARKS, NOON, Sender, filled, show_hours

BOUNDS = Bounds(Window.between(NOON - 70 * DAY, NOON))
WORKDAYS = (0, 1, 2, 3, 4)


def silent(store: Store, until: timedelta = timedelta()) -> list[tuple[str, int, int]]:
    """The silent devices: name, days since the one that they missed, expected by which hour."""
    now = NOON + until
    bounds = Bounds(Window.between(NOON - 70 * DAY, now))
    found = silent_now(store, bounds, "Europe/Berlin", now)
    return [(s.device.name, (NOON.date() - s.day).days, s.by) for s in found]


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (Sender("CT1", "CT"), []),
        (Sender("CT1", "CT", silent=1, hours=(7, 15)), [("CT1", 0, 8)]),
        (Sender("CT1", "CT", silent=1, hours=(12, 15)), []),
        (Sender("MR1", "MR", silent=3, weekdays=WORKDAYS, hours=(9,)), [("MR1", 0, 10)]),
        (Sender("MR1", "MR", silent=4, weekdays=WORKDAYS, hours=(9,)), [("MR1", 3, 10)]),
        (Sender("US1", "US", silent=1, weekdays=(1, 3)), []),
        (Sender("US1", "US", silent=5, weekdays=(1, 3)), [("US1", 4, 8)]),
        (Sender("XA1", "XA", silent=1, days=40), []),
        (Sender("XA1", "XA", silent=1, days=42), [("XA1", 0, 8)]),
        (Sender("XA1", "XA", silent=30), []),
    ],
    ids=[
        "it sends",
        "its hour has passed",
        "its hour has not come",
        "silent since the weekend",
        "silent on Friday",
        "not a day of it",
        "a day of it was last week",
        "five of eight weeks",
        "six of eight weeks",
        "long gone",
    ],
)
def test_a_device_is_silent_when_its_usual_hour_has_passed(
    store: Store, sender: Sender, expected: list[tuple[str, int, int]]
) -> None:
    """It is a Monday, noon in Berlin. Another device sends, so that hours are not empty."""
    filled(store, [sender, Sender("CR1", "CR")])
    assert silent(store) == expected


def test_a_device_that_sends_again_is_not_silent(store: Store) -> None:
    """However late."""
    filled(store, [Sender("CT1", "CT", silent=2), Sender("CT1", "CT", hours=(11,), days=1)])
    assert silent(store) == []


def test_the_usual_hour_is_that_of_three_of_four_days(store: Store) -> None:
    """One late start among the last eight same weekdays does not move it."""
    late = Sender("CT1", "CT", hours=(20,), days=1, silent=7)
    filled(store, [Sender("CT1", "CT", silent=8), Sender("CT1", "CT", silent=1, days=6), late])
    assert silent(store) == [("CT1", 0, 8)]


def test_two_devices_of_one_name_at_two_institutions_are_two(store: Store) -> None:
    """The other one still sends."""
    filled(store, [Sender("CT1", "CT", silent=1), Sender("CT1", "CT", "South Clinic")])
    assert [name for name, *_ in silent(store)] == ["CT1"]


def test_tables_that_are_behind_accuse_no_device(store: Store) -> None:
    """A device is judged by the hours that the tables show, and these end before its hour."""
    filled(store, [Sender("CT1", "CT", silent=1, hours=(13,))])
    assert silent(store, until=6 * HOUR) == []
    show_hours(store, [NOON + n * HOUR for n in range(6)])
    assert silent(store, until=6 * HOUR) == [("CT1", 0, 14)]


def test_a_day_with_a_missing_hour_is_not_judged(store: Store) -> None:
    """The device may have sent in it."""
    sender = Sender("CT1", "CT", silent=1)
    filled(store, [sender], without=(NOON - 7 * HOUR,))
    assert silent(store) == []
    show_hours(store, [NOON - 7 * HOUR])
    assert silent(store) == [("CT1", 0, 8)]


def test_tables_without_rows_have_no_arrivals(store: Store) -> None:
    """Nor has a root without tables."""
    found = arrivals(store, NOON, None, compares=True)
    assert (found.rows.num_rows, worse_columns(found), silent(store)) == (0, [], [])
    assert MARKS


def test_a_device_without_a_name_has_that_of_its_model(store: Store) -> None:
    """And an empty or padded name is none."""
    filled(store, [Sender(" ", "CT", " North "), Sender(None, "CT", None), Sender(" A ", "CT")])
    rows = arrivals(store, NOON, None).rows
    found = set(zip(rows["device"].to_pylist(), rows["institution"].to_pylist(), strict=True))
    assert found == {("Model 7", "North"), ("Model 7", ""), ("A", "North Clinic")}


def test_a_column_that_got_worse_is_named_with_its_device(store: Store) -> None:
    """An update of one scanner has lost the protocol, the other scanner is as before."""
    lost = {"protocolName": None}
    filled(
        store,
        [
            Sender("CT1", "CT", silent=6),
            Sender("CT1", "CT", days=6, values=lost),
            Sender("CT2", "CT"),
            Sender("CT3", "CT", values=lost),
        ],
    )
    (worse,) = worse_columns(arrivals(store, NOON, "Europe/Berlin", compares=True))
    assert (worse.device, worse.column) == (Device("CT1", "North Clinic"), "protocolName")
    assert worse.jump.before == 0
    assert worse.jump.now == pytest.approx(6 / 7, abs=0.05)


def test_few_series_are_chance(store: Store) -> None:
    """Below fifty of a device in a week nothing is compared."""
    lost = {"protocolName": None}
    few = Sender("US1", "US", each=1, hours=(7, 9), silent=7)
    filled(store, [few, Sender("US1", "US", each=1, hours=(7, 9), days=7, values=lost)])
    assert worse_columns(arrivals(store, NOON, "Europe/Berlin", compares=True)) == []
