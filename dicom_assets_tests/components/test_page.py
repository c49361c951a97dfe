"""A person at Dagster's page: one hour, a step out of order, then all hours, and a look around.

One server for all, because a server takes long to start: the fixtures say what comes before what.
"""

import re
from collections.abc import Callable

import polars as pl
import pytest
from playwright.sync_api import Locator, expect

from dicom_assets.defs.run_tags import range_tags
from dicom_assets.emulator import sample
from dicom_assets_tests.components.page import (
    HEIGHT,
    DagsterPage,
    choose_all,
    choose_hour,
    choose_missing,
    choose_range,
)
from dicom_assets_tests.support.dev_server import Server

# Dagster's daemon looks for new backfills twice a minute only, and the server has to start first.
pytestmark = pytest.mark.timeout(300)

ASSETS = ("change", "instance", "series", "study")
MARKS = ("sealedAt", "instanceAt", "seriesAt", "studyAt")
BACKFILL_TAG = "dagster/backfill"
RANGE_START, RANGE_END = range_tags("", "")

Frames = dict[str, pl.DataFrame]


def frames(server: Server) -> Frames:
    """What the tables hold, read by an engine that is not ours."""
    return {name: pl.read_delta(str(server.table(name))) for name in (*ASSETS, "sync")}


def add_up(tables: Frames) -> bool:
    """Whether series and study are what the rows of instance make."""
    live = tables["instance"]
    series, study = tables["series"], tables["study"]
    return (
        series.height == live["seriesinstanceuid"].n_unique()
        and study.height == live["studyinstanceuid"].n_unique()
        and series["instanceCount"].sum() == study["instanceCount"].sum() == live.height
    )


@pytest.fixture(scope="module")
def first_hour(dagster: DagsterPage, server: Server) -> Frames:
    """The tables after the archive's first hour: `change` at its own page, then all four."""
    hour = server.hours()[0]
    dagster.open("assets/change")
    dagster.launch(lambda dialog: choose_hour(dialog, hour))
    dagster.expect_status("Success")
    dagster.open("asset-groups")
    dagster.launch(lambda dialog: choose_hour(dialog, hour))
    dagster.expect_status("Success")
    return frames(server)


def backfilled(dagster: DagsterPage, choose: Callable[[Locator], None]) -> str:
    """The id of a backfill that was launched at the graph of the assets, and is done."""
    dagster.open("asset-groups")
    path = dagster.launch(choose)
    dagster.expect_backfill_complete(len(ASSETS))
    return path.rpartition("/")[2]


def spans(server: Server, backfill: str) -> list[tuple[int, int]]:
    """The first and the last hour, by number, of each run of a backfill; all of them green.

    The report, which has no hours, follows in a run of its own.
    """
    runs = [run for run in server.runs() if run["tags"].get(BACKFILL_TAG) == backfill]
    ranged, hours = [run for run in runs if RANGE_START in run["tags"]], server.hours()
    assert {run["status"] for run in ranged} == {"SUCCESS"}
    return [
        (hours.index(run["tags"][RANGE_START]), hours.index(run["tags"][RANGE_END]))
        for run in ranged
    ]


@pytest.fixture(scope="module")
def ranged(first_hour: Frames, dagster: DagsterPage, server: Server) -> str:
    """The id of a backfill of three hours."""
    hours = server.hours()
    return backfilled(dagster, lambda dialog: choose_range(dialog, hours[1], hours[3], 3))


@pytest.fixture(scope="module")
def missing(ranged: str, dagster: DagsterPage) -> str:
    """The id of a backfill of the hours that were missing then."""
    return backfilled(dagster, lambda dialog: choose_missing(dialog, 44))


@pytest.fixture(scope="module")
def backfill(missing: str, dagster: DagsterPage) -> str:
    """The id of a backfill of all hours."""
    return backfilled(dagster, choose_all)


def test_one_hour_is_green_and_in_all_tables(first_hour: Frames, server: Server) -> None:
    """Materialize, choose an hour, launch: twice green; and the tables show that hour."""
    assert [run["status"] for run in server.runs()] == ["SUCCESS", "SUCCESS"]
    (sealed,) = first_hour["sync"].to_dicts()
    assert f"{sealed['hour']:%Y-%m-%d-%H:%M}" == server.hours()[0]
    assert None not in [sealed[mark] for mark in MARKS]
    assert first_hour["change"].height == sealed["creates"] > 0
    stored = sorted(first_hour["change"]["sopinstanceuid"])
    assert sorted(first_hour["instance"]["sopinstanceuid"]) == stored
    assert add_up(first_hour)


def test_an_hour_out_of_order_is_red_and_says_what_to_do(
    first_hour: Frames, dagster: DagsterPage, server: Server
) -> None:
    """`study` for an hour that `change` has not read: the run's page names the remedy."""
    dagster.open("assets/study")
    dagster.launch(lambda dialog: choose_hour(dialog, server.hours()[-1]))
    dagster.expect_status("Failure")
    dagster.expect_text("materialize `change` for them first")
    assert frames(server)["study"].equals(first_hour["study"])


def test_a_range_is_one_green_run_and_what_is_missing_another(
    ranged: str, missing: str, server: Server
) -> None:
    """A person types the range; the page knows which hours nobody has brought in."""
    assert spans(server, ranged) == [(1, 3)]
    assert spans(server, missing) == [(4, 47)]


def test_a_backfill_of_48_hours_is_one_green_run(backfill: str, server: Server) -> None:
    """One run for all hours and assets, which the page of the backfill counts as complete."""
    assert spans(server, backfill) == [(0, 47)]


def test_the_tables_hold_what_happened_in_the_archive(backfill: str, server: Server) -> None:
    """Every change is in the log, every live instance in its table, and the rollups add up."""
    told, tables = sample.fill_report(server.folder / "data" / "archive"), frames(server)
    changes = told.stored + told.updated + told.deleted + told.recreated
    assert tables["change"].height == changes
    assert tables["instance"].height == told.stored - told.deleted + told.recreated
    assert add_up(tables)
    assert tables["sync"].select(MARKS).null_count().sum_horizontal().item() == 0


def test_the_graph_shows_the_assets_green(backfill: str, dagster: DagsterPage) -> None:
    """Four tables behind the service, all their hours filled."""
    dagster.show_graph()
    for asset in ASSETS:
        expect(dagster.page.get_by_text(asset, exact=True).first).to_be_visible()
    expect(dagster.page.get_by_text("48 partitions", exact=True)).to_have_count(len(ASSETS))
    expect(dagster.page.get_by_text("100% filled", exact=True)).to_have_count(len(ASSETS))
    dagster.picture("asset-graph", clip=dagster.graph_area())


def test_an_assets_page_shows_numbers_columns_and_neighbours(
    backfill: str, dagster: DagsterPage
) -> None:
    """A column with its DICOM attribute, plots by hour, and what stands before and after."""
    dagster.open("assets/instance")
    row = dagster.page.get_by_role("row").filter(has_text="studyinstanceuid").first
    expect(row).to_contain_text("StudyInstanceUID (0020,000D) UI")
    dagster.show_plots("instance")
    for number in ("entries", "dagster/partition_row_count"):
        expect(dagster.page.get_by_text(number, exact=True)).to_be_visible()
    dagster.picture("instance", clip={"x": 68, "y": 0, "width": 912, "height": HEIGHT})
    dagster.open("assets/instance?view=lineage")
    for neighbour in ("change", "dicom_service", "series", "study", "dicom_quality"):
        expect(dagster.page.get_by_text(neighbour, exact=True).first).to_be_visible()


def test_an_hours_page_shows_its_own_numbers(
    backfill: str, dagster: DagsterPage, server: Server
) -> None:
    """In a range every hour carries its own numbers, never those of the range."""
    fullest = frames(server)["sync"].sort("creates", descending=True).to_dicts()[0]
    dagster.open(f"assets/change?view=partitions&partition={fullest['hour']:%Y-%m-%d-%H:%M}")
    row = dagster.page.get_by_role("row").filter(has_text=re.compile("^this run"))
    expect(row.first).to_contain_text(f"{fullest['creates']} creates")


def test_a_runs_page_shows_the_steps_and_no_patient(
    backfill: str, dagster: DagsterPage, server: Server
) -> None:
    """The run of the backfill, step by step, and nobody's name anywhere on it."""
    newest = next(run for run in server.runs() if RANGE_START in run["tags"])
    dagster.open(f"runs/{newest['runId']}")
    dagster.expect_status("Success")
    expect(dagster.page.get_by_text("Succeeded (4)")).to_be_visible()
    shown = dagster.page.content()
    names = frames(server)["instance"]["patientname"].drop_nulls().unique()
    assert [name for name in names if len(name) > len("Name") and name in shown] == []
    dagster.picture("run")
