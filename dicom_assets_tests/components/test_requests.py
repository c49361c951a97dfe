"""What an hour costs at the storage: requests, counted at a gate before Azurite."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable

from dicom_assets_tests.components.test_histories import Container
from dicom_assets_tests.property import world
from dicom_assets_tests.property.histories import history_of
from dicom_assets_tests.property.world import TABLES, Scenario, World, carry_out
from dicom_assets_tests.support import steps

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from dicom_assets_tests.components.azurite import Azurite
    from dicom_assets_tests.components.cloud import Cloud
    from dicom_assets_tests.components.gate import Gate

# Pages of lists, and all requests, of an hour whose tables begin with a checkpoint.
MOST_LISTS = 60
MOST_REQUESTS = 770
_EMPTY = json.dumps({"commitInfo": {"timestamp": 1, "operation": "WRITE"}}).encode()

pytestmark = pytest.mark.timeout(600)  # ten thousand commits are written


def test_an_hour_lists_no_more_at_10_000_commits_than_at_100(
    signed_in: Cloud, gate: Gate, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The engine begins to list at the checkpoint: whatever lies before it costs nothing.

    In `sync`, which has the most, all of them are still there: more than a page of a list holds.
    """
    history = history_of(Random(4), hours=2, operations=20)
    scenario = Scenario(history, len(history.operations), 0, ())
    costs = {}
    for commits in (100, 10_000):
        with World(scenario, Container(signed_in.root())) as made:
            here = tmp_path / str(commits)
            store = steps.store_of(world.urls(here))
            carry_out(store, made.feed, made.window((0, 1)), "before")
            for name in TABLES:
                _grow(signed_in.azurite, here / name, f"{made.root / name}", commits)
            gate.forget()
            carry_out(made.store, made.feed, made.window((1, 2)), "counted")
            costs[commits] = gate.counts()
            made.run((0, 1))
            made.check()
    _tell(record_property, costs)
    assert costs[10_000] <= costs[100]
    assert costs[100]["LIST"] <= MOST_LISTS
    assert costs[100].total() <= MOST_REQUESTS


def _tell(record_property: Callable[[str, object], None], costs: dict[int, Counter[str]]) -> None:
    for commits, cost in costs.items():
        record_property(f"requests of an hour at {commits} commits", dict(cost))
        print(commits, dict(cost))  # noqa: T201 - shown with -s, and when it fails


def _grow(azurite: Azurite, table: Path, url: str, commits: int) -> None:
    """The table is in the container, as it would be after so many commits and a checkpoint."""
    if not DeltaTable.is_deltatable(str(table)):
        return
    path = url.removeprefix("abfss://").replace("@devstoreaccount1.dfs.core.windows.net", "")
    DeltaTable(str(table)).create_checkpoint()
    log = table / "_delta_log"
    hint = json.loads((log / "_last_checkpoint").read_text(encoding="utf-8"))
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    files = {f.relative_to(table).as_posix(): f.read_bytes() for f in table.rglob("part-*.parquet")}
    kept = 0 if table.name == "sync" else commits
    files |= {f"_delta_log/{version:020}.json": _EMPTY for version in range(kept, commits + 1)}
    files[f"_delta_log/{commits:020}.checkpoint.parquet"] = checkpoint.read_bytes()
    files["_delta_log/_last_checkpoint"] = json.dumps(hint | {"version": commits}).encode()
    azurite.put_all({f"{path}/{name}": content for name, content in files.items()})
