"""Every call that commits to a Delta table passes our note, and lands on its version or fails."""

import ast
from collections.abc import Iterator

from dicom_assets_tests.support.layout import PACKAGE

# Calls of deltalake that commit, by the last part of their name.
COMMITTING = {
    *("write_deltalake", "create_write_transaction", "convert_to_deltalake", "vacuum", "merge"),
    *("add_columns", "add_constraint", "add_feature", "drop_constraint", "set_column_metadata"),
    *("set_table_properties", "set_table_name", "set_table_description", "restore", "repair"),
    *("compact", "z_order"),
}
# The same, whose names others have too: those of a Delta table only.
OF_DELTA = {"delete", "update", "create"}
BUILDERS = {"once", "noted"}
"""The functions that build properties of a commit. `noted` is for those that change no row."""


def committing(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call that commits."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, of = called(node), ast.unparse(node.func).rpartition(".")[0]
        is_delta = of.rpartition(".")[2] in {"delta", "DeltaTable"}
        ours = name in {"repair", "compact", "merge"} and not is_delta and ".optimize" not in of
        if (name in COMMITTING and not ours) or (name in OF_DELTA and is_delta):
            yield node


def called(node: ast.expr) -> str:
    """The last part of the name of what is called."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def faults(path: str, text: str) -> Iterator[str]:
    """The calls without our properties, or with those of a commit that may be on any version."""
    tree = ast.parse(text)
    for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        built = {
            target.id: called(n.value)
            for n in ast.walk(function)
            if isinstance(n, ast.Assign)
            for target in n.targets
            if isinstance(target, ast.Name)
        }
        arguments = {a.arg: ast.unparse(a.annotation) for a in function.args.args if a.annotation}
        built |= {n: "once" for n, kind in arguments.items() if kind == "CommitProperties"}
        for call in committing(function):
            given = {word.arg: word.value for word in call.keywords}
            if "dry_run" in given and ast.unparse(given["dry_run"]) == "True":
                continue
            properties = given.get("commit_properties")
            by = built.get(ast.unparse(properties), called(properties)) if properties else ""
            if by != "once" and not (by == "noted" and called(call) == "vacuum"):
                yield f"{path}:{call.lineno} {called(call)}"
    # Where they are built, and nowhere else.
    builds = {
        n.name: "max_commit_retries=0" in ast.unparse(n)
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef)
        for call in ast.walk(n)
        if called(call) == "CommitProperties"  # type: ignore[arg-type]
    }
    for name, is_once in builds.items():
        if name not in BUILDERS or not path.endswith("tables/delta/commit.py"):
            yield f"{path} {name} builds CommitProperties"
        elif is_once != (name == "once"):
            yield f"{path} {name} retries"


def test_every_commit_has_our_note_and_is_on_the_version_that_was_read() -> None:
    """On that all safety rests: a stale removal that is tried again leaves its rows twice."""
    texts = {p.as_posix(): p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py")}
    assert [fault for path, text in texts.items() for fault in faults(path, text)] == []
    calls = [called(c) for text in texts.values() for c in committing(ast.parse(text))]
    assert sorted(calls) == [
        *("add_columns", "add_columns", "add_columns", "add_columns", "create"),
        *("create_write_transaction", "delete", "set_column_metadata"),
        *("set_column_metadata", "set_table_properties", "set_table_properties"),
        *("set_table_properties", "set_table_properties", "vacuum", "vacuum"),
        *("write_deltalake", "write_deltalake"),
    ]


def test_a_planted_commit_is_found() -> None:
    """Without properties, with deltalake's own, with those for any version."""
    planted = (
        "def f(delta):\n    write_deltalake(delta, rows)\n",
        "def f(delta):\n    delta.merge(rows, commit_properties=noted({}))\n",
        "def f(self):\n    self.delta.update(updates={})\n",
        "def f(delta):\n    p = CommitProperties()\n    delta.delete('a', commit_properties=p)\n",
        "def f(delta):\n    delta.optimize.compact()\n",
        "def f(delta):\n    delta.restore(1)\n",
        "def f(delta):\n    DeltaTable.create('a', commit_properties=noted({}))\n",
    )
    assert [list(faults("tables/delta/stray.py", text)) == [] for text in planted] == [False] * 7
    good = "def f(delta):\n    note = once({})\n    delta.delete('a', commit_properties=note)\n"
    assert list(faults("stray.py", good)) == []
    retried = "def once(note):\n    return CommitProperties(custom_metadata=note)\n"
    assert list(faults("tables/delta/commit.py", retried)) == [
        "tables/delta/commit.py once retries"
    ]
