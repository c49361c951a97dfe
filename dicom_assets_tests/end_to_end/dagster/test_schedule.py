"""The schedule: at each tick the newest hour that is closed, once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.definitions import build_definitions
from dicom_assets.settings import Settings
from dicom_assets_tests.end_to_end.dagster.history import END, START

LOOPBACK = "http://127.0.0.1:9"
JOB = "dicom_tables"
SCHEDULE = "dicom_tables_schedule"


def _settings(tmp_path: Path, delay_minutes: int = 15, cron: str = "15 * * * *") -> Settings:
    return Settings(
        service_url=LOOPBACK,
        tables_url=str(tmp_path),
        start_time=START,
        end_time=END,
        delay_minutes=delay_minutes,
        schedule=cron,
    )


def _tick(settings: Settings, moment: datetime) -> dg.RunRequest | str:
    """What the schedule asks for at the moment, or why it asks for nothing."""
    repository = build_definitions(settings).get_repository_def()
    schedule = repository.get_schedule_def(SCHEDULE)
    with dg.build_schedule_context(
        scheduled_execution_time=moment, repository_def=repository
    ) as context:
        ticked = schedule.evaluate_tick(context)
    if not ticked.run_requests:
        return ticked.skip_message or ""
    (request,) = ticked.run_requests
    return request


@pytest.mark.parametrize(
    ("delay_minutes", "minute", "hour"),
    [(15, 15, 3), (15, 14, 2), (0, 0, 3), (60, 15, 2), (75, 15, 2), (76, 15, 1)],
)
def test_a_tick_asks_for_the_newest_hour_that_the_delay_has_closed(
    tmp_path: Path, delay_minutes: int, minute: int, hour: int
) -> None:
    """An hour is closed when its end is as old as the delay, to the minute."""
    moment = START + timedelta(hours=4, minutes=minute)
    request = _tick(_settings(tmp_path, delay_minutes), moment)
    key = f"{START + timedelta(hours=hour):%Y-%m-%d-%H:%M}"
    assert isinstance(request, dg.RunRequest)
    assert (request.run_key, request.partition_key) == (key, key)


def test_a_tick_in_another_zone_means_the_same_hour(tmp_path: Path) -> None:
    """A moment is a moment: 05:15 in Vienna is 04:15 UTC."""
    zone = datetime(2024, 3, 1, 5, 15).astimezone().tzinfo or UTC
    moment = (START + timedelta(hours=4, minutes=15)).astimezone(zone)
    request = _tick(_settings(tmp_path), moment)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2024-03-01-03:00"


@pytest.mark.parametrize(
    "moment", [START + timedelta(minutes=15), END + timedelta(hours=1, minutes=15)]
)
def test_outside_start_and_end_a_tick_asks_for_nothing_and_says_why(
    tmp_path: Path, moment: datetime
) -> None:
    """Before the first hour is closed, and after the last was asked for."""
    reason = _tick(_settings(tmp_path), moment)
    assert isinstance(reason, str)
    assert "DICOM_START_TIME" in reason
    assert "DICOM_END_TIME" in reason


def test_the_first_and_the_last_hour_are_asked_for(tmp_path: Path) -> None:
    """The borders belong to the history."""
    for moment, hour in (
        (START + timedelta(hours=1, minutes=15), START),
        (END + timedelta(minutes=15), END - timedelta(hours=1)),
    ):
        request = _tick(_settings(tmp_path), moment)
        assert isinstance(request, dg.RunRequest)
        assert request.partition_key == f"{hour:%Y-%m-%d-%H:%M}"


def test_it_runs_for_a_service_and_rests_for_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a service URL the schedule is on from the start; a first look starts nothing."""
    monkeypatch.chdir(tmp_path)
    for settings, status in (
        (_settings(tmp_path), dg.DefaultScheduleStatus.RUNNING),
        (Settings(), dg.DefaultScheduleStatus.STOPPED),
    ):
        schedule = build_definitions(settings).get_repository_def().get_schedule_def(SCHEDULE)
        assert schedule.default_status is status
        assert schedule.execution_timezone == "UTC"


def test_its_job_brings_all_four_tables(tmp_path: Path) -> None:
    """The job that it starts has the four assets; the cron is the setting."""
    repository = build_definitions(_settings(tmp_path, cron="5 3 * * *")).get_repository_def()
    schedule = repository.get_schedule_def(SCHEDULE)
    assert schedule.cron_schedule == "5 3 * * *"
    assert schedule.job_name == JOB
    keys = repository.get_job(JOB).asset_layer.executable_asset_keys
    assert {key.path[-1] for key in keys} == {"change", "instance", "series", "study"}
