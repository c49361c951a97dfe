"""The list of commands: it imports none of them, and says of each what it says itself."""

import signal
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


# A thread of Arrow reads a file of Python while the process ends, and wants Python again when it is
# no longer there.
LATE = """
import atexit, io, sys, threading, time
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq

class Late(io.BytesIO):
    is_read = threading.Event()

    def read(self, *size):
        if self.is_armed:
            self.is_read.set()
            time.sleep(0.5)
        return super().read(*size)

class Slow:
    sleep = time.sleep

    def __del__(self):
        self.sleep(2)

file = Late()
file.is_armed = False
pq.write_table(pa.table({"n": list(range(1000))}), file)
fragment = ds.ParquetFileFormat().make_fragment(file)
fragment.metadata
file.is_armed = True

def main():
    atexit.register(print, "registered")
    threading.Thread(target=fragment.to_table, daemon=True).start()
    file.is_read.wait()
    sys.lasting = Slow()
    print("whole")
    sys.exit(int(sys.argv[2]))

if sys.argv[1] == "plain":
    main()
from dicom_assets.cli import ended_early
with ended_early():
    main()
"""


def end(how: str, code: int) -> subprocess.CompletedProcess[str]:
    """How a process ends in which a thread of Arrow is late."""
    return subprocess.run(
        [sys.executable, "-c", LATE, how, str(code)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 2])
def test_a_late_thread_of_arrow_does_not_change_how_a_command_ends(code: int) -> None:
    """The exit code is the command's, the output is whole, and what waited for the end has run."""
    done = end("run", code)
    assert (done.returncode, done.stdout, done.stderr) == (code, "whole\nregistered\n", "")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there such a thread waits for ever")
def test_the_same_thread_aborts_a_plain_script() -> None:
    """So the test above would notice, and the page of readers has a reason."""
    assert end("plain", 0).returncode == -signal.SIGABRT


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("sys.exit('why')", 1, "why"),
        ("sys.exit()", 0, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("sys.stdout.close(); sys.exit(0)", 120, ""),
        ("print('\\u2192')", 0, ""),
    ],
)
def test_other_ends_keep_their_code_and_their_words(body: str, code: int, said: str) -> None:
    """As Python has them, also where the locale lacks a sign."""
    script = f"import sys\nfrom dicom_assets.cli import ended_early\nwith ended_early(): {body}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert said in done.stderr
