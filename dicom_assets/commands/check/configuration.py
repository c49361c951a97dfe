"""Probes of the settings and of the versions of packages: without network, without Dagster."""

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from dicom_assets.commands.check.probe import Finding, ok, red, warn
from dicom_assets.errors import SettingsError
from dicom_assets.schema import added
from dicom_assets.settings import Settings, setting_fields

PACKAGES: Final = ("dicom-assets", "dagster", "deltalake")
_START: Final = "DICOM_START_TIME"
_VARIABLES: Final = tuple(field.metadata["variable"] for field in setting_fields())


def probe_settings(environment: Mapping[str, str]) -> Finding:
    """Red unless every setting can be used and contradicts no other; warn of unknown names."""
    # Each by itself, and those that may contradict one another: every fault is wanted.
    paths = [name for name in _VARIABLES if name.endswith("_TABLE_PATH")]
    groups = [*([name] for name in _VARIABLES), [_START, "DICOM_END_TIME"], paths]
    parts = ({name: environment[name] for name in g if name in environment} for g in groups)
    wrong = [fault for part in parts for fault in _refusals(part, complete=False)]
    if not wrong:
        try:
            added.tables(Settings.from_environment(environment, complete=False).columns_file)
        except SettingsError as error:
            wrong = [str(error)]
    if wrong:
        return red("; ".join(dict.fromkeys(wrong)), f"correct {_named(wrong)}, then start again")
    unknown = [n for n in environment if n.startswith("DICOM_") and n not in _VARIABLES]
    if unknown:
        close = {n: get_close_matches(n, _VARIABLES, n=1, cutoff=0.8) for n in sorted(unknown)}
        names = ", ".join(f"{n} (there is {c[0]})" if c else n for n, c in close.items())
        remedy = "docs/reference/configuration.md has the names; other programs may have such too"
        return warn(f"no setting of this project: {names}", remedy)
    return ok(f"{sum(name in environment for name in _VARIABLES)} are set, and can be used")


def _refusals(environment: Mapping[str, str], *, complete: bool) -> Iterator[str]:
    try:
        Settings.from_environment(environment, complete=complete)
    except SettingsError as error:
        yield str(error)


def missing_settings(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each setting that a run needs and valid settings lack."""
    # A start is added in the second pass, so that its absence does not hide what else is missing.
    passes = (environment, {_START: "1990-01-01", **environment})
    return list(dict.fromkeys(s for given in passes for s in _refusals(given, complete=True)))


def probe_completeness(environment: Mapping[str, str]) -> Finding:
    """Red unless everything is set that a run needs."""
    lacking = missing_settings(environment)
    if lacking:
        remedy = f"set {_named(lacking)} for the daemon, the code location and this command"
        return red("; ".join(lacking), remedy)
    return ok("nothing is missing")


def _named(sentences: Iterable[str]) -> str:
    """Return the settings that sentences begin with."""
    names = (re.search(r"[A-Z]+(_[A-Z]+)+", sentence) for sentence in sentences)
    return ", ".join(dict.fromkeys(name[0] for name in names if name))


def probe_versions() -> Finding:
    """Return the versions of Python and of the main packages."""
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return ok(f"Python {platform.python_version()}, {packages}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed: it runs from its folder"
