"""What docs/use/fabric.md tells people to paste, beside what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from deltalake import write_deltalake

from dicom_assets.tables.delta.commit import ROW_GROUP_ROWS
from dicom_assets.tables.delta.files import ROW_GROUP_BYTES
from dicom_assets.tables.report import INSTANCE_REPORT
from dicom_assets.tables.upkeep.compaction import FULL_ROWS, RESTING
from dicom_assets_tests.support.command import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = (ROOT / "docs" / "use" / "fabric.md").read_text(encoding="utf-8")


def test_the_snippet_counts_files_and_row_groups(tmp_path: Path) -> None:
    """Of the tables below DICOM_TABLES_URL, as Direct Lake counts them."""
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    rows = pa.table({"a": list(range(1000))})
    for name in ("instance", "series", "study"):
        write_deltalake(tmp_path / name, rows)
    write_deltalake(tmp_path / "study", rows, mode="append")
    write_deltalake(tmp_path / "series", rows, mode="overwrite")
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        env=environment(DICOM_TABLES_URL=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "instance: 1 files, 1 row groups, 1,000 rows",
        "series: 1 files, 1 row groups, 1,000 rows",
        "study: 2 files, 2 row groups, 2,000 rows",
    ]


def test_the_page_says_how_we_lay_files_out() -> None:
    """Its arithmetic is about our sizes."""
    assert f"at most {ROW_GROUP_ROWS:,} rows, so that" in PAGE
    assert f"{ROW_GROUP_BYTES // 2**20} MB with the headers: some 4,000 rows" in PAGE
    assert f"at most {FULL_ROWS:,} rows, and files of the last seven days" in PAGE
    assert RESTING.days == 7
    full = INSTANCE_REPORT.file_rows or 0
    assert f"{full // 2:,} to {full:,} rows in one row group" in PAGE
    for millions in (10, 50, 200):
        rows = millions * 1_000_000
        report = f"{rows // full} to {rows // (full // 2)}"
        assert f"| {millions} million | {rows // 4_000:,} | {report} |" in PAGE
