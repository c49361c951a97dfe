"""The three pages for the first ten minutes, word for word, in a clone that nobody has touched."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from dicom_assets_tests.support.layout import ROOT
from dicom_assets_tests.support.pages import blocks, text_of

TEN_MINUTES: Final = 600
pytestmark = [
    pytest.mark.timeout(2 * TEN_MINUTES),
    pytest.mark.skipif(os.name == "nt", reason="the pages are for a shell such as bash"),
]
# One thing of each page that its reader came for.
SHOWN: Final = {
    "engineer": ("COMPLETE  48 hours", "RUN_SUCCESS"),
    "pacs-administrator": ("HERE  in step", "0 red"),
    "researcher": (
        "next: dicom-assets",
        "COMPLETE  1 hour",
        "rows → data/series.csv",
        "CT Image Storage",
    ),
}


@pytest.fixture(scope="module")
def clone() -> Iterator[Path]:
    """The files of the project as they stand, in a folder of their own.

    Not below the folder of the tests, where all that has a dagster.yaml is searched for patients:
    the project's own files have made-up ones.
    """
    with TemporaryDirectory() as folder:
        _copy(Path(folder))
        yield Path(folder)


def _copy(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():  # one that is to be removed is listed, too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


@pytest.mark.parametrize("reader", SHOWN)
def test_a_page_keeps_its_word(clone: Path, reader: str) -> None:
    """All of its blocks in one shell, which ends at the first that fails, in ten minutes."""
    page = text_of(f"docs/use/first-minutes-{reader}.md")
    kept = ("PATH", "LANG", "TMPDIR", "HOME", "SSL_CERT_FILE")
    mine = {k: v for k, v in os.environ.items() if k in kept or k.startswith(("PIP_", "UV_"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks(page, "bash"))],
        cwd=clone,
        env=mine | {"PYTHONUTF8": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TEN_MINUTES,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert [words for words in SHOWN[reader] if words not in said] == []
