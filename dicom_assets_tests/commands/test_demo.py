"""The demo, as somebody sees it who has just cloned the project: an empty folder, one command."""

import json
import os
import re
import shlex
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import dagster as dg
import httpx
import pytest
from deltalake import DeltaTable

from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.support.command import complaint, run, told
from dicom_assets_tests.support.demo import First
from dicom_assets_tests.support.modes import opened

TABLES: Final = ("change", "instance", "series", "study", "sync", "rejected")
HOURS: Final = 48
STUDIES_ASKED: Final = 5
_UID: Final = re.compile(r"\d+(?:\.\d+){4,}")


@pytest.fixture(scope="module")
def feed(first_demo: First) -> Iterator[list[dict[str, Any]]]:
    """The entries of the demo's archive, read over HTTP, with the headers of now."""
    archive = Archive(first_demo.folder / "data" / "archive")
    with server.start(archive) as running:
        entries: list[dict[str, Any]] = []
        while page := httpx.get(
            f"{running.url}/v2/changefeed", params={"offset": len(entries), "limit": 200}
        ).json():
            entries += page
        yield entries
    archive.close()


def test_it_leaves_six_tables(first_demo: First) -> None:
    """They lie in data/dicom; nothing was rejected."""
    assert set(first_demo.versions()) == set(TABLES)
    assert {path.name for path in (first_demo.folder / "data").iterdir()} >= {"archive", "dagster"}


def test_its_run_is_one_of_the_code_location(first_demo: First) -> None:
    """So the first page shows it: by the job's name, in the location of workspace.yaml."""
    with dg.DagsterInstance.from_config(str(first_demo.folder / "data" / "dagster")) as instance:
        (run,) = instance.get_runs()
    assert run.job_name == "dicom_tables"
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.repository_origin.get_label() == "__repository__@dicom_assets"


@pytest.mark.skipif(os.name == "nt", reason="a mode says nothing on Windows")
def test_all_that_it_makes_is_its_owners_alone(first_demo: First) -> None:
    """Tables, archive and DAGSTER_HOME, with every file in them."""
    assert opened(first_demo.folder / "data") == []


def test_the_tables_count_what_the_archive_holds(
    first_demo: First, feed: list[dict[str, Any]]
) -> None:
    """Counts of the tables equal those of the feed read over HTTP by somebody else."""
    live = [entry for entry in feed if entry["state"] == "Current"]
    expected = {
        "change": len(feed),
        "instance": len(live),
        "series": len({(e["studyInstanceUid"], e["seriesInstanceUid"]) for e in live}),
        "study": len({entry["studyInstanceUid"] for entry in live}),
        "sync": HOURS,
        "rejected": 0,
    }
    counts = {name: _table(first_demo, name).count() for name in TABLES}
    assert counts == expected
    assert expected["instance"] > 100
    for name, count in expected.items():
        assert re.search(rf"│ {name} +│ {count} +│", first_demo.output), (
            "the printed count is the same"
        )


def test_no_address_of_a_file_leads_nowhere(first_demo: First) -> None:
    """The embedded service keeps no files: where it would give a study is null."""
    addresses = _table(first_demo, "study").to_pyarrow_table(columns=["wadoRsUri"])["wadoRsUri"]
    assert len(addresses) == addresses.null_count > 0


def test_it_prints_the_entries_by_action(first_demo: First, feed: list[dict[str, Any]]) -> None:
    """Create, Update and Delete of the feed, for 48 hours, none rejected."""
    actions = Counter(entry["action"].capitalize() for entry in feed)
    numbers = (HOURS, actions["Create"], actions["Update"], actions["Delete"], 0)
    row = r"│ *" + r" *│ *".join(map(str, numbers)) + r" *│"
    assert re.search(row, first_demo.output)


def test_no_name_and_no_uid_is_printed(first_demo: First, feed: list[dict[str, Any]]) -> None:
    """Neither patients' names and identifiers, nor UIDs; dates and descriptions are shown."""
    values = {
        text
        for entry in feed
        for tag in ("00100010", "00100020")
        for text in _texts(entry.get("metadata", {}).get(tag, {}))
    }
    assert len(values) > 20
    words = set(re.split(r"[\s│┃]+", first_demo.output))
    names = {value for value in values if "^" in value}
    assert [value for value in values if value in words] == []
    assert [name for name in names if name in first_demo.output] == []
    assert _UID.findall(first_demo.output) == []


def _texts(element: dict[str, Any]) -> list[str]:
    values = element.get("Value", [])
    found = [value.get("Alphabetic") if isinstance(value, dict) else value for value in values]
    return [text for text in found if isinstance(text, str) and len(text) > 3]


def _table(first: First, name: str) -> DeltaTable:
    return DeltaTable(first.folder / "data" / "dicom" / name)


def test_a_later_demo_reads_no_header_and_writes_nothing(first_demo: First, tmp_path: Path) -> None:
    """The same folder past two borders of hours: no version moves, no header is asked for.

    Every header of the archive is spoiled before: whoever reads one has to reject it.
    """
    later = First(Path(shutil.copytree(first_demo.folder, tmp_path / "later")))
    before = later.versions()
    path = later.folder / "data" / "archive" / "archive.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE instance SET header = '{}' WHERE header IS NOT NULL")
    again = told(later.folder, "demo")
    assert later.versions() == before
    assert set(before) == set(TABLES)
    assert _counts(again) == _counts(first_demo.output)


def _counts(output: str) -> list[str]:
    """The rows of the tables that were printed, with their versions."""
    names = "|".join(TABLES)
    return [line for line in output.splitlines() if re.match(f"│ ({names}) ", line)]


def test_the_last_words_work(first_demo: First) -> None:
    """Pasted into a shell, the first asks the largest studies; the second is `dev`, by its help."""
    asked, page = (
        shlex.split(line)
        for line in first_demo.output.splitlines()
        if re.match(r"\S*dicom-assets (sql|dev)", line)
    )
    assert Path(asked[0]).name.startswith("dicom-assets")
    answer = told(first_demo.folder, *asked[1:]).splitlines()
    assert answer[0].split("\t") == ["studyDate", "studyDescription", "instanceCount"]
    assert len(answer) == 1 + STUDIES_ASKED
    assert "daemon" in told(first_demo.folder, *page[1:], "--help")


def test_dagster_knows_its_hours(first_demo: First) -> None:
    """The home of the demo has one materialization for each hour and asset, in one run."""
    index = first_demo.folder / "data" / "dagster" / "history" / "runs" / "index.db"
    query = (
        "SELECT asset_key, count(DISTINCT partition) FROM event_logs"
        " WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1"
    )
    with closing(sqlite3.connect(index)) as database:
        counts = {json.loads(key)[-1]: count for key, count in database.execute(query)}
    assert counts == dict.fromkeys(("change", "instance", "series", "study"), HOURS)


def test_it_is_for_the_embedded_archive_only(tmp_path: Path) -> None:
    """With a service of one's own it says what to use instead, and makes nothing."""
    line = complaint(tmp_path, "demo", DICOM_SERVICE_URL="http://127.0.0.1:9")
    assert "DICOM_SERVICE_URL is set" in line
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    """One line with the variable and what it may be, without what it held."""
    line = complaint(tmp_path, "demo", DICOM_DELAY_MINUTES="s3cret")
    assert "DICOM_DELAY_MINUTES" in line
    assert "0 to 1440" in line
    assert "s3cret" not in line


def test_a_red_demo_says_why(first_demo: First, tmp_path: Path) -> None:
    """Where the tables cannot be written, the terminal names the table and what to look at."""
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    folder = shutil.copytree(first_demo.folder, tmp_path / "red")
    done = run(folder, "demo", DICOM_TABLES_URL=str(tmp_path / "file" / "tables"))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "table change" in done.stdout + done.stderr
