"""`dicom-assets erased`: the rows, files and logs that still hold a study, and their end.

`report` shows it in the terminal. The facts are gathered in `tables.questions.erasure`.
"""

import re
import sys

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings


@click.command()
@click.argument("study", metavar="STUDY_UID")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def erased(study: str, as_json: bool) -> None:
    """Show what still holds a study, and until when: rows, old files, logs."""
    if not re.fullmatch(r"(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+", study, re.ASCII):
        raise click.BadParameter("a UID of DICOM is needed")
    settings = Settings.from_environment(complete=False)
    with working("opening the tables", "looked through {:,} of {:,} MB of data files") as progress:
        from dicom_assets.commands.erasure import report  # Dagster's import takes seconds

        traces = report.find_traces(settings, study, progress)
    report.print_traces(traces, as_json=as_json)
    sys.exit(0 if traces.is_erased else 1)
