"""`dicom-assets report` on the tables of a hospital: which file, and what opens it."""

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_assets.window import floor_hour
from dicom_assets_tests.support.canary import MARK
from dicom_assets_tests.support.command import MODULE, complaint, environment, told
from dicom_assets_tests.support.hospital import DAY, Sender, filled
from dicom_assets_tests.support.steps import store_in


def settings(root: Path) -> dict[str, str]:
    """The environment of a service that nobody asks, with these tables."""
    return {
        "DICOM_SERVICE_URL": "http://127.0.0.1:9",
        "DICOM_TABLES_URL": str(root),
        "DICOM_START_TIME": f"{datetime.now(UTC) - 60 * DAY:%Y-%m-%dT%H:00:00Z}",
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables that are complete, with a device of two patients."""
    root = tmp_path_factory.mktemp("hospital") / "tables"
    few = Sender("MG1", "MG", patients=2, silent=1)
    filled(store_in(root), [Sender("CT1", "CT", each=12), few], floor_hour(datetime.now(UTC)))
    return root


def test_the_page_lies_beside_the_tables(root: Path, tmp_path: Path) -> None:
    """For its owner alone, without a service; the path is all that is printed."""
    path = root / "_report" / "report.html"
    assert told(tmp_path, "report", **settings(root)) == f"{path}\n"
    text = path.read_text()
    assert "Complete up to" in text
    assert "&lt;10" in text
    assert MARK not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_all_numbers_are_in_another_file(root: Path, tmp_path: Path) -> None:
    """So that nobody sends them by mistake."""
    shared = root / "_report" / "report.html"
    told(tmp_path, "report", **settings(root))
    before = shared.read_text()
    path = root / "_report" / "internal.html"
    assert told(tmp_path, "report", "--internal", **settings(root)) == f"{path}\n"
    assert "&lt;10" not in path.read_text()
    assert "Internal: small numbers are shown." in path.read_text()
    assert MARK not in path.read_text()
    assert shared.read_text() == before


@pytest.mark.parametrize(("options", "opens"), [([], True), (["--no-browser"], False)])
def test_at_a_terminal_a_browser_opens_the_page(
    root: Path, tmp_path: Path, options: list[str], opens: bool
) -> None:
    """The one that the person has chosen; in a pipe none is started."""
    record, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {record}\n')
    browser.chmod(0o700)
    master, terminal = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", MODULE, "report", *options],
            cwd=tmp_path,
            env=environment(**settings(root), BROWSER=f"{browser} %s"),
            stdout=terminal,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    finally:
        os.close(master)
        os.close(terminal)
    assert done.returncode == 0
    found = record.read_text().strip() if record.exists() else None
    assert found == ((root / "_report" / "report.html").as_uri() if opens else None)


def test_without_tables_the_remedy_is_said(tmp_path: Path) -> None:
    """And nothing is made."""
    said = complaint(tmp_path, "report", **settings(tmp_path / "none"))
    assert said.startswith(f"Error: there are no tables in {tmp_path}/none yet: materialize")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_takes_no_file_is_explained(root: Path, tmp_path: Path) -> None:
    """A file lies where the folder of the page should be."""
    other = tmp_path / "tables"
    filled(store_in(other), [], floor_hour(datetime.now(UTC)))
    (other / "_report").touch()
    said = complaint(tmp_path, "report", **settings(other))
    assert f"{other}/_report/report.html could not be written" in said
    assert "then run again" in said
