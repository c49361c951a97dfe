"""`dicom-assets estimate`: what loading the missing hours takes.

`report` asks the service and the tables, and prints the answer; `effort` is the arithmetic.
"""

import click

from dicom_assets.commands.progress import working
from dicom_assets.settings import Settings


@click.command()
@click.option("--headers", is_flag=True, help="Measure one page with headers as well.")
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def estimate(headers: bool, as_json: bool) -> None:
    """Estimate what loading the missing hours takes; no header is read, nothing is written."""
    settings = Settings.from_environment()
    with working("asking the service for a few entries"):
        from dicom_assets.commands.estimate import report  # Dagster's import takes seconds

        prediction = report.estimate_load(settings, headers=headers)
    report.print_estimate(prediction, as_json=as_json)
