"""`dicom-assets adopt`: a Dagster whose database was lost learns from the tables what is done."""

from pathlib import Path

import dagster as dg
from click.testing import CliRunner

from dicom_assets.cli import main
from dicom_assets.schema import SERIES
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.history import KEYS, at, header
from dicom_assets_tests.support.processes import copy_home, environment
from dicom_assets_tests.support.ticks import evaluate, spans, tick
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import ASSETS, World


def adopt(folder: Path, service: Service) -> str:
    """What the command says, in this process, which has Dagster loaded."""
    done = CliRunner().invoke(main, ["adopt"], env=environment(folder, service))
    overhear(done.output)
    assert done.exit_code == 0, done.output
    return done.output


def test_after_it_the_schedule_asks_for_nothing(
    followed: World, own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Every hour of every table is reported, without a run; a second time there is none left."""
    assert spans(tick(followed, home_instance)) == [(0, 5)]
    assert "24 materializations" in adopt(tmp_path, own_service)
    assert evaluate(followed, home_instance) == "all tables show every hour that is closed"
    assert home_instance.get_runs_count() == 0
    for table in ASSETS:
        assert home_instance.get_materialized_partitions(dg.AssetKey(table.name)) == set(KEYS)
    assert "0 materializations" in adopt(tmp_path, own_service)


def test_hours_that_are_open_stay_open(
    followed: World, own_service: Service, home_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """A table that has not followed an hour is not said to have."""
    own_service.archive.store(header(9), at=at(2, 30))
    followed.run(KEYS[2], only=[table for table in ASSETS if table is not SERIES][:2])
    assert "22 materializations" in adopt(tmp_path, own_service)
    assert KEYS[2] not in home_instance.get_materialized_partitions(dg.AssetKey(SERIES.name))
    assert [one.partition_key for one in tick(followed, home_instance)] == [KEYS[2]]


def test_hours_outside_start_and_end_are_no_partitions(
    followed: World, own_service: Service, fresh_home: Path, tmp_path: Path
) -> None:
    """They may be in the tables, and are not reported."""
    home = copy_home(fresh_home, tmp_path)
    env = environment(tmp_path, own_service) | {"DICOM_START_TIME": "2024-03-01T03:00:00Z"}
    done = CliRunner().invoke(main, ["adopt"], env=env)
    assert "12 materializations" in done.output
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("study")) == set(KEYS[3:])
