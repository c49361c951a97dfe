"""The pages: links, commands, the index, the paths that messages name, the seed's own words."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final

import click
import pytest

from dicom_assets.cli import main
from dicom_assets.emulator import server
from dicom_assets.emulator.archive import Archive
from dicom_assets.settings import Settings
from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.pages import DOCS, PAGES, blocks, headings, links, text_of

EMULATOR: Final = text_of("docs/use/emulator.md")
ADDRESS: Final = "http://127.0.0.1:8080"
COMMAND: Final = re.compile(r"\bdicom-assets ([a-z]+)(?: ([a-z]+))?")
# Pages of microsoft/dicom-server have such paths too, and are named with their repository.
PATH: Final = re.compile(r"(?<![\w/-])(docs/[\w/-]+\.(?:md|sql))(?:#([\w-]+))?(?! of microsoft)")
NAMING: Final = ("*.py", "*.toml", "*.yaml", "*.bicep", "*.bicepparam", "Makefile", "*.md")
SETTINGS: Final = [field.metadata for field in fields(Settings) if field.metadata]
WORDS: Final = (
    *("test connection", "trigger now", "monitor", "linked service", "tumbling window"),
    *("run parameters", "rerun", "backfill", "recurrence", "delay", "max concurrency"),
)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


@each_page
def test_a_command_that_is_named_exists(page: Path) -> None:
    """`dicom-assets …` in any page is a command, and its second word one below it if it has any."""
    for name, second in COMMAND.findall(page.read_text(encoding="utf-8")):
        command = main.get_command(click.Context(main), name)
        assert command is not None, f"dicom-assets {name}"
        if isinstance(command, click.Group) and second:
            assert second in command.commands, f"dicom-assets {name} {second}"


@each_page
def test_a_link_leads_to_a_file_or_a_heading(page: Path) -> None:
    """Links inside the project have a target."""
    for link in links(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if heading:
            assert heading in headings(target), link


def test_a_page_that_code_names_exists() -> None:
    """Messages, comments, policies and tests name pages by paths from the root."""
    named = {
        (file.relative_to(ROOT).as_posix(), path, heading)
        for file in _naming_files()
        for path, heading in PATH.findall(file.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    lost = [
        place
        for place in sorted(named)
        if not (page := ROOT / place[1]).exists() or (place[2] and place[2] not in headings(page))
    ]
    assert lost == []


def _naming_files() -> Iterator[Path]:
    for pattern in NAMING:
        yield from ROOT.glob(pattern)
        for folder in ("dicom_assets", "dicom_assets_tests", "deploy", "docs"):
            found = (ROOT / folder).rglob(pattern)
            yield from (path for path in found if "node_modules" not in path.parts)


def test_the_index_has_every_page_once() -> None:
    """docs/README.md has a line for each page, decisions/README.md one for each decision."""
    index, decisions = DOCS / "README.md", DOCS / "decisions" / "README.md"
    pages = {path for path in DOCS.rglob("*") if path.suffix in {".md", ".sql"}} - {index}
    single = {path for path in pages if path.parent == decisions.parent} - {decisions}
    assert sorted(_rows(decisions)) == sorted(single)
    assert sorted(_rows(index)) == sorted(pages - single)


def _rows(page: Path) -> list[Path]:
    """Return the page that each row of a page's tables links first."""
    rows = re.findall(r"^\| \[.+?\]\((.+?)\) \| \S", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [(page.parent / target).resolve() for target in rows]


def test_every_page_can_be_reached_from_the_readme() -> None:
    """By following links."""
    seen, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        paths = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
        todo += [path for path in paths if path.is_file()]
    assert set(PAGES) <= seen


def test_every_picture_is_shown_somewhere() -> None:
    """No picture is left over, and none is large."""
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in sorted((DOCS / "pictures").iterdir()):
        assert f"pictures/{picture.name}" in texts
        assert picture.stat().st_size <= 250_000


# --- words of Data Factory ------------------------------------------------------------------------


def _places() -> dict[str, str]:
    """Return the cells of the page's tables of two columns: a word of Data Factory, its place."""
    page = text_of("docs/use/coming-from-data-factory.md")
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE))


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_data_factory_leads_to_its_place_here(word: str) -> None:
    """A search for it finds a row that names a command, a setting, a page or a part of Dagster."""
    places = [place for there, place in _places().items() if word in there.lower()]
    assert places
    assert all(re.search(r"`\w|\]\(|\*\w|every missing", place) for place in places)


def test_every_parameter_of_the_template_leads_to_its_setting() -> None:
    """By its own name, as `settings` has it."""
    places = _places()
    for known in SETTINGS:
        template = known["template"] or ""
        if re.fullmatch(r"[A-Z][A-Za-z]+", template):
            (place,) = [place for there, place in places.items() if f"`{template}`" in there]
            assert f"`{known['variable']}`" in place


def test_every_setting_that_a_page_names_exists() -> None:
    """`DICOM_…`, in any page; an ellipsis stands for several."""
    known = {setting["variable"] for setting in SETTINGS}
    for page in PAGES:
        names = re.findall(r"\bDICOM_[A-Z_]+[A-Z]\b(?!…)", page.read_text(encoding="utf-8"))
        assert set(names) <= known, page


# --- the emulator's page --------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of an emulator on an empty archive."""
    with server.start(Archive(tmp_path / "clinic")) as running:
        yield running.url


def test_the_emulators_client_example_runs(service: str, tmp_path: Path) -> None:
    """A client that is not ours stores, looks and deletes as the page shows."""
    (example,) = blocks(EMULATOR, "python")
    output = _output(tmp_path, sys.executable, "-c", example.replace(ADDRESS, service))
    assert "CS" in output


def test_the_emulators_curl_examples_do_what_the_page_says(service: str, tmp_path: Path) -> None:
    """Store, look, correct, delete: three entries, all of them Deleted. Looked at with curl."""
    examples = [block for block in blocks(EMULATOR, "bash") if "curl" in block]
    script = "set -eu\n" + "".join(examples).replace(ADDRESS, service)
    script = script.replace(".venv/bin/python", sys.executable).replace("curl -sS", "curl -sSf")
    output = _output(tmp_path, "bash", "-c", script)
    assert re.findall(r'"action":"(\w+)"', output)[-3:] == ["Create", "Update", "Delete"]
    assert re.findall(r'"state":"(\w+)"', output)[-3:] == ["Deleted"] * 3


def _output(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
