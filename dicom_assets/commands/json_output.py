"""The option `--json`: the facts of a command as JSON on stdout."""

from collections.abc import Mapping
from datetime import date

from rich.console import Console


def print_json(facts: Mapping[str, object]) -> None:
    """Print facts as JSON. Moments and days are in ISO 8601, other objects are their text."""
    Console().print_json(
        data=facts,
        default=lambda value: value.isoformat() if isinstance(value, date) else str(value),
    )
