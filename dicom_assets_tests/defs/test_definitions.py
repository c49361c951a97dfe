"""The definitions as Dagster loads them, alone and inside somebody else's code location."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.pool import POOL
from dicom_assets.defs.run_tags import tags_of
from dicom_assets.schema import CHANGE, INSTANCE, SERIES, STUDY, Table
from dicom_assets.settings import Settings
from dicom_assets.window import HOUR, Span, floor_hour
from dicom_assets_tests.support.history import FIRST, LAST, alive
from dicom_assets_tests.support.names import JOB, QUALITY, REPORT, SERVICE
from dicom_assets_tests.support.watched_service import Service
from dicom_assets_tests.support.world import ASSETS, materialize, world

PREFIX = ("imaging", "pacs")
NOBODY = "https://nobody.dicom.azurehealthcareapis.com"
EVENING = datetime(2024, 3, 1, 22, 30, tzinfo=UTC)
# Columns of `instance` that no column upstream makes: the header as a whole, and our own clock.
WHOLE_HEADER_OR_OURS = {"metadata", "metadata_string", "created_date"}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a connection or resolving a name fails."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def remote(tmp_path: Path) -> Settings:
    """Settings for a service that does not exist, from half past ten in the evening for 3 h."""
    return Settings(
        service_url=NOBODY,
        tables_url=str(tmp_path / "tables"),
        start_time=EVENING,
        end_time=EVENING + timedelta(hours=3),
    )


@pytest.fixture
def repository(remote: Settings) -> dg.RepositoryDefinition:
    """Return the repository of the definitions for the settings."""
    return build_definitions(remote).get_repository_def()


def _specs(definitions: dg.Definitions) -> Iterator[dg.AssetSpec]:
    for asset in definitions.assets or ():
        if isinstance(asset, dg.AssetsDefinition):
            yield from asset.specs


def _spec(definitions: dg.Definitions, table: Table) -> dg.AssetSpec:
    return next(s for s in _specs(definitions) if s.key == dg.AssetKey(table.name))


@pytest.mark.usefixtures("offline")
def test_loading_asks_no_network_and_writes_nothing(remote: Settings, tmp_path: Path) -> None:
    """The definitions load with the service unreachable; no table is made by it."""
    dg.Definitions.validate_loadable(build_definitions(remote))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("offline")
def test_loading_the_embedded_service_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a service URL nothing is filled, nothing listens: the first hour is claimed."""
    monkeypatch.chdir(tmp_path)
    dg.Definitions.validate_loadable(build_definitions(Settings()))
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {"archive.first-hour"}


def test_the_graph_is_the_flow(repository: dg.RepositoryDefinition) -> None:
    """dicom_service → change and instance; change → instance; instance → series and study."""
    graph = repository.asset_graph
    parents = {
        table.name: {parent.path[-1] for parent in graph.get(dg.AssetKey(table.name)).parent_keys}
        for table in ASSETS
    }
    assert parents == {
        CHANGE.name: {SERVICE},
        INSTANCE.name: {SERVICE, CHANGE.name},
        SERIES.name: {INSTANCE.name},
        STUDY.name: {INSTANCE.name},
    }
    assert not graph.get(dg.AssetKey(SERVICE)).is_executable
    quality = graph.get(dg.AssetKey(QUALITY))
    assert {parent.path[-1] for parent in quality.parent_keys} == parents.keys()
    assert not quality.is_executable


def test_the_first_line_of_a_table_leads_to_its_checks(remote: Settings) -> None:
    """Under the prefix of the keys."""
    made = build_definitions(remote, ["north", "pacs"], name="north")
    specs = {spec.key.path[-1]: spec for spec in _specs(made)}
    for table in ASSETS:
        text = specs[table.name].description or ""
        assert "[north_quality](/assets/north/pacs/north_quality)" in text.splitlines()[0]


def test_a_range_of_five_years_plans_no_row_of_a_check(tmp_path: Path) -> None:
    """By the job, and as the page starts the four assets: the plan has no output of a check.

    Dagster plans a row for each such output and each of the 43,800 hours.
    """
    settings = Settings(service_url=NOBODY, tables_url=str(tmp_path), start_time=EVENING)
    repository = build_definitions(settings).get_repository_def()
    keys = {dg.AssetKey(table.name) for table in ASSETS}
    all_assets = repository.get_implicit_job_def_for_assets(keys)
    assert all_assets is not None
    by_hand = all_assets.get_subset(asset_selection=keys)
    hours = tags_of(Span(floor_hour(EVENING), floor_hour(EVENING) + 43_799 * HOUR))
    for job in (repository.get_job(JOB), by_hand):
        steps = create_execution_plan(job, tags=hours).steps
        outputs = [output.properties for step in steps for output in step.step_outputs]
        assert {properties.asset_key for properties in outputs} == keys
        assert not [properties for properties in outputs if properties.asset_check_key]


def test_hours_run_from_the_floor_of_the_start_to_the_ceiling_of_the_end(
    repository: dg.RepositoryDefinition,
) -> None:
    """22:30 to 01:30 are four UTC hours, for every asset, in one run, in the one pool."""
    for table in ASSETS:
        node = repository.asset_graph.get(dg.AssetKey(table.name))
        assert node.partitions_def is not None
        assert node.partitions_def.get_partition_keys() == [
            "2024-03-01-22:00",
            "2024-03-01-23:00",
            "2024-03-02-00:00",
            "2024-03-02-01:00",
        ]
        assert isinstance(node.partitions_def, dg.TimeWindowPartitionsDefinition)
        assert node.partitions_def.timezone == "UTC"
        assert node.backfill_policy == dg.BackfillPolicy.single_run()
        assert node.pools == {POOL}


def test_every_column_is_on_the_definition(remote: Settings) -> None:
    """Names, types and meanings of all columns, with the DICOM attribute in the same line."""
    definitions = build_definitions(remote)
    for table in ASSETS:
        schema = _spec(definitions, table).metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == list(table.names)
        assert all(len(column.description) > 0 and not column.tags for column in schema.columns)
        # Dagster's page cuts nothing: a longer type would push the descriptions out of a window.
        assert max(len(column.type) for column in schema.columns) <= len("timestamp")
    instance = _spec(definitions, INSTANCE).metadata["dagster/column_schema"]
    shown = {column.name: (column.type, column.description) for column in instance.columns}
    assert shown["patientname"][1].startswith("PatientName (0010,0010) PN in its first group")
    assert shown["studydate_formatted"] == ("date", "StudyDate (0008,0020) DA as date")
    assert shown["pixelspacing_row"] == ("double", "PixelSpacing[0] (0028,0030) DS as double")
    assert shown["metadata"][0] == "map"


def test_lineage_leads_from_every_column_to_one_that_exists(remote: Settings) -> None:
    """Rollups come from `instance`, instances from the log and the service, column by column."""
    definitions = build_definitions(remote)
    specs = {spec.key: spec for spec in _specs(definitions)}
    service = next(asset for asset in definitions.assets or () if isinstance(asset, dg.AssetSpec))
    columns = {
        key: {column.name for column in spec.metadata["dagster/column_schema"].columns}
        for key, spec in (specs | {service.key: service}).items()
        if key != dg.AssetKey(REPORT)
    }
    for table in ASSETS:
        lineage = specs[dg.AssetKey(table.name)].metadata["dagster/column_lineage"]
        deps = lineage.deps_by_column
        assert set(deps) <= set(table.names)
        for sources in deps.values():
            assert all(source.column_name in columns[source.asset_key] for source in sources)
        if table is not CHANGE:
            assert set(table.names) - set(deps) <= WHOLE_HEADER_OR_OURS, table.name


def test_an_asset_says_what_a_green_hour_means(remote: Settings) -> None:
    """Description, kinds, owners, place and source are on each of the four."""
    definitions = build_definitions(remote)
    for table in ASSETS:
        spec = _spec(definitions, table)
        assert "green hour" in (spec.description or "")
        assert spec.kinds == {"deltalake", "dicom"}
        assert spec.owners
        assert spec.group_name
        assert spec.metadata["dagster/uri"] == remote.table_path(table.name)
        (source,) = spec.metadata["dagster/code_references"].code_references
        assert Path(source.file_path).name == "assets.py"
        code = Path(source.file_path).read_text(encoding="utf-8").splitlines()
        function = code[source.line_number - 1 :]
        assert function[0].strip().startswith("@dg.asset(")
        start = next(line.strip() for line in function if line.strip().startswith("def "))
        assert start.startswith(f"def {table.name}(")


# Dagster's own snapshot asks its own schedules for a property that it deprecates.
@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars` is deprecated")
def test_no_secret_reaches_what_the_page_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the environment are not in the repository snapshot, which holds the configuration."""
    secret = "canary-5ecret"
    for name in ("AZURE_CLIENT_SECRET", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.setenv(name, secret)
    settings = Settings(
        service_url=NOBODY,
        tables_url="abfss://container@account.dfs.core.windows.net/dicom",
        start_time=EVENING,
    )
    repository = build_definitions(settings).get_repository_def()
    told = serialize_value(RepositorySnap.from_def(repository))
    assert secret not in told
    assert "account" in told


def test_they_merge_into_somebody_elses_location(service: Service, tmp_path: Path) -> None:
    """With a key prefix they live beside another's asset, IO manager and executor, and work."""
    ours = build_definitions(world(service, tmp_path).settings, key_prefix=PREFIX)

    @dg.asset
    def instance() -> str:
        """An asset of the same name as one of ours."""
        return "theirs"

    kept = dg.InMemoryIOManager()  # type: ignore[no-untyped-call]  # Dagster's own
    theirs = dg.Definitions(
        assets=[instance],
        resources={"io_manager": kept},
        executor=dg.multiprocess_executor,
    )
    merged = dg.Definitions.merge(theirs, ours)
    dg.Definitions.validate_loadable(merged)
    keys = merged.get_repository_def().asset_graph.get_all_asset_keys()
    expected = {
        dg.AssetKey([*PREFIX, name])
        for name in (SERVICE, QUALITY, REPORT, *(t.name for t in ASSETS))
    }
    assert keys == expected | {dg.AssetKey("instance")}
    assert merged.executor is dg.multiprocess_executor

    selection = dg.AssetSelection.key_prefixes(list(PREFIX))
    materialize([theirs, ours], FIRST, LAST, selection=selection)
    assert world(service, tmp_path).alive() == alive(service.archive)
    materialize([theirs, ours], selection=dg.AssetSelection.assets("instance"))
    assert list(kept.values.values()) == ["theirs"]
