"""An hour is read when the slower of two clocks has closed it, and only from start to end."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.schema import CHANGE, SYNC
from dicom_assets.window import ticks_of
from dicom_assets_tests.support.failures import complaint
from dicom_assets_tests.support.history import FIRST, START, alive, at, header
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import ASSETS, world

DELAY_MINUTES = 15
HOUR_END = START + timedelta(hours=1)
HALF_PAST = START + timedelta(minutes=30)


def _behind(moment: datetime) -> timedelta:
    """By how much the service's clock must be behind to say that it is the moment."""
    return datetime.now(UTC) - moment


def test_an_hour_just_ended_is_waited_for_and_the_run_says_so(
    own_service: Service, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """By the service's clock the delay has three seconds to go: nothing is read before."""
    own_service.archive.store(header(1), at=at(0, 59))
    made = world(own_service, tmp_path / "tables", delay_minutes=DELAY_MINUTES)
    closed = HOUR_END + timedelta(minutes=DELAY_MINUTES)
    own_service.behind = _behind(closed - timedelta(seconds=3))
    begun = time.monotonic()
    result = made.run(FIRST, instance=instance)
    asked = [request.moment for request in own_service.asked if request.bounds is not None]
    assert min(asked) - begun >= 2
    assert max(asked) - begun < 30
    said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert any("waiting until 01:15:00 UTC" in text and "15 minutes" in text for text in said)
    assert made.alive() == alive(own_service.archive)


@pytest.mark.parametrize(
    ("moment", "what"),
    [
        (START + timedelta(minutes=40), "in the middle of the hour"),
        (START - timedelta(days=1), "a day before"),
    ],
)
def test_an_hour_that_lies_ahead_of_the_service_is_refused(
    own_service: Service, tmp_path: Path, moment: datetime, what: str
) -> None:
    """This machine's clock says that it has ended; the service's, which counts, does not."""
    own_service.archive.store(header(1), at=at(0, 5))
    made = world(own_service, tmp_path / "tables", delay_minutes=DELAY_MINUTES)
    own_service.behind = _behind(moment)
    result = made.run(FIRST, raise_on_error=False)
    assert "lies in the future" in complaint(result), what
    assert "01:00 UTC" in complaint(result)
    assert set(made.versions().values()) == {-1}
    assert [request for request in own_service.asked if request.bounds is not None] == []


def test_a_service_ahead_of_this_machine_changes_nothing(
    own_service: Service, tmp_path: Path
) -> None:
    """The hour that is not over by this machine's clock is refused, whatever the service says."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    next_hour = this_hour + timedelta(hours=1)
    made = world(
        own_service,
        tmp_path / "tables",
        start_time=this_hour - timedelta(hours=1),
        end_time=next_hour + timedelta(hours=2),
        delay_minutes=0,
    )
    own_service.behind = -timedelta(hours=3)
    with pytest.raises(dg.DagsterError):
        made.run(f"{next_hour:%Y-%m-%d-%H:%M}")
    assert set(made.versions().values()) == {-1}


def test_a_start_and_an_end_within_hours_lose_nothing_and_read_nothing_outside(
    own_service: Service, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """00:30 to 03:30: the first and last tick are in, their neighbours are not asked for."""
    start, end = ticks_of(HALF_PAST), ticks_of(HALF_PAST + timedelta(hours=3))
    moments = [start - 1, start, at(1), end - 1, end, at(5)]
    for place, moment in enumerate(moments):
        own_service.archive.store(header(place + 1), at=moment)
    made = world(
        own_service,
        tmp_path / "tables",
        start_time=HALF_PAST,
        end_time=HALF_PAST + timedelta(hours=3),
    )
    for hour in (3, 0, 2, 1):
        made.run(f"2024-03-01-{hour:02d}:00", instance=instance)
    assert [row["timestamp_ticks"] for row in made.rows(CHANGE)] == moments[1:4]
    assert {row[4] for row in made.alive()} == {2, 3, 4}
    bounds = [request.bounds for request in own_service.asked if request.bounds is not None]
    assert min(first for first, _ in bounds) == start
    assert max(last for _, last in bounds) == end
    unbounded = [request for request in own_service.asked if request.bounds is None]
    assert all(r.parameters["limit"] == "1" and not r.is_for_headers for r in unbounded)
    sealed = [(row["windowStart"], row["windowEnd"]) for row in made.rows(SYNC)]
    assert sealed[0] == (HALF_PAST, HOUR_END)
    assert sealed[-1] == (START + timedelta(hours=3), HALF_PAST + timedelta(hours=3))


def test_a_range_over_a_cut_history_reads_it_once(own_service: Service, tmp_path: Path) -> None:
    """The same hours as a range: one window, cut at both ends."""
    for place in range(4):
        own_service.archive.store(header(place + 1), at=at(place, 15))
    end = HALF_PAST + timedelta(hours=3)
    made = world(own_service, tmp_path / "tables", start_time=HALF_PAST, end_time=end)
    made.run(FIRST, "2024-03-01-03:00", only=ASSETS)
    assert {row[4] for row in made.alive()} == {2, 3, 4}
    assert [row["hour"].hour for row in made.rows(SYNC)] == [0, 1, 2, 3]
