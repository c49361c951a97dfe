"""Data partitions widened, narrowed, removed and widened again, through real runs and a service."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake

from dicom_assets.cli import main
from dicom_assets.commands.adopt import report_hours
from dicom_assets.commands.check import storage
from dicom_assets.commands.check.probe import Finding, State
from dicom_assets.schema import INSTANCE, SYNC
from dicom_assets.settings import Settings
from dicom_assets.tables.delta.arrow import numbers
from dicom_assets.tables.sync import Hour, followed
from dicom_assets.window import HOUR, Bounds, Window
from dicom_assets_tests.support.history import END, KEYS, LAST, OTHER_PARTITION, tell
from dicom_assets_tests.support.ticks import carry_out, evaluate, span_of, spans, tick
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import World, world

DEFAULT = "Microsoft.Default"
CHECKS = ("freshness", "lag", "audit", "reconciliation", "data_partitions")


@pytest.fixture
def made(own_service: Service, tmp_path: Path) -> World:
    """The tables of a service with two data partitions, all of which are kept."""
    tell(own_service.archive)
    return world(own_service, tmp_path / "tables")


def keeping(made: World, *names: str) -> World:
    """The same tables with another setting."""
    return World(replace(made.settings, data_partitions=names or None))


def follow(made: World, instance: dg.DagsterInstance) -> list[tuple[int, int]]:
    """Everything that the schedule requests is carried out; returns the hours."""
    requests = tick(made, instance)
    assert all(carry_out(made, instance, request) for request in requests)
    return spans(requests)


def failed(made: World, instance: dg.DagsterInstance) -> set[str]:
    """The checks of those named here that fail."""
    specs = [spec for one in made.definitions.asset_checks or () for spec in one.check_specs]
    keys = [spec.key for spec in specs if spec.name in CHECKS]
    job = dg.Definitions.merge(
        made.definitions,
        dg.Definitions(
            jobs=[dg.define_asset_job("looks", selection=dg.AssetSelection.checks(*keys))]
        ),
    ).resolve_job_def("looks")
    result = job.execute_in_process(instance=instance)
    return {one.check_name for one in result.get_asset_check_evaluations() if not one.passed}


def shown(made: World) -> set[object]:
    """The data partitions that have rows."""
    return {row["partitionName"] for row in made.rows(INSTANCE)}


def notes(made: World) -> set[object]:
    """The data partitions that hours were read with."""
    return {row["dataPartitions"] for row in made.rows(SYNC)}


def test_a_wider_setting_is_read_and_a_narrower_one_removed(
    made: World, home_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each state says so, and is whole after what it says was done."""
    narrow = keeping(made, DEFAULT)
    assert follow(narrow, home_instance) == [(0, 5)]
    assert (shown(narrow), notes(narrow)) == ({DEFAULT}, {DEFAULT})
    assert failed(narrow, home_instance) == set()
    only_default = narrow.contents()

    assert {"freshness", "lag"} <= failed(made, home_instance)
    assert follow(made, home_instance) == [(0, 5)]
    assert (shown(made), notes(made)) == ({DEFAULT, OTHER_PARTITION}, {"*"})
    assert failed(made, home_instance) == set()
    assert "all tables show" in str(evaluate(made, home_instance))
    everything = made.contents()

    assert failed(narrow, home_instance) == {"data_partitions"}
    assert follow(narrow, home_instance) == []
    command(monkeypatch, narrow.settings)
    assert shown(narrow) == {DEFAULT, OTHER_PARTITION}
    command(monkeypatch, narrow.settings, "--yes")
    assert narrow.contents() == only_default
    assert failed(narrow, home_instance) == set()
    assert follow(narrow, home_instance) == []

    assert follow(made, home_instance) == [(0, 5)]
    assert made.contents() == everything
    assert failed(made, home_instance) == set()


def command(monkeypatch: pytest.MonkeyPatch, settings: Settings, *options: str) -> None:
    """`dicom-assets narrow` has run."""
    monkeypatch.setenv("DICOM_SERVICE_URL", str(settings.service_url))
    monkeypatch.setenv("DICOM_TABLES_URL", str(settings.tables_url))
    monkeypatch.setenv("DICOM_DATA_PARTITIONS", ",".join(settings.data_partitions or ()))
    result = CliRunner().invoke(main, ["narrow", *options])
    assert (result.exit_code, OTHER_PARTITION in result.output) == (0, True)


def test_a_setting_that_keeps_all_removes_nothing(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says so, and does not open the tables."""
    monkeypatch.setenv("DICOM_TABLES_URL", str(made.settings.tables_url))
    monkeypatch.delenv("DICOM_DATA_PARTITIONS", raising=False)
    result = CliRunner().invoke(main, ["narrow", "--yes"])
    assert (result.exit_code, "DICOM_DATA_PARTITIONS is unset" in result.output) == (1, True)


def test_the_audit_opens_no_hour_after_the_setting_was_narrowed(
    made: World, home_instance: dg.DagsterInstance
) -> None:
    """Also where hours were read again since, whose seals have the rows of both."""
    made.run(KEYS[0], LAST, instance=home_instance)
    narrow = keeping(made, DEFAULT)
    narrow.run(KEYS[1], instance=home_instance)
    before = narrow.contents()
    assert failed(narrow, home_instance) == {"data_partitions"}
    assert narrow.contents() == before
    assert follow(made, home_instance) == [(1, 1)]


def test_a_thousand_hours_of_an_earlier_release_are_not_asked_for(
    own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """With any setting at the first start. `check` says what is assumed, for a month.

    Dagster knows the last day of them, because a thousand hours take it minutes.
    """
    first, day = END - 1000 * HOUR, END - 24 * HOUR
    made = world(own_service, tmp_path / "tables", start_time=day)
    seals = [
        Hour(Window.between(hour, hour + HOUR), {}, numbers(()), 0)
        for hour in (first + n * HOUR for n in range(1000))
    ]
    marks = dict.fromkeys(("sealedAt", "instanceAt", "seriesAt", "studyAt"), END)
    rows = [{"hour": seal.start, **seal.seal_columns(), **marks} for seal in seals]
    table = made.store.tables[SYNC.name]
    names = [name for name in table.names if name != "dataPartitions"]
    old = pa.Table.from_pylist(rows, schema=table.arrow(names))
    write_deltalake(str(tmp_path / "tables" / "sync"), old)
    report_hours(made.settings, Path(home_instance.root_directory), lambda _done, _of: None)

    for setting in (made, keeping(made, DEFAULT)):
        kept = setting.settings.data_partitions
        partitions = None if kept is None else frozenset(kept)
        whole = Bounds(Window.between(first, END), partitions)
        assert len(followed(made.store, whole)) == 1000
        assert tick(setting, home_instance) == []
        assert failed(setting, home_instance) == set()
    assert probed(made).state is State.WARN
    keeping(made, DEFAULT).run(LAST)
    assert notes(made) == {DEFAULT}
    assert tick(keeping(made, DEFAULT), home_instance) == []
    assert probed(made).state is State.WARN
    assert sum(span_of(one).count for one in tick(made, home_instance)) == 24
    with pytest.MonkeyPatch.context() as later:
        a_month = timedelta(days=31)
        later.setattr(storage, "utc_now", lambda: datetime.now(UTC) + a_month)
        assert probed(made).state is State.OK


def probed(made: World) -> Finding:
    """The line of `dicom-assets check` on data partitions."""
    return storage.StorageProbe(str(made.settings.tables_url), made.store, 0).partitions()
