"""Dagster's own command on the project: wrong settings are refused when the definitions load."""

import subprocess
import sys
from pathlib import Path

import pytest

from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.command import ROOT, environment


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"DICOM_SERVICE_URL": "http://canary.example"}, ("DICOM_SERVICE_URL", "https://")),
        (
            {"DICOM_SERVICE_URL": "https://canary.example", "DICOM_TABLES_URL": "tables"},
            ("DICOM_START_TIME is required", "dicom-assets check"),
        ),
    ],
    ids=["plain http", "no start"],
)
def test_wrong_settings_are_refused_with_the_remedy(
    tmp_path: Path, settings: dict[str, str], named: tuple[str, ...]
) -> None:
    """`dagster definitions validate` is red, names the variable and the remedy, not the value."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate"],
        cwd=ROOT,
        env=environment(**settings, DAGSTER_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = done.stdout + done.stderr
    overhear(said)
    assert done.returncode != 0
    assert "SettingsError" in said
    assert [text for text in named if text not in said] == []
    assert "canary.example" not in said
