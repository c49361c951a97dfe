"""The remains of a study, and their end, in the terminal.

The facts come from `tables.questions.erasure`. Shown are counts and times, and of the study only
the UID that the person has typed.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.json_output import print_json
from dicom_assets.definitions import io_manager
from dicom_assets.schema import CHANGE
from dicom_assets.settings import Settings
from dicom_assets.tables.questions.erasure import Remains, Traces, judge_traces, traces_of

_MEGABYTE = 1_000_000


def find_traces(settings: Settings, study: str, progress: Callable[[int, int], None]) -> Traces:
    """Return what holds a study; `progress` takes the megabytes looked through, and all of them."""
    return traces_of(
        io_manager(settings).store(),
        study,
        lambda done, whole: progress(done // _MEGABYTE, whole // _MEGABYTE),
    )


def print_traces(traces: Traces, *, as_json: bool = False) -> None:
    """Print a grid of what holds the study and until when, and a sentence; or JSON."""
    if as_json:
        alive, gone = traces.is_alive, traces.is_erased
        print_json({**asdict(traces), "is_alive": alive, "is_erased": gone})
        return
    console = Console()
    console.print(f"[bold]study[/] {traces.study}", highlight=False)
    console.print(_grid(traces))
    verdict = judge_traces(traces)
    colour = "green" if verdict.is_fine else "red"
    console.print(f"[bold {colour}]{verdict.name}[/]: {verdict.sentence}", highlight=False)
    changes = traces.tables["change"]
    if not changes.is_empty or traces.rejected:
        console.print(
            f"The log of changes keeps the UIDs of {changes.rows} entries and no other value of a "
            f"header, and `rejected` the sequences of {traces.rejected}: "
            "docs/operate/erasure.md says why.",
            highlight=False,
        )


def _grid(traces: Traces) -> Grid:
    grid = Grid("table", "rows", "old files", "gone after", "log entries", "gone after (UTC)")
    for name, remains in traces.tables.items():
        if name != CHANGE.name:
            grid.add_row(name, *_cells(remains))
    return grid


def _cells(remains: Remains) -> tuple[str, ...]:
    blind = f", {remains.unreadable} unreadable" if remains.unreadable else ""
    files, entries = f"{remains.old_files}{blind}", str(remains.entries)
    left = _moment(remains.files_until), _moment(remains.entries_until)
    return str(remains.rows), files, left[0], entries, "its rows" if remains.rows else left[1]


def _moment(when: datetime | None) -> str:
    return "-" if when is None else f"{when:%Y-%m-%d %H:%M}"
