"""How the code is counted: functions, their lines, their types, and what they catch."""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

BROAD = {"Exception", "BaseException"}
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Source:
    """One file of Python: where it is, its text, and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> "Source":
        """The file as it stands."""
        text = path.read_text(encoding="utf-8")
        return cls(path, text, ast.parse(text, str(path)))

    def at(self, node: ast.expr | ast.stmt | ast.ExceptHandler) -> str:
        """Where the node is, as an editor takes it."""
        return f"{self.path}:{node.lineno}"


def functions(tree: ast.AST) -> list[Function]:
    """Every function and method, nested ones too."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def code_lines(text: str) -> set[int]:
    """The lines that hold code: neither blank nor a comment alone."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    spans = ((t.start[0], t.end[0]) for t in tokens if t.type not in NOT_CODE)
    return {line for start, end in spans for line in range(start, end + 1)}


def docstring_lines(function: Function) -> set[int]:
    """The lines of the docstring; none without one."""
    if ast.get_docstring(function) is None:
        return set()
    return set(range(function.body[0].lineno, (function.body[0].end_lineno or 0) + 1))


def function_lengths(source: Source) -> list[int]:
    """For each function the lines of code from `def` to its end, decorators and docstring apart.

    A nested function counts by itself and as part of the one around it.
    """
    code = code_lines(source.text)
    return [
        len(code & set(range(f.lineno, (f.end_lineno or 0) + 1)) - docstring_lines(f))
        for f in functions(source.tree)
    ]


def untyped_arguments(function: Function) -> list[str]:
    """The arguments without a type; `self` and `cls` need none."""
    given = function.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [a.arg for a in listed if a and not a.annotation and a.arg not in {"self", "cls"}]


def is_typed(function: Function) -> bool:
    """Whether every argument and the result have a type."""
    return function.returns is not None and not untyped_arguments(function)


def is_broad(node: ast.AST) -> bool:
    """Whether the node catches, or suppresses, whatever comes."""
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or bool(BROAD & names(node.type))
    if isinstance(node, ast.Call) and "suppress" in names(node.func):
        return any(BROAD & names(argument) for argument in node.args)
    return False


def names(node: ast.AST) -> set[str]:
    """Every name and attribute in the node."""
    return set(_names(node))


def _names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr


def reads_environment(node: ast.AST) -> bool:
    """Whether the node is a use of the process's environment."""
    forms = {"environ", "environb", "getenv", "getenvb"}
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(alias.name in forms for alias in node.names)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "os" and node.attr in forms
    return False
