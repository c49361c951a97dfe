"""The schedule: at each tick every hour that is closed and missing, none twice, none too young."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.pool import OWNER_TAG, owner_of
from dicom_assets.defs.run_tags import ATTEMPT_TAG, tags_of
from dicom_assets.defs.schedules import missing_hours as hours
from dicom_assets.defs.schedules import slices as due
from dicom_assets.errors import SettingsError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.sync import reopen
from dicom_assets.window import HOUR, Span, floor_hour
from dicom_assets_tests.support.history import END, FIRST, KEYS, LAST, START, alive, tell
from dicom_assets_tests.support.names import JOB
from dicom_assets_tests.support.ticks import SCHEDULE, carry_out, evaluate, span_of, spans, tick
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def told(own_service: Service, tmp_path: Path) -> World:
    """A service with the six hours' history, and no tables yet."""
    tell(own_service.archive)
    return world(own_service, tmp_path / "tables")


def run_for(
    world: World,
    home_instance: dg.DagsterInstance,
    first: int,
    last: int,
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> dg.DagsterRun:
    """A run over hours, given by number, has come as far as the status says."""
    tags = tags_of(Span(START + first * HOUR, START + last * HOUR))
    job = world.definitions.resolve_job_def(JOB)
    return home_instance.create_run_for_job(job, tags=tags, status=status)


@pytest.mark.parametrize(
    ("delay_minutes", "minute", "newest"),
    [(15, 15, 3), (15, 14, 2), (0, 0, 3), (60, 15, 2), (75, 15, 2), (76, 15, 1)],
)
def test_a_tick_asks_for_all_hours_that_the_delay_has_closed(
    told: World, home_instance: dg.DagsterInstance, delay_minutes: int, minute: int, newest: int
) -> None:
    """An hour is closed when its end is as old as the delay, to the minute; none younger."""
    settings = replace(told.settings, delay_minutes=delay_minutes)
    moment = START + timedelta(hours=4, minutes=minute)
    assert spans(tick(World(settings), home_instance, moment)) == [(0, newest)]


def test_a_tick_in_another_zone_means_the_same_hours(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """A moment is a moment."""
    moment = (START + timedelta(hours=4, minutes=15)).astimezone()
    assert spans(tick(told, home_instance, moment)) == [(0, 3)]


def test_what_a_tick_asks_for_leaves_nothing_to_the_next(
    told: World, own_service: Service, home_instance: dg.DagsterInstance
) -> None:
    """Carried out, its runs bring all tables to every hour."""
    (request,) = tick(told, home_instance)
    assert carry_out(told, home_instance, request)
    assert evaluate(told, home_instance) == "all tables show every hour that is closed"
    assert told.alive() == alive(own_service.archive)


def test_a_hole_and_the_hours_of_a_standstill_are_asked_for_at_one_tick(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """Exactly those: one run for each gap."""
    told.run(KEYS[0], instance=home_instance)
    told.run(KEYS[2], KEYS[3], instance=home_instance)
    first, second = tick(told, home_instance)
    assert (first.partition_key, spans([second])) == (KEYS[1], [(4, 5)])
    assert first.run_key != second.run_key


def test_an_hour_that_another_dagster_made_is_missing(
    followed: World, home_instance: dg.DagsterInstance
) -> None:
    """The tables show it, and Dagster does not know that."""
    assert spans(tick(followed, home_instance)) == [(0, 5)]


@pytest.mark.parametrize("asset", [CHANGE, INSTANCE, SERIES])
def test_an_hour_without_a_materialization_of_each_asset_is_missing(
    followed: World, home_instance: dg.DagsterInstance, asset: object
) -> None:
    """Of one that Dagster did not see, whatever the tables show."""
    only = [table for table in (CHANGE, INSTANCE, SERIES) if table is not asset]
    followed.run(FIRST, LAST, instance=home_instance, only=only)
    assert spans(tick(followed, home_instance)) == [(0, 5)]


def test_an_hour_whose_seal_was_taken_is_missing(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """The audit opens an hour again by that; the sensor and the schedule ask for it."""
    told.run(FIRST, LAST, instance=home_instance)
    reopen(told.store, [START + HOUR], Run("audit", datetime.now(UTC), print))
    assert [one.partition_key for one in tick(told, home_instance)] == [KEYS[1]]


def test_an_hour_that_was_read_in_part_is_missing_when_the_end_moves(
    told: World, own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The end lay in the middle of it."""
    half = world(own_service, tmp_path / "tables", end_time=END - HOUR / 2)
    half.run(FIRST, LAST, instance=home_instance)
    assert evaluate(half, home_instance) == "all tables show every hour that is closed"
    assert [one.partition_key for one in tick(told, home_instance)] == [LAST]


def test_hours_in_flight_are_left_alone(told: World, home_instance: dg.DagsterInstance) -> None:
    """A run that has yet to start, or is at work, by whoever asked for it."""
    run_for(told, home_instance, 0, 1)
    run_for(told, home_instance, 4, 4, dg.DagsterRunStatus.NOT_STARTED)
    assert spans(tick(told, home_instance)) == [(2, 3), (5, 5)]


def test_the_hours_of_a_run_whose_process_is_gone_are_not_in_flight(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """Killed, it looks as if it ran."""
    run = run_for(told, home_instance, 0, 5)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        owner = owner_of(run.run_id, process.pid)
    assert tick(told, home_instance) == []
    home_instance.add_run_tags(run.run_id, {OWNER_TAG: owner})
    assert spans(tick(told, home_instance)) == [(0, 5)]


def test_the_runs_of_others_hold_no_hour_back(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """An hourly asset downstream has partitions with the same keys."""

    @dg.asset(partitions_def=dg.HourlyPartitionsDefinition(START))
    def report() -> None: ...

    job = dg.Definitions(assets=[report]).resolve_implicit_global_asset_job_def()
    tags = tags_of(Span(START, END - HOUR))
    home_instance.create_run_for_job(job, tags=tags, asset_selection=frozenset([report.key]))
    assert spans(tick(told, home_instance)) == [(0, 5)]


@pytest.mark.filterwarnings(
    "ignore:Function `AssetSelection.sources` is deprecated"
)  # Dagster's own
def test_the_hours_of_a_backfill_are_left_alone_before_it_has_a_run(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """Asked for in the page, and not yet seen by the daemon."""
    keys = [dg.AssetKey(name) for name in ("change", "instance", "series", "study")]
    graph = told.definitions.get_repository_def().asset_graph
    with partition_loading_context(None, home_instance):
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="backfill",
            asset_graph=graph,
            partition_names=list(KEYS[1:4]),
            asset_selection=keys,
            backfill_timestamp=datetime.now(UTC).timestamp(),
            tags={},
            dynamic_partitions_store=home_instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
    home_instance.add_backfill(backfill)
    assert spans(tick(told, home_instance)) == [(0, 0), (4, 5)]
    done = backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS)  # type: ignore[no-untyped-call]  # Dagster's
    home_instance.update_backfill(done)
    assert spans(tick(told, home_instance)) == [(0, 5)]


def test_a_failed_run_rests_and_comes_again_in_halves(
    told: World,
    own_service: Service,
    home_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the service answers; each run says which attempt it is."""
    own_service.answer = (403, b"{}")
    (request,) = tick(told, home_instance)
    assert request.tags[ATTEMPT_TAG] == "1"
    assert not carry_out(told, home_instance, request)
    assert "6 rest after a failure" in str(evaluate(told, home_instance))
    monkeypatch.setattr(due, "FIRST_REST", timedelta())
    halves = tick(told, home_instance)
    assert spans(halves) == [(0, 2), (3, 5)]
    assert {one.tags[ATTEMPT_TAG] for one in halves} == {"2"}
    own_service.answer = None
    assert [carry_out(told, home_instance, one) for one in halves] == [True, True]
    assert tick(told, home_instance) == []


def test_an_hour_that_was_good_once_and_failed_at_last_is_asked_for(
    told: World,
    own_service: Service,
    home_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody wanted it anew, and did not get it."""
    monkeypatch.setattr(due, "FIRST_REST", timedelta())
    told.run(FIRST, LAST, instance=home_instance)
    own_service.answer = (403, b"{}")
    told.run(KEYS[2], instance=home_instance, raise_on_error=False)
    assert [one.partition_key for one in tick(told, home_instance)] == [KEYS[2]]


@pytest.mark.parametrize(("order", "first"), [("oldest-first", 0), ("newest-first", 5)])
def test_a_long_gap_is_asked_for_in_slices_and_in_order(
    told: World,
    home_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    order: str,
    first: int,
) -> None:
    """No more of them at one tick than are done by the next, which asks for the rest."""
    monkeypatch.setattr(due, "SLICE_HOURS", 1)
    monkeypatch.setattr(hours, "MOST_RUNS", 2)
    ordered = World(replace(told.settings, missing_hours=order))
    asked = tick(ordered, home_instance)
    assert [one[0] for one in spans(asked)] == sorted(range(6), reverse=first == 5)[:2]
    assert all(carry_out(ordered, home_instance, one) for one in asked)
    assert len(tick(ordered, home_instance)) == 2


def test_slices_are_cut_by_the_entries_that_the_feed_has(
    told: World,
    own_service: Service,
    home_instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two light requests for each cut; an hour that holds more is one slice."""
    monkeypatch.setattr(due, "SLICE_ENTRIES", 5)
    assert spans(tick(told, home_instance)) == [(0, 0), (1, 2), (3, 3), (4, 5)]
    assert own_service.header_requests() == 0
    assert len(own_service.asked) <= 8


def test_the_first_runs_find_the_limit_of_the_pool(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """Dagster would start all that it finds in the queue at its first look."""
    storage = home_instance.event_log_storage
    tick(told, home_instance)
    assert [(one.name, one.limit) for one in storage.get_pool_limits()] == [(JOB, 1)]
    storage.set_concurrency_slots(JOB, 2)
    tick(told, home_instance)
    assert [one.limit for one in storage.get_pool_limits()] == [2], "somebody has set it"


def _priorities(requests: list[dg.RunRequest]) -> list[int]:
    return [int(one.tags.get("dagster/priority", "0")) for one in requests]


def test_a_load_waits_behind_the_newest_hours(
    told: World, home_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Dagster's queue it does not hold today's data back, be a slice of it a single hour."""
    monkeypatch.setattr(hours, "NEW", 3 * HOUR)
    told.run(KEYS[1], KEYS[1], instance=home_instance)
    told.run(KEYS[3], KEYS[3], instance=home_instance)
    asked = tick(told, home_instance)
    assert spans(asked) == [(0, 0), (2, 2), (4, 5)]
    assert _priorities(asked) == [-1, -1, 0]


def test_a_service_whose_clock_is_behind_is_not_asked_for_hours_that_it_has_not_closed(
    own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """The clock of this machine is fast: the slower of both counts."""
    now = datetime.now(UTC)
    start = floor_hour(now) - 6 * HOUR
    late = world(own_service, tmp_path / "tables", start_time=start, end_time=start + 99 * HOUR)
    for behind, counted in ((2, 2), (-2, 0)):
        own_service.behind = behind * HOUR
        (request,) = tick(late, home_instance, now)
        closed = now - counted * HOUR - timedelta(minutes=15)
        assert span_of(request).last == floor_hour(closed) - HOUR


def test_a_service_that_does_not_answer_is_asked_all_the_same(
    tmp_path: Path, home_instance: dg.DagsterInstance
) -> None:
    """The run will fail, and say why; a silent tick would hide it."""
    nobody = World(
        Settings(service_url=NOBODY, tables_url=str(tmp_path), start_time=START, end_time=END)
    )
    assert spans(tick(nobody, home_instance)) == [(0, 5)]


def test_before_the_first_hour_is_closed_a_tick_says_so(
    told: World, home_instance: dg.DagsterInstance
) -> None:
    """Nothing is asked for."""
    assert "DICOM_START_TIME" in str(evaluate(told, home_instance, START + timedelta(minutes=15)))


def test_it_runs_for_a_service_and_rests_for_the_embedded_one(
    told: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a service URL the schedule is on from the start; a first look starts nothing."""
    monkeypatch.chdir(tmp_path)
    for settings, status in (
        (told.settings, dg.DefaultScheduleStatus.RUNNING),
        (Settings(), dg.DefaultScheduleStatus.STOPPED),
    ):
        schedule = build_definitions(settings).get_repository_def().get_schedule_def(SCHEDULE)
        assert schedule.default_status is status
        assert schedule.execution_timezone == "UTC"


def test_its_job_brings_all_four_tables(told: World) -> None:
    """The job that it starts has the four assets; the cron is the setting."""
    settings = replace(told.settings, schedule="5 3 * * *")
    repository = build_definitions(settings).get_repository_def()
    schedule = repository.get_schedule_def(SCHEDULE)
    assert schedule.cron_schedule == "5 3 * * *"
    assert schedule.job_name == JOB
    keys = repository.get_job(JOB).asset_layer.executable_asset_keys
    assert {key.path[-1] for key in keys} == {"change", "instance", "series", "study"}


def test_a_cron_that_dagster_cannot_read_is_refused_by_its_setting(told: World) -> None:
    """When the definitions are loaded, not at the first tick."""
    with pytest.raises(SettingsError, match="DICOM_SCHEDULE"):
        build_definitions(replace(told.settings, schedule="99 99 * * *"))
