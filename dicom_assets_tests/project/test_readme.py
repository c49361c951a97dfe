"""The README works when it is pasted, and so do the examples that it leads to."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_assets_tests.support.demo import First
from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.pages import blocks, text_of

README = text_of("README.md")
SERVICE = text_of("docs/operate/your-own-service.md")
EXAMPLES = [
    example
    for page in ("README.md", "docs/use/tables.md", "docs/use/in-your-code-location.md")
    for example in blocks(text_of(page), "python")
]
MOST_LINES = 170

pytestmark = pytest.mark.timeout(300)  # the demo and its imports, on a machine that others use too


def run_in(folder: Path, *command: str, **environment: str) -> str:
    """Return the output of a command in the folder, without settings of the caller."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("DICOM_", "DAGSTER_"))}
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    mine |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=mine | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(first_demo: First, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder after the demo, and the demo's output."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(first_demo.folder, folder, dirs_exist_ok=True)
    return folder, first_demo.output


def test_the_readme_is_short() -> None:
    """Everything else has a page."""
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs_after_the_demo(example: str, clone: tuple[Path, str]) -> None:
    """Each block of Python runs as it stands; those that print, print something."""
    folder, _ = clone
    assert bool(run_in(folder, sys.executable, "-c", example)) == ("print(" in example)


def test_the_example_of_the_readme_answers_twice(clone: tuple[Path, str]) -> None:
    """A stream would be empty the second time."""
    (example,) = blocks(README, "python")
    again = "print(duckdb.sql('SELECT count(*) + 1000 FROM study'))"
    assert "1038" in run_in(clone[0], sys.executable, "-c", f"{example}\n{again}")


def test_the_examples_are_there() -> None:
    """DuckDB, Polars and a code location: none got lost."""
    assert len(EXAMPLES) == 6
    for needed in ("import duckdb", "import polars", "build_definitions("):
        assert any(needed in example for example in EXAMPLES)


def test_the_output_of_the_demo_is_real(clone: tuple[Path, str]) -> None:
    """Every line that the README shows of the tables is in what the demo prints."""
    (shown,) = blocks(README, "console")
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert len(rows) == 7
    assert [line for line in rows if line not in clone[1]] == []


def test_hours_are_launched_as_the_page_says(clone: tuple[Path, str]) -> None:
    """`dg launch` with a range, here over an hour of the demo, makes one green run."""
    folder, output = clone
    (block,) = [block for block in blocks(SERVICE, "bash") if "dg launch" in block]
    command = block.replace("\\\n", " ").split()
    hour = re.findall(r"Hours (\S+)", output)[0]
    command[0] = str(Path(sys.executable).with_name("dg"))
    command[-1] = f"{hour}...{hour}"
    home = str(folder / "data" / "dagster")
    run_in(folder, *command, DAGSTER_HOME=home)
