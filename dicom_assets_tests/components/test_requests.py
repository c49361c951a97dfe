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

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from dicom_assets import schema
from dicom_assets.tables.delta.commit import Difference
from dicom_assets.tables.delta.files import DataFile
from dicom_assets.tables.delta.retry import Run
from dicom_assets.window import datetime_of
from dicom_assets_tests.components.test_histories import Container
from dicom_assets_tests.property import world
from dicom_assets_tests.property.headers import minimal_header
from dicom_assets_tests.property.histories import PARTITIONS, START, History, Operation
from dicom_assets_tests.property.oracle import TICKS_PER_HOUR, Key
from dicom_assets_tests.property.world import MARKS, TABLES, Scenario, World
from dicom_assets_tests.support import steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_assets.tables.delta.snapshot import Store
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
        if files:
            _add_files(steps.store_of(world.urls(tmp_path)), files)
        for name in TABLES:
            _grow(signed_in.azurite, tmp_path / name, f"{made.root / name}", commits)
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


def _add_files(store: Store, count: int) -> None:
    """Add files of a row each to all tables: a study and an hour each, of years ago."""
    for table in TABLES.values():
        if table.name == "rejected":
            continue
        target, files = store.open(table), list[DataFile]()
        for number in range(1, count + 1):
            uid, ticks = f"1.9.{number}", START - number * TICKS_PER_HOUR
            values = {
                "partitionname": PARTITIONS[0],
                "studyinstanceuid": uid,
                "seriesinstanceuid": uid,
                "sopinstanceuid": uid,
                "sequence": -number,
                "timestamp_ticks": ticks,
                "action": "Create",
                "hour": datetime_of(ticks),
                **dict.fromkeys(MARKS, datetime_of(ticks)),
            }
            known = {name: name if name in values else name.lower() for name in table.names}
            row = {name: values[at] for name, at in known.items() if at in values}
            files += target.stage(pa.Table.from_pylist([row], schema=table.arrow()))
        target.commit(Difference(table, staged=files), {})


def _grow(azurite: Azurite, table: Path, url: str, commits: int) -> None:
    """The table is in the container, as it would be after so many commits and a checkpoint."""
    path = url.removeprefix("abfss://").replace("@devstoreaccount1.dfs.core.windows.net", "")
    delta, log = DeltaTable(str(table)), table / "_delta_log"
    delta.create_checkpoint()
    hint = json.loads((log / "_last_checkpoint").read_text(encoding="utf-8"))
    newest = f"_delta_log/{delta.version():020}"
    files = {f.relative_to(table).as_posix(): f.read_bytes() for f in table.rglob("part-*.parquet")}
    files |= {f"_studies/{f.name}": f.read_bytes() for f in table.glob("_studies/*")}
    kept = 0 if table.name == "sync" else commits
    files |= {f"_delta_log/{version:020}.json": _EMPTY for version in range(kept, commits)}
    for ending in ("json", "checkpoint.parquet"):
        content = (table / f"{newest}.{ending}").read_bytes()
        files[f"_delta_log/{commits:020}.{ending}"] = content
    files["_delta_log/_last_checkpoint"] = json.dumps(hint | {"version": commits}).encode()
    azurite.put_all({f"{path}/{name}": content for name, content in files.items()})
