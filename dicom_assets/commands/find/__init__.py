"""`dicom-assets find`: a study by the words on a desk, and what is known of a UID or sequence.

`studies` lists the studies that words fit, from the tables alone. `report` shows what is known of
a UID or sequence. The verdicts are decided in `tables.questions.find`.
"""

import re
import sys
from datetime import UTC, datetime

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings

_UID = r"(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+"
_SEQUENCE = r"[0-9]{1,18}"


@click.command()
@click.argument("words", nargs=-1)
@click.option("--entries", is_flag=True, help="Show entries of the feed, hours and counts, too.")
@click.option("--patient", is_flag=True, help="Show names, birth dates and patient IDs.")
@click.option("--rejected", is_flag=True, help="List the entries that could not be used.")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def find(
    words: tuple[str, ...], entries: bool, patient: bool, rejected: bool, as_json: bool
) -> None:
    """Find a study, and explain why it is in the tables, or not.

    WORDS: a UID, a sequence, an accession number, a patient ID, a name, a day or a range of days
    (2026-01-31, 2026-01-01..2026-01-31). All have to fit; * stands for any text. Without words the
    command asks for them, because shells keep what is typed; - reads them from standard input.
    """
    settings = Settings.from_environment()
    from dicom_assets.commands.find import studies

    store = studies.opened(settings)
    if rejected:
        sys.exit(studies.print_rejected(store, as_json=as_json))
    sought = " ".join(words).strip()
    if not words:
        sought = click.prompt("UID, accession number, patient ID, name or day", err=True)
    elif sought == "-":
        sought = sys.stdin.read()
    sought = sought.strip()
    if not sought.strip("*^ "):
        raise click.BadParameter("a UID, a sequence or words of a study are needed")
    if not re.fullmatch(_UID, sought, re.ASCII):
        found = studies.print_studies(store, sought, patient=patient, as_json=as_json)
        if found or not re.fullmatch(_SEQUENCE, sought, re.ASCII):
            if not found:
                studies.print_none(store, as_json=as_json)
            sys.exit(0 if found else 1)
    with working("opening the tables", "looked through {:,} entries of the feed") as progress:
        from dicom_assets.commands.find import report  # Dagster's import takes seconds

        facts, verdict = report.find_out(settings, sought, datetime.now(UTC), progress)
    report.print_verdict(facts, verdict, as_json=as_json, entries=entries)
    sys.exit(0 if verdict.is_fine else 1)
