"""The dagster.yaml of a DAGSTER_HOME follows the release, unless somebody has changed it."""

from pathlib import Path

from dicom_assets.commands.home import DAGSTER_YAML, initialise_home
from dicom_assets_tests.support.processes import ROOT, with_former_yaml

OURS = (ROOT / DAGSTER_YAML).read_bytes()


def test_a_fresh_home_gets_it(tmp_path: Path) -> None:
    """Folders are made."""
    assert (initialise_home(tmp_path / "data" / "home") / DAGSTER_YAML).read_bytes() == OURS


def test_the_copy_of_a_release_is_replaced(tmp_path: Path) -> None:
    """Nobody has to know that a line of it has changed."""
    home = with_former_yaml(tmp_path)
    assert (home / DAGSTER_YAML).read_bytes() != OURS
    initialise_home(home)
    assert (home / DAGSTER_YAML).read_bytes() == OURS


def test_a_copy_that_somebody_has_changed_stays(tmp_path: Path) -> None:
    """By a single comment."""
    copy = with_former_yaml(tmp_path) / DAGSTER_YAML
    copy.write_text(copy.read_text(encoding="utf-8") + "# ours\n", encoding="utf-8")
    before = copy.read_bytes()
    initialise_home(tmp_path)
    assert copy.read_bytes() == before
