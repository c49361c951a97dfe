"""What `python -m build` makes works where nothing of the clone is, with the newest versions.

In an environment of each Python that is on this machine: pip takes the newest of everything that
the package's bounds allow.
"""

import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.command import environment
from dicom_assets_tests.support.layout import ROOT, pyproject

pytestmark = pytest.mark.timeout(1200)  # half a gigabyte from the package index
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
REMEDY: Final = "not on this machine"


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Return the output of a command that succeeded, in an environment without the clone."""
    mine = environment(**variables)
    del mine["PYTHONPATH"]
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=mine, capture_output=True, text=True, check=False
    )
    overhear(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def interpreter(version: str) -> str:
    """The path of an interpreter that works; the test is skipped without one."""
    ours = version == f"{sys.version_info.major}.{sys.version_info.minor}"
    if ours:
        return str(sys._base_executable)  # type: ignore[attr-defined]  # below a venv
    beside = Path.home().glob(f".pyenv/versions/{version}*/bin/python")
    found = next(map(str, beside), None) or shutil.which(f"python{version}")
    if (
        found is None
        or subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode
    ):
        pytest.skip(f"Python {version} is {REMEDY}")
    return str(found)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel made of it, as `python -m build` makes them."""
    folder = tmp_path_factory.mktemp("built")
    build: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-d", folder]
    run(*build, "-t", "sdist", folder=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    # Not below the folder of the tests, where all that has a dagster.yaml is searched for patients.
    with tarfile.open(sdist) as packed, TemporaryDirectory() as unpacked:
        packed.extractall(unpacked, filter="data")
        run(*build, "-t", "wheel", folder=Path(unpacked, sdist.name.removesuffix(".tar.gz")))
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


@pytest.mark.parametrize(
    ("version", "kind"), [*((version, "wheel") for version in PYTHONS), ("3.11", "sdist")]
)
def test_the_demo_runs_and_its_last_words_work(
    built: dict[str, Path], tmp_path: Path, version: str, kind: str
) -> None:
    """Without make and without a clone."""
    run(interpreter(version), "-m", "venv", tmp_path / "venv", folder=tmp_path)
    binaries = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (binaries / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "install", built[kind], folder=tmp_path)
    run(*pip, "check", folder=tmp_path)
    output = run(binaries / "dicom-assets", "demo", folder=tmp_path)
    asked, page = (shlex.split(line) for line in output.splitlines() if "dicom-assets " in line)
    assert asked[1] == "sql"
    assert run(*asked, folder=tmp_path).count("\n") == 6
    assert page[1:] == ["dev"]
    assert "daemon" in run(*page, "--help", folder=tmp_path)


def test_the_extras_go_together(built: dict[str, Path], tmp_path: Path) -> None:
    """All that a user may ask for has versions that pip finds for one environment."""
    extras = sorted({*pyproject()["project"]["optional-dependencies"]} - {"dev"})
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(interpreter("3.11"), "-m", "venv", tmp_path / "venv", folder=tmp_path)
    what = f"{built['wheel']}[{','.join(extras)}]"
    run(python, "-m", "pip", "install", "--quiet", "--dry-run", what, folder=tmp_path)
    assert {"alerts", "celery", "demo", "dg", "postgres"} <= set(extras)
