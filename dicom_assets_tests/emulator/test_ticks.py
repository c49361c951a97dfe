"""Times as the service takes and writes them, to 100 ns."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from dicom_assets.emulator import ticks


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.0000001Z", 1),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("1970-01-01T00:00:01.5+00:00", 15_000_000),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T17:00:00-07:00", 0),
        ("1970-01-01T00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T00:00:00.00000014Z", 1),
        ("1970-01-01T00:00:00.00000016Z", 2),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 100_000_000),
        ("2022-11-25T08:44:12.3524895+00:00", 16_693_658_523_524_895),
        ("0001-01-01T00:00:00Z", -621_355_968_000_000_000),
        ("9999-12-31T23:59:59.9999999Z", 2_534_023_007_999_999_999),
    ],
)
def test_a_time_with_a_zone_is_exact(text: str, value: int) -> None:
    """The seventh digit counts; further ones are rounded."""
    assert ticks.from_text(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "foo",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01T00:00:00 00:00",
        "1970-01-01T25:00:00Z",
        "1970-02-30T00:00:00Z",
        "Thu, 41 Jan 1970 00:00:10 GMT",
        "Thu, 01 Jan 1970 00:00:10",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "١٩٧٠-01-01T00:00:00Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Words, days that do not exist, and above all times without a zone."""
    with pytest.raises(ValueError, match=r".+"):
        ticks.from_text(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (1, "1970-01-01T00:00:00.0000001+00:00"),
        (-1, "1969-12-31T23:59:59.9999999+00:00"),
        (1_000_000, "1970-01-01T00:00:00.1+00:00"),
        (-621_355_968_000_000_000, "0001-01-01T00:00:00+00:00"),
    ],
)
def test_the_written_form_trims_zeros(value: int, text: str) -> None:
    """At most seven digits, none that says nothing, and parsing gives the same time back."""
    assert ticks.to_text(value) == text
    assert ticks.from_text(text) == value


def test_now_is_now() -> None:
    """The clock is the machine's, in UTC."""
    assert abs(ticks.now() / 10_000_000 - time.time()) < 5
    assert ticks.of(datetime(1970, 1, 2, tzinfo=UTC)) == 24 * ticks.PER_HOUR
