"""A bar in the terminal for what takes longer than two seconds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn


@contextmanager
def bar(console: Console, text: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a bar; where nothing is done, none shows."""
    columns = (SpinnerColumn(), TextColumn(text), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=None, visible=False)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
