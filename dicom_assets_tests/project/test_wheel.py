"""The wheel holds the package and nothing else, and works where nothing of the clone is."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from dicom_assets_tests.support.layout import PACKAGE, ROOT, pyproject

RUN_SCRIPT = (
    "import sys\n"
    "from importlib.metadata import distribution\n"
    "script, = distribution('dicom-assets').entry_points.select(group='console_scripts')\n"
    "sys.argv = [script.name, '--help']\n"
    "import dicom_assets\n"
    "print(dicom_assets.__file__)\n"
    "script.load()()\n"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree as it stands."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of the package, Dagster's configuration, the questions, metadata, and no test."""
    names = set(ZipFile(wheel).namelist())
    package = {name for name in names if name.startswith("dicom_assets/")}
    version = pyproject()["project"]["version"]
    metadata = {n for n in names if n.startswith(f"dicom_assets-{version}.dist-info/")}
    assert names == package | metadata
    files = (p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    own = {p.relative_to(ROOT).as_posix() for p in files}
    beside = {"dagster.yaml", "questions.md", "workspace.yaml"}
    assert package == own | {f"dicom_assets/{name}" for name in beside}


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    """The licence goes where the code goes."""
    assert any(name.endswith("/licenses/LICENSE") for name in ZipFile(wheel).namelist())


def test_the_wheel_s_command_works(wheel: Path, tmp_path: Path) -> None:
    """`dicom-assets --help` answers from the wheel's own files, in a folder that holds no clone."""
    ZipFile(wheel).extractall(tmp_path / "site")
    result = subprocess.run(
        [sys.executable, "-c", RUN_SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path / "site"))
    assert "Usage: dicom-assets" in result.stdout
