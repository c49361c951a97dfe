"""The targets by name, what was measured of each, and the files that say so: JSON, Markdown, plot.

The plot is drawn by hand, because two axes and a few lines are no reason for a library. It is
readable on light and on dark pages: its colours follow the reader's preference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dicom_assets_tests.bench.hours import Cost
    from dicom_assets_tests.bench.measure import Measured


@dataclass(frozen=True)
class Target:
    """A limit: the value must be at most that, or at least. None is told, and has no limit."""

    limit: float | None = None
    at_least: bool = False
    full_only: bool = False

    def __str__(self) -> str:
        """The limit in words."""
        if self.limit is None:
            return "none"
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"

    def is_reached(self, value: float) -> bool | None:
        """True if the value is within the limit; None without a limit."""
        if self.limit is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit


TARGETS: Final = {
    "flat_recent_1m": Target(1.15),
    "flat_recent_3m": Target(1.15, full_only=True),
    "flat_recent_10m": Target(1.2, full_only=True),
    "flat_recent_50m": Target(full_only=True),
    "peak_mb": Target(400),
    "peak_mb_100000": Target(full_only=True),
    "peak_mb_1000000": Target(500, full_only=True),
    "peak_1m_vs_100k": Target(1.2, full_only=True),
    "instance_vs_append_recent": Target(4),
    "instance_vs_append_creates": Target(1.5),
    "vs_merge_1m": Target(20, at_least=True),
    "vs_delete_append_scattered_1m": Target(1.3),
    "vs_dlt_1m": Target(),
    "trickle_growth": Target(1.1),
    "trickle_fused": Target(0),
    "rerun_vs_run": Target(0.1),
    "light_parallel": Target(6, at_least=True),
    "two_writers": Target(1.7, at_least=True),
    "chain_vs_floor": Target(1.6),
    "decode_vs_orjson": Target(4, at_least=True),
    "decode_vs_stdlib": Target(6, at_least=True),
    "rollup_flat": Target(1.2),
    "bytes_per_instance": Target(0.25),
    "backfill_peak_mb": Target(500, full_only=True),
    "backfill_720": Target(1.3, full_only=True),
    "backfill_720_tables": Target(1.3, full_only=True),
    "slices_720": Target(full_only=True),
    "hours_720": Target(full_only=True),
    "first_load_growth": Target(full_only=True),
}
DOUBTS: Final = """\
- The machine is shared, and seconds differ by a third from run to run. Ratios of one run, in CPU
  seconds, differ less. Of rounds it is the median. One of more than five seconds is not repeated.
- The storage is a local disk: requests cost nothing here. Their number is a test of its own.
- Rows are made. Sizes of studies and series are those of the NCI Imaging Data Commons, lengths of
  headers have its median and mean, and their text is that of pydicom's files and random numbers. A
  study of more than 3,000 instances is left out. A longer header costs all ways more, but not
  evenly: the others read or write all headers, ours those of the files that it touches.
- Others are used as their pages show. dlt is its merge alone, without what it does before, and
  deletes nothing. Polars writes the whole table anew. DuckDB's table is no Delta table.
- "Scattered" rewrites nearly all files of a table, in every way that has no deletion vectors.
- A table of more than 3 million rows has headers in its newest million only. Of the one of 50
  million the old files exist in the log and in the cache only.
"""
_LINES: Final = {
    "ours": ("this project", "#0969da", "#58a6ff"),
    "append": ("plain append (floor)", "#6e7781", "#9ea7b3"),
    "merge": ("DeltaTable.merge", "#cf222e", "#ff7b72"),
    "delete_append": ("delete + append", "#bc4c00", "#f0883e"),
    "dlt": ("dlt upsert", "#8250df", "#bc8cff"),
    "polars": ("Polars rewrite", "#1a7f37", "#3fb950"),
    "duckdb": ("DuckDB's own table", "#9a6700", "#d4a72c"),
    "sail": ("Sail MERGE", "#bf3989", "#f778ba"),
}
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 400, 60, 40, 170, 50


def as_json(
    found: Sequence[Measured],
    costs: Sequence[Cost],
    machine: Mapping[str, str],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """Return all as JSON: every target by its name, whether it was measured or not."""
    measured = {m.name: m for m in found}
    targets: dict[str, dict[str, Any]] = {}
    for name, target in TARGETS.items():
        one = measured.get(name)
        targets[name] = {
            "value": None if one is None else round(one.ratio, 3),
            "target": str(target),
            "reached": None if one is None else target.is_reached(one.ratio),
            **({"why": skipped.get(name, "not measured")} if one is None else {}),
            "beside": {} if one is None else dict(one.beside),
        }
    return {
        "machine": dict(machine),
        "ratios": {m.name: round(m.ratio, 3) for m in found},
        "targets": targets,
        "skipped": dict(skipped),
        "costs": [
            {
                **{name: getattr(c, name) for name in ("kind", "way", "rows", "rows_after")},
                "cpu_s": round(c.cpu, 3),
                "peak_mb": round(c.peak_mb),
                "rounds": len(c.seconds),
                "files": list(c.files),
            }
            for c in costs
        ],
    }


def as_page(told: Mapping[str, Any]) -> str:
    """Return the Markdown of what `as_json` told."""
    words = {True: "yes", False: "**no**", None: ""}
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`. An hour brings 10,000 changes to `instance`; CPU seconds of the",
        "process that brings them, look-up and commit.",
        "",
        "; ".join(f"{name}: {value}" for name, value in told["machine"].items()) + ".",
        "",
        "![CPU seconds of an hour against the rows of the table](latest.svg)",
        "",
        "| target | measured | limit | reached | beside |",
        "|---|---|---|---|---|",
    ]
    for name, one in told["targets"].items():
        value = one["why"] if one["value"] is None else f"{one['value']:.2f}"
        beside = ", ".join(f"{k} {v:,}" for k, v in one["beside"].items())
        lines.append(
            f"| `{name}` | {value} | {one['target']} | {words[one['reached']]} | {beside} |"
        )
    lines += ["", "| hour | way | rows | CPU s | peak MB | files before, after | rounds |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for c in told["costs"]:
        before, after = c["files"]
        way = _LINES[c["way"]][0]
        lines.append(
            f"| {c['kind']} | {way} | {c['rows']:,} | {c['cpu_s']:.2f} | {c['peak_mb']:,} | "
            f"{before:,}, {after:,} | {c['rounds']} |"
        )
    left_out = [f"- {name}: {why}." for name, why in told["skipped"].items() if name not in TARGETS]
    return "\n".join([*lines, "", "## Doubts", "", DOUBTS + "\n".join(left_out)]).strip() + "\n"


def as_plot(told: Mapping[str, Any]) -> str:
    """Return the plot of cost against table size, for recent changes, as SVG."""
    points: dict[str, list[tuple[int, float]]] = {}
    for c in told["costs"]:
        if c["kind"] == "recent":
            points.setdefault(c["way"], []).append((c["rows"], max(c["cpu_s"], 0.01)))
    sizes = sorted({rows for line in points.values() for rows, _ in line})
    values = [value for line in points.values() for _, value in line]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))

    def x(rows: int) -> float:
        span = math.log(sizes[-1] / sizes[0]) or 1
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(rows / sizes[0]) / span

    def y(value: float) -> float:
        span = math.log(high / low) or 1
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * math.log(high / value) / span

    light = "".join(f".{way}{{stroke:{c};fill:{c}}}" for way, (_, c, _) in _LINES.items())
    dark = "".join(f".{way}{{stroke:{c};fill:{c}}}" for way, (_, _, c) in _LINES.items())
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="sans-serif" font-size="12" role="img" '
            'aria-label="CPU seconds of an hour against the rows of the table">'
        ),
        (
            "<style>text{fill:#57606a;stroke:none}.g{stroke:#d0d7de}"
            f"{light}path{{fill:none}}"
            "@media(prefers-color-scheme:dark){text{fill:#9ea7b3}.g{stroke:#30363d}"
            f"{dark}path{{fill:none}}}}</style>"
        ),
        (
            f'<text x="{_LEFT}" y="20">CPU seconds of an hour with 10,000 changes in recent '
            "studies, against the rows of the table</text>"
        ),
    ]
    value = low
    while value <= high * 1.01:
        drawn.append(
            f'<line class="g" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:g}</text>'
        )
        value *= 10
    for rows in sizes:
        name = f"{rows / 10**6:g} M" if rows >= 10**6 else f"{rows:,}"
        drawn.append(
            f'<text x="{x(rows):.1f}" y="{_HEIGHT - 25}" text-anchor="middle">{name}</text>'
        )
    taken: list[float] = []
    for way, line in sorted(points.items(), key=lambda one: -max(one[1])[1]):
        path = " L".join(f"{x(rows):.1f},{y(value):.1f}" for rows, value in sorted(line))
        rows, value = max(line)
        at = y(value) + 4
        while any(abs(at - other) < 14 for other in taken):
            at += 2
        taken.append(at)
        drawn.append(f'<path class="{way}" stroke-width="2" d="M{path}"/>')
        drawn += [f'<circle class="{way}" r="3" cx="{x(r):.1f}" cy="{y(v):.1f}"/>' for r, v in line]
        drawn.append(f'<text x="{x(rows) + 8:.1f}" y="{at:.1f}">{_LINES[way][0]}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"
