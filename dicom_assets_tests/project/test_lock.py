"""The lock file installs the same everywhere, from any index, and what pyproject.toml asks for."""

import re
from itertools import chain

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dicom_assets_tests.support.layout import ROOT, pyproject

DEMO = "requirements-demo.lock"
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)(?: ; [^\\]+)? \\$", re.MULTILINE)
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def lock(name: str = "requirements.lock") -> str:
    """The text of a lock."""
    return (ROOT / name).read_text(encoding="utf-8")


def pinned(of: str = "requirements.lock") -> dict[str, set[str]]:
    """The versions of every package in the lock; two where Python versions differ."""
    found: dict[str, set[str]] = {}
    for name, version in ENTRY.findall(lock(of)):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, to run, to develop, and for each extra."""
    project = pyproject()["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", ["requirements.lock", DEMO])
def test_a_lock_holds_names_versions_and_hashes_only(name: str) -> None:
    """No index, no host, no path: each line is a comment, a pinned package or a hash."""
    lines = [line for line in lock(name).splitlines() if not line.startswith("#")]
    odd = [line for line in lines if not ENTRY.match(line) and not HASH.match(line)]
    assert odd == []
    assert re.findall(r"://|@|/", lock(name)) == []


def test_the_lock_of_the_demo_is_a_part_of_the_whole() -> None:
    """What runs, what the examples need and what installs the clone, at the same versions."""
    part, whole = pinned(DEMO), pinned()
    assert {name: part[name] for name in part if not part[name] <= whole.get(name, set())} == {}
    project = pyproject()["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    names = {canonicalize_name(Requirement(text).name) for text in texts}
    assert names | {"hatchling", "editables"} <= set(part)
    assert {"ruff", "mypy", "pytest", "playwright", "celery"} & set(part) == set()


def test_every_package_in_the_lock_has_a_hash() -> None:
    """The line after a package is its first hash."""
    lines = lock().splitlines()
    entries = [i for i, line in enumerate(lines) if ENTRY.match(line)]
    assert len(entries) > len(declared())
    assert [lines[i] for i in entries if not HASH.match(lines[i + 1])] == []


def test_the_lock_satisfies_what_is_declared() -> None:
    """Nobody changes a bound in pyproject.toml and forgets `make lock`."""
    found = pinned()
    unmet = [
        str(requirement)
        for requirement in declared()
        if not (versions := found.get(canonicalize_name(requirement.name)))
        or not all(requirement.specifier.contains(version) for version in versions)
    ]
    assert unmet == []


def test_every_dependency_has_a_lower_bound() -> None:
    """An old version that nobody has tried is not taken in silence."""
    bounded = {">=", "==", "~="}
    free = [str(r) for r in declared() if not bounded & {s.operator for s in r.specifier}]
    assert free == []


def test_dagster_is_held_below_the_next_minor() -> None:
    """We build on private parts of Dagster: an untried minor is not taken."""
    dagster = [r for r in declared() if r.name.startswith("dagster")]
    assert [str(r) for r in dagster if "<" not in {s.operator for s in r.specifier}] == []
