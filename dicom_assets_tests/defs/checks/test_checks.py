"""The checks through Dagster: each red for the reason that it is there for, and green otherwise.

What they compare is tested with the tables; here is what a reader sees, and what a run does.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.check_words import BY_REASON, READER_KEY, REPAIRS_ITSELF, RUNS_KEY
from dicom_assets.defs.checks import tables as data
from dicom_assets.defs.checks import upkeep as platform
from dicom_assets.defs.checks.service import LAG_CHECK, REJECTED_CHECK, SERVICE_CHECKS
from dicom_assets.defs.pool import POOL
from dicom_assets.defs.schedules.check_jobs import CheckJob
from dicom_assets.errors import ConflictError
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC, Table
from dicom_assets.settings import Settings
from dicom_assets.tables.delta import retry as converge
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.questions import lag
from dicom_assets.tables.upkeep.repair import find_foreign_rows, repair_table
from dicom_assets.window import HOUR
from dicom_assets_tests.support.canary import hits
from dicom_assets_tests.support.history import (
    END,
    FIRST,
    KEYS,
    LAST,
    START,
    at,
    header,
    study_uid,
    tell,
)
from dicom_assets_tests.support.names import (
    AUDIT,
    DAILY,
    HOURLY,
    JOB,
    QUALITY,
    REOPENED,
    SERVICE,
)
from dicom_assets_tests.support.processes import copy_home
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import ASSETS, RANGE_END, RANGE_START, World, world

LOOKS = (HOURLY, AUDIT, DAILY)
CHECKS = (*SERVICE_CHECKS, *platform.UPKEEP_CHECKS, *data.TABLE_CHECKS)
ASKING = {"audit", "reconciliation", "lag"}
Told = Mapping[str, dg.AssetCheckEvaluation]


def looked(
    made: World,
    look: CheckJob,
    *only: str,
    config: Mapping[str, Any] | None = None,
    instance: dg.DagsterInstance | None = None,
) -> Told:
    """What the checks of a job say, or some of them, by name; none tells a value or a UID."""
    specs = [spec for one in made.definitions.asset_checks or () for spec in one.check_specs]
    keys = {spec.key for spec in specs if spec.name in only}
    chosen = dg.AssetSelection.checks(*keys)
    job = made.definitions.resolve_job_def(look.job)
    if only:
        subset = dg.define_asset_job("some", selection=chosen)
        some = dg.Definitions.merge(made.definitions, dg.Definitions(jobs=[subset]))
        job = some.resolve_job_def("some")
    with nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as used:
        ran = job.execute_in_process(instance=used, raise_on_error=False, run_config=config or {})
    found = {told.check_name: told for told in ran.get_asset_check_evaluations()}
    told = str([(e.description, e.metadata) for e in found.values()])
    assert not hits(told)
    assert "1.2.826" not in told
    return found


def numbers(told: dg.AssetCheckEvaluation) -> dict[str, Any]:
    """The metadata of a result."""
    return {name: value.value for name, value in told.metadata.items()}


def needs(told: dg.AssetCheckEvaluation, check: Any, *, error: bool = False) -> str:  # noqa: ANN401 - a check in words
    """What a check says that has not passed: it ends with what to do."""
    severity = dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN
    assert (told.passed, told.severity) == (False, severity)
    assert (told.description or "").endswith(check.remedy)
    return (told.description or "").removesuffix(check.remedy).strip()


def test_tables_in_step_pass_every_check(filled: World) -> None:
    """Each of the three jobs, and all of its checks."""
    told = {look.job: looked(filled, look) for look in LOOKS}
    assert [name for found in told.values() for name, e in found.items() if not e.passed] == []
    names = {name for found in told.values() for name in found}
    assert names == {check.name for check in CHECKS}
    assert not [e for e in told[HOURLY.job].values() if "first_load" in e.metadata]
    values = [
        m.value for found in told.values() for e in found.values() for m in e.metadata.values()
    ]
    assert not [value for value in values if isinstance(value, bool) or value in ([], {}, "")]


def test_a_check_says_for_whom_it_is_and_what_to_do(filled: World) -> None:
    """In the definitions, where alerts and the page read it; none takes the pool."""
    made = filled.definitions.asset_checks or ()
    specs = {spec.name: spec for check in made for spec in check.check_specs}
    assert set(specs) == {check.name for check in CHECKS}
    for check in CHECKS:
        spec = specs[check.name]
        assert spec.metadata == {READER_KEY: str(check.reader), RUNS_KEY: str(check.runs)}
        assert spec.metadata[READER_KEY] in {"service", "platform", "data"}
        assert spec.asset_key.path[-1] == (SERVICE if check.name in ASKING else QUALITY)
        assert check.remedy in (spec.description or "")
    assert not {pool for check in made for pool in (check.node_def.pools or ())} & {POOL}


def test_the_texts_name_jobs_and_checks_that_exist(filled: World) -> None:
    """What a person is sent to is there."""
    repository = filled.definitions.get_repository_def()
    known = {*repository.job_names, *(c.name for c in CHECKS), SERVICE, QUALITY, "dicom_assets"}
    known |= {schedule.name for schedule in repository.schedule_defs}
    known |= {sensor.name for sensor in repository.sensor_defs}
    said = " ".join(f"{check.means} {check.remedy}" for check in CHECKS)
    assert set(re.findall(r"`(dicom_\w+)`", said)) <= known


def test_definitions_of_another_name_have_its_jobs_in_their_texts(
    service: Service, tmp_path: Path
) -> None:
    """And their checks run on resources of that name: a code location may hold two of them."""
    settings = world(service, tmp_path).settings
    made = build_definitions(settings, name="north")
    specs = [spec for check in made.asset_checks or () for spec in check.check_specs]
    texts = " ".join(str(spec.description) for spec in specs)
    assert set(re.findall(r"`(dicom_\w+)`", texts)) == {"dicom_assets"}
    assert {"north_tables", "north_columns"} <= set(re.findall(r"`(north_\w+)`", texts))
    job = made.resolve_job_def("north_hourly_checks")
    with dg.DagsterInstance.ephemeral() as instance:
        ran = job.execute_in_process(instance=instance, raise_on_error=False)
    results = {result.check_name: result for result in ran.get_asset_check_evaluations()}
    assert set(results) == {"freshness", "lag", "silent"}
    assert "`north_tables_schedule`" in (results["freshness"].description or "")


def test_each_job_of_checks_has_its_minute(filled: World) -> None:
    """No two at once, and none when hours are asked for."""
    crons = {s.name: s.cron_schedule for s in filled.definitions.schedules or ()}  # type: ignore[union-attr]  # all of them plain
    assert all(crons[f"{look.job}_schedule"] == look.cron for look in LOOKS)
    minutes = [str(cron).split()[0] for cron in crons.values()]
    assert len(set(minutes)) == len(minutes)


# freshness


def test_a_first_load_is_a_warning_that_says_how_far_it_is(
    service: Service, tmp_path: Path
) -> None:
    """And that it is one, so that nobody is told."""
    made = world(service, tmp_path)
    made.run(FIRST, KEYS[2])
    told = looked(made, HOURLY)["freshness"]
    said = needs(told, platform.FRESHNESS_CHECK)
    assert said == (
        "A first load is under way: all tables show 3 of 6 hours (50.0 %), the newest is "
        f"{KEYS[2]}."
    )
    assert numbers(told)["first_load"] == "yes"
    assert numbers(told)["percent"] == 50.0


def test_a_standstill_is_an_error_that_counts_hours_and_holes(
    service: Service, tmp_path: Path
) -> None:
    """The tables were in step once; then an hour was lost, and then all of them."""
    made = world(service, tmp_path)
    made.run(FIRST)
    made.run(KEYS[2], KEYS[3])
    _sealed_in_time(made)
    told = looked(made, HOURLY)["freshness"]
    said = needs(told, platform.FRESHNESS_CHECK, error=True)
    assert "2 newer and 1 older hours are missing" in said
    assert f"the first is {KEYS[1]}" in said
    found = numbers(told)
    assert (found["hours_behind"], found["hours_open_before"]) == (2, 1)
    assert (found["newest_hour"], "first_load" in found) == (KEYS[3], False)


def _sealed_in_time(made: World) -> None:
    """The hours in `sync` were read a quarter after their end."""
    later = HOUR + timedelta(minutes=15)
    marks = ("sealedAt", "instanceAt", "seriesAt", "studyAt")
    hours = [row["hour"] for row in made.rows(SYNC)]
    rows = [{"hour": hour, **dict.fromkeys(marks, hour + later)} for hour in hours]
    patch = pa.Table.from_pylist(rows, schema=SYNC.arrow(["hour", *marks]))
    made.store.open(SYNC).commit(Difference(SYNC, patches=patch), {})


def test_tables_that_nobody_fills_are_an_error(service: Service, tmp_path: Path) -> None:
    """No first load has begun that could be waited for."""
    told = looked(world(service, tmp_path), HOURLY)["freshness"]
    assert "No hour is in all tables, and 6 are due." in needs(
        told, platform.FRESHNESS_CHECK, error=True
    )


def test_what_no_tick_has_asked_for_is_not_missed(own_service: Service, tmp_path: Path) -> None:
    """Two hours are due at the last tick that is older than a run may take; the newest is not."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    soon = world(own_service, tmp_path, start_time=now - 2 * HOUR, end_time=now + 5 * HOUR)
    told = looked(soon, HOURLY, "freshness", config=_patience(60))["freshness"]
    assert numbers(told)["hours_due"] in {0, 1}
    told = looked(soon, HOURLY, "freshness", config=_patience(24 * 60))["freshness"]
    assert told.passed
    assert told.description == "No hour is due yet."


def _patience(minutes: int) -> dict[str, Any]:
    return {"ops": {f"{QUALITY}_freshness": {"config": {"patience_minutes": minutes}}}}


# lag


def test_entries_that_are_in_no_table_are_counted(service: Service, tmp_path: Path) -> None:
    """Those of the hours after the newest that was read."""
    made = world(service, tmp_path)
    made.run(FIRST, KEYS[3])
    _sealed_in_time(made)
    told = looked(made, HOURLY)["lag"]
    said = needs(told, LAG_CHECK, error=True)
    assert "The service has 4 entries from 2024-03-01 04:00 UTC on" in said
    assert numbers(told)["entries_missing"] == 4


def test_entries_are_counted_to_a_bound(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it the words say so."""
    monkeypatch.setattr(lag, "MOST_COUNTED", 2)
    made = world(service, tmp_path)
    made.run(FIRST, KEYS[3])
    said = needs(looked(made, HOURLY, "lag")["lag"], LAG_CHECK)
    assert "The service has at least 2 entries" in said


def test_an_entry_that_came_late_is_a_warning_with_its_minutes(
    followed: World, own_service: Service
) -> None:
    """The delay is too short for this service."""
    _sealed_in_time(followed)
    own_service.archive.store(header(9), at=at(4, 30))
    told = looked(followed, HOURLY)["lag"]
    assert "1 of the last hours got entries after they were read, 15 minutes after" in needs(
        told, LAG_CHECK
    )
    assert numbers(told)["hours_with_late_entries"] == [KEYS[4]]


def test_a_lag_is_seen_in_a_few_light_requests(followed: World, own_service: Service) -> None:
    """Never a header, and never more than one entry of a page."""
    own_service.asked.clear()
    looked(followed, HOURLY)
    assert 0 < len(own_service.asked) <= 6
    assert not any(asked.is_for_headers for asked in own_service.asked)
    limits = [asked.parameters.get("limit", "1") for asked in own_service.asked]
    assert set(limits) == {"1"}


def test_entries_that_wait_are_told_by_reason(own_service: Service, tmp_path: Path) -> None:
    """How many, since when, and when they are tried again; a repaired one is tried by a person."""
    for sop in (1, 2, 3):
        own_service.archive.store(header(1, sop=sop), at=at(0, sop))
    good = _headers(own_service, "UPDATE instance SET header = '{}' WHERE sop NOT LIKE '%.1'")
    made = world(own_service, tmp_path / "tables")
    made.run(FIRST, KEYS[1])
    told = looked(made, DAILY, "rejected")["rejected"]
    said, reason = needs(told, REJECTED_CHECK), "header is of another instance"
    assert re.fullmatch(
        rf"2 entries wait, because they could not be used\. {reason}: 2, the oldest of the hour "
        rf"{FIRST}, next attempt [-\d]+ [:\d]+ UTC or with the first run after it\.",
        said,
    )
    assert numbers(told) == {"entries_waiting": 2, "oldest_hour": FIRST, BY_REASON: {reason: 2}}
    _headers(own_service, "UPDATE instance SET header = ? WHERE sop = ?", *good)
    made.run(FIRST)
    assert len(made.rows(INSTANCE)) == 3
    told = looked(made, DAILY, "rejected")["rejected"]
    assert (told.passed, told.description) == (True, "No entry of the feed waits.")


def _headers(service: Service, sql: str, *rows: tuple[str, str]) -> list[tuple[str, str]]:
    """Headers are changed behind the service's back; returns those before, with their UIDs."""
    with closing(sqlite3.connect(service.archive.path)) as database, database:
        before = database.execute("SELECT header, sop FROM instance").fetchall()
        for row in rows or [()]:
            database.execute(sql, row)
    return before


@pytest.mark.parametrize("by", ["dagster/schedule_name", "dagster/sensor_name"])
def test_runs_that_nobody_starts_keep_the_rests(
    own_service: Service, tmp_path: Path, by: str
) -> None:
    """They are as many as there are hours, and would ask for the same entries again and again."""
    own_service.archive.store(header(1), at=at(0, 1))
    good = _headers(own_service, "UPDATE instance SET header = '{}'")
    made = world(own_service, tmp_path / "tables")
    made.run(FIRST)
    _headers(own_service, "UPDATE instance SET header = ? WHERE sop = ?", *good)
    keys = {RANGE_START: FIRST, RANGE_END: FIRST}
    job = made.definitions.resolve_job_def("dicom_tables")
    for tags, rows in (({by: "x"}, 0), ({}, 1)):
        with dg.DagsterInstance.ephemeral() as instance:
            job.execute_in_process(instance=instance, tags=keys | tags)
        assert len(made.rows(INSTANCE)) == rows


def test_a_service_that_is_down_was_not_looked_at(followed: World, own_service: Service) -> None:
    """The lag is not known, and that is no pass; freshness is known all the same."""
    own_service.answer = (503, b"")
    told = looked(followed, HOURLY)
    assert not told["lag"].passed
    assert (told["lag"].description or "").startswith("Could not look, so nothing is known:")
    assert told["freshness"].passed


# commits


def test_commits_of_others_are_red_until_a_repair(followed: World) -> None:
    """The first look is silent, and the memory of it is Dagster's."""
    with dg.DagsterInstance.ephemeral() as instance:
        delta = followed.store.delta(INSTANCE)
        delta.update(updates={"patientname": "'Impostor'"})
        assert looked(followed, DAILY, "commits", instance=instance)["commits"].passed
        followed.store.delta(STUDY).delete()
        for _ in range(2):
            told = looked(followed, DAILY, "commits", instance=instance)["commits"]
            said = needs(told, platform.COMMITS_CHECK, error=True)
            assert said.startswith("Other programs have changed tables: study: version ")
            assert "(DELETE of 20" in said
            assert numbers(told)["faults_study"] == 1
        for table in (INSTANCE, STUDY):
            found = find_foreign_rows(followed.store, table)
            repair_table(followed.store, found, Run("repair", datetime.now(UTC)))
        told = looked(followed, DAILY, "commits", instance=instance)["commits"]
        assert told.passed
        assert told.description == (
            "All commits with data are ours, or older than the first look or repair."
        )


# conflicts, schema, growth


def test_commits_that_came_too_late_are_counted(
    followed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rival at every commit: somebody else writes."""
    monkeypatch.setattr(converge, "LONGEST_PAUSE_SECONDS", 0.0)
    for number in range(platform.LEAST_COMMITS):
        _overtaken(followed, number)
    told = looked(followed, DAILY, "conflicts")["conflicts"]
    assert "20 conflicted with another commit" in needs(told, platform.CONFLICTS_CHECK)
    assert numbers(told)["conflicts_sync"] == platform.LEAST_COMMITS


def _overtaken(made: World, number: int) -> None:
    rivals = [ConflictError("first")]
    row = {"hour": END + number * HOUR}
    wanted = Difference(SYNC, inserts=pa.Table.from_pylist([row], schema=SYNC.arrow()))

    def attempt() -> None:
        if rivals:
            raise rivals.pop()
        made.store.open(SYNC).commit(wanted, {})

    converge.converge(attempt)


def test_a_table_of_another_form_is_told(followed: World) -> None:
    """Here by its retention, which is not the setting's."""
    delta = followed.store.delta(STUDY)
    delta.alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 7 days"})
    told = looked(followed, DAILY, "schema")["schema"]
    said = needs(told, platform.SCHEMA_CHECK)
    assert "study: delta.deletedFileRetentionDuration is not interval 720 hours" in said
    assert numbers(told) == {"differences_study": 1}


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("ROOM_BYTES", 1 << 80, "bytes are free for tables"),
        ("ROOM_BYTES", 1 << 80, "bytes are free for dagster"),
        ("SMALL_FILES", 0, "instance has 2 small files"),
        ("UNCHECKED_VERSIONS", 1, "instance has had no checkpoint for 2 versions"),
        ("LOG_ENTRIES", 1, "instance has a log of 2 commits"),
        ("DATABASE_BYTES", -1, "Dagster's database has"),
    ],
)
def test_what_grows_too_large_is_told(
    filled: World, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, said: str
) -> None:
    """Each by its own limit."""
    monkeypatch.setattr(platform, limit, value)
    told = looked(filled, DAILY, "growth")["growth"]
    assert said in needs(told, platform.GROWTH_CHECK)


def test_the_database_of_dagster_is_measured(fresh_home: Path, tmp_path: Path) -> None:
    """Its SQLite files, and nothing else of its home."""
    home = copy_home(fresh_home, tmp_path)
    files = [path for path in home.rglob("*") if path.suffix == ".db"]
    assert platform.database_bytes(home) >= sum(path.stat().st_size for path in files) > 0
    assert platform.database_bytes(tmp_path / "none") == 0


# what the tables say


# seals


def _restore(made: World, table: Table, back: int) -> None:
    """Somebody restores an older version of a table."""
    made.store.delta(table).restore(made.store.version(table) - back)


def _repair(made: World, instance: dg.DagsterInstance) -> list[str]:
    """The runs that the sensor requests are carried out; their hours."""
    repository = made.definitions.get_repository_def()
    job = made.definitions.resolve_job_def(JOB)
    with dg.build_sensor_context(instance=instance, repository_def=repository) as context:
        ticked = repository.get_sensor_def(REOPENED).evaluate_tick(context)
    for request in ticked.run_requests or ():
        key, tags = request.partition_key, dict(request.tags)
        done = job.execute_in_process(instance=instance, partition_key=key, tags=tags)
        assert done.success
    return [str(request.partition_key) for request in ticked.run_requests or ()]


def test_a_shortened_log_is_found_and_repaired_without_a_person_or_the_service(
    own_service: Service, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """The check names the hours, the sensor requests them, and the tables are what they were."""
    tell(own_service.archive)
    made = world(own_service, tmp_path / "tables")
    made.run(FIRST, KEYS[4])
    made.run(LAST)
    before = made.contents()
    _restore(made, CHANGE, 1)
    own_service.asked.clear()
    told = looked(made, DAILY, "seals")["seals"]
    assert own_service.asked == []
    said, found = needs(told, platform.SEALS_CHECK, error=True), numbers(told)
    assert said.startswith("In 1 of 6 hours the log differs from the seal: at least ")
    assert (found["hours"], found["hours_reopened"], found["hours_outside"]) == ([LAST], 1, 0)
    assert found["entries_missing"] > 0
    assert found[REPAIRS_ITSELF] == "yes"
    assert _repair(made, instance) == [LAST]
    assert made.contents() == before
    assert looked(made, DAILY, "seals")["seals"].passed


def test_a_loss_in_an_hour_before_the_start_needs_a_person(
    followed: World, own_service: Service
) -> None:
    """No run reads it: the seal stays, the failure too, and it alerts."""
    followed.store.delta(CHANGE).delete('"sequence" = 1')
    later = world(own_service, Path(followed.settings.tables_url), start_time=START + HOUR)
    for _ in range(2):
        told = looked(later, DAILY, "seals")["seals"]
        assert not told.passed
        assert numbers(told)["hours"] == [FIRST]
        assert REPAIRS_ITSELF not in numbers(told)


def _repeat(made: World, table: Table, study: int) -> None:
    """Somebody has written the rows of a study once more."""
    column = "studyinstanceuid" if table is INSTANCE else "studyInstanceUid"
    rows = made.store.open(table).rows(where=f"\"{column}\" = '{study_uid(study)}'")
    write_deltalake(made.store.urls[table.name], rows, mode="append")


def test_a_key_with_several_rows_is_an_error(followed: World) -> None:
    """The table is named, and how many."""
    _repeat(followed, SERIES, 2)
    told = looked(followed, DAILY, "keys")["keys"]
    assert needs(told, data.KEYS_CHECK, error=True) == "Keys have several rows: 1 of series."
    assert numbers(told)["keys_repeated_series"] == 1


def test_a_row_without_its_instances_is_an_error(followed: World) -> None:
    """And one that lacks."""
    followed.store.delta(STUDY).delete(f"\"studyInstanceUid\" = '{study_uid(1)}'")
    followed.store.delta(INSTANCE).delete(f"\"studyinstanceuid\" = '{study_uid(2)}'")
    told = looked(followed, DAILY, "orphans")["orphans"]
    said = needs(told, data.ORPHANS_CHECK, error=True)
    assert "series lacks 0 rows and has 1 without an instance" in said
    assert "study lacks 1 rows and has 1 without an instance" in said


def test_a_count_that_is_not_true_is_an_error(followed: World) -> None:
    """Somebody has written into the table."""
    followed.store.delta(STUDY).update(updates={"`instanceCount`": "77"})
    told = looked(followed, DAILY, "counts")["counts"]
    assert "have other counts than their instances: 3 of study" in needs(
        told, data.COUNTS_CHECK, error=True
    )


def test_a_column_that_loses_its_values_is_a_warning(own_service: Service, tmp_path: Path) -> None:
    """Sixty series with a station in the first hours, and sixty without in the last ones."""
    station = {"00081010": {"vr": "SH", "Value": ["CT1"]}}
    for number in range(120):
        late = number >= 60
        own = header(number) | ({} if late else station)
        own_service.archive.store(own, at=at(5 if late else 1, number % 60))
    made = world(own_service, tmp_path)
    made.run(FIRST, LAST)
    assert looked(made, DAILY, "rates")["rates"].passed, "within the newest week"
    week = timedelta(weeks=1)
    periods = {"weeks": 2 * HOUR / week, "weeks_before": 4 * HOUR / week}
    config = {"ops": {f"{QUALITY}_rates": {"config": periods}}}
    told = looked(made, DAILY, "rates", config=config)["rates"]
    said = needs(told, data.RATES_CHECK)
    assert "values are missing more often in stationname (0% before, 100% now)" in said
    assert numbers(told) == {"series": 60, "series_before": 60, "missing_stationname": 1.0}


def test_a_date_that_is_yet_to_come_is_a_warning(own_service: Service, tmp_path: Path) -> None:
    """The column and the number, never the date."""
    own_service.archive.store(
        header(1) | {"00080020": {"vr": "DA", "Value": ["29990131"]}}, at=at(0, 1)
    )
    made = world(own_service, tmp_path)
    made.run(FIRST)
    told = looked(made, DAILY, "future")["future"]
    said = needs(told, data.FUTURE_CHECK)
    assert said == "Dates lie more than a day in the future: 1 in studydate_formatted."
    assert "2999" not in str(told)


# what stops a run


@pytest.fixture
def wrong(followed: World) -> World:
    """Somebody has written rows of the study that the third hour is going to touch."""
    _repeat(followed, INSTANCE, 2)
    return followed


def _job_of_a_person(made: World) -> dg.JobDefinition:
    """What Dagster runs for a backfill, and for `dagster asset materialize`."""
    whole = made.definitions.resolve_implicit_global_asset_job_def()
    return whole.get_subset(asset_selection={dg.AssetKey(table.name) for table in ASSETS})


@pytest.mark.parametrize(
    "tags",
    [{"dagster/partition": KEYS[4]}, {RANGE_START: KEYS[3], RANGE_END: KEYS[4]}],
    ids=["an hour", "a range"],
)
@pytest.mark.parametrize("by", ["schedule", "person"])
def test_a_wrong_table_does_not_spread(
    wrong: World, instance: dg.DagsterInstance, tags: dict[str, str], by: str
) -> None:
    """A key of `instance` has two rows: `series` and `study` stay as they were, the run is red."""
    before = wrong.versions()
    scheduled = wrong.definitions.resolve_job_def("dicom_tables")
    job = scheduled if by == "schedule" else _job_of_a_person(wrong)
    ran = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    assert not ran.success
    failed = {e.step_key: e.step_failure_data.error for e in ran.get_step_failure_events()}
    assert set(failed) == {SERIES.name, STUDY.name}
    assert all("instance has 1 rows too many" in str(error) for error in failed.values())
    made = {e.asset_key.path[-1] for e in ran.get_asset_materialization_events() if e.asset_key}
    assert made == {"change", "instance"}
    after = wrong.versions()
    assert (after["series"], after["study"]) == (before["series"], before["study"])


@pytest.mark.parametrize("hour", [KEYS[1], KEYS[2]])
def test_hours_that_touched_other_studies_go_on(
    wrong: World, instance: dg.DagsterInstance, hour: str
) -> None:
    """What is wrong elsewhere is the daily check's affair; an hour without entries too."""
    job = wrong.definitions.resolve_job_def("dicom_tables")
    assert job.execute_in_process(instance=instance, tags={"dagster/partition": hour}).success
    assert not looked(wrong, DAILY, "keys")["keys"].passed


# the sign on the assets


def test_the_sign_of_freshness_follows_the_schedule(tmp_path: Path) -> None:
    """One tick may be missed, two may not; where no hours are to come there is none."""
    hourly = _policies(tmp_path)
    assert {(p.warn_window.to_timedelta(), p.fail_window.to_timedelta()) for p in hourly} == {
        (timedelta(minutes=95), timedelta(minutes=155))
    }
    nightly = _policies(tmp_path, schedule="15 3 * * *")
    assert {p.warn_window.to_timedelta() for p in nightly} == {timedelta(days=1, minutes=35)}
    weekdays = _policies(tmp_path, schedule="15 8-18 * * 1-5")
    assert {p.warn_window.to_timedelta() for p in weekdays} == {timedelta(hours=62, minutes=35)}
    assert _policies(tmp_path, end_time=END) == []


def _policies(tmp_path: Path, **settings: object) -> list[Any]:
    given: dict[str, Any] = {"service_url": "http://127.0.0.1:9", "start_time": START, **settings}
    made = build_definitions(Settings(tables_url=str(tmp_path), **given))
    return list(_of_assets(made))


def _of_assets(made: dg.Definitions) -> Iterator[object]:
    for asset in made.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            yield from (s.freshness_policy for s in asset.specs if s.freshness_policy)
