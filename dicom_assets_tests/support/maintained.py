"""Parts of the tests of maintenance: tables with a file for each of some hours.

Run as a module, it compacts `instance` and kills itself before or after the commit, goes on writing
hours, or maintains `instance`.
"""

import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dicom_assets.feed_contract import Rejection
from dicom_assets.schema import INSTANCE, Table
from dicom_assets.tables.delta import files
from dicom_assets.tables.delta.retry import Run
from dicom_assets.tables.delta.snapshot import Store
from dicom_assets.tables.upkeep import compaction, maintenance
from dicom_assets_tests.support.steps import store_in
from dicom_assets_tests.support.tables import Archive, Bench, Row, hours, key, ticks

LATER = datetime.now(UTC) + timedelta(days=8)
"""What is written now has rested by then."""
PATIENT = "PHI-Doe^Jane"
HOURS = 12
HOURS_WRITTEN = 4


def tell(archive: Archive, hour: int, settled: int) -> None:
    """An hour of two new instances and an entry that cannot be used; later ones change old ones."""
    for number in (1, 2):
        of = key(f"{hour}.{number}", study=str(hour), series=str(hour))
        archive.create(hour * 60 + number, of=of, patientid=f"PHI-{hour}", patientname=PATIENT)
    archive.unusable.append(Rejection(1_000 + hour, ticks(hour * 60 + 5), "no such thing"))
    if hour >= settled:
        old = hour - settled
        of = key(f"{old}.1", study=str(old), series=str(old))
        archive.update(hour * 60 + 10, of=of, patientid=f"PHI-{hour}", patientname=PATIENT)
        archive.delete(hour * 60 + 11, of=key(f"{old}.2", study=str(old), series=str(old)))


def filled(root: Path, count: int) -> Bench:
    """Tables after so many hours, each a run of its own."""
    bench = Bench(store_in(root))
    for hour in range(count):
        tell(bench.archive, hour, count)
        bench.sync(hours(hour))
    return bench


def write(store: Store, settled: int) -> None:
    """The hours that follow on those that `filled` has settled are in the tables."""
    bench = Bench(store)
    for hour in range(settled):
        tell(bench.archive, hour, settled)
    for hour in range(settled, settled + HOURS_WRITTEN):
        tell(bench.archive, hour, settled)
        bench.sync(hours(hour))


def rows_of(store: Store, table: Table) -> list[dict[str, Any]]:
    """The rows of a table, every column, in an order of their own."""
    return sorted(store.open(table).rows().to_pylist(), key=repr)


def age(store: Store, table: Table, days: float) -> None:
    """The table is as if all that happened to it had happened so many days earlier.

    By the times of the storage, and by those that commits and checkpoints tell.
    """
    earlier = int(days * 86_400)
    for path in Path(store.urls[table.name]).rglob("*"):
        if not path.is_file():
            continue
        then = path.stat().st_mtime - earlier
        if path.parent.name == "_delta_log":
            _age_entry(path, earlier * 1_000)
        os.utime(path, (then, then))


def _age_entry(path: Path, earlier: int) -> None:
    if path.suffix == ".json":
        lines = path.read_text(encoding="utf-8").splitlines()
        aged = [json.dumps(_aged(json.loads(line), earlier)) for line in lines]
        path.write_text("\n".join(aged), encoding="utf-8")
    elif path.suffix == ".parquet":
        held = pq.read_table(path)
        rows = [_aged(row, earlier) for row in held.to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=held.schema), path)


def _aged(action: Row, earlier: int) -> Row:
    return {kind: _earlier(told, earlier) for kind, told in action.items()}


def _earlier(told: Any, earlier: int) -> Any:  # noqa: ANN401 - whatever an action tells
    if not isinstance(told, dict):
        return told
    times = ("timestamp", "modificationTime", "deletionTimestamp")
    return told | {name: told[name] - earlier for name in times if told.get(name)}


def _die(root: Path, moment: str) -> None:
    def killed(*given: Any) -> int:  # noqa: ANN401 - as `commit`
        if moment == "after":
            files.commit(*given)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    setattr(compaction, "commit", killed)  # noqa: B010 - it is imported there
    compaction.compact(store_in(root), INSTANCE, Run("night", LATER))


def main(root: str, what: str, *given: str) -> None:
    """Die before or after the commit of a compaction; or write, or maintain."""
    if what == "write":
        write(store_in(Path(root)), int(given[0]))
    elif what == "night":
        maintenance.maintain(store_in(Path(root)), INSTANCE, Run("night", LATER))
    else:
        _die(Path(root), what)


if __name__ == "__main__":
    main(*sys.argv[1:])
