"""The settings, and the versions of what reads them: without network, without Dagster."""

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


def valid(environment: Mapping[str, str]) -> Finding:
    """Every setting can be used and contradicts no other, and none is misspelled."""
    if wrong := _wrong(environment):
        return red("; ".join(wrong), "change what is named, then start again")
    unknown = [n for n in environment if n.startswith(_PREFIX) and n not in _VARIABLES]
    if unknown:
        told = ", ".join(map(_guessed, sorted(unknown)))
        return warn(f"no setting of this project: {told}", "is it spelled right?")
    return ok(f"{sum(name in environment for name in _VARIABLES)} are set, and can be used")


def _guessed(name: str) -> str:
    close = get_close_matches(name, _VARIABLES, n=1, cutoff=0.8)
    return f"{name} (there is {close[0]})" if close else name


def _wrong(environment: Mapping[str, str]) -> list[str]:
    """Return all that is wrong, not only what is met first."""
    groups = [*((name,) for name in _VARIABLES), *_TOGETHER]
    parts = ({name: environment[name] for name in g if name in environment} for g in groups)
    found = [said for part in parts for said in _refusals(part, complete=False)]
    return list(dict.fromkeys(found or _columns(environment)))


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


def missing(environment: Mapping[str, str]) -> list[str]:
    """Return what runs need and the settings, which are valid, lack."""
    # What would be missing with a start is told in the same breath.
    started = {_START: "1990-01-01", **environment}
    found = (said for given in (environment, started) for said in _refusals(given, complete=True))
    return list(dict.fromkeys(found))


def complete(environment: Mapping[str, str]) -> Finding:
    """Nothing is missing that a run needs."""
    told = missing(environment)
    return red("; ".join(told), "set what is named") if told else ok("nothing is missing")


def versions() -> Finding:
    """Tell the versions of Python and of what the project stands on."""
    told = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return ok(f"Python {platform.python_version()}, {told}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed: it runs from its folder"
