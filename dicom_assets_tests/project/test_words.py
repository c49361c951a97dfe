"""The words of the package: signposts that lead somewhere, one public name for one thing."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from dicom_assets.settings import DEFAULTS, Settings
from dicom_assets_tests.project.shape import Source
from dicom_assets_tests.support.layout import PACKAGE, sources

PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
SENTENCE = re.compile(r"(?:^|[.:?!]\s+)(What|Who|Whoever|Which|Whichever|Whether)\b")


def modules(package: Path) -> set[str]:
    """The names of the modules and rooms of a package."""
    inner = (p for p in package.iterdir() if (p / "__init__.py").exists() or p.suffix == ".py")
    return {path.stem for path in inner} - {"__init__", "__pycache__"}


def signpost(package: Path) -> set[str]:
    """What a package's docstring names in backticks, as far as it may be a module."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return set(re.findall(r"`([a-z_]+)(?:\.[a-z_.]+)?`", text))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_signpost_names_every_module(package: Path) -> None:
    """Who opens a room sees what is in it."""
    assert modules(package) - signpost(package) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_dotted_name_in_a_docstring_exists(package: Path) -> None:
    """`tables.sync` and the like lead to a module, or to a name in one."""
    for path in package.glob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for name in re.findall(r"`((?:[a-z_]+\.)+[a-z_]+)`", docstring):
            assert any(leads(start, name) for start in (path.parent, PACKAGE)), (path, name)


def leads(start: Path, name: str) -> bool:
    """Whether a dotted name is a module below a folder, or a name in it; others' names count."""
    first, *_ = parts = name.split(".")
    if not ((start / first).is_dir() or (start / f"{first}.py").exists()):
        return first not in modules(PACKAGE) or start != PACKAGE
    place = start.joinpath(*parts)
    if place.is_dir() or place.with_suffix(".py").exists():
        return True
    home = place.parent.with_suffix(".py")
    home = home if home.exists() else place.parent / "__init__.py"
    return home.exists() and bool(
        re.search(rf"\b{re.escape(parts[-1])}\b", home.read_text(encoding="utf-8"))
    )


def public_names(source: Source) -> Iterator[str]:
    """The functions, classes and values of a module that are no secret of its own."""
    for node in source.tree.body:
        targets: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            targets = [node.name]
        elif isinstance(node, ast.Assign):
            is_type_variable = isinstance(node.value, ast.Call) and "TypeVar" in ast.dump(
                node.value
            )
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            targets = [] if is_type_variable else names
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            targets = [node.target.id]
        yield from (name for name in targets if not name.startswith("_"))


def test_a_public_name_exists_once() -> None:
    """So that a name can be searched for, and a message names one thing."""
    homes = defaultdict(list)
    for path in sources(PACKAGE):
        for name in public_names(Source.read(path)):
            homes[name].append(path.relative_to(PACKAGE).as_posix())
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def docstrings(source: Source) -> Iterator[str]:
    """Every docstring of a module."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def test_no_sentence_begins_with_a_riddle() -> None:
    """A sentence of a docstring begins with its subject or its verb."""
    found = [
        (path.relative_to(PACKAGE).as_posix(), text.splitlines()[0])
        for path in sources(PACKAGE)
        for text in docstrings(Source.read(path))
        if SENTENCE.search(text)
    ]
    assert found == []


def defaults_of(source: Source) -> Iterator[tuple[str, object]]:
    """The parameters and fields that have a literal for a default, with it."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            both = [*given.posonlyargs, *given.args]
            pairs = [*zip(both[len(both) - len(given.defaults) :], given.defaults, strict=True)]
            pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d]
            named = [(argument.arg, value) for argument, value in pairs]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            named = [(node.target.id, _default(node.value))]
        else:
            continue
        yield from ((n, v.value) for n, v in named if isinstance(v, ast.Constant))


def _default(value: ast.expr) -> ast.expr:
    """The default in a call such as Field(default=…); else the value itself."""
    if not isinstance(value, ast.Call):
        return value
    return next((k.value for k in value.keywords if k.arg == "default"), value)


def misplaced(source: Source) -> list[str]:
    """The settings for which a module has a default of its own; None and "" are no default."""
    settings = {f.name for f in fields(Settings)}
    return [n for n, value in defaults_of(source) if n in settings and value not in {None, ""}]


def test_a_setting_has_its_default_in_settings_alone() -> None:
    """Whatever else has a parameter or a field of that name is given the value."""
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in sources(PACKAGE)
        if path.name != "settings.py" and (names := misplaced(Source.read(path)))
    }
    assert found == {}
    assert Settings() == DEFAULTS


@pytest.mark.parametrize(
    "line",
    [
        "def f(batch_size: int = 200) -> None: ...",
        "def f(*, retry_seconds: int = 600) -> None: ...",
        "class A:\n    retention_hours: int = 720",
        "class A:\n    delay_minutes: int = Field(default=15, description='d')",
    ],
)
def test_a_default_elsewhere_is_seen(line: str) -> None:
    """Of a parameter, a keyword, a field, a field of pydantic."""
    assert len(misplaced(Source(Path("planted.py"), line, ast.parse(line)))) == 1
