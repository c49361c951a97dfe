"""The shape of the code: short functions, typed, that catch by name."""

import ast
import statistics
from pathlib import Path

import pytest

from dicom_assets_tests.project.shape import (
    Source,
    function_lengths,
    functions,
    is_broad,
    is_typed,
    reads_environment,
)
from dicom_assets_tests.support.layout import PACKAGE, sources

MEDIAN_LINES = 8
NINE_IN_TEN_LINES = 25
READS_ENVIRONMENT = {
    "settings.py",
    "commands/check/__init__.py",
    "commands/dev.py",
    "commands/home.py",
    "commands/migrate/__init__.py",
}
"""Settings read the environment once; commands prepare it for settings and other processes."""


@pytest.fixture(scope="module")
def package() -> list[Source]:
    """Every file of the package."""
    return [Source.read(path) for path in sources(PACKAGE)]


def parsed(text: str) -> Source:
    """A source that is not a file."""
    return Source(Path("planted.py"), text, ast.parse(text))


def test_half_the_functions_fit_in_eight_lines(package: list[Source]) -> None:
    """The median function has at most eight lines of code."""
    lengths = [length for source in package for length in function_lengths(source)]
    assert statistics.median(lengths) <= MEDIAN_LINES


def test_nine_functions_in_ten_fit_in_a_glance(package: list[Source]) -> None:
    """Nine functions in ten have at most twenty-five lines of code."""
    lengths = [length for source in package for length in function_lengths(source)]
    assert statistics.quantiles(lengths, n=10)[-1] <= NINE_IN_TEN_LINES


def test_every_function_is_typed(package: list[Source]) -> None:
    """Each argument and each result has a type."""
    found = [s.at(f) for s in package for f in functions(s.tree) if not is_typed(f)]
    assert found == []


def test_nothing_is_caught_but_by_name(package: list[Source]) -> None:
    """No bare except, no `except Exception`, no suppression of everything."""
    nodes = [(s, node) for s in package for node in ast.walk(s.tree) if is_broad(node)]
    assert [s.at(n) for s, n in nodes if isinstance(n, ast.ExceptHandler | ast.Call)] == []


def test_only_settings_and_the_command_line_read_the_environment(package: list[Source]) -> None:
    """A setting has one home: no other module asks the environment."""
    found = {s.path for s in package for node in ast.walk(s.tree) if reads_environment(node)}
    assert {str(path.relative_to(PACKAGE)) for path in found} <= READS_ENVIRONMENT


def test_the_length_of_a_function_is_its_code() -> None:
    """Docstring, comments, blank lines and decorators do not count; nested code does."""
    text = '''
@decorated
def outer(
    one: int,
) -> None:
    """A docstring

    of three lines."""
    # a comment

    text = """two
    lines"""
    def inner() -> None:
        pass
'''
    assert sorted(function_lengths(parsed(text))) == [2, 7]


@pytest.mark.parametrize(
    "line",
    [
        "def f(a) -> None: ...",
        "def f(a: int): ...",
        "def f(*rest) -> None: ...",
        "def f(**rest) -> None: ...",
        "def f(*, a) -> None: ...",
        "async def f(a) -> None: ...",
    ],
)
def test_a_function_without_types_is_seen(line: str) -> None:
    """Every place where a type can be missing is looked at."""
    assert not any(is_typed(f) for f in functions(ast.parse(line)))


@pytest.mark.parametrize(
    "handler",
    [
        "try: ...\nexcept: ...",
        "try: ...\nexcept Exception: ...",
        "try: ...\nexcept (ValueError, BaseException) as error: ...",
        "try: ...\nexcept builtins.Exception: ...",
        "with contextlib.suppress(Exception): ...",
        "with suppress(ValueError, BaseException): ...",
    ],
)
def test_a_broad_catch_is_seen(handler: str) -> None:
    """Each way of catching everything is found, and a named one is not."""
    assert any(is_broad(node) for node in ast.walk(ast.parse(handler)))
    named = handler.replace("BaseException", "OSError").replace("Exception", "OSError")
    if "except:" not in named:
        assert not any(is_broad(node) for node in ast.walk(ast.parse(named)))


@pytest.mark.parametrize(
    "line", ["os.environ['A']", "os.getenv('A')", "from os import environ", "os.environ.get('A')"]
)
def test_a_look_at_the_environment_is_seen(line: str) -> None:
    """Each way of reading the environment is found."""
    assert any(reads_environment(node) for node in ast.walk(ast.parse(line)))
