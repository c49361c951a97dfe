"""`dicom-assets erased`: the rows, files and logs that still hold a study, and their end.

The facts come from `tables.questions.erasure`. Shown are counts and times, and of the study only
the UID that the person has typed.
"""

import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import click
from rich.console import Console
from rich.table import Table as Grid

from dicom_assets.commands.json_output import print_json
from dicom_assets.commands.progress import working
from dicom_assets.feed.search import StudyCounts
from dicom_assets.schema import CHANGE
from dicom_assets.settings import Settings
from dicom_assets.tables.questions.erasure import Traces, judge_traces, traces_of, with_service
from dicom_assets.tables.questions.find import SERVICE_SECONDS, Limits, Verdict

_MEGABYTE = 1_000_000


@click.command()
@click.argument("study", metavar="STUDY_UID")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def erased(study: str, as_json: bool) -> None:
    """Show what still holds a study, and until when: rows, old files, logs."""
    if not re.fullmatch(r"(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+", study := study.strip(), re.ASCII):
        raise click.BadParameter("a UID of DICOM is needed")
    settings = Settings.from_environment(complete=False)
    with working("opening the tables", "looked through {:,} of {:,} MB of data files") as progress:
        from dicom_assets.definitions import io_manager  # Dagster's import takes seconds

        store = io_manager(settings).store()
        traces = traces_of(
            store, study, lambda done, whole: progress(done // _MEGABYTE, whole // _MEGABYTE)
        )
        if settings.service_url is not None:  # the embedded one is no place for patients
            limits = Limits(
                datetime.now(UTC),
                settings.start_time,
                settings.end_time,
                timedelta(minutes=settings.delay_minutes),
                settings.data_partitions,
            )
            with StudyCounts(
                settings.service_url,
                api_version=settings.api_version,
                batch_size=settings.batch_size,
                retry_seconds=SERVICE_SECONDS,
                in_flight=settings.requests_in_flight,
            ) as service:
                traces = with_service(traces, store, service, limits)
    verdict = judge_traces(traces)
    if as_json:
        are = {"is_alive": traces.is_alive, "is_erased": traces.is_erased}
        print_json({"verdict": asdict(verdict), **are, **asdict(traces)})
    else:
        _print_traces(traces, verdict)
    sys.exit(0 if traces.is_erased else 1)


def _print_traces(traces: Traces, verdict: Verdict) -> None:
    console = Console()
    colour = "green" if verdict.is_fine else "red"
    console.print(f"[bold {colour}]{verdict.name}[/]: {verdict.sentence}", highlight=False)
    console.print(f"[bold]study[/] {traces.study}", highlight=False)
    grid = Grid("table", "rows", "old files", "gone after", "log entries", "gone after (UTC)")
    for name, left in traces.tables.items():
        if name != CHANGE.name:
            blind = f", {left.unreadable} unreadable" if left.unreadable else ""
            until = "its rows" if left.rows else _moment(left.entries_until)
            files = (f"{left.old_files}{blind}", _moment(left.files_until))
            grid.add_row(name, str(left.rows), *files, str(left.entries), until)
    console.print(grid)
    if traces.failure:
        console.print(f"The service could not be asked: {traces.failure}", markup=False)
    changes = traces.tables["change"]
    if not changes.is_empty or traces.rejected:
        console.print(
            f"The log of changes keeps the UIDs of {changes.rows} entries and no other value of a "
            f"header, and `rejected` the sequences of {traces.rejected}: "
            "docs/operate/erasure.md says why.",
            highlight=False,
        )


def _moment(when: datetime | None) -> str:
    return "-" if when is None else f"{when:%Y-%m-%d %H:%M}"
