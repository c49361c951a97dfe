"""A line for each probe, in order; what needs something that is red does not look."""

from dicom_assets.commands.check.probe import (
    Finding,
    Line,
    Probe,
    State,
    explained,
    lines,
    ok,
    red,
    unseen,
    warn,
)
from dicom_assets.errors import ForeignArchiveError, ServiceUnavailableError


def _come_to(*probes: Probe) -> tuple[list[Line], list[str]]:
    begun: list[str] = []
    return list(lines(probes, lambda probe: begun.append(probe.name))), begun


def _probe(name: str, finding: Finding, *needs: str) -> Probe:
    return Probe("group", name, lambda: finding, needs)


def test_each_probe_gives_its_line_in_order() -> None:
    """With what it found, and what to do."""
    found, begun = _come_to(_probe("a", ok("fine")), _probe("b", warn("odd", "look"), "a"))
    assert found == [
        Line("group", "a", State.OK, "fine", ""),
        Line("group", "b", State.WARN, "odd", "look"),
    ]
    assert begun == ["a", "b"]


def test_what_needs_a_red_probe_does_not_look() -> None:
    """Nor does what needs that; each names what comes first, and only one is red."""
    found, begun = _come_to(
        _probe("a", red("wrong", "mend it")),
        _probe("b", red("wrong as well", "mend it"), "a"),
        _probe("c", red("so too", "mend it"), "b"),
        _probe("d", ok("fine")),
    )
    assert [line.state for line in found] == ["red", "not looked", "not looked", "ok"]
    assert "`a`" in found[1].found
    assert "`b`" in found[2].found
    assert begun == ["a", "d"]


def test_what_was_not_looked_at_or_is_odd_stops_nothing() -> None:
    """A token is not looked at over http, and the service all the same."""
    found, _ = _come_to(
        _probe("a", unseen("no need")), _probe("b", warn("odd", "look")), _probe("c", ok(""), "a")
    )
    assert [line.state for line in found] == ["not looked", "warn", "ok"]


def test_an_error_of_ours_is_what_and_remedy() -> None:
    """Its first sentence, and the rest."""
    error = ForeignArchiveError("the tables are others'. Nothing was written. Set the URL back")
    assert explained(error, "") == red(
        "the tables are others'", "Nothing was written. Set the URL back"
    )
    assert explained(ForeignArchiveError("all in one"), "its own").remedy == "its own"


def test_the_remedy_of_a_request_is_what_a_person_can_do() -> None:
    """And neither part of what was found, nor the promise that running again is safe."""
    what = "the DICOM service answered 503, for the newest entry; requested 1 time"
    error = ServiceUnavailableError(f"{what}: if it stays so, look at it. Running again is safe")
    assert explained(error, "") == red(what, "if it stays so, look at it")
