"""`dicom-assets check`: everything that a run needs, and what to do where it is not there.

- `report`: the probes in their order, and their lines in the terminal; `probe`: what a probe is.
- `configuration`: settings and versions; `service`: the DICOM service, with `handshake` (name and
  TLS) and `token` (claims); `storage`: the tables; `dagster_instance`: Dagster.
"""

import os
import sys

import click

from dicom_assets.commands.progress import working


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Give the same facts as JSON.")
def check(as_json: bool) -> None:
    """Check settings, service, storage and Dagster, and print remedies and DICOM_START_TIME."""
    with working("starting"):
        from dicom_assets.commands.check.report import run_probes  # Dagster's import takes seconds

    sys.exit(0 if run_probes(os.environ, as_json=as_json) else 1)
