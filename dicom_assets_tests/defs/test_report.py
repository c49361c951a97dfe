"""The asset of the report and the check `silent`, through Dagster and on real tables."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from dicom_assets.definitions import build_definitions
from dicom_assets.defs.check_words import BY_REASON
from dicom_assets.defs.checks.service import SILENT_CHECK
from dicom_assets.settings import Settings
from dicom_assets.window import floor_hour
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.hospital import DAY, Sender, filled
from dicom_assets_tests.support.steps import store_in

NUMBERS = {
    "hours_missing": 0,
    "entries_waiting": 0,
    "devices_silent": 2,
    "columns_worse": 0,
    "series_last_day": 480,
}
HOURS = tuple(range(24))
HOSPITAL = (
    Sender("CT1", "CT", hours=HOURS, each=20),
    Sender("MR1", "MR", hours=HOURS, each=1, silent=3),
    Sender("MR2", "MR", "South Clinic", hours=HOURS, each=1, silent=3),
)


def definitions(root: Path, name: str = "dicom", prefix: str | None = None) -> dg.Definitions:
    """Definitions on the tables below a root, of a service that nobody asks."""
    settings = Settings(
        service_url="http://127.0.0.1:9",
        tables_url=str(root),
        start_time=floor_hour(datetime.now(UTC) - 68 * DAY),
        site_time_zone="Europe/Berlin",
    )
    return build_definitions(settings, prefix, name=name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The tables of a hospital in which two devices have been silent for days."""
    filled(store_in(tmp_path / "tables"), HOSPITAL, floor_hour(datetime.now(UTC)))
    return tmp_path / "tables"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster that holds nothing."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.mark.parametrize(("name", "prefix"), [("dicom", None), ("north", "hospital")])
def test_the_job_writes_the_page_beside_the_tables(
    root: Path, instance: dg.DagsterInstance, name: str, prefix: str | None
) -> None:
    """Dagster gets its path and five numbers, and no value of a patient."""
    job = definitions(root, name, prefix).resolve_job_def(f"{name}_daily_report")
    assert job.execute_in_process(instance=instance).success
    key = dg.AssetKey([*([prefix] if prefix else []), f"{name}_report"])
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    path = Path(str(metadata["path"].value))
    assert path == root / "_report" / "report.html"
    assert {n: m.value for n, m in metadata.items() if n != "path"} == NUMBERS
    text = path.read_text()
    assert "Complete up to" in text
    assert "MR2 (South Clinic) has sent nothing" in text
    assert MARK not in text


def test_the_report_has_no_hours_and_follows_the_tables(root: Path) -> None:
    """So a run over hours does not make it, and it plans no row for every hour."""
    graph = definitions(root).resolve_asset_graph()
    node = graph.get(dg.AssetKey("dicom_report"))
    assert not node.is_partitioned
    assert {key.path[-1] for key in node.parent_keys} == {
        "change",
        "instance",
        "series",
        "study",
    }


def test_silent_devices_are_told_by_institution(root: Path, instance: dg.DagsterInstance) -> None:
    """A warning to the PACS administrator, by a job of each hour, with what to do."""
    job = dg.define_asset_job(
        "one",
        selection=dg.AssetSelection.checks(
            dg.AssetCheckKey(dg.AssetKey("dicom_quality"), "silent")
        ),
    )
    made = dg.Definitions.merge(definitions(root), dg.Definitions(jobs=[job]))
    ran = made.resolve_job_def("one").execute_in_process(instance=instance, raise_on_error=False)
    (told,) = ran.get_asset_check_evaluations()
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (told.description or "").startswith("Silent devices: 2. MR1 (North Clinic), expected by")
    assert (told.description or "").endswith(SILENT_CHECK.remedy)
    assert {name: value.value for name, value in told.metadata.items()} == {
        "devices_silent": 2,
        BY_REASON: {"North Clinic": 1, "South Clinic": 1},
    }
    assert (str(SILENT_CHECK.reader), str(SILENT_CHECK.runs)) == ("service", "hourly")
