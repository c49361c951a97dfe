"""Homes and tables of earlier releases under today's code: all goes on where it was.

No hour is read again, no alert is told twice or as over while it lasts, no switch is moved, and
nobody has to do anything. `record` says in which state the releases were stopped.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.remote_representation.external import RemoteSchedule
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dicom_assets.defs.run_tags import attempt_of, tagged_hours
from dicom_assets.settings import Settings
from dicom_assets.tables.upkeep.kept_headers import unfilled_columns
from dicom_assets.window import HOUR, TICKS_PER_HOUR, ticks_of
from dicom_assets_tests.support.history import START, alive
from dicom_assets_tests.support.processes import settings_of
from dicom_assets_tests.support.sinks import Sink, http_sink
from dicom_assets_tests.support.watched_service import Asked, Service
from dicom_assets_tests.support.world import Rows, World
from dicom_assets_tests.upgrade.daemon import Daemon, daemon
from dicom_assets_tests.upgrade.home import shift, unpack
from dicom_assets_tests.upgrade.record import AUDIT, DAILY, SCHEDULE

# Dagster's own code server asks for it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Property `ScheduleDefinition.environment_vars` is deprecated"
)

RELEASES: Final = ("0.1.0", "0.2.0")
ALERTS: Final = "dicom_alerts"
_START: Final = ticks_of(START)
LEFT: Final = timedelta(minutes=2)
REST: Final = timedelta(minutes=31)
"""A little more than an hour rests after its first attempt."""
REFUSED: Final = "run hours ServiceRefusedError"
STOPPED: Final = f"schedule {SCHEDULE}"
ORPHANS: Final = "check dicom_service orphans"
OPEN: Final = {"0.1.0": set[str](), "0.2.0": {REFUSED, STOPPED, ORPHANS}}
"""The alerts that the release has told, and that last, by their keys in the ledger."""
NEWS: Final = {"0.1.0": [REFUSED], "0.2.0": list[str]()}
"""What today's release tells at its first look: a release without alerts has told nothing."""


@dataclass(frozen=True)
class Run:
    """A run that was asked for: its hours by number, and which attempt at them it is."""

    hours: tuple[int, ...]
    attempt: int


@dataclass
class Turn:
    """What one turn of the daemon did: the titles told, the runs asked for, the hours read."""

    titles: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    hours: set[int] = field(default_factory=set)


@dataclass
class Upgraded:
    """What a release left behind, under today's daemon."""

    folder: Path
    daemon: Daemon
    service: Service
    sink: Sink

    @property
    def instance(self) -> dg.DagsterInstance:
        """The instance in the home of the release."""
        return self.daemon.instance

    @property
    def world(self) -> World:
        """The tables of the release under today's definitions."""
        return World(Settings.from_environment())

    def turn(self, later: timedelta = LEFT, *, runs: bool = True) -> Turn:
        """Return what the daemon did in one turn, some time after the one before.

        `runs` says whether runs leave the queue.
        """
        shift(self.folder / "home", -later)
        known = {run.run_id for run in self.instance.get_runs()}
        asked = len(self.service.asked)
        self.sink.taken.clear()
        self.daemon.schedules()
        self.daemon.backfills()
        if runs:
            self.daemon.queue()
            self.daemon.backfills()
        self.daemon.sensors()
        new = [run for run in self.instance.get_runs() if run.run_id not in known]
        return Turn(
            titles=sorted(body["title"].partition(": ")[2] for body in self.sink.bodies),
            runs=[_run(run) for run in new if tagged_hours(run.tags) is not None],
            hours=_read(self.service.asked[asked:]),
        )

    def switches(self) -> dict[str, tuple[str, str]]:
        """Return selector and status of each schedule and sensor that the home knows, by name."""
        states = self.instance.all_instigator_state()
        return {state.name: (state.selector_id, state.status.value) for state in states}

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Return the open alerts by key, as the cursor of the sensor has them in every release."""
        states = {state.name: state for state in self.instance.all_instigator_state()}
        data = states[ALERTS].instigator_data if ALERTS in states else None
        ledger = json.loads(getattr(data, "cursor", None) or "{}")
        alerts: dict[str, dict[str, Any]] = ledger.get("alerts", {})
        return {key: alert for key, alert in alerts.items() if not alert.get("over")}

    def look_daily(self) -> None:
        """The checks of each day have run."""
        job = self.world.definitions.resolve_job_def(DAILY)
        job.execute_in_process(instance=self.instance, raise_on_error=False)


def _run(run: dg.DagsterRun) -> Run:
    span = tagged_hours(run.tags)
    assert span is not None
    first = (span.first - START) // HOUR
    return Run(tuple(range(first, first + span.count)), attempt_of(run.tags))


def _read(requests: Sequence[Asked]) -> set[int]:
    """Return the hours whose entries or headers were asked for.

    A question for a single entry, as for the newest that is known, reads no hour.
    """
    bounds = [one.bounds for one in requests if one.parameters.get("limit") != "1"]
    spans = [(first, end) for first, end in filter(None, bounds) if end - first > 1]
    return {
        hour
        for first, end in spans
        for hour in range(
            (first - _START) // TICKS_PER_HOUR, (end - 1 - _START) // TICKS_PER_HOUR + 1
        )
    }


@dataclass
class Story:
    """What has happened since a release was stopped, turn by turn."""

    release: str
    upgraded: Upgraded
    filled: World
    left: dict[str, tuple[str, str]]
    alerts: dict[str, dict[str, Any]]
    first: Turn = field(default_factory=Turn)
    switches: dict[str, tuple[str, str]] = field(default_factory=dict)
    still: dict[str, dict[str, Any]] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)


@contextmanager
def upgraded(release: str, folder: Path, service: Service, left: timedelta) -> Iterator[Upgraded]:
    """What a release left behind so long ago is under today's daemon."""
    home = unpack(release, folder, left=left)
    with http_sink() as sink, pytest.MonkeyPatch.context() as environ:
        for name, value in _settings(folder, service, sink).items():
            environ.setenv(name, value)
        with daemon(home) as turning:
            yield Upgraded(folder, turning, service, sink)


def _settings(folder: Path, service: Service, sink: Sink) -> dict[str, str]:
    """Return the settings as the release had them."""
    return settings_of(folder, service) | {
        "DICOM_SCHEDULE": "* * * * *",
        "DICOM_ALERTS": f"json://{sink.address}",
    }


def _live(story: Story) -> None:
    upgraded = story.upgraded
    story.first = upgraded.turn(timedelta(), runs=False)
    story.switches, story.still = upgraded.switches(), upgraded.alerts()
    story.turns["queued"] = upgraded.turn()
    schedule = next(one for one in upgraded.daemon.instigators() if one.name == SCHEDULE)
    assert isinstance(schedule, RemoteSchedule)
    upgraded.instance.start_schedule(schedule)
    story.turns["started"] = upgraded.turn()
    story.turns["rested"] = upgraded.turn(REST)
    upgraded.look_daily()
    story.turns["checked"] = upgraded.turn()
    story.turns["quiet"] = upgraded.turn()


def _no_switch_is_moved(story: Story) -> None:
    """Today's schedules and sensors find the state that the release noted, by their names.

    A stopped one stays stopped, and one that a person turned on stays on.
    """
    assert story.left.items() <= story.switches.items()
    today = {one.name: one.selector_id for one in story.upgraded.daemon.instigators()}
    assert {name: id_ for name, (id_, _) in story.left.items()}.items() <= today.items()
    assert story.left[SCHEDULE][1] == "STOPPED"
    assert story.left[AUDIT][1] == "RUNNING"


def _a_stopped_schedule_asks_for_nothing(story: Story) -> None:
    """Neither does a sensor, for hours that are on their way; nothing is read."""
    assert (story.first.runs, story.first.hours) == ([], set())


def _an_open_alert_is_not_told_again_nor_as_over(story: Story) -> None:
    """The ledger says to whom it was told, and when; a release without alerts has news to tell."""
    assert set(story.alerts) == OPEN[story.release]
    assert story.first.titles == [story.still[key]["title"] for key in NEWS[story.release]]
    for key, alert in story.alerts.items():
        assert (key, story.still[key]["told"]) == (key, alert["told"])


def _the_backfill_goes_on_where_it_was(story: Story) -> None:
    """Its run in the queue is carried out, those that are over are not asked for again."""
    assert (story.turns["queued"].runs, story.turns["queued"].hours) == ([], {5})
    (backfill,) = story.upgraded.instance.get_backfills()
    assert backfill.status is BulkActionStatus.COMPLETED_SUCCESS


def _the_schedule_asks_for_what_is_missing_once_it_is_on(story: Story) -> None:
    """An hour that has failed rests, by the attempt of the release."""
    assert story.turns["started"].runs == [Run((4,), 1)]
    assert story.turns["rested"].runs == [Run((1,), 2)]


def _no_hour_is_read_again(story: Story) -> None:
    """Of hours that were sealed no entry and no header is asked for."""
    turns = story.turns
    assert (turns["started"].hours, turns["rested"].hours) == ({4}, {1})
    assert turns["checked"].hours | turns["quiet"].hours == set()


def _an_alert_is_told_as_over_once(story: Story) -> None:
    """When the schedule is on, when the hour is in the tables, when the check passes."""
    opened = {*OPEN[story.release], *NEWS[story.release]}
    over = {"started": STOPPED, "rested": REFUSED, "checked": ORPHANS}
    for turn, key in over.items():
        expected = [f"resolved: {story.still[key]['title']}"] if key in opened else []
        assert (turn, story.turns[turn].titles) == (turn, expected)
    assert story.turns["queued"].titles == story.turns["quiet"].titles == []


def _the_tables_equal_the_archive(story: Story) -> None:
    """Every value of every column is that of tables which today's code has made alone."""
    made = story.upgraded.world
    assert made.alive() == alive(story.upgraded.service.archive)
    assert _comparable(made) == _comparable(story.filled)


def _comparable(world: World) -> dict[str, Rows]:
    """The contents without the state of entries when they were read, and the service's address.

    The release has read hours before their instances were updated or deleted, and the port is
    another one each time.
    """
    left_out = {"wadoRsUri", "state"}
    return {
        table: [{name: row[name] for name in row.keys() - left_out} for row in rows]
        for table, rows in world.contents().items()
    }


def _no_column_waits_to_be_filled(story: Story) -> None:
    """Nobody has to start the job for added columns."""
    assert unfilled_columns(story.upgraded.world.store) == {}


def _the_schema_is_todays(story: Story) -> None:
    """The checks of each day have looked at tables that two releases wrote."""
    key = dg.AssetCheckKey(dg.AssetKey("dicom_quality"), "schema")
    instance = story.upgraded.instance
    storage, done = instance.event_log_storage, {AssetCheckExecutionRecordStatus.SUCCEEDED}
    # A tick may have planned one more, whose run the launcher cancels.
    (record,) = storage.get_asset_check_execution_history(key, limit=1, status=done)
    assert record.evaluation is not None
    assert record.evaluation.passed, record.evaluation.description


FACTS: Final = (
    _no_switch_is_moved,
    _a_stopped_schedule_asks_for_nothing,
    _an_open_alert_is_not_told_again_nor_as_over,
    _the_backfill_goes_on_where_it_was,
    _the_schedule_asks_for_what_is_missing_once_it_is_on,
    _no_hour_is_read_again,
    _an_alert_is_told_as_over_once,
    _the_tables_equal_the_archive,
    _no_column_waits_to_be_filled,
    _the_schema_is_todays,
)


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_release_left_behind_goes_on_where_it_was(
    release: str, service: Service, filled: World, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """Today's daemon has gone on until nothing was left to do; each fact is told by itself."""
    with upgraded(release, tmp_path, service, LEFT) as today:
        story = Story(release, today, filled, today.switches(), today.alerts())
        _live(story)
        for fact in FACTS:
            with subtests.test(fact.__name__.strip("_").replace("_", " ")):
                fact(story)


def test_an_upgrade_that_takes_an_hour_sends_no_alert_that_lasts_as_over(
    service: Service, tmp_path: Path
) -> None:
    """The daemon catches up first, but a schedule that was stopped before is stopped still."""
    with upgraded("0.2.0", tmp_path, service, timedelta(hours=1)) as today:
        before = today.alerts()
        assert today.turn(timedelta(), runs=False).titles == []
        assert today.alerts().keys() == before.keys() == OPEN["0.2.0"]
