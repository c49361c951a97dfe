"""Lines of a report that fit into a terminal of any width, and into a pipe."""

from typing import Final

from rich.console import Console
from rich.text import Text

_LONGEST: Final = 70


def told(console: Console, text: str, right: str = "", *, indent: int = 2, style: str = "") -> None:
    """Print a text, and what belongs to its right end: there if it fits, else in the next line.

    Lines break between words and go on `indent` columns to the right. `style` is that of the first
    word, and is left out where there is no terminal.
    """
    lines = [text]
    if right:
        place = min(_LONGEST, console.width - len(right) - 1)
        together = f"{text:<{max(place, 0)}} {right}"
        lines = [together] if len(together) <= console.width else [text, " " * indent + right]
    for number, line in enumerate(lines):
        for part in _wrapped(line, console.width, indent):
            shown = Text(part)
            if style and number == 0 and part == line[: len(part)]:
                shown.stylize(style, 0, len(line.split("  ")[0]))
            console.print(shown, soft_wrap=True)


def _wrapped(line: str, width: int, indent: int) -> list[str]:
    """Return a line broken at spaces; spaces at its beginning and inside are kept."""
    parts = []
    while len(line) > width:
        start = len(line) - len(line.lstrip())
        # Better between the items of a list than inside of one.
        between = line.rfind("· ", start + 1, width)
        place = between + 1 if between > 0 else line.rfind(" ", start + 1, width + 1)
        if place <= start:
            break
        parts.append(line[:place].rstrip())
        line = " " * indent + line[place:].lstrip()
    return [*parts, line]


def count_of(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as `1 file` or `10,312 files`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
