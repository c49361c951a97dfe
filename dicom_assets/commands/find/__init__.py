"""`dicom-assets find`: what is known of a study, series, instance or sequence.

`report` shows it in the terminal. The verdict is decided in `tables.questions.find`.
"""

import re
import sys
from datetime import UTC, datetime

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings


@click.command()
@click.argument("sought", metavar="STUDY_UID|SEQUENCE")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def find(sought: str, as_json: bool) -> None:
    """Explain why a UID or sequence is in the tables, or not: study, series or instance."""
    if not re.fullmatch(
        r"[0-9]{1,18}|(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+", sought := sought.strip(), re.ASCII
    ):
        raise click.BadParameter("a UID of DICOM or a sequence of the feed is needed")
    settings = Settings.from_environment()
    with working("opening the tables", "looked through {:,} entries of the feed") as progress:
        from dicom_assets.commands.find import report  # Dagster's import takes seconds

        facts, verdict = report.find_out(settings, sought, datetime.now(UTC), progress)
    report.print_verdict(facts, verdict, as_json=as_json)
    sys.exit(0 if verdict.is_fine else 1)
