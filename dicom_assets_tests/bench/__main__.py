"""`make bench`: every benchmark, to benchmarks/latest.json and a Markdown table beside it.

BENCH_ROWS (1,000,000) is how many rows the large tables have; BENCH_HOURS (720) and BENCH_PER_HOUR
(30) are the size of a first load, BENCH_ROUNDS (3) how often it is measured.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from rich.console import Console

from dicom_assets_tests.bench import backfill, decode, first_load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicom_assets_tests.bench.measure import Measured

PLACE: Final = Path("benchmarks")
TARGETS: Final = {
    "decode_vs_stdlib": "at least 6",
    "decode_vs_orjson": "at least 4",
    "backfill_peak_mb": "at most 500",
    "backfill_720": "at most 1.3",
    "backfill_720_tables": "at most 1.3",
    "slices_720": "none",
    "hours_720": "none",
    "first_load_growth": "none",
}
_PARTS: Final = ("deltalake", "msgspec", "orjson", "pyarrow", "pydicom")


def main() -> None:
    """Run all, tell each as it is there, and write both files."""
    console = Console()
    found = []
    for measured in chain(decode.measure(), backfill.measure(), first_load.measure()):
        found.append(measured)
        console.print(_line(measured))
    PLACE.mkdir(exist_ok=True)
    latest = {"machine": _machine(), "ratios": {m.name: round(m.ratio, 2) for m in found}}
    latest["beside"] = {m.name: dict(m.beside) for m in found}
    (PLACE / "latest.json").write_text(json.dumps(latest, indent=2) + "\n", encoding="utf-8")
    (PLACE / "latest.md").write_text(_page(found, _machine()), encoding="utf-8")
    console.print(f"written: {PLACE / 'latest.json'}, {PLACE / 'latest.md'}")


def _line(measured: Measured) -> str:
    beside = ", ".join(f"{name} {value:,}" for name, value in measured.beside.items())
    return f"{measured.name}: {measured.ratio:.2f} (target {TARGETS[measured.name]}); {beside}"


def _machine() -> dict[str, str]:
    memory = psutil.virtual_memory().total / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(psutil.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "parts": ", ".join(f"{name} {version(name)}" for name in _PARTS),
    }


def _page(found: Iterable[Measured], machine: dict[str, str]) -> str:
    rows = "\n".join(
        f"| `{m.name}` | {m.ratio:.2f} | {TARGETS[m.name]} | "
        f"{', '.join(f'{name} {value:,}' for name, value in m.beside.items())} |"
        for m in found
    )
    about = "; ".join(f"{name}: {value}" for name, value in machine.items())
    return (
        "# Benchmarks\n\nMade by `make bench`: ratios within one run, medians of several rounds.\n"
        f"\n{about}.\n\n| ratio | measured | target | beside |\n| --- | --- | --- | --- |\n{rows}\n"
    )


if __name__ == "__main__":
    main()
