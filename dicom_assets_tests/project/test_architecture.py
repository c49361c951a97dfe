"""docs/architecture.md draws the tree as it is: files, rooms, layers."""

import re
from typing import Final

import pytest

from dicom_assets_tests.support.layout import PACKAGE, ROOT, pyproject
from dicom_assets_tests.support.pages import blocks, text_of

PAGE: Final = text_of("docs/architecture.md")
NAME: Final = re.compile(r"(?<![\w/.])(?:(?:\w+/)+(?:\w+\.py)?|\w+\.py)(?![\w/])")
# Files that the tree names behind their folder.
BESIDE: Final = re.compile(r"^(\w+/) .*?: (\w+\.py(?:, \w+\.py)*)$", re.MULTILINE)


def _named() -> set[str]:
    tree = BESIDE.findall(PAGE)
    beside = {f"{folder}{name}" for folder, names in tree for name in names.split(", ")}
    return beside | set(NAME.findall(BESIDE.sub(r"\1", PAGE)))


def test_every_file_and_folder_that_is_named_exists() -> None:
    """Below the package or at the root; at least one file of each walk is among them."""
    named = _named()
    assert {"tables/rollup.py", "feed/http/answers.py", "tables/upkeep/"} <= named
    gone = [name for name in named if not any((at / name).exists() for at in (PACKAGE, ROOT))]
    assert gone == []


def test_every_room_is_named() -> None:
    """Each package below `dicom_assets`, and each module beside them, is in the tree.

    The rooms of single commands, and those inside of the emulator, are named by their own package.
    """
    (tree,) = blocks(PAGE, "text")
    named = set(re.findall(r"^\S+", tree, re.MULTILINE))
    rooms = {at.parent.relative_to(PACKAGE) for at in PACKAGE.rglob("*/__init__.py")}
    shown = {f"{at}/" for at in rooms if at.parent.name not in {"commands", "emulator"}}
    modules = {at.name for at in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert named == shown | modules


def test_the_layers_are_those_that_are_held() -> None:
    """Word by word those of the contract in pyproject.toml."""
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    (held,) = [one["layers"] for one in contracts if one["id"] == "layers"]
    (drawn,) = blocks(PAGE, "text layers")
    assert drawn.splitlines() == held


@pytest.mark.parametrize("library", ["deltalake", "dagster", "httpx"])
def test_the_importers_are_those_that_are_allowed(library: str) -> None:
    """A library's row names each module that a contract in pyproject.toml lets import it."""
    contracts = pyproject()["tool"]["importlinter"]["contracts"]
    ignored = [entry for one in contracts for entry in one.get("ignore_imports", ())]
    pairs = [entry.split(" -> ") for entry in ignored]
    allowed = {module.split(".", 1)[1] for module, imported in pairs if imported == library}
    (row,) = re.findall(rf"^\| {library} \| (.+) \|$", PAGE, re.MULTILINE)
    named = {name.replace("/", ".") for name in re.findall(r"`([a-z_/]+)(?:\.py)?`", row)}
    assert {f"{name}**" if name.endswith(".") else name for name in named} == allowed
