"""A probe: one question to settings, service, storage or Dagster, which changes nothing.

Here: its line, and the rule that a probe is skipped when one that it needs has failed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from dicom_assets.errors import DicomAssetsError


class State(StrEnum):
    """The state of a line; one red line makes the command end with 1."""

    OK = "ok"
    WARN = "warn"
    RED = "red"
    UNSEEN = "not looked"


@dataclass(frozen=True)
class Finding:
    """A probe's result in a clause, and the remedy; a red one always has a remedy."""

    state: State
    found: str
    remedy: str = ""


def ok(found: str) -> Finding:
    """Return a finding that needs no remedy."""
    return Finding(State.OK, found)


def warn(found: str, remedy: str) -> Finding:
    """Return a finding with which runs work, but not as they should."""
    return Finding(State.WARN, found, remedy)


def red(found: str, remedy: str) -> Finding:
    """Return a finding with which runs fail, or write wrong rows."""
    return Finding(State.RED, found, remedy)


def unseen(why: str) -> Finding:
    """Return the reason why a probe has nothing to look at."""
    return Finding(State.UNSEEN, why)


def explained(error: DicomAssetsError, otherwise: str) -> Finding:
    """Return an error of ours as a red finding: its first sentence, and the rest as the remedy.

    In an error of one sentence it begins after a colon. Without one, `otherwise` is the remedy.
    """
    text = str(error).removesuffix(". Running again is safe")
    what, _, remedy = text.partition(". " if ". " in text else ": ")
    return red(what, remedy or otherwise)


@dataclass(frozen=True)
class Probe:
    """A question, by group and name; it is skipped when a probe that it needs has failed."""

    group: str
    name: str
    look: Callable[[], Finding]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """The result of one probe, as it is printed."""

    group: str
    name: str
    state: State
    found: str
    remedy: str


def lines(probes: Iterable[Probe], begin: Callable[[Probe], None]) -> Iterator[Line]:
    """Run the probes in their order and yield a line for each; `begin` is called before each."""
    failed: set[str] = set()
    for probe in probes:
        missing = next((name for name in probe.needs if name in failed), None)
        if missing is None:
            begin(probe)
            finding = probe.look()
        else:
            finding = unseen(f"skipped, because `{missing}` failed")
        if missing is not None or finding.state is State.RED:
            failed.add(probe.name)
        yield Line(probe.group, probe.name, finding.state, finding.found, finding.remedy)
