"""`dicom-assets` in a process of its own, in a folder of its own, without the user's settings."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from dicom_assets_tests.support.canary import overhear

ROOT: Final = Path(__file__).resolve().parents[2]
MODULE: Final = "dicom_assets.cli"
SECONDS: Final = 120


def environment(**settings: str) -> dict[str, str]:
    """An environment with these settings and no others of ours or of Dagster's."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DICOM_", "DAGSTER_"))}
    return clean | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | settings


def run(folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command has ended; nothing is said about how."""
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *words],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    overhear(done.stdout, done.stderr)
    return done


def told(folder: Path, *words: str, **settings: str) -> str:
    """Return the output of a command that succeeded without a word on stderr."""
    done = run(folder, *words, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def complaint(folder: Path, *words: str, **settings: str) -> str:
    """The one line of error with which the command ended, without a trace."""
    done = run(folder, *words, **settings)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.stderr.splitlines()[-1] == line, "the error is the last line"
    return line
