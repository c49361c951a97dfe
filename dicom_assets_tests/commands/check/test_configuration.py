"""The settings as `check` tells them: all that is wrong at once, each by its name."""

from pathlib import Path
from typing import Final

import pytest

from dicom_assets.commands.check import configuration
from dicom_assets.commands.check.configuration import (
    missing_settings,
    probe_completeness,
    probe_settings,
    probe_versions,
)
from dicom_assets.commands.check.probe import State

REMOTE: Final = {"DICOM_SERVICE_URL": "https://hospital.dicom.azurehealthcareapis.com"}
WHOLE: Final = REMOTE | {
    "DICOM_START_TIME": "2026-01-01",
    "DICOM_TABLES_URL": "abfss://dicom@account.dfs.core.windows.net/tables",
}


def test_settings_that_can_be_used_are_well() -> None:
    """None is needed for the embedded service."""
    assert probe_settings({}).state is State.OK
    assert probe_settings(WHOLE | {"PATH": "/bin"}).found == "3 are set, and can be used"
    assert probe_completeness({}).state is probe_completeness(WHOLE).state is State.OK


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"DICOM_SERVICE_URL": "http://hospital.example"}, ["DICOM_SERVICE_URL", "use https://"]),
        (
            {"DICOM_BATCH_SIZE": "PHI-1", "DICOM_RETENTION_HOURS": "1", "DICOM_END_TIME": "then"},
            ["DICOM_BATCH_SIZE", "DICOM_RETENTION_HOURS", "DICOM_END_TIME"],
        ),
        (
            {
                "DICOM_START_TIME": "2026-02-01",
                "DICOM_END_TIME": "2026-01-01",
                "DICOM_STUDY_TABLE_PATH": "one/other",
                "DICOM_SERIES_TABLE_PATH": "one",
            },
            ["is not before", "lie in one another"],
        ),
        ({"DICOM_COLUMNS_FILE": "nowhere.toml"}, ["DICOM_COLUMNS_FILE"]),
        ({"DICOM_BATCH_SIZE": "0", "DICOM_DELAY_MINUTES": "9999"}, ["from 0 to 1440"]),
    ],
)
def test_all_that_is_wrong_is_named_at_once(environment: dict[str, str], named: list[str]) -> None:
    """Also what contradicts itself; nothing of what was set is repeated."""
    found = probe_settings(environment)
    assert found.state is State.RED
    assert [name for name in named if name not in found.found] == []
    assert "PHI" not in found.found
    assert found.found.count("DICOM_BATCH_SIZE") <= 1
    assert all(name in found.remedy for name in named if name.startswith("DICOM_"))


def test_a_setting_that_is_none_is_named_with_the_one_that_there_is() -> None:
    """It is not used, and nobody would notice; others have such names, so it is no error."""
    found = probe_settings({"DICOM_TABEL_URL": "x", "DICOM_VIEWER": "y"})
    assert found.state is State.WARN
    assert "DICOM_TABEL_URL (there is DICOM_TABLES_URL), DICOM_VIEWER" in found.found


def test_all_that_is_missing_is_named_at_once() -> None:
    """A run needs a start and a place; `check` itself does without."""
    found = probe_completeness(REMOTE)
    assert found.state is State.RED
    assert "DICOM_START_TIME is required" in found.found
    assert "DICOM_TABLES_URL is required" in found.found
    assert found.remedy.startswith("set DICOM_START_TIME, DICOM_TABLES_URL ")
    (one,) = missing_settings(REMOTE | {"DICOM_START_TIME": "2026-01-01"})
    assert one.startswith("DICOM_TABLES_URL")


def test_the_versions_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of Python and of what the project stands on; one that is not installed is said to be so."""
    found = probe_versions().found
    assert [name for name in ("Python 3.", "dagster 1.", "deltalake 1.") if name not in found] == []
    monkeypatch.setattr(configuration, "PACKAGES", ("no-such-package",))
    assert "no-such-package not installed" in probe_versions().found
