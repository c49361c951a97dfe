"""Filling added columns: thirty of them in a table of many rows, killed twice on the way.

Run as a program it fills the tables of a folder, which is what is killed, and prints the most
memory that it held. As a benchmark it makes the tables, runs that until it ends, and compares every
row with those of a sync that had the columns from the start.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicom_assets.feed.decode import Entry, decode_page
from dicom_assets.feed.rows import RowReader
from dicom_assets.schema import INSTANCE, added
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.upkeep.column_backfill import fill
from dicom_assets.tables.upkeep.kept_headers import extract_of
from dicom_assets_tests.bench.headers import entry, real
from dicom_assets_tests.bench.measure import Measured
from dicom_assets_tests.support import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from dicom_assets.tables.delta.snapshot import Store

ROWS: Final = int(os.environ.get("BENCH_ROWS", "1000000"))
PER_FILE: Final = 50_000
KILLS: Final = 2
NAMES: Final = ("instance", "fresh")
ASKED: Final = """
packs = ["ct", "mr", "geometry"]

[[columns]]
path = '(0043,"GEMS_PARM_01",39)'
name = "private"

[[columns]]
path = "RequestAttributesSequence[*].RequestedProcedureID"

[[columns]]
path = "ImageType[2]"
"""
OWN: Final = {
    "00430010": {"vr": "LO", "Value": ["GEMS_PARM_01"]},
    "00431039": {"vr": "IS", "Value": [7, 8]},
    "00400275": {
        "vr": "SQ",
        "Value": [{"00401001": {"vr": "SH", "Value": [name]}} for name in ("b", "a")],
    },
}


def measure() -> Iterator[Measured]:
    """Yield the most memory of a process that fills, in MB; what is not as it should be raises."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "columns.toml").write_text(ASKED, encoding="utf-8")
        _make(root)
        peak, seconds = _filled(root)
        _compare(root)
    columns = len(_asked(root)) - len(INSTANCE.columns)
    beside = {"rows": ROWS, "columns": columns, "kills": KILLS, "seconds": round(seconds)}
    yield Measured("backfill_peak_mb", peak, beside)


def _asked(root: Path) -> list[str]:
    return added.tables(str(root / "columns.toml"))[INSTANCE.name].names


def _store(root: Path, name: str, *, asked: bool) -> Store:
    tables = added.tables(str(root / "columns.toml") if asked else None)
    return steps.store_of({INSTANCE.name: str(root / name)}, tables=tables)


def _make(root: Path) -> None:
    """There is a table without the columns, and one that had them from the start."""
    headers = itertools.cycle([header | OWN for header in real()])
    made = map(entry, range(ROWS), headers)
    while some := list(itertools.islice(made, PER_FILE)):
        entries = [e for one in some for _, e in decode_page(b"[" + one + b"]")]
        for name in NAMES:
            store = _store(root, name, asked=name == "fresh")
            reader = RowReader(store.tables[INSTANCE.name])
            rows, _, _ = reader.read([e for e in entries if isinstance(e, Entry)])
            store.open(INSTANCE).commit(Difference(INSTANCE, inserts=rows), {})


def _filled(root: Path) -> tuple[float, float]:
    """Return the most memory and the time of the run that ended; those before were killed."""
    command = [sys.executable, "-m", __name__, str(root)]
    began = time.monotonic()
    for _ in range(KILLS):
        process = subprocess.Popen(command)
        _await_commits(root, process)
        process.kill()
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]), time.monotonic() - began


def _await_commits(root: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until files were exchanged, and a little longer: then some are written again."""
    # The first run's first commit is the columns.
    wanted = _commits(root) + 2
    while _commits(root) < wanted and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1)


def _commits(root: Path) -> int:
    return len(list((root / "instance" / "_delta_log").glob("*.json")))


def _compare(root: Path) -> None:
    stores = [_store(root, name, asked=True).open(INSTANCE) for name in NAMES]
    names = _asked(root)
    for first in range(0, ROWS, PER_FILE):
        where = f'"sequence" > {first} AND "sequence" <= {first + PER_FILE}'
        filled, fresh = (s.rows(names, where).sort_by("sequence") for s in stores)
        assert _same(filled, fresh), f"rows from {first} are not those of a sync"


def _same(filled: pa.Table, fresh: pa.Table) -> bool:
    return bool(filled.num_rows == PER_FILE and filled.equals(fresh))


def _fill(root: Path) -> None:
    store = _store(root, "instance", asked=True)
    table = store.tables[INSTANCE.name]
    fill(store, table, extract_of(table, None), Run("bench", datetime.now(UTC)))
    # Not what getrusage tells: that begins with what the process had before it was this one.
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    sys.stdout.write(str(int(re.findall(r"VmHWM:\s+(\d+) kB", told)[0]) / 1024))


def _main(arguments: list[Any]) -> None:
    _fill(Path(arguments[0]))


if __name__ == "__main__":
    _main(sys.argv[1:])
