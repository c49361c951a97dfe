"""Probes of the settings and of the versions of packages: without network, without Dagster."""

import platform
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from dicom_assets.commands.check.probe import Finding, ok, red, warn
from dicom_assets.errors import SettingsError
from dicom_assets.schema import added
from dicom_assets.settings import Settings, setting_fields

PACKAGES: Final = ("dicom-assets", "dagster", "deltalake")
_PREFIX: Final = "DICOM_"
_START: Final = "DICOM_START_TIME"
_VARIABLES: Final = tuple(field.metadata["variable"] for field in setting_fields())
# Settings that may contradict one another, though each is right by itself.
_TOGETHER: Final = (
    (_START, "DICOM_END_TIME"),
    tuple(name for name in _VARIABLES if name.endswith("_TABLE_PATH")),
)


def probe_settings(environment: Mapping[str, str]) -> Finding:
    """Red unless every setting can be used and contradicts no other; warn of unknown names."""
    if wrong := _wrong(environment):
        return red("; ".join(wrong), "change what is named, then start again")
    unknown = [n for n in environment if n.startswith(_PREFIX) and n not in _VARIABLES]
    if unknown:
        names = ", ".join(map(_guessed, sorted(unknown)))
        return warn(f"no setting of this project: {names}", "is it spelled right?")
    return ok(f"{sum(name in environment for name in _VARIABLES)} are set, and can be used")


def _guessed(name: str) -> str:
    close = get_close_matches(name, _VARIABLES, n=1, cutoff=0.8)
    return f"{name} (there is {close[0]})" if close else name


def _wrong(environment: Mapping[str, str]) -> list[str]:
    """Return every fault of the settings, not only the first."""
    groups = [*((name,) for name in _VARIABLES), *_TOGETHER]
    parts = ({name: environment[name] for name in g if name in environment} for g in groups)
    faults = [fault for part in parts for fault in _refusals(part, complete=False)]
    return list(dict.fromkeys(faults or _columns(environment)))


def _refusals(environment: Mapping[str, str], *, complete: bool) -> Iterator[str]:
    try:
        Settings.from_environment(environment, complete=complete)
    except SettingsError as error:
        yield str(error)


def _columns(environment: Mapping[str, str]) -> Iterator[str]:
    try:
        added.tables(Settings.from_environment(environment, complete=False).columns_file)
    except SettingsError as error:
        yield str(error)


def missing_settings(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each setting that a run needs and valid settings lack."""
    # A start is added in the second pass, so that its absence does not hide what else is missing.
    started = {_START: "1990-01-01", **environment}
    passes = (environment, started)
    return list(dict.fromkeys(s for given in passes for s in _refusals(given, complete=True)))


def probe_completeness(environment: Mapping[str, str]) -> Finding:
    """Red unless everything is set that a run needs."""
    lacking = missing_settings(environment)
    return red("; ".join(lacking), "set what is named") if lacking else ok("nothing is missing")


def probe_versions() -> Finding:
    """Return the versions of Python and of the main packages."""
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return ok(f"Python {platform.python_version()}, {packages}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed: it runs from its folder"
