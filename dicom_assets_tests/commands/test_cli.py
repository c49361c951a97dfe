"""The list of commands: it imports none of them, and says of each what it says itself."""

import subprocess
import sys

import click
import pytest

from dicom_assets.cli import COMMANDS, main
from dicom_assets_tests.support.command import environment

LISTED = """
import sys
from dicom_assets.cli import main
try:
    main(["--help"])
finally:
    heavy = ("dagster", "pyarrow", "deltalake", "httpx", "rich", "dicom_assets.commands")
    print(sorted(name for name in sys.modules if name.startswith(heavy)))
"""


def test_the_help_imports_no_command() -> None:
    """Nor Dagster, nor pyarrow: it comes at once."""
    done = subprocess.run(
        [sys.executable, "-c", LISTED],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert [name for name in COMMANDS if f"\n  {name} " not in done.stdout] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_of_the_list_is_how_the_command_begins(name: str) -> None:
    """So that the list, which is written beside the commands, cannot say otherwise."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name][1].removesuffix("."))


def test_the_list_is_in_alphabetical_order() -> None:
    """As a person searches it."""
    assert [*COMMANDS] == sorted(COMMANDS)
