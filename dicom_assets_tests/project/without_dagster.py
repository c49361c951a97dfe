"""A pytest plugin under which Dagster cannot be imported."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class WithoutDagster:
    """A finder that refuses Dagster and its relatives, and leaves the rest to others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing, or an ImportError that says why."""
        if fullname.startswith("dagster"):
            message = f"tests of the core do not import {fullname}"
            raise ImportError(message)
        return None


def install() -> None:
    """From now on importing Dagster fails, and none of it is loaded."""
    loaded = [name for name in sys.modules if name.startswith("dagster")]
    assert not loaded, f"already imported: {loaded[:3]}"
    sys.meta_path.insert(0, WithoutDagster())


def pytest_configure() -> None:
    """Pytest calls this before it collects."""
    install()
