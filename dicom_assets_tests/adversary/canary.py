"""Patient values that can be found again wherever they leak to.

A header that is `marked` holds the mark in every text; after a run, a search of logs, alerts and
databases for the mark must find nothing. Not here: the search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

# VRs whose values are free text; the others have a form that a mark would break.
_TEXTS: Final = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})
_NAMES: Final = ("Alphabetic", "Ideographic", "Phonetic")
# Attributes that every marked header has, whether it had them before or not.
_ALWAYS: Final = {
    "00080050": "SH",
    "00080090": "PN",
    "00081030": "LO",
    "0008103E": "LO",
    "00100010": "PN",
    "00100020": "LO",
    "00104000": "LT",
}


def mark() -> str:
    """A mark that is found nowhere else."""
    return f"PHI-{uuid4()}"


def marked(header: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """The header with the mark as every text and every name, at every depth."""
    always = {tag: {"vr": vr, "Value": [_value(vr, "", mark)]} for tag, vr in _ALWAYS.items()}
    return dict(sorted((always | _marked(header, mark)).items()))


def _marked(header: Mapping[str, Any], mark: str) -> dict[str, Any]:
    return {tag: _attribute(attribute, mark) for tag, attribute in header.items()}


def _attribute(attribute: Mapping[str, Any], mark: str) -> dict[str, Any]:
    if "Value" not in attribute:
        return dict(attribute)
    values = [_value(attribute["vr"], value, mark) for value in attribute["Value"]]
    return {**attribute, "Value": values}


def _value(vr: str, value: Any, mark: str) -> Any:  # noqa: ANN401 - whatever JSON has
    if value is None:
        return None
    if vr == "SQ":
        return _marked(value, mark)
    if vr == "PN":
        return {group: f"{mark}^{group}" for group in _NAMES if group in (value or _NAMES)}
    return mark if vr in _TEXTS else value
