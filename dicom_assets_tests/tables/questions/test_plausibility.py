"""Rates of missing and unparsable values, the newest headers parsed, and dates in the future."""

import json
from collections.abc import Iterator
from datetime import date, timedelta

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.plausibility import (
    LEAST_SERIES,
    Rates,
    compare_rates,
    count_future_dates,
    parse_newest,
)
from dicom_assets_tests.support.tables import NOW, Row, insert, key, row

MANY = LEAST_SERIES


def compared(
    store: Store, *, weeks: float = 1, weeks_before: float = 4, points: float = 0.1
) -> Rates:
    """The comparison of the check, if nothing else is given."""
    return compare_rates(store, None, weeks=weeks, weeks_before=weeks_before, points=points)


def stored(store: Store, *rows: Iterator[Row]) -> None:
    """The rows are in `instance`, each with a sequence of its own."""
    every = [one for some in rows for one in some]
    insert(store, INSTANCE, [{**one, "sequence": number} for number, one in enumerate(every)])


def series(first: int, days_ago: float, count: int = MANY, **columns: object) -> Iterator[Row]:
    """So many series of an instance each, received so many days before now."""
    for number in range(first, first + count):
        own = dict(zip(INSTANCE.key, key("1", str(number), "1"), strict=True))
        received = NOW - timedelta(days=days_ago)
        given = {"modality": "CT", "received_timestamp": received, "metadata_string": "{}"}
        yield {**row(None), **own, **given, **columns}


def test_too_little_says_nothing(store: Store) -> None:
    """No table, no rows of before, too few series."""
    assert compared(store) == Rates()
    stored(store, series(0, 0), series(100, 10, MANY - 1, stationname="CT1"))
    assert compared(store) == Rates()
    assert compared(store).passed


def test_weeks_that_are_alike_pass(store: Store) -> None:
    """How much was compared is told."""
    stored(store, series(0, 0, stationname="CT1"), series(100, 10, stationname="CT1"))
    found = compared(store)
    assert found == Rates(MANY, MANY)
    assert found.passed


def test_a_column_that_lost_its_values_is_named(store: Store) -> None:
    """And no other; with the rates of both periods."""
    lost = series(0, 0, stationname=None, manufacturer="M")
    stored(store, lost, series(100, 10, stationname="CT1", manufacturer="M"))
    found = compared(store)
    assert found.nulls == {"stationname": (0.0, 1.0)}
    assert not found.passed


def test_values_that_came_are_no_jump(store: Store) -> None:
    """Only a loss needs a person."""
    stored(store, series(0, 0, stationname="CT1"), series(100, 10))
    assert compared(store).passed


def test_another_mix_of_modalities_is_no_jump(store: Store) -> None:
    """Ultrasound never told its station: more of it is no change of anybody."""
    stored(
        store,
        series(0, 0, 20, stationname="CT1"),
        series(50, 0, 90, modality="US"),
        series(200, 10, 90, stationname="CT1"),
        series(400, 10, MANY, modality="US"),
    )
    assert compared(store) == Rates(110, 140)


def test_a_modality_that_is_new_is_not_compared(store: Store) -> None:
    """There is nothing to hold it against."""
    known = series(0, 0, stationname="CT1")
    new = series(100, 0, modality="XA")
    stored(store, known, new, series(200, 10, stationname="CT1"))
    assert compared(store) == Rates(MANY, MANY)


def test_one_large_series_is_one_series(store: Store) -> None:
    """A CT of many slices without a value does not outweigh the others."""
    slices = [
        {**next(series(999, 0)), "sopinstanceuid": f"1.9.{number}"} for number in range(10 * MANY)
    ]
    before = series(200, 10, stationname="CT1")
    stored(store, series(0, 0, stationname="CT1"), iter(slices), before)
    assert compared(store) == Rates(MANY + 1, MANY)


def test_a_few_more_are_chance(store: Store) -> None:
    """Six of fifty instead of none are twelve points, and may happen."""
    some = [series(0, 0, 6), series(10, 0, MANY - 6, stationname="CT1")]
    before = series(200, 10, stationname="CT1")
    stored(store, *some, before)
    assert compared(store).passed


def test_the_periods_are_counted_from_the_newest_instance(store: Store) -> None:
    """Neither what is older nor a clock that goes on counts."""
    old = series(400, 40, stationname="CT1")
    stored(store, series(0, 0), series(200, 10), old)
    assert compared(store) == Rates(MANY, MANY)
    assert compared(store, weeks_before=8).nulls == {"stationname": (0.5, 1.0)}
    assert compared(store, weeks=2, weeks_before=8).nulls == {"stationname": (0.0, 1.0)}


def test_a_day_that_is_too_early_is_counted_and_not_wrong(store: Store) -> None:
    """An anonymizer blanks every birth date alike. That is nobody's fault."""
    for first, days in ((0, ("00010101", "15821014")), (9, ("19700101", "x"))):
        for place, day in enumerate(days):
            header = json.dumps({"00100030": {"vr": "DA", "Value": [day]}})
            stored(store, series(first + place, 1, 1, metadata_string=header))
    parsed = parse_newest(store, None, 10)
    assert parsed.unparsable["patientbirthdate_formatted: before 1582-10-15"] == 2
    assert parsed.rates() == {"patientbirthdate_formatted": 0.5}


def test_values_that_no_longer_parse_are_named(store: Store) -> None:
    """The text is there, and is none of its VR; never said what it is."""
    good, wrong = (json.dumps({"00080020": {"vr": "DA", "Value": [v]}}) for v in ("20260101", "x"))
    was = series(200, 10, metadata_string=good)
    stored(store, series(0, 0, metadata_string=wrong), was)
    assert compared(store).unparsable["studydate_formatted"] == (0.0, 1.0)


# --- dates in the future --------------------------------------------------------------------------


def test_dates_of_the_past_and_of_today_are_none(store: Store) -> None:
    """A day's grace is for clocks and for places where it is tomorrow."""
    assert not count_future_dates(store, NOW)
    near: Row = {
        "studydate_formatted": NOW.date() + timedelta(days=1),
        "acquisition_timestamp": NOW,
    }
    insert(store, INSTANCE, [row(1) | near, row(2, "2")])
    assert not count_future_dates(store, NOW)


def test_dates_beyond_are_counted_by_column(store: Store) -> None:
    """Of the study, the acquisition, the birth; not the feed's own times."""
    later = NOW + timedelta(days=2)
    insert(
        store,
        INSTANCE,
        [
            row(1, studydate_formatted=later.date(), received_timestamp=later),
            row(2, "2", studydate_formatted=later.date(), acquisition_timestamp=later),
            row(3, "3", patientbirthdate_formatted=date(2999, 1, 1)),
        ],
    )
    expected = {"studydate_formatted": 2, "acquisition_timestamp": 1}
    assert count_future_dates(store, NOW) == expected | {"patientbirthdate_formatted": 1}
