"""The sensor of the alerts on real runs and results: who is told, once, and that it is over."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster._serdes import serialize_value
from dagster_shared.error import SerializableErrorInfo

from dicom_assets import errors
from dicom_assets.definitions import build_definitions
from dicom_assets.defs.alerts.causes import Cause
from dicom_assets.defs.alerts.failed_runs import RunWatch
from dicom_assets.defs.alerts.ledger import Ledger, Problem
from dicom_assets.defs.alerts.sensor import alerts_sensor
from dicom_assets.defs.alerts.silent_ticks import FAILED_TICKS, TICK_PATIENCE, TickWatch, lives_of
from dicom_assets.defs.alerts.watched import Watched
from dicom_assets.defs.check_words import (
    BY_REASON,
    READER_KEY,
    READERS,
    SILENCING_KEYS,
    ReaderRole,
)
from dicom_assets.defs.names import Names
from dicom_assets.defs.run_tags import ATTEMPT_TAG, LAST_ATTEMPT, range_tags
from dicom_assets.schema import INSTANCE, STUDY
from dicom_assets.settings import Settings
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, START, study_uid, tell
from dicom_assets_tests.support.names import ALERTS, AUDIT
from dicom_assets_tests.support.sinks import Sink, http_sink
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

PLACE = "pacs"
SCHEDULE = "dicom_tables_schedule"
Tags = Mapping[str, str]
QUIET = "no alert is open"
SCHEDULED = {"dagster/schedule_name": "theirs"}
# What notices that rows are gone.
FAILING = {"audit", "reconciliation"}
NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
ORIGIN = RemoteRepositoryOrigin(
    code_location_origin=RegisteredCodeLocationOrigin(location_name=PLACE),
    repository_name="__repository__",
)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Where alerts arrive."""
    with http_sink() as sink:
        yield sink


@dataclass
class Watch:
    """The sensor of some definitions, tick by tick."""

    instance: dg.DagsterInstance
    definitions: dg.Definitions
    sink: Sink
    cursor: str | None = None
    origin: RemoteRepositoryOrigin | None = None

    def tick(self) -> str:
        """One tick; what it says of itself."""
        repository = self.definitions.get_repository_def()
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            instance=self.instance,
            cursor=self.cursor,
            repository_name=repository.name,
            repository_def=repository,
            code_location_origin=self.origin.code_location_origin if self.origin else None,
        )
        ticked = repository.get_sensor_def(ALERTS).evaluate_tick(context)
        self.cursor = ticked.cursor
        return ticked.skip_message or ""

    def told(self, ticks: int = 2) -> list[tuple[str, str]]:
        """Title and text of what arrives within some ticks, the first of them by the way."""
        self.sink.taken.clear()
        for _ in range(ticks):
            self.tick()
        return [(body["title"], body["message"]) for body in self.sink.bodies]

    def titles(self) -> list[str]:
        """The titles of what arrives within two ticks."""
        return [title for title, _ in self.told()]


def _channel(sink: Sink) -> dict[str, tuple[str, ...]]:
    return {"alerts": (f"json://{sink.address}",)}


# --- the project on a service -----------------------------------------------------------------


@dataclass
class Clinic(Watch):
    """The project's tables on a service, and the sensor over them."""

    world: World | None = None
    service: Service | None = None

    def run(
        self, first: str, last: str, attempt: int = 0, tags: Tags = MappingProxyType({})
    ) -> bool:
        """A run of the job over hours; whether it was green."""
        counted = {ATTEMPT_TAG: str(attempt)} if attempt else {}
        job = self.definitions.resolve_job_def("dicom_tables")
        return job.execute_in_process(
            instance=self.instance,
            tags={**range_tags(first, last), **counted, **tags},
            raise_on_error=False,
        ).success

    def look(self) -> None:
        """The checks of the audit's job have run."""
        job = self.definitions.resolve_job_def(AUDIT.job)
        job.execute_in_process(instance=self.instance, raise_on_error=False)


@pytest.fixture
def clinic(
    own_service: Service, tmp_path: Path, instance: dg.DagsterInstance, sink: Sink
) -> Clinic:
    """A service with six hours, nothing read yet."""
    tell(own_service.archive)
    made = world(own_service, tmp_path / "tables")
    settings = Settings(**{**vars(made.settings), **_channel(sink)})
    return Clinic(instance, build_definitions(settings), sink, world=made, service=own_service)


def test_nothing_is_sent_on_a_quiet_day(clinic: Clinic) -> None:
    """Hours are read, checks pass."""
    assert clinic.run(FIRST, LAST)
    clinic.look()
    assert clinic.told(5) == []
    assert clinic.tick() == QUIET


def test_a_check_that_fails_in_a_green_run_is_told_once_and_when_it_passes_again(
    clinic: Clinic,
) -> None:
    """Somebody has deleted rows: the reconciliation says so, and what to do."""
    assert clinic.run(FIRST, LAST)
    assert clinic.world is not None
    for table, column in ((INSTANCE, "studyinstanceuid"), (STUDY, "studyInstanceUid")):
        clinic.world.store.delta(table).delete(f"\"{column}\" = '{study_uid(1)}'")
    clinic.look()
    told = dict(clinic.told())
    assert set(told) == {f"dicom_assets: check {name} of dicom_service failed" for name in FAILING}
    text = told["dicom_assets: check reconciliation of dicom_service failed"]
    assert "1 are missing" in text
    assert f"For: {READERS['service']}" in text
    assert "Look: http://127.0.0.1:3000/runs/" in text
    assert "reconciliation" in clinic.tick()
    assert clinic.run(FIRST, LAST)
    clinic.look()
    assert set(clinic.titles()) == {
        f"dicom_assets: resolved: check {name} of dicom_service failed" for name in FAILING
    }


def test_a_refused_service_is_one_alert_for_all_hours_until_they_are_in_the_tables(
    clinic: Clinic,
) -> None:
    """It does not pass by itself, so nobody waits for the last attempt; runs do not count."""
    assert clinic.service is not None
    clinic.service.answer = (403, b"Authorization failed.")
    assert not clinic.run(KEYS[0], KEYS[2], attempt=1)
    ((title, text),) = clinic.told()
    assert title == "dicom_assets: hours that are not in the tables (ServiceRefusedError)"
    assert "3 hours are not in the tables: 2024-03-01-00:00 … 2024-03-01-02:00 (UTC)" in text
    assert "DICOM Data Reader" in text, "the remedy"
    assert not clinic.run(KEYS[0], KEYS[1], attempt=2)
    assert not clinic.run(KEYS[3], KEYS[3], attempt=1)
    assert clinic.told() == []
    clinic.service.answer = None
    assert clinic.run(KEYS[3], KEYS[3], attempt=2)
    assert clinic.told() == [], "three hours are still open"
    assert clinic.run(KEYS[0], KEYS[2], attempt=3)
    assert clinic.titles() == [f"dicom_assets: resolved: {title.partition(': ')[2]}"]
    assert clinic.told() == []


def test_what_may_pass_is_told_at_the_last_attempt(clinic: Clinic) -> None:
    """A service that does not answer for an hour at night wakes nobody."""
    assert clinic.service is not None
    clinic.service.answer = (503, b"")
    for attempt in range(1, LAST_ATTEMPT):
        assert not clinic.run(FIRST, LAST, attempt=attempt)
        assert clinic.told() == []
    assert not clinic.run(FIRST, LAST, attempt=LAST_ATTEMPT)
    assert len(clinic.told()) == 1


def test_a_run_that_a_person_starts_is_seen_by_that_person(clinic: Clinic) -> None:
    """One of a schedule or sensor that counts no attempts is seen by nobody."""
    assert clinic.service is not None
    clinic.service.answer = (503, b"")
    assert not clinic.run(FIRST, LAST)
    assert clinic.told() == []
    assert not clinic.run(FIRST, LAST, tags=SCHEDULED)
    assert len(clinic.told()) == 1


def test_hours_that_were_there_before_count_as_open_after_a_failure(clinic: Clinic) -> None:
    """A run over materialized hours fails: it is over when one succeeds, not before."""
    assert clinic.run(FIRST, LAST)
    assert clinic.service is not None
    clinic.service.answer = (403, b"")
    assert not clinic.run(FIRST, LAST, attempt=1)
    assert len(clinic.told()) == 1
    clinic.service.answer = None
    assert clinic.run(FIRST, LAST, attempt=2)
    assert len(clinic.told()) == 1


# --- small definitions --------------------------------------------------------------------------


@dataclass
class Plan:
    """What the small definitions do."""

    error: Exception | None = None
    result: dg.AssetCheckResult | None = None


def _small(plan: Plan, **settings: object) -> dg.Definitions:
    """Two assets by the hour with a check, a job without hours, and the alerts over them."""
    hours = dg.HourlyPartitionsDefinition(START, timezone="UTC")

    single = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=hours, backfill_policy=single)
    def table() -> None:
        if plan.error is not None:
            raise plan.error

    @dg.asset(partitions_def=hours, backfill_policy=single, deps=[table])
    def after() -> None:
        """What a check of the table holds up."""

    @dg.asset_check(asset=table, metadata={READER_KEY: "data"}, blocking=True)
    def checked() -> dg.AssetCheckResult:
        return plan.result or dg.AssetCheckResult(passed=True)

    @dg.op
    def work() -> None:
        if plan.error is not None:
            raise plan.error

    @dg.job
    def keep() -> None:
        work()

    job = dg.define_asset_job("dicom_tables", [table, after])
    made = dg.Definitions(
        assets=[table, after],
        asset_checks=[checked],
        jobs=[job, keep],
        schedules=[
            dg.ScheduleDefinition(
                name=SCHEDULE,
                job=job,
                cron_schedule="15 * * * *",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            ),
        ],
        sensors=[_nothing()],
    )
    alerts = alerts_sensor(Settings(**settings), made, Names(), running=True)  # type: ignore[arg-type]  # what is given fits
    return dg.Definitions.merge(made, dg.Definitions(sensors=[alerts]))


def _nothing() -> dg.SensorDefinition:
    @dg.sensor(name="quiet", default_status=dg.DefaultSensorStatus.RUNNING)
    def quiet() -> dg.SkipReason:
        return dg.SkipReason("nothing")

    return quiet


@dataclass
class Small(Watch):
    """The small definitions, and what they do."""

    plan: Plan | None = None

    def run(self, tags: Tags = MappingProxyType({}), job: str = "dicom_tables") -> None:
        """A run of a job, for the first hour; nothing is said about how it ends."""
        self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=dict(tags),
            raise_on_error=False,
            partition_key=FIRST if job == "dicom_tables" else None,
        )


@pytest.fixture
def small(instance: dg.DagsterInstance, sink: Sink) -> Small:
    """Small definitions that do what the test plans."""
    plan = Plan()
    return Small(instance, _small(plan, **_channel(sink)), sink, plan=plan)


def _failed(small: Small, error: Exception, attempt: int = LAST_ATTEMPT) -> list[tuple[str, str]]:
    """What is told of a run that fails."""
    assert small.plan is not None
    small.plan.error = error
    small.run({ATTEMPT_TAG: str(attempt)})
    return small.told()


@pytest.mark.shows_patients("Dagster keeps the text of a foreign error; the alert may not")
def test_an_error_of_others_is_named_and_its_text_is_not_told(small: Small) -> None:
    """It may quote a value; ours hold none and tell the remedy."""
    told = _failed(small, ValueError(f"{MARK}Doe^Jane was not understood"))
    ((title, text),) = told
    assert "(ValueError)" in title
    assert "ValueError" in text
    assert MARK not in f"{told} {small.cursor}"


def test_an_error_that_only_looks_like_ours_is_not_quoted(small: Small) -> None:
    """By its full name, and not by that of its class."""

    class SettingsError(Exception):
        pass

    ((title, text),) = _failed(small, SettingsError("what others say"))
    assert "SettingsError" in title
    assert "what others say" not in text


def test_our_own_error_is_told_with_its_remedy_wherever_it_stands(small: Small) -> None:
    """Dagster wraps it."""
    ((_, text),) = _failed(small, errors.ForeignArchiveError("Use another root."), attempt=1)
    assert "Use another root." in text


def test_each_cause_is_an_alert_of_its_own(small: Small) -> None:
    """A second reason is news."""
    assert len(_failed(small, errors.ForeignArchiveError("one"))) == 1
    assert len(_failed(small, errors.ForeignTableError("two"))) == 1


def test_a_killed_run_is_told_too(small: Small) -> None:
    """It has no error; the daemon reports it."""
    job = small.definitions.resolve_job_def("dicom_tables")
    tags = {ATTEMPT_TAG: str(LAST_ATTEMPT), "dagster/partition": FIRST}
    run = small.instance.create_run_for_job(job, tags=tags)
    small.instance.report_run_failed(run)
    ((title, text),) = small.told()
    assert "(killed)" in title
    assert "its process was killed" in text


def test_an_hour_that_is_no_partition_any_more_is_nobodys_concern(small: Small) -> None:
    """The start was moved behind it."""
    job = small.definitions.resolve_job_def("dicom_tables")
    tags = {ATTEMPT_TAG: str(LAST_ATTEMPT), "dagster/partition": "2020-01-01-00:00"}
    small.instance.report_run_failed(small.instance.create_run_for_job(job, tags=tags))
    assert small.told() == []


def test_a_job_without_hours_is_told_of_until_it_succeeds(small: Small) -> None:
    """Nobody starts it again before its schedule does, and nobody looks."""
    assert small.plan is not None
    small.plan.error = ValueError("no")
    small.run(job="keep")
    assert small.told() == [], "who starts it on the page sees it"
    small.run(SCHEDULED, "keep")
    assert small.titles() == ["dicom_assets: the job keep failed (ValueError)"]
    small.run(SCHEDULED, "keep")
    assert small.told() == []
    small.plan.error = None
    small.run(job="keep")
    assert small.titles() == ["dicom_assets: resolved: the job keep failed (ValueError)"]


def test_a_job_whose_fault_may_pass_is_told_of_at_the_second_failure(small: Small) -> None:
    """The next tick of its schedule is the next attempt."""
    assert small.plan is not None
    small.plan.error = errors.ServiceUnavailableError("Look at the service.")
    for expected in (0, 1):
        small.run(SCHEDULED, "keep")
        assert len(small.told()) == expected


def test_a_job_that_does_not_end_is_told_of(small: Small) -> None:
    """Queued behind runs that hang, no check would ever fail."""
    look = RunWatch(small.instance, Watched.of(small.definitions, SCHEDULE), None)
    started = datetime.now(UTC)
    small.instance.create_run_for_job(small.definitions.resolve_job_def("keep"))
    hours = small.definitions.resolve_job_def("dicom_tables")
    small.instance.create_run_for_job(hours, tags={"dagster/partition": FIRST})
    assert look.update(Ledger(), started + timedelta(hours=2, minutes=59)) == []
    (found,) = look.update(Ledger(), started + timedelta(hours=3, minutes=1))
    assert found.title == "the job keep does not end"


def test_a_run_that_dagster_starts_again_is_not_told_of(small: Small) -> None:
    """The instance has run retries."""
    assert small.plan is not None
    small.plan.error = ValueError("no")
    small.run({**SCHEDULED, "dagster/will_retry": "true"})
    assert small.told() == []


def test_runs_of_others_are_not_ours(small: Small) -> None:
    """Neither another job, nor the same job in another code location."""
    watched, now = Watched.of(small.definitions, SCHEDULE), datetime.now(UTC)

    @dg.op
    def fails() -> None:
        raise ValueError

    @dg.job
    def theirs() -> None:
        fails()

    theirs.execute_in_process(instance=small.instance, raise_on_error=False, tags=SCHEDULED)
    elsewhere = RemoteRepositoryOrigin(
        code_location_origin=RegisteredCodeLocationOrigin(location_name="another clinic"),
        repository_name="__repository__",
    )
    run = small.instance.create_run_for_job(
        small.definitions.resolve_job_def("dicom_tables"),
        tags={ATTEMPT_TAG: str(LAST_ATTEMPT), "dagster/partition": FIRST},
        remote_job_origin=RemoteJobOrigin(repository_origin=elsewhere, job_name="dicom_tables"),
    )
    small.instance.report_run_failed(run)
    assert RunWatch(small.instance, watched, PLACE).update(Ledger(), now) == []
    assert RunWatch(small.instance, watched, "another clinic").update(Ledger(), now)


@pytest.mark.parametrize("silent", SILENCING_KEYS)
def test_a_check_that_only_asks_for_patience_is_silent(small: Small, silent: str) -> None:
    """The tables are filled for the first time, or what was found is put right by itself."""
    assert small.plan is not None
    for said, told in ((True, 0), (False, 1)):
        small.plan.result = dg.AssetCheckResult(
            passed=False, description="Not complete yet.", metadata={silent: said}
        )
        small.run()
        assert len(small.told()) == told


def test_each_reason_of_a_check_is_told_once_and_again_when_its_number_grows(
    small: Small,
) -> None:
    """Not at each result, and not when it shrinks."""
    assert small.plan is not None
    told = []
    for counts in ({"a": 60}, {"a": 60, "b": 1}, {"a": 61, "b": 1}, {"a": 5, "b": 1}, {"b": 1}):
        small.plan.result = dg.AssetCheckResult(
            passed=False, description="Entries wait.", metadata={BY_REASON: counts}
        )
        small.run()
        told.append([title.removeprefix("dicom_assets: ") for title in small.titles()])
    failed = "check checked of table failed"
    assert told == [
        [f"{failed}: a (60)"],
        [f"{failed}: b (1)"],
        [f"{failed}: a (61)"],
        [],
        [f"resolved: {failed}: a (5)"],
    ]


def test_a_blocking_check_is_told_to_its_reader_and_open_hours_in_the_end(small: Small) -> None:
    """The hours are told of as others are, and the check's text is not repeated there."""
    assert small.plan is not None
    small.plan.result = dg.AssetCheckResult(passed=False, description="Keys are doubled.")
    small.run({ATTEMPT_TAG: "1"})
    ((title, text),) = small.told()
    assert title == "dicom_assets: check checked of table failed"
    assert text.startswith("Keys are doubled.")
    assert f"For: {READERS['data']}" in text
    small.run({ATTEMPT_TAG: str(LAST_ATTEMPT)})
    ((title, text),) = small.told()
    assert title == "dicom_assets: hours that are not in the tables (DagsterAssetCheckFailedError)"
    assert "A check stopped the run." in text


def test_a_check_that_is_asked_anew_says_what_it_said_until_it_answers(small: Small) -> None:
    """A run over it has begun: nothing is over yet."""
    assert small.plan is not None
    small.plan.result = dg.AssetCheckResult(passed=False, description="Keys are doubled.")
    small.run()
    assert len(small.told()) == 1
    job = small.definitions.resolve_job_def("dicom_tables")
    run = small.instance.create_run_for_job(job, tags={"dagster/partition": FIRST})
    latest = small.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey("table"), "checked")]
    )
    assert [record.run_id for record in latest.values()] == [run.run_id], "it is planned"
    assert small.told() == []


def test_a_channel_that_is_down_shows_in_the_tick_and_is_told_later(small: Small) -> None:
    """Named by its variable, never by its address."""
    small.sink.status = 503
    assert _failed(small, errors.ForeignTableError("Use another root.")) == []
    said = small.tick()
    assert "Not delivered, retried at the next tick: DICOM_ALERTS 1 (json)" in said
    assert small.sink.address not in f"{said} {small.cursor}"
    small.sink.status = 200
    assert len(small.told()) == 1
    assert small.told() == []


def test_without_a_channel_the_tick_says_what_is_open(
    instance: dg.DagsterInstance, sink: Sink
) -> None:
    """And that nobody is told."""
    small = Small(instance, _small(Plan(errors.SettingsError("Set it."))), sink)
    small.run({ATTEMPT_TAG: "1"})
    said = small.tick()
    assert "SettingsError" in said
    assert "Nobody receives alerts, because DICOM_ALERTS is not set" in said


# --- what ticks ---------------------------------------------------------------------------------


def _ids(name: str) -> tuple[RemoteInstigatorOrigin, str, str]:
    origin = RemoteInstigatorOrigin(repository_origin=ORIGIN, instigator_name=name)
    return origin, origin.get_id(), origin.get_selector().get_id()


def _state(
    instance: dg.DagsterInstance, name: str, status: InstigatorStatus, began: datetime
) -> None:
    """A schedule or sensor is turned on, or off, as the daemon or the page notes it."""
    moment = began.timestamp()
    if name == SCHEDULE:
        kind, data = InstigatorType.SCHEDULE, ScheduleInstigatorData("15 * * * *", moment)
    else:
        kind, data = InstigatorType.SENSOR, SensorInstigatorData(last_sensor_start_timestamp=moment)  # type: ignore[assignment]  # one of two
    instance.add_instigator_state(InstigatorState(_ids(name)[0], kind, status, data))


def _ticked(instance: dg.DagsterInstance, name: str, moment: datetime, failures: int = 0) -> None:
    """A tick as the daemon notes it; the last of some failures in a row."""
    _, origin_id, selector_id = _ids(name)
    kind = InstigatorType.SCHEDULE if name == SCHEDULE else InstigatorType.SENSOR
    instance.create_tick(
        TickData(
            instigator_origin_id=origin_id,
            instigator_name=name,
            instigator_type=kind,
            status=TickStatus.FAILURE if failures else TickStatus.SKIPPED,
            timestamp=moment.timestamp(),
            selector_id=selector_id,
            consecutive_failure_count=failures,
            error=SerializableErrorInfo("KeyError: 'theirs'", [], "KeyError") if failures else None,
        )
    )


VITAL = {f"schedule {SCHEDULE}", "daemon SCHEDULER"}


def _wrong(instance: dg.DagsterInstance, now: datetime = NOW) -> dict[str, str]:
    """What is wrong, by key: the titles without it."""
    look = TickWatch(instance, Watched.of(_small(Plan()), SCHEDULE), ORIGIN)
    found: list[Problem] = look.problems(now)
    assert all(problem.text and problem.page for problem in found)
    told = {p.key: p.title.removeprefix(f"{p.key} ") for p in found if ALERTS not in p.key}
    assert look.requests_hours(found) == told.keys().isdisjoint(VITAL)
    return told


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps ticks, on disk, and whose daemons live."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for daemon in instance.get_required_daemon_types():
            _lives(instance, daemon, datetime.now(UTC))
        yield instance


def _lives(instance: dg.DagsterInstance, daemon: str, moment: datetime) -> None:
    instance.add_daemon_heartbeat(DaemonHeartbeat(moment.timestamp(), daemon, "a test"))


@pytest.fixture
def ticking(kept: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance in which all that is ours has ticked when it was due."""
    for name in (SCHEDULE, "quiet"):
        _state(kept, name, InstigatorStatus.DECLARED_IN_CODE, NOW - timedelta(days=1))
        _ticked(kept, name, NOW - timedelta(minutes=15 if name == SCHEDULE else 1))
    return kept


def test_what_ticks_is_well(ticking: dg.DagsterInstance) -> None:
    """A tick is awaited for some minutes after it is due."""
    assert _wrong(ticking) == {}
    late = NOW + timedelta(minutes=48)
    _ticked(ticking, "quiet", late)
    assert _wrong(ticking, late) == {}
    assert _wrong(ticking, late + timedelta(minutes=3)) == {f"schedule {SCHEDULE}": "does not tick"}


def test_a_daemon_that_is_dead_is_told_of(ticking: dg.DagsterInstance) -> None:
    """Then nothing is asked for, or nothing is started."""
    _lives(ticking, "SCHEDULER", NOW - timedelta(minutes=31))
    assert _wrong(ticking) == {"daemon SCHEDULER": "does not live"}


@pytest.mark.parametrize(
    ("beats", "is_told"),
    [
        ("one two one two one two one two", True),
        ("one one one one two two two two", False),
        ("one one two one two two two two", False),
        ("one two three four five six one", True),
    ],
    ids=["two live", "started again", "replaced while it lived on", "two, one of which restarts"],
)
def test_a_second_daemon_is_told_of(ticking: dg.DagsterInstance, beats: str, is_told: bool) -> None:
    """Dagster shows the last heartbeat only: two that live are those that come and go."""
    lives: dict[str, tuple[float, float]] = {}
    for minute, daemon in enumerate(beats.split()):
        now = NOW + timedelta(minutes=minute / 1.5)
        ticking.add_daemon_heartbeat(DaemonHeartbeat(now.timestamp(), "SENSOR", daemon))
        lives = lives_of(ticking, lives, now)
    look = TickWatch(ticking, Watched.of(_small(Plan()), SCHEDULE), ORIGIN, lives)
    found = {problem.key: problem for problem in look.problems(NOW)}
    assert ("second daemon" in found) == is_told
    assert look.requests_hours(list(found.values())), "hours are asked for all the same"
    if is_told:
        assert "`dagster-daemon run`" in found["second daemon"].text


def test_the_sensor_notes_the_daemons_and_tells_of_the_second(
    kept: dg.DagsterInstance, sink: Sink
) -> None:
    """From tick to tick, in its cursor."""
    small = Small(kept, _small(Plan(), **_channel(sink)), sink, origin=ORIGIN)
    now = datetime.now(UTC)
    ledger = Ledger(last_look=now, awake_since=now - TICK_PATIENCE)
    ledger.daemons = {"a test": ((now - TICK_PATIENCE).timestamp(), now.timestamp() - 60)}
    ledger.daemons["other"] = ((now - TICK_PATIENCE / 2).timestamp(), now.timestamp() - 30)
    small.cursor = ledger.dump()
    small.tick()
    assert f"{PLACE}: second daemon lives on the same database" in {
        body["title"] for body in sink.bodies
    }
    noted = Ledger.read(small.cursor).daemons or {}
    assert noted["a test"][1] > now.timestamp() - 60, "the heartbeat of the fixture"


def test_a_schedule_or_sensor_that_nobody_ticks_is_told_of(kept: dg.DagsterInstance) -> None:
    """The daemon has seen the sensor an hour ago, and the schedule never."""
    _state(kept, "quiet", InstigatorStatus.RUNNING, NOW - timedelta(hours=1))
    assert _wrong(kept) == {
        f"schedule {SCHEDULE}": "does not tick",
        "sensor quiet": "does not tick",
    }


def test_a_sensor_that_a_release_has_just_brought_has_time(kept: dg.DagsterInstance) -> None:
    """The daemon that ticks the alerts sees it in the same round, maybe after them."""
    assert _wrong(kept) == {f"schedule {SCHEDULE}": "does not tick"}


def test_what_was_turned_on_just_now_has_time(kept: dg.DagsterInstance) -> None:
    """The next tick is the first that is due."""
    for name in (SCHEDULE, "quiet"):
        _state(kept, name, InstigatorStatus.RUNNING, NOW - timedelta(minutes=1))
    assert _wrong(kept) == {}


def test_what_somebody_has_stopped_is_told_of(ticking: dg.DagsterInstance) -> None:
    """Forgotten, it reads nothing."""
    for name in (SCHEDULE, "quiet"):
        state = ticking.get_instigator_state(*_ids(name)[1:])
        assert state is not None
        ticking.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
    assert _wrong(ticking) == {f"schedule {SCHEDULE}": "is stopped", "sensor quiet": "is stopped"}


def test_ticks_that_fail_in_a_row_are_told_of(ticking: dg.DagsterInstance) -> None:
    """One or two are made good by the next."""
    for count in range(1, FAILED_TICKS + 1):
        _ticked(ticking, "quiet", NOW - timedelta(seconds=50 - count), count)
        assert _wrong(ticking) == ({} if count < FAILED_TICKS else {"sensor quiet": "fails"})


def test_a_daemon_that_has_just_begun_is_given_time_to_catch_up(
    kept: dg.DagsterInstance, sink: Sink
) -> None:
    """After a standstill every schedule is late, and nobody has to do anything."""
    _state(kept, "quiet", InstigatorStatus.RUNNING, NOW - timedelta(hours=1))
    small = Small(kept, _small(Plan(), **_channel(sink)), sink, origin=ORIGIN)
    assert small.tick() == QUIET
    assert sink.taken == []
    ledger = Ledger.read(small.cursor)
    assert ledger.awake_since is not None
    ledger.awake_since -= TICK_PATIENCE
    small.cursor = ledger.dump()
    small.tick()
    assert {body["title"] for body in sink.bodies} == {
        f"{PLACE}: schedule {SCHEDULE} does not tick",
        f"{PLACE}: sensor quiet does not tick",
    }


def test_the_monitor_is_asked_while_the_tables_schedule_ticks(
    kept: dg.DagsterInstance, sink: Sink
) -> None:
    """And no longer when it does not, or when nobody can be told."""
    plan, now = Plan(), datetime.now(UTC)
    settings = {"heartbeat_url": f"{sink.url}/ping", "alerts": ("json://127.0.0.1:9",)}
    small = Small(kept, _small(plan, **settings), sink, origin=ORIGIN, plan=plan)
    beats: Callable[[], list[str]] = lambda: [posted.path for posted in sink.taken]  # noqa: E731 - short
    small.tick()
    assert beats() == [], "the schedule has never ticked"
    for name in (SCHEDULE, "quiet"):
        _state(kept, name, InstigatorStatus.RUNNING, now)
    small.tick()
    assert beats() == ["/ping"]
    _failed(small, errors.ForeignTableError("Use another root."))
    assert beats() == [], "the alert was taken by nobody"


def test_it_runs_for_a_service_and_rests_for_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the schedules and the other sensors do."""
    monkeypatch.chdir(tmp_path)
    url = "http://127.0.0.1:9"
    for settings, status in (
        (Settings(service_url=url, start_time=START), dg.DefaultSensorStatus.RUNNING),
        (Settings(), dg.DefaultSensorStatus.STOPPED),
    ):
        sensor = build_definitions(settings).get_repository_def().get_sensor_def(ALERTS)
        assert sensor.default_status is status


def test_every_error_of_ours_is_known_to_pass_or_to_last() -> None:
    """A new one has to say which: it decides when somebody is told."""
    groups = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    single = {kind for kind in groups if not kind.__subclasses__()} - {errors.FabricError}
    said = {kind: Cause(kind.__name__, "", kind) for kind in single}
    assert [kind for kind, cause in said.items() if cause.passes is cause.lasts] == []


def test_every_reader_has_a_title_and_a_setting() -> None:
    """DICOM_ALERTS_ and the role, for each of the three."""
    assert set(READERS) == set(ReaderRole) == {"service", "platform", "data"}
    assert {f"alerts_{role}" for role in ReaderRole} <= {field.name for field in fields(Settings)}


def test_the_words_that_dagster_has_stored_stay() -> None:
    """A result of an older release goes on alerting its reader, or nobody."""
    assert READER_KEY == "dicom_assets/reader"
    assert SILENCING_KEYS == ("first_load", "repairs_itself")


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated")
def test_addresses_are_no_part_of_what_dagster_keeps_of_the_definitions() -> None:
    """The page reads the configuration of resources, and Dagster+ stores it."""
    secret = "s3cr3t"
    settings = Settings(
        service_url="http://127.0.0.1:9",
        start_time=START,
        alerts=(f"json://h.example/{secret}",),
        alerts_data=(f"json://h/{secret}",),
        heartbeat_url=f"https://h.example/{secret}",
    )
    repository = build_definitions(settings).get_repository_def()
    kept = serialize_value(RepositorySnap.from_def(repository))
    assert ALERTS in kept
    assert secret not in kept
