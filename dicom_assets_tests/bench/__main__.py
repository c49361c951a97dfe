"""`make bench`: every target, to benchmarks/latest.json, a Markdown table and a plot beside it.

By default tables have up to a million rows, which takes less than fifteen minutes on two cores.
BENCH=full takes hours: tables of 3, 10 and 50 million rows, further engines, a million changes at
once, filling columns and first loads. BENCH_PEERS names the environment with the engines that the
project does not have (`make bench` makes one); without it they are left out, and it is said.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil
from rich.console import Console

from dicom_assets_tests.bench import chain, decode, targets
from dicom_assets_tests.bench.hours import KINDS, TRICKLE, Cost, Made, python_of
from dicom_assets_tests.bench.measure import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACE: Final = Path("benchmarks")
IS_FULL: Final = os.environ.get("BENCH") == "full"
SMALL, LARGE = 100_000, 1_000_000
ROUNDS: Final = 3
_PARTS: Final = ("deltalake", "msgspec", "orjson", "pyarrow", "pydicom")
_ENGINES: Final = ("polars", "duckdb", "sail")
# Ways that are measured on a table of so many rows, at most, and in which kinds of hour.
_EVERY_KIND: Final = ("ours", "append")


@dataclass(frozen=True)
class Sizes:
    """How large the benchmark is: rows of tables, rounds, instances of the hours of the feed."""

    rows: tuple[int, ...] = (SMALL, LARGE)
    rounds: int = ROUNDS
    instances: int = chain.INSTANCES
    of_two: int = chain.OF_TWO
    engines: tuple[str, ...] = ()
    is_full: bool = False


FULL: Final = Sizes(
    (SMALL, LARGE, 3_000_000, 10_000_000, 50_000_000), engines=_ENGINES, is_full=True
)


@dataclass
class Bench:
    """What was measured, told as soon as it is known."""

    sizes: Sizes
    say: Callable[[str], object]
    found: list[Measured] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Measure all."""
        for name, target in targets.TARGETS.items():
            if target.full_only and not self.sizes.is_full:
                self.skipped[name] = "in the full run"
        self._hours()
        self._take(chain.measure(self.sizes.instances, self.sizes.of_two, self.sizes.rounds))
        self._take(decode.measure())
        self._others()

    def _take(self, measured: Iterator[Measured]) -> None:
        for one in measured:
            self.found.append(one)
            target = targets.TARGETS[one.name]
            beside = ", ".join(f"{name} {value:,}" for name, value in one.beside.items())
            self.say(f"{one.name}: {one.ratio:.2f} (target {target}); {beside}")

    def _others(self) -> None:
        """What lies in modules of its own, most of it in the full run only."""
        for module, names, is_long in (
            ("light", ["light_parallel"], False),
            ("memory", [n for n in targets.TARGETS if n.startswith(("peak_mb_", "peak_1m"))], True),
            ("backfill", [], True),
            ("first_load", [], True),
        ):
            name = f"dicom_assets_tests.bench.{module}"
            if find_spec(name) is None:
                self.skipped |= dict.fromkeys(names, f"there is no {name}")
            elif self.sizes.is_full or not is_long:
                sizes = (SMALL, LARGE) if module == "memory" else ()
                self._take(import_module(name).measure(*sizes))
        peaks = [m.ratio for m in self.found if m.name.startswith("peak_mb_")]
        if peaks:
            self._take(iter([Measured("peak_1m_vs_100k", peaks[1] / peaks[0])]))

    # --- hours of `instance` ----------------------------------------------------------------------

    def _hours(self) -> None:
        rollups = dict[int, float]()
        for rows in self.sizes.rows:
            # Data files are linked, so all lies in one file system.
            with tempfile.TemporaryDirectory() as folder:
                made = Made.build(Path(folder) / "tables", rows)
                self.say(f"made a table of {rows:,} rows")
                for kind in KINDS:
                    if (
                        rows <= LARGE and (kind != "trickle" or rows == self.sizes.rows[0])
                    ) or kind == "recent":
                        self._kind(made, kind)
                if rows <= 10 * LARGE:
                    rollups[rows] = self._rollup(made)
        self._take(self.ratios(rollups))

    def _kind(self, made: Made, kind: str) -> None:
        folders = made.hours(kind)
        for way in self._ways(made.rows, kind):
            if python_of(way) is None:
                self.skipped[way] = "left out, its environment is not there (`make bench` makes it)"
                continue
            cost = made.cost(kind, way, folders, self.sizes.rounds)
            self.costs.append(cost)
            self.say(
                f"{kind}, {way}, {made.rows:,} rows: {cost.cpu:.2f} s, {cost.peak_mb:,.0f} MB, "
                f"{cost.files[0]} -> {cost.files[1]} files, {cost.rows_after:,} rows"
            )
        for folder in folders:
            shutil.rmtree(folder)

    def _ways(self, rows: int, kind: str) -> list[str]:
        """The ways that are measured: all for recent changes up to a million rows."""
        if rows > LARGE:
            return [*_EVERY_KIND, "delete_append"] if rows <= 10 * LARGE else ["ours"]
        if kind == "creates":
            return list(_EVERY_KIND)
        if kind == "recent":
            return [*_EVERY_KIND, "delete_append", "merge", "dlt", *self.sizes.engines]
        also = ["merge"] if kind == "scattered" and rows <= SMALL else []
        return [*_EVERY_KIND, "delete_append", *also]

    def _rollup(self, made: Made) -> float:
        chain.fill(made.root)
        hour = made.hours("recent")[0]
        spent = list[float]()
        for n in range(self.sizes.rounds):
            copy = made.root.parent / f"rollup-{n}"
            made.copy(copy)
            spent.append(chain.rollup(copy, hour))
            shutil.rmtree(copy)
        return median(spent)

    def ratios(self, rollups: dict[int, float]) -> Iterator[Measured]:
        """Yield the ratios of what hours cost, and of `series` and `study` by rows of the table."""
        small, large = self.sizes.rows[0], self.sizes.rows[1]
        base = self._cpu("recent", "ours", small)
        for rows, name in zip(self.sizes.rows[1:], ("1m", "3m", "10m", "50m"), strict=False):
            beside = {"cpu_s": _r(self._cpu("recent", "ours", rows)), "small_s": _r(base)}
            ratio = self._cpu("recent", "ours", rows) / base
            yield Measured(f"flat_recent_{name}", ratio, beside | {"rows": rows})
        hours = [c for c in self.costs if c.way == "ours"]
        recent = max(c.peak_mb for c in hours if c.kind == "recent")
        peak = max(c.peak_mb for c in hours)
        yield Measured("peak_mb", peak, {"recent": round(recent), "hours": len(hours)})
        for kind in ("recent", "creates"):
            yield self._ratio(f"instance_vs_append_{kind}", kind, "ours", "append", large)
        yield self._ratio("vs_merge_1m", "recent", "merge", "ours", large)
        yield self._ratio(
            "vs_delete_append_scattered_1m", "scattered", "ours", "delete_append", large
        )
        if "dlt" not in self.skipped:
            yield self._ratio("vs_dlt_1m", "recent", "dlt", "ours", large)
        else:
            self.skipped["vs_dlt_1m"] = "without dlt"
        (trickle,) = (c for c in self.costs if c.kind == "trickle" and c.way == "ours")
        first, last = (
            median(s for one in trickle.seconds for s in one[part])
            for part in (slice(1, 5), slice(-4, None))
        )
        yield Measured("trickle_growth", last / first, {"first_s": _r(first), "last_s": _r(last)})
        # Each hour appends a file, and no other file may be gone.
        before, after = trickle.files
        fused = before + TRICKLE - after
        yield Measured("trickle_fused", fused, {"files_before": before, "files_after": after})
        least, *_, most = sorted(rollups)
        told = {"rows": most, "cpu_s": _r(rollups[most]), "small_s": _r(rollups[least])}
        yield Measured("rollup_flat", rollups[most] / rollups[least], told)

    def _ratio(self, name: str, kind: str, above: str, below: str, rows: int) -> Measured:
        high, low = (self._cpu(kind, way, rows) for way in (above, below))
        return Measured(name, high / low, {above: _r(high), below: _r(low), "rows": rows})

    def _cpu(self, kind: str, way: str, rows: int) -> float:
        (cost,) = (c for c in self.costs if (c.kind, c.way, c.rows) == (kind, way, rows))
        return cost.cpu


def _r(seconds: float) -> float:
    return round(seconds, 3)


def main(sizes: Sizes, place: Path) -> None:
    """Measure all, tell each as it is there, and write the files: when it is broken off too."""
    bench = Bench(sizes, Console(soft_wrap=True).print)
    try:
        bench.run()
    finally:
        _write(bench, place)


def _write(bench: Bench, place: Path) -> None:
    told = targets.as_json(bench.found, bench.costs, _machine(bench.sizes), bench.skipped)
    place.mkdir(exist_ok=True)
    for name, text in (
        ("latest.json", json.dumps(told, indent=2) + "\n"),
        ("latest.md", targets.as_page(told)),
        ("latest.svg", targets.as_plot(told)),
    ):
        (place / name).write_text(text, encoding="utf-8")
        bench.say(f"written: {place / name}")
    for name, one in told["targets"].items():
        reached = {True: "reached", False: "MISSED", None: one.get("why", "no limit")}
        bench.say(f"{name}: {one['value']} (target {one['target']}) {reached[one['reached']]}")


def _machine(sizes: Sizes) -> dict[str, str]:
    memory = psutil.virtual_memory().total / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "run": "full" if sizes.is_full else "default",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(psutil.cpu_count()),
        "load": f"{os.getloadavg()[2]:.1f}",
        "memory": f"{memory:.0f} GB",
        "parts": ", ".join(f"{name} {version(name)}" for name in _PARTS),
    }


if __name__ == "__main__":
    main(FULL if IS_FULL else Sizes(), PLACE)
