"""The tables that are asked questions: made once for all workers, because it is a whole demo."""

import os
import shutil

import pytest
from filelock import FileLock

from dicom_assets_tests.end_to_end.cli import clinic as clinics


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> clinics.Clinic:
    """A folder in which the demo has run, with what pydicom's files lack; nobody changes it."""
    mine = tmp_path_factory.getbasetemp()
    folder = (mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine) / "clinic"
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            clinics.open_in(folder)
            done.touch()
    return clinics.Clinic(folder)
