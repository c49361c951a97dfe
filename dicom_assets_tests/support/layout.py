"""Where the project's files are, and what they say, for the tests in this folder."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dicom_assets"
TESTS = ROOT / "dicom_assets_tests"

CORE = (
    *("emulator", "errors", "feed", "feed_contract", "header"),
    *("schema", "settings", "tables", "window"),
)
"""The modules and packages that never reach Dagster."""


def pyproject() -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources(folder: Path) -> list[Path]:
    """Every Python file under the folder, in order."""
    return sorted(folder.rglob("*.py"))


def copy_package(target: Path) -> Path:
    """The package and its configuration stand in the target folder, for a test to spoil."""
    shutil.copytree(PACKAGE, target / "dicom_assets", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    return target
