"""A further table through Dagster: its asset, fill, runs, maintenance and checks."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, SYNC
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.window import HOUR, TICKS_PER_HOUR
from dicom_assets_tests.support.history import FIRST, KEYS, LAST, START, study_uid, tell
from dicom_assets_tests.support.names import COLUMNS_JOB, DAILY, MAINTENANCE_JOB, REPORT
from dicom_assets_tests.support.ticks import carry_out, evaluate, spans, tick
from dicom_assets_tests.support.toy import TOY, WITH_TOY, expected
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import ASSETS, World, world

UNFILLED = "dicom_unfilled_tables"
NOTHING = "all tables show every hour that is closed"
EVERY = (*ASSETS, TOY)


@pytest.fixture
def plain(own_service: Service, tmp_path: Path) -> World:
    """The project without the further table, before any run."""
    tell(own_service.archive)
    return world(own_service, tmp_path / "tables")


@pytest.fixture
def more(plain: World) -> World:
    """The same with the further table."""
    return World(plain.settings, WITH_TOY)


def is_right(made: World) -> bool:
    """Return True if the table shows the rows of `instance`, and has rows."""
    rows = made.rows(TOY)
    return bool(rows) and rows == expected(made.rows(INSTANCE))


def unmark(made: World, hour: int, mark: str) -> None:
    """One mark of an hour is gone."""
    sync = made.store.open(SYNC)
    rows = [{"hour": START + hour * HOUR, mark: None}]
    patch = pa.Table.from_pylist(rows, schema=sync.table.arrow(["hour", mark]))
    sync.commit(Difference(sync.table, patches=patch), {"run_id": "test"})


def names_in(request: dg.RunRequest) -> set[str] | None:
    """The tables that a run is asked for; None for all."""
    chosen = request.asset_selection
    return None if chosen is None else {key.path[-1] for key in chosen}


def test_a_table_that_is_added_is_filled_without_the_feed(
    plain: World, more: World, own_service: Service, home_instance: dg.DagsterInstance
) -> None:
    """No hour is read for it; a sensor starts its fill, which tells Dagster the hours."""
    plain.run(FIRST, LAST, instance=home_instance)
    assert evaluate(more, home_instance) == NOTHING
    repository = more.definitions.get_repository_def()
    sensor = repository.get_sensor_def(UNFILLED)
    asked = len(own_service.asked)
    with dg.build_sensor_context(home_instance, repository_def=repository) as context:
        (request,) = sensor.evaluate_tick(context).run_requests or ()
        assert str(request.run_key).startswith("toy/")
        job = more.definitions.resolve_job_def(COLUMNS_JOB)
        assert job.execute_in_process(instance=home_instance).success
        assert sensor.evaluate_tick(context).skip_message == "every table is filled"
    assert len(own_service.asked) == asked
    assert is_right(more)
    assert home_instance.get_materialized_partitions(dg.AssetKey("toy")) == set(KEYS)
    assert evaluate(more, home_instance) == NOTHING


def test_hours_and_ranges_are_asked_for_by_the_tables_that_owe_them(
    more: World, own_service: Service, home_instance: dg.DagsterInstance
) -> None:
    """All for an hour that is new; below a table that lags; never the feed of a sealed hour."""
    more.run(FIRST, KEYS[3], instance=home_instance, only=EVERY)
    (request,) = tick(more, home_instance)
    assert (spans([request]), names_in(request)) == ([(4, 5)], None)
    assert carry_out(more, home_instance, request)
    assert is_right(more)
    for mark, owing in (
        ("toyAt", {"toy"}),
        ("studyAt", {"study"}),
        ("instanceAt", {"instance", "series", "study", "toy"}),
    ):
        unmark(more, 2, mark)
        (request,) = tick(more, home_instance)
        assert (spans([request]), names_in(request)) == ([(2, 2)], owing)
        before = entries_asked(own_service)
        assert carry_out(more, home_instance, request)
        assert entries_asked(own_service) == before
        assert evaluate(more, home_instance) == NOTHING


def entries_asked(service: Service) -> int:
    """How often hours of the feed were read; the newest entry is looked for at its own moment."""
    bounds = [asked.bounds for asked in service.asked if asked.bounds]
    return sum(end - start >= TICKS_PER_HOUR for start, end in bounds)


def test_it_is_maintained_and_checked_like_the_others(
    more: World, instance: dg.DagsterInstance
) -> None:
    """An op of its own; keys, orphans and the schema; a damage is named."""
    more.run(FIRST, LAST, only=EVERY)
    nightly = more.definitions.resolve_job_def(MAINTENANCE_JOB)
    assert "maintain_toy" in {node.name for node in nightly.nodes}
    assert nightly.execute_in_process(instance=instance).success
    assert {name: e.passed for name, e in daily(more).items()} == dict.fromkeys(daily(more), True)
    row = more.rows(TOY)[0]
    ghost = row | {"studyInstanceUid": study_uid(99)}
    write_deltalake(
        DeltaTable(more.store.urls["toy"]),
        pa.Table.from_pylist([row, ghost], schema=TOY.arrow()),
        mode="append",
    )
    found = daily(more)
    assert "1 of toy" in str(found["keys"].description)
    assert "toy" in str(found["orphans"].description)
    assert {name for name, e in found.items() if not e.passed} >= {"keys", "orphans"}


def daily(made: World) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the results of the daily checks, by name."""
    with dg.DagsterInstance.ephemeral() as instance:
        job = made.definitions.resolve_job_def(DAILY.job)
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def test_its_asset_looks_like_the_others(more: World) -> None:
    """Description, group, owner, kinds, partitions, place; the pool and the policy of the story."""
    assets: dict[str, Any] = {
        asset.key.path[-1]: asset
        for asset in more.definitions.assets or ()
        if isinstance(asset, dg.AssetsDefinition) and asset.key.path[-1] != REPORT
    }
    assert list(assets) == [table.name for table in (CHANGE, INSTANCE, SERIES, STUDY, TOY)]
    spec, other = (next(iter(assets[name].specs)) for name in ("toy", "study"))
    means, green, follows = TOY.description.partition("**A green hour**")
    checks = "Its checks: [dicom_quality](/assets/dicom_quality).\n\n"
    assert spec.description == f"{means}{checks}{green}{follows}"
    for same in ("group_name", "owners", "kinds", "partitions_def", "freshness_policy"):
        assert getattr(spec, same) == getattr(other, same)
    assert assets["toy"].op.pool == assets["study"].op.pool == "dicom_tables"
    assert assets["toy"].backfill_policy == dg.BackfillPolicy.single_run()
    assert spec.metadata["dagster/uri"] == more.settings.table_path("toy")
