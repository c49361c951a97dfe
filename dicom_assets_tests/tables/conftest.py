"""The fixtures of the tables' tests: an empty root, and an archive beside it."""

from pathlib import Path

import pytest

from dicom_assets.tables.delta.snapshot import Store
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Bench


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Tables that do not exist yet."""
    return store_in(tmp_path)


@pytest.fixture
def bench(store: Store) -> Bench:
    """An empty archive, and tables that do not exist yet."""
    return Bench(store)
