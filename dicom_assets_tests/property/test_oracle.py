"""The oracle against values worked out by hand, because everything else leans on it."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from typing import Any

import pytest

from dicom_assets_tests.property import oracle
from dicom_assets_tests.property.histories import START, minimal_header
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Key, Replay, Span

KEY = Key("Microsoft.Default", "1.1", "1.2", "1.3")
OTHER = Key("Microsoft.Default", "1.1", "1.2", "1.4")
DAY = Span(START, START + 24 * TICKS_PER_HOUR)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(hour: int) -> int:
    """The tick of a full hour."""
    return START + hour * TICKS_PER_HOUR


def described(key: Key, text: str | None) -> oracle.Header:
    """A header with a StudyDescription, or without."""
    element = {"vr": "LO", "Value": [text]} if text is not None else {"vr": "LO"}
    return minimal_header(key) | {"00081030": element}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], None),
        ([None], None),
        ([" \0"], None),
        (["A \0"], "A"),
        ([" A"], " A"),
        (["A ", None, "B"], r"A\\B"),
        ([None, "", " "], None),
    ],
)
def test_text_loses_its_padding_and_nothing_else(values: list[Any], text: str | None) -> None:
    """Trailing spaces and NUL go; several values are joined; only padding is null."""
    assert oracle.text_of(values) == text


@pytest.mark.parametrize(
    ("value", "day"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        ("20230229", None),
        ("2024.0229", None),
        ("2024-02-29", None),
    ],
)
def test_a_day_has_one_of_two_forms(value: str, day: date | None) -> None:
    """Anything else is null."""
    assert oracle.date_of([value]) == day


def test_names_are_alphabetic_and_numbers_are_text() -> None:
    """PN and IS as the template shows them."""
    assert oracle.name_of([{"Alphabetic": "A^B "}, {"Ideographic": "山"}]) == "A^B\\"
    assert oracle.number_of([7]) == "7"
    assert oracle.number_of([" +5 "]) == "+5"


def test_the_newest_entry_decides_and_the_greatest_create_is_the_reception() -> None:
    """Create, update, delete, create with a clock that steps back, update."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY), at(3), 1)
    replay.update([KEY], {}, at(4), [2])
    replay.delete([KEY], at(5), [3])
    replay.store(KEY, minimal_header(KEY), at(2), 10)
    replay.update([KEY], {}, at(12), [11])
    (row,) = replay.instances(DAY)
    assert (row["sequence"], row["lastModifiedTimestamp"]) == (11, NOON)
    assert row["received_timestamp"] == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert [replay.state(entry) for entry in replay.entries] == ["Replaced"] * 4 + ["Current"]


def test_what_expired_is_gone_without_an_entry() -> None:
    """Its entries read Deleted, and it has no row."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY), at(1), 1)
    replay.expire([KEY])
    assert [replay.state(entry) for entry in replay.entries] == ["Deleted"]
    assert replay.instances(DAY) == []


def test_a_rollup_takes_the_newest_value_there_is() -> None:
    """The newer instance has no description, so the older one's counts; the count is both."""
    replay = Replay()
    replay.store(KEY, described(KEY, "old"), at(1), 1)
    replay.store(OTHER, described(OTHER, None), at(0), 2)
    (study,) = oracle.studies_of(replay.instances(DAY))
    assert (study["studyDescription"], study["instanceCount"], study["sequence"]) == ("old", 2, 2)
    assert (study["seriesCount"], study["lastModifiedTimestamp"].hour) == (1, 0)


def test_an_hour_is_sealed_with_its_sequences() -> None:
    """Counted by action; the digest is that of eight bytes for each sequence, little-endian."""
    replay = Replay()
    replay.store(KEY, minimal_header(KEY), at(0), 258)
    replay.delete([KEY], at(0) + 10, [2**33])
    first, second = replay.sync(Span(at(0) + 10, at(1) + 5))
    assert (first["creates"], first["deletes"], first["firstSequence"]) == (0, 1, 2**33)
    assert second["firstSequence"] is None
    (whole,) = replay.sync(Span(at(0), at(1)))
    packed = bytes([2, 1, 0, 0, 0, 0, 0, 0]) + bytes([0, 0, 0, 0, 2, 0, 0, 0])
    assert whole["digest"] == hashlib.sha256(packed).hexdigest()
    assert first["windowStart"] > whole["windowStart"] == whole["hour"]
