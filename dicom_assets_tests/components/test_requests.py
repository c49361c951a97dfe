"""What an hour costs at the storage: requests, counted at a gate before Azurite.

Each hour has a store of its own, as a process that starts cold.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable
from deltalake.transaction import AddAction, CommitProperties, RemoveAction

from dicom_assets import schema
from dicom_assets.tables.delta.retry import Run
from dicom_assets_tests.components.test_histories import Container
from dicom_assets_tests.property import world
from dicom_assets_tests.property.headers import minimal_header
from dicom_assets_tests.property.histories import PARTITIONS, START, History, Operation
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Key
from dicom_assets_tests.property.world import TABLES, Scenario, World
from dicom_assets_tests.support import steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_assets_tests.components.azurite import Azurite
    from dicom_assets_tests.components.cloud import Cloud
    from dicom_assets_tests.components.gate import Gate

# Of an hour, over the hours between checkpoints of all tables.
MEDIAN_READS = 150
MOST_READS = 250
MOST_LISTS = 40
COUNTED = 6
_EMPTY = json.dumps({"commitInfo": {"timestamp": 1, "operation": "WRITE"}}).encode()

pytestmark = pytest.mark.timeout(900)  # ten thousand commits are written


@pytest.mark.parametrize("files", [0, 1_000], ids=lambda n: f"{n} files more")
@pytest.mark.parametrize("commits", [10, 10_000], ids=lambda n: f"{n} commits")
def test_an_hour_costs_few_requests_however_long_the_log_and_however_many_the_files(  # noqa: PLR0917 - fixtures and what is varied
    signed_in: Cloud,
    gate: Gate,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    commits: int,
    files: int,
) -> None:
    """The engine begins to list at the checkpoint: whatever lies before it costs nothing.

    In `sync`, which has the most, all of them are still there: more than a page of a list holds.
    """
    before, hours = 2, 2 + COUNTED
    scenario = Scenario(_busy(hours), 10 * hours, 0, ())
    costs = list[Counter[str]]()
    with World(scenario, Container(signed_in.root())) as made:
        for hour in range(before):
            _run(world.urls(tmp_path), made, hour)
        for name in TABLES:
            _grow(signed_in.azurite, tmp_path / name, f"{made.root / name}", commits, files)
        for hour in range(before, hours):
            gate.forget()
            _run(world.urls(made.root), made, hour)
            costs.append(gate.counts())
        if not files:
            made.check()
    for hour, cost in enumerate(costs):
        record_property(f"requests of hour {hour}", dict(cost))
        print(commits, files, hour, dict(cost))  # noqa: T201 - shown with -s, and when it fails
    reads = [cost["GET"] for cost in costs]
    assert median(reads) <= MEDIAN_READS
    assert max(reads) <= MOST_READS
    assert max(cost["LIST"] for cost in costs) <= MOST_LISTS


def _busy(hours: int) -> History:
    """Return a history with a new study in each hour, an update of the last, a delete before it."""
    told = list[Operation]()
    for hour in range(hours):
        start = START + hour * TICKS_PER_HOUR
        for number in range(4):
            key = Key(PARTITIONS[0], f"1.5.{hour}", f"1.5.{hour}.1", f"1.5.{hour}.1.{number}")
            told.append(Operation("store", start + number, *key, header=minimal_header(key)))
        if hour:
            change = {"00100020": {"vr": "LO", "Value": [f"PHI-{hour}"]}}
            study = (PARTITIONS[0], f"1.5.{hour - 1}")
            told.append(Operation("update", start + 10, *study, header=change))
        if hour > 1:
            series = (PARTITIONS[0], f"1.5.{hour - 2}", f"1.5.{hour - 2}.1")
            told.append(Operation("delete", start + 20, *series, f"1.5.{hour - 2}.1.0"))
    return History(tuple(told), hours)


def _run(urls: dict[str, str], made: World, hour: int) -> None:
    """One run over an hour in one process, as the IO manager makes it."""
    store, window = steps.store_of(urls), made.window((hour, hour + 1))
    run = Run(f"hour-{hour}", datetime.now(UTC))
    later = replace(run, marks_later=True)
    steps.add_entries(store, window, made.feed, run)
    steps.follow_log(store, window, made.feed, later)
    steps.derive(store, schema.SERIES, window, later)
    steps.derive(store, schema.STUDY, window, run)


def _grow(azurite: Azurite, table: Path, url: str, commits: int, more: int) -> None:
    """The table is in the container, as it would be after so many commits and a checkpoint.

    It may have more files. These hold what no hour touches: `change` and `sync` rows of years ago.
    """
    if not DeltaTable.is_deltatable(str(table)):
        return
    path = url.removeprefix("abfss://").replace("@devstoreaccount1.dfs.core.windows.net", "")
    if more and table.name in {"change", "sync"}:
        _add_files(table, more)
    DeltaTable(str(table)).create_checkpoint()
    log = table / "_delta_log"
    hint = json.loads((log / "_last_checkpoint").read_text(encoding="utf-8"))
    checkpoint = max(log.glob("*.checkpoint.parquet"))
    files = {f.relative_to(table).as_posix(): f.read_bytes() for f in table.rglob("part-*.parquet")}
    kept = 0 if table.name == "sync" else commits
    files |= {f"_delta_log/{version:020}.json": _EMPTY for version in range(kept, commits + 1)}
    files[f"_delta_log/{commits:020}.checkpoint.parquet"] = checkpoint.read_bytes()
    files["_delta_log/_last_checkpoint"] = json.dumps(hint | {"version": commits}).encode()
    azurite.put_all({f"{path}/{name}": content for name, content in files.items()})


def _add_files(table: Path, count: int) -> None:
    """Add files to the log that nobody ever has to open, because their statistics tell."""
    delta = DeltaTable(str(table))
    column = {"change": "timestamp_ticks", "sync": "hour"}[table.name]
    old = {"change": 1, "sync": "2001-01-01T00:00:00Z"}[table.name]
    ends = {column: old} | ({"sequence": -1} if table.name == "change" else {})
    nulls = dict.fromkeys(ends, 0)
    stats = {"numRecords": 1, "minValues": ends, "maxValues": ends, "nullCount": nulls}
    partitions = {"partitionName": PARTITIONS[0]} if delta.metadata().partition_columns else {}
    actions: list[AddAction | RemoveAction] = [
        AddAction(f"old-{n}.parquet", 999, partitions, 1, True, json.dumps(stats))
        for n in range(count)
    ]
    partitioned = list(delta.metadata().partition_columns)
    once = CommitProperties(max_commit_retries=0)
    delta.create_write_transaction(
        actions, "append", delta.schema(), partitioned, commit_properties=once
    )
