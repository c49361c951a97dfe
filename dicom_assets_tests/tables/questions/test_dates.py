"""Dates that are yet to come, in the columns that a header fills."""

from datetime import date, timedelta

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.questions.dates import future
from dicom_assets_tests.support.tables import NOW, Row, insert, row


def test_dates_of_the_past_and_of_today_are_none(store: Store) -> None:
    """A day's grace is for clocks and for places where it is tomorrow."""
    assert not future(store, NOW)
    near: Row = {
        "studydate_formatted": NOW.date() + timedelta(days=1),
        "acquisition_timestamp": NOW,
    }
    insert(store, INSTANCE, [row(1) | near, row(2, "2")])
    assert not future(store, NOW)


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
    assert future(store, NOW) == expected | {"patientbirthdate_formatted": 1}
