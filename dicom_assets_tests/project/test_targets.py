"""What people and CI run: targets, set-up, ignored files, reasons beside each exception."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_assets_tests.support.layout import ROOT

TARGET = re.compile(r"(?:^|`|\$ )make ([a-z][a-z-]*)", re.MULTILINE)


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What make does in the folder, with only the system's tools on the path."""
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def targets() -> list[str]:
    """Every target of the Makefile that is not a file."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    return phony[1].split()


def interpreter(folder: Path, refuses: str) -> str:
    """The path of a stand-in for python3 that fails when it is asked about a certain thing."""
    script = folder / "python stand-in"
    script.write_text(f'#!/bin/sh\ncase "$*" in *{refuses}*) exit 1;; esac\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with a space in its name that holds a Makefile and what set-up depends on."""
    folder = tmp_path / "fresh clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("*.lock"))):
        shutil.copy(ROOT / name, folder)
    return folder


def test_help_is_the_default_and_lists_every_target(bare: Path) -> None:
    """`make` alone changes nothing and says what there is, each with a word about it."""
    result = make(bare)
    assert re.findall(r"^  make ([a-z-]+) +\S", result.stdout, re.MULTILINE) == targets()
    assert not (bare / ".venv").exists()


def test_a_python_without_venv_is_told_the_remedy(bare: Path, tmp_path: Path) -> None:
    """Debian's bare python3: the message names the package to install."""
    result = make(bare, "lint", PYTHON=interpreter(tmp_path, refuses="ensurepip"))
    assert result.returncode != 0
    assert "apt-get install python3-venv" in result.stderr


def test_a_python_that_is_too_old_is_told_the_remedy(bare: Path, tmp_path: Path) -> None:
    """The message names the version that is needed and how to name another interpreter."""
    result = make(bare, "lint", PYTHON=interpreter(tmp_path, refuses="version_info"))
    assert result.returncode != 0
    assert "3.11" in result.stderr
    assert "make PYTHON=" in result.stderr


def test_a_set_up_that_failed_is_tried_again(bare: Path, tmp_path: Path) -> None:
    """The stamp is written last: a broken set-up leaves none."""
    python = interpreter(tmp_path, refuses="version_info")
    first, second = (make(bare, "lint", PYTHON=python) for _ in range(2))
    assert not (bare / ".venv" / ".stamp").exists()
    assert first.stderr == second.stderr


def test_the_demo_installs_its_own_lock_until_the_whole_is_there(bare: Path) -> None:
    """Without linters, and with them where they are: they are not left to grow old."""

    def locks() -> list[str]:
        said = make(bare, "-n", "demo").stdout
        return re.findall(r"setup: .venv from (\S+),", said)

    assert set(locks()) == {"requirements-demo.lock"}
    (bare / ".venv").mkdir()
    (bare / ".venv" / ".stamp").touch()
    os.utime(bare / ".venv" / ".stamp", (0, 0))
    assert set(locks()) == {"requirements.lock"}


@pytest.mark.parametrize("name", [".ci/run", "README.md", "CONTRIBUTING.md"])
def test_a_target_that_is_named_exists(name: str) -> None:
    """CI and the pages name targets of the Makefile only."""
    named = set(TARGET.findall((ROOT / name).read_text(encoding="utf-8")))
    assert named
    assert named <= set(targets())


def test_ci_stops_at_the_first_failure() -> None:
    """CI's script can be run, is strict, and lints and tests."""
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text
    assert re.findall(r"^make (\S+)$", text, re.MULTILINE) == ["lint", "test", "test-components"]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("data/archive/index.sqlite", True),
        ("data/dagster/dagster.yaml", True),
        ("data/dicom/instance/_delta_log/00000000000000000000.json", True),
        (".venv/.stamp", True),
        (".env", True),
        (".tmp_dagster_home_abc/history.db", True),
        ("dicom_assets/emulator/data/sample.dcm", False),
        ("dicom_assets/tables/change.py", False),
        ("benchmarks/latest.json", False),
    ],
)
def test_git_ignores_what_the_project_makes_and_nothing_else(
    path: str, ignored: bool, tmp_path: Path
) -> None:
    """No table, archive or Dagster home gets into a commit; no source stays out."""
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    result = subprocess.run(["git", "check-ignore", "-q", path], cwd=tmp_path, check=False)
    assert (result.returncode == 0) == ignored


def exceptions() -> list[str]:
    """The lines of pyproject.toml that switch a rule or a warning off, one a line."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    linted = text.partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.pydocstyle]")[0]
    rules = re.findall(r'^  "[A-Z]+[0-9]*",.*$', linted, re.MULTILINE)
    warnings = re.findall(r"^  [\"']ignore:.*$", text, re.MULTILINE)
    overrides = re.findall(r"^\[\[tool\.mypy\.overrides\]\].*$", text, re.MULTILINE)
    return [*rules, *warnings, *overrides]


def test_every_rule_that_is_switched_off_has_its_reason() -> None:
    """A comment stands beside each ignored rule, ignored warning and mypy override."""
    assert len(exceptions()) > 10
    assert [line for line in exceptions() if not re.search(r" # \S+ \S+", line)] == []
