"""What the README shows works when it is pasted: examples, output, commands, links."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dicom_assets.cli import main
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets_tests.support.canary import overhear
from dicom_assets_tests.support.layout import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EMULATOR = (ROOT / "docs" / "use" / "emulator.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "http://127.0.0.1:8080"
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\bdicom-assets ([a-z]+)(?: ([a-z]+))?")

pytestmark = pytest.mark.timeout(300)  # the demo and its imports, on a machine that others use too


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code in a page that are in a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return found


EXAMPLES = blocks(README, "python")


def python(folder: Path, *arguments: str) -> str:
    """What Python says in the folder, without settings of whoever runs the tests."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("DICOM_", "DAGSTER_"))}
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=mine | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder after the demo, and what the demo said."""
    folder = tmp_path_factory.mktemp("clone")
    said = python(folder, "-m", "dicom_assets.cli", "demo")
    overhear(said)
    return folder, said


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs_after_the_demo(example: str, clone: tuple[Path, str]) -> None:
    """Each block of Python runs as it stands; those that print, print something."""
    folder, _ = clone
    assert bool(python(folder, "-c", example)) == ("print(" in example)


def test_the_examples_are_there() -> None:
    """DuckDB, Polars and a code location: none got lost."""
    for needed in ("import duckdb", "import polars", "build_definitions("):
        assert any(needed in example for example in EXAMPLES)


def test_the_output_of_the_demo_is_real(clone: tuple[Path, str]) -> None:
    """Every line that the README shows of the tables is in what the demo prints."""
    (shown,) = blocks(README, "console")
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert len(rows) == 7
    assert [line for line in rows if line not in clone[1]] == []


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of an emulator on an empty archive."""
    with server.start(Archive(tmp_path / "clinic")) as running:
        yield running.url


def test_the_emulators_client_example_runs(service: str, tmp_path: Path) -> None:
    """A client that is not ours stores, looks and deletes as the page shows."""
    (example,) = blocks(EMULATOR, "python")
    assert "CS" in python(tmp_path, "-c", example.replace(ADDRESS, service))


def test_the_emulators_curl_examples_do_what_the_page_says(service: str, tmp_path: Path) -> None:
    """Store, look, correct, delete: three entries, all of them Deleted. Looked at with curl."""
    examples = [block for block in blocks(EMULATOR, "bash") if "curl" in block]
    script = "set -eu\n" + "".join(examples).replace(ADDRESS, service)
    script = script.replace(".venv/bin/python", sys.executable).replace("curl -sS", "curl -sSf")
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r'"action":"(\w+)"', done.stdout)[-3:] == ["Create", "Update", "Delete"]
    assert re.findall(r'"state":"(\w+)"', done.stdout)[-3:] == ["Deleted"] * 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_command_that_is_named_exists(page: Path) -> None:
    """`dicom-assets …` in any page is a command, and its second word one below it if it has any."""
    for name, second in COMMAND.findall(page.read_text(encoding="utf-8")):
        command = main.commands.get(name)
        assert command is not None, f"dicom-assets {name}"
        if isinstance(command, click.Group) and second:
            assert second in command.commands, f"dicom-assets {name} {second}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_to_a_file_or_a_heading(page: Path) -> None:
    """Links inside the project have a target."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            assert heading in headings(target), link


def headings(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_picture_is_shown_somewhere() -> None:
    """No picture is left over, and none is large."""
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in sorted((ROOT / "docs" / "pictures").iterdir()):
        assert f"pictures/{picture.name}" in texts
        assert picture.stat().st_size <= 250_000
