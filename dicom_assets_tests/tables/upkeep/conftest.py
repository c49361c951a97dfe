"""Tables after twelve hours: made once, copied for each test that changes them."""

import shutil
from pathlib import Path

import pytest

from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.maintained import HOURS, filled
from dicom_assets_tests.support.once import made_once
from dicom_assets_tests.support.steps import store_in


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with twelve hours, for copies."""
    return made_once(tmp_path_factory, "upkeep", lambda root: filled(root, HOURS))


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    """Tables after twelve hours, for one test."""
    return store_in(shutil.copytree(template, tmp_path / "tables"))
