"""`dicom-assets erased`: what still holds a study, and until when, in the terminal.

The verdict comes from `tables.questions.erasure`. Printed are counts and times, and of the study
nothing but the UID that the person has typed.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.definitions import tables
from dicom_assets.schema import CHANGE
from dicom_assets.settings import Settings
from dicom_assets.tables.outcome import PROGRESS_SECONDS
from dicom_assets.tables.questions.erasure import (
    Remains,
    Traces,
    judge_traces,
    traces_of,
)

_MEGABYTE = 1_000_000


def run(settings: Settings, study: str, console: Console, *, as_json: bool = False) -> bool:
    """The terminal shows what holds the study; True when only logs of changes still name it."""
    with _progress() as progress:
        traces = traces_of(tables(settings).store(), study, progress)
    if as_json:
        told = {**asdict(traces), "is_alive": traces.is_alive, "is_erased": traces.is_erased}
        console.print_json(json.dumps(told, default=_text))
    else:
        _show(console, traces)
    return traces.is_erased


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many bytes of how many were looked at; shown after two seconds."""
    begun = time.monotonic()
    with Console(stderr=True).status("looking at the tables") as status:

        def tell(done: int, whole: int) -> None:
            if time.monotonic() - begun > PROGRESS_SECONDS:
                of = f"{done // _MEGABYTE:,} of {whole // _MEGABYTE:,} MB"
                status.update(f"looked through {of} of data files")

        yield tell


def _show(console: Console, traces: Traces) -> None:
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


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
