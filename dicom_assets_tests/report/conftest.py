"""Tables for the tests of the report."""

from pathlib import Path

import pytest

from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.steps import store_in


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Tables that do not exist yet."""
    return store_in(tmp_path)
