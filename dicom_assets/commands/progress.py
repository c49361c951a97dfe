"""The line on stderr that shows that a command works, and how far it has come."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def working(text: str, counted: str = "{}") -> Iterator[Callable[..., None]]:
    """Show a text with a spinner on stderr while the block runs.

    Yields a function that replaces the text by `counted`, with its arguments in the places.
    Nothing is shown where stderr is no terminal.
    """
    with Console(stderr=True).status(text) as status:
        yield lambda *values: status.update(counted.format(*values))
