"""What runs of Dagster make on a disk is its owner's alone, unless somebody shares the folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.support.history import FIRST, tell
from dicom_assets_tests.support.modes import opened
from dicom_assets_tests.support.processes import ASSETS, environment, finish
from dicom_assets_tests.support.watched_service import Service, serving
from dicom_assets_tests.support.world import world

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="a mode says nothing on Windows"),
    pytest.mark.filterwarnings("ignore:The `dict` method is deprecated; use `model_dump` instead"),
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service with the six hours."""
    with serving(tell(Archive(tmp_path / "archive"))) as running:
        yield running


def materialize(folder: Path, service: Service) -> None:
    """Dagster's own command has filled an hour; a person made its home, with the usual umask."""
    (folder / "home").mkdir()
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m"]
    command += ["dicom_assets.definitions", "--select", ",".join(ASSETS), "--partition", FIRST]
    environ = environment(folder, service) | {"DICOM_TABLES_URL": "data/dicom"}
    process = subprocess.Popen(
        command, cwd=folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    ((code, told),) = finish([process])
    assert code == 0, told


def test_tables_are_made_for_their_owner_alone(tmp_path: Path, service: Service) -> None:
    """By whatever command our definitions are loaded: the folder `data` and all below it."""
    materialize(tmp_path, service)
    assert {path.name for path in (tmp_path / "data" / "dicom").iterdir()} >= set(ASSETS)
    assert opened(tmp_path / "data") == []


def test_a_folder_that_somebody_shares_stays_shared(tmp_path: Path, service: Service) -> None:
    """After an upgrade, and on a file server: a group reads new tables and files as before."""
    root = tmp_path / "data" / "dicom"
    root.mkdir(parents=True)
    root.chmod(0o2750)
    materialize(tmp_path, service)
    made = [path for path in root.rglob("*") if path != root]
    assert root.stat().st_mode & 0o7777 == 0o2750
    assert {path.name for path in made} >= set(ASSETS)
    assert [str(path) for path in made if not path.stat().st_mode & 0o040] == []


def test_a_root_is_closed_in_a_code_location_of_others(tmp_path: Path, service: Service) -> None:
    """The folder alone, with those above it that were made: the umask of their process stays."""
    root = tmp_path / "their" / "tables"
    world(service, root).run(FIRST)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (root, root.parent)}
    assert modes == {"tables": 0o700, "their": 0o700}
    assert os.umask(0o022) == 0o022
