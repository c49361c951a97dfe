"""The direction of imports is held by contracts, and each contract catches what it is for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_assets_tests.support.layout import CORE, ROOT, TESTS, copy_package, pyproject, sources

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"

PLANTED = [
    ("layers", "errors.py", "import dicom_assets.schema"),
    ("layers", "tables/__init__.py", "import dicom_assets.feed"),
    ("layers", "settings.py", "import dicom_assets.window"),
    ("layers", "defs/assets.py", "import dicom_assets.commands"),
    ("layers", "stray.py", "import json"),
    ("defs", "defs/io_manager.py", "import dicom_assets.defs.assets"),
    ("defs", "defs/alerts/failed_checks.py", "import dicom_assets.defs.checks.definition"),
    ("defs", "defs/check_words.py", "import dicom_assets.defs.checks.definition"),
    ("defs", "defs/stray.py", "import json"),
    ("tables", "tables/delta/files.py", "import dicom_assets.tables.sync"),
    ("tables", "tables/change.py", "import dicom_assets.tables.questions.audit"),
    ("tables", "tables/stray.py", "import json"),
    ("dagster", "schema/columns.py", "import dagster"),
    ("dagster", "cli.py", "def late() -> None:\n    import dagster"),
    ("dagster", "tables/__init__.py", "from dagster_deltalake import LocalConfig"),
    ("http", "tables/__init__.py", "import httpx"),
    ("http", "commands/fabric/__init__.py", "import httpx"),
    ("http", "defs/resources.py", "def late() -> None:\n    import requests"),
    ("delta", "feed/__init__.py", "import deltalake"),
    ("delta", "tables/change.py", "import deltalake"),
    ("delta", "defs/assets.py", "from deltalake import DeltaTable"),
    ("emulator", "defs/assets.py", "from dicom_assets.emulator import archive"),
    ("stand-alone", "emulator/__init__.py", "import dicom_assets.schema"),
]
"""A contract, a file, and a line that breaks the contract when it stands in that file."""

NOT_LOADED = {
    "pydicom": "files are read by the emulator alone; names of SOP classes are in a file",
    "dicom_assets.emulator.sample": "the embedded service starts when a run asks for its address",
    "dicom_assets.emulator.server": "as the sample",
    "starlette": "for the emulator",
    "uvicorn": "for the emulator",
    "dicom_assets.feed": "runs and ticks speak to the service",
    "httpx": "for the feed, with rich and pygments behind it",
    "azure": "the token is fetched with the first request",
    "apprise": "channels are opened by the first alert",
    "rich": "for commands",
    "dicom_assets.commands": "for people",
    "dagster_webserver": "a process of its own",
    "dagster._core.execution.backfill": "asked for by ticks",
}
"""A module that loading the definitions does without, and the reason."""


def contracts() -> dict[str, str]:
    """Every contract of pyproject.toml: its name by its id."""
    return {c["id"]: c["name"] for c in pyproject()["tool"]["importlinter"]["contracts"]}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says about the package in the folder."""
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def run_python(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What a new interpreter does with the code, warnings being errors as in the tests."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_tree_keeps_every_contract(tmp_path: Path) -> None:
    """The package as it stands passes; what a planted line breaks is broken by that line."""
    result = lint_imports(copy_package(tmp_path))
    assert result.returncode == 0, result.stdout
    assert f"{len(contracts())} kept, 0 broken" in result.stdout


@pytest.mark.parametrize(("contract", "file", "line"), PLANTED)
def test_a_contract_catches_what_it_is_for(
    contract: str, file: str, line: str, tmp_path: Path
) -> None:
    """One planted import breaks the contract that forbids it, by name."""
    target = copy_package(tmp_path) / "dicom_assets" / file
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    target.write_text(f"{before}\n{line}\n", encoding="utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode != 0, result.stdout
    assert f"{contracts()[contract]} BROKEN" in result.stdout


def test_every_contract_has_a_planted_violation() -> None:
    """No contract is believed without having been seen to fail."""
    assert {contract for contract, _, _ in PLANTED} == set(contracts())


def test_importing_the_core_does_not_import_dagster() -> None:
    """Every module of the core, down to the last, leaves Dagster unloaded."""
    result = run_python(
        "import importlib, pkgutil, sys\n"
        f"names = ['dicom_assets.' + name for name in {CORE!r}]\n"
        "for name in names:\n"
        "    module = importlib.import_module(name)\n"
        "    inner = pkgutil.walk_packages(getattr(module, '__path__', []), name + '.')\n"
        "    names.extend(info.name for info in inner if not info.ispkg)\n"
        "print(sorted(name for name in sys.modules if name.startswith('dagster')))"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


AFAR = {
    "DICOM_SERVICE_URL": "https://a.invalid",
    "DICOM_START_TIME": "2026-01-01T00:00:00Z",
    "DICOM_TABLES_URL": "/tables",
}


@pytest.mark.parametrize("settings", [{}, AFAR], ids=["embedded", "afar"])
def test_loading_the_definitions_imports_only_what_they_show(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with the embedded service nor with another one; the collector is on again."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    result = run_python(
        "import gc, sys\n"
        "from dicom_assets.definitions import defs\n"
        "jobs = defs().get_repository_def().get_all_jobs()\n"
        "print(len(jobs) > 1, gc.isenabled())\n"
        f"print([name for name in {list(NOT_LOADED)} if name in sys.modules])",
        tmp_path,
    )
    assert result.stdout.strip() == "True True\n[]", result.stderr


def test_the_tests_of_the_core_are_there_where_dagster_cannot_be_imported() -> None:
    """They need no Dagster: not at import, not through a plugin.

    To run them all again would say no more: the core cannot reach it, and no test names it.
    """
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    plugin = ["-p", "dicom_assets_tests.project.without_dagster"]
    result = subprocess.run(
        [*command, *plugin, *map(str, core_tests())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]


def core_tests() -> list[Path]:
    """The folders and modules of tests that mirror the core."""
    places = [(TESTS / name, TESTS / f"test_{name}.py") for name in CORE]
    return [place for pair in places for place in pair if place.exists()]


def test_no_test_of_the_core_imports_dagster() -> None:
    """Nowhere in its text, so not inside a test either."""
    named = re.compile(r"^\s*(import|from) dagster|import_module\(.dagster", re.MULTILINE)
    files = [f for place in core_tests() for f in (sources(place) or [place])]
    assert len(files) > len(CORE)
    assert [file for file in files if named.search(file.read_text(encoding="utf-8"))] == []


def test_where_dagster_cannot_be_imported_its_import_fails() -> None:
    """The guard of the test before this one guards."""
    guarded = "import dicom_assets_tests.project.without_dagster as guard; guard.install()\n"
    result = run_python(guarded + "import dagster_deltalake")
    assert "tests of the core do not import dagster_deltalake" in result.stderr
