"""The benchmark itself, at its smallest: rows as real ones, every way right, every target told."""

import json
from itertools import islice, product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from dicom_assets.schema import INSTANCE
from dicom_assets.tables.delta.arrow import pc, texts
from dicom_assets_tests.bench import archive, ways
from dicom_assets_tests.bench.__main__ import Bench, Sizes
from dicom_assets_tests.bench.hours import KINDS, TRICKLE, Cost, Made
from dicom_assets_tests.bench.measure import Measured
from dicom_assets_tests.bench.targets import TARGETS, as_json, as_page, as_plot

SMALL = 600
TAGS = {
    "sopinstanceuid": "00080018",
    "studyinstanceuid": "0020000D",
    "seriesinstanceuid": "0020000E",
}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "an attribute is there twice"
    return dict(pairs)


def test_rows_are_those_of_an_archive() -> None:
    """UIDs of columns and headers agree, lengths of headers are those that were counted."""
    some = [archive.rows_of(study, headers=True) for study in islice(archive.studies(), 60)]
    rows = pa.concat_tables(some)
    assert rows.schema.equals(INSTANCE.arrow())
    assert rows["sequence"].to_pylist() == list(range(len(rows)))
    assert len(set(texts(rows["sopinstanceuid"]))) == len(rows)
    lengths = pc.binary_length(rows["metadata_string"])
    assert 2_000 < pc.quantile(lengths, 0.5)[0].as_py() < 3_200
    assert 5_000 < pc.mean(lengths).as_py() < 9_000
    few = rows.take(list(range(0, len(rows), 50)))
    headers = [json.loads(t, object_pairs_hook=_once) for t in texts(few["metadata_string"])]
    for column, tag in TAGS.items():
        assert [header[tag]["Value"][0] for header in headers] == texts(few[column])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A table of few rows."""
    return Made.build(tmp_path_factory.mktemp("bench") / "tables", SMALL)


def test_each_way_leaves_the_rows_that_the_hour_leaves(made: Made, tmp_path: Path) -> None:
    """Merge, delete + append and this project agree on every key and its sequence."""
    (hour,) = made.hours("recent")
    found = {}
    for name in ("ours", "merge", "delete_append"):
        table = tmp_path / name / INSTANCE.name
        table.parent.mkdir()
        made.copy(table.parent)
        ways.WAYS[name](table)(ways.load(hour))
        rows = DeltaTable(str(table)).to_pyarrow_table(columns=["sopinstanceuid", "sequence"])
        found[name] = sorted(map(tuple, (row.values() for row in rows.to_pylist())))
    assert found["merge"] == found["ours"]
    assert found["delete_append"] == found["ours"]


def test_hours_in_a_row_fuse_no_file(made: Made) -> None:
    """Each hour of the trickle adds a file, measured in a process of its own."""
    cost = made.cost("trickle", "ours", made.hours("trickle"), 1)
    before, after = cost.files
    assert after == before + TRICKLE
    assert len(cost.seconds[0]) == TRICKLE
    assert cost.peak_mb > 0


def test_rows_that_are_only_listed_are_not_opened(tmp_path: Path) -> None:
    """A table of the metadata alone has its rows in the log, and an hour on it leaves them."""
    made = Made.build(tmp_path / "tables", 50_000_000, real=SMALL)
    cost = made.cost("recent", "ours", made.hours("recent"), 1)
    assert cost.rows_after > 49_000_000
    assert cost.files[0] > 400


def test_every_target_is_told() -> None:
    """JSON, page and plot name each target: reached, missed, or why it was not measured."""
    found = [Measured("peak_mb", 500), Measured("flat_recent_1m", 1.1), Measured("vs_merge_1m", 19)]
    costs = [
        Cost("recent", way, rows, [[0.1 * rows / 1000]], 100, rows, (10, 11))
        for way in ("ours", "merge")
        for rows in (1_000, 1_000_000)
    ]
    told = as_json(found, costs, {"date": "2026-01-01"}, {"flat_recent_3m": "in the full run"})
    assert told["targets"].keys() == TARGETS.keys()
    reached = {name: told["targets"][name]["reached"] for name in TARGETS}
    assert (reached["peak_mb"], reached["vs_merge_1m"]) == (False, False)
    assert (reached["flat_recent_1m"], reached["flat_recent_3m"]) == (True, None)
    page = as_page(told)
    assert all(f"| `{name}` |" in page for name in TARGETS)
    assert "in the full run" in page
    assert "## Doubts" in page
    plot = ET.fromstring(as_plot(told))  # noqa: S314 - our own
    shown = " ".join(plot.itertext())
    assert "this project" in shown
    assert "DeltaTable.merge" in shown
    assert "prefers-color-scheme:dark" in shown


def test_hours_give_the_ratios_of_their_targets() -> None:
    """Each target of an hour of `instance` is counted the right way round; a fused file shows."""
    spent = {"ours": 1.0, "append": 0.5, "merge": 30.0, "delete_append": 2.0, "dlt": 20.0}
    bench = Bench(Sizes(), say=lambda _: None)
    for kind, way, rows in product(KINDS, spent, bench.sizes.rows):
        seconds = [[spent[way]] * (TRICKLE if kind == "trickle" else 1)]
        files = (10, 10 + TRICKLE - 1) if kind == "trickle" else (10, 11)
        if kind != "trickle" or rows == bench.sizes.rows[0]:
            bench.costs.append(Cost(kind, way, rows, seconds, 100, rows, files))
    ratios = {m.name: m.ratio for m in bench.ratios(dict.fromkeys(bench.sizes.rows, 1.0))}
    assert ratios == {
        "flat_recent_1m": 1,
        "peak_mb": 100,
        "instance_vs_append_recent": 2,
        "instance_vs_append_creates": 2,
        "vs_merge_1m": 30,
        "vs_delete_append_scattered_1m": 0.5,
        "vs_dlt_1m": 20,
        "trickle_growth": 1,
        "trickle_fused": 1,
        "rollup_flat": 1,
    }
    assert ratios.keys() <= TARGETS.keys()
