"""A probe looks at one thing, changes nothing, and says in a line what it found and what to do.

Here: what a line is, and that a probe which needs another waits for it. The probes themselves are
where what they look at is known: the service in `feed.probe`, the storage in `tables.probe`,
settings and Dagster's instance in `check`, which shows the lines.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from dicom_assets.errors import DicomAssetsError


class State(StrEnum):
    """What a line says; only `red` makes the whole red."""

    OK = "ok"
    WARN = "warn"
    RED = "red"
    UNSEEN = "not looked"


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do about it; a red finding always says that."""

    state: State
    found: str
    remedy: str = ""


def ok(found: str) -> Finding:
    """Return a finding with which all is well."""
    return Finding(State.OK, found)


def warn(found: str, remedy: str) -> Finding:
    """Return a finding that somebody should know."""
    return Finding(State.WARN, found, remedy)


def red(found: str, remedy: str) -> Finding:
    """Return a finding with which runs fail, or go wrong."""
    return Finding(State.RED, found, remedy)


def unseen(why: str, remedy: str = "") -> Finding:
    """Return why it was not looked."""
    return Finding(State.UNSEEN, why, remedy)


def explained(error: DicomAssetsError) -> Finding:
    """Return an error of ours as a red finding: its first sentence is what, the rest the remedy."""
    what, _, remedy = str(error).partition(". ")
    return red(what, remedy or "the message says it")


@dataclass(frozen=True)
class Probe:
    """One look. Where a probe that it needs was red, or did not come to look, it does not look."""

    group: str
    name: str
    look: Callable[[], Finding]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """What one probe came to."""

    group: str
    name: str
    state: State
    found: str
    remedy: str


def lines(probes: Iterable[Probe], begin: Callable[[Probe], None]) -> Iterator[Line]:
    """Yield the line of each probe in their order; `begin` is told of each that looks."""
    fallen: set[str] = set()
    for probe in probes:
        missing = next((name for name in probe.needs if name in fallen), None)
        if missing is None:
            begin(probe)
            finding = probe.look()
        else:
            finding = unseen(f"`{missing}` has to be well first")
        if missing is not None or finding.state is State.RED:
            fallen.add(probe.name)
        yield Line(probe.group, probe.name, finding.state, finding.found, finding.remedy)
