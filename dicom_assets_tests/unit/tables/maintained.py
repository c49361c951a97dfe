"""What the tests of maintenance are made of: tables with a file for each of some hours.

Run as a module, it compacts `instance` and kills itself before or after the commit, or goes on
writing hours.
"""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dicom_assets.reads import Rejection
from dicom_assets.schema import INSTANCE, Table
from dicom_assets.tables import compaction
from dicom_assets.tables.converge import Run
from dicom_assets.tables.store import Store
from dicom_assets_tests.unit.tables.build import Archive, Bench, hours, key, store_in, ticks

LATER = datetime.now(UTC) + timedelta(days=8)
"""What is written now has rested by then."""
PATIENT = "PHI-Doe^Jane"
HOURS_WRITTEN = 6


def tell(archive: Archive, hour: int, settled: int) -> None:
    """An hour of two new instances and an entry that cannot be used; later ones change old ones."""
    for number in (1, 2):
        of = key(f"{hour}.{number}", study=str(hour // 2), series=str(hour))
        archive.create(hour * 60 + number, of=of, patientid=f"PHI-{hour}", patientname=PATIENT)
    archive.unusable.append(Rejection(1_000 + hour, ticks(hour * 60 + 5), "no such thing"))
    if hour >= settled:
        old = hour - settled
        of = key(f"{old}.1", study=str(old // 2), series=str(old))
        archive.update(hour * 60 + 10, of=of, patientid=f"PHI-{hour}", patientname=PATIENT)
        archive.delete(hour * 60 + 11, of=key(f"{old}.2", study=str(old // 2), series=str(old)))


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


def _die(root: Path, moment: str) -> None:
    commit = compaction.commit

    def killed(*given: Any) -> int:  # noqa: ANN401 - as `commit`
        if moment == "after":
            commit(*given)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    compaction.commit = killed  # type: ignore[attr-defined]  # the point of it
    compaction.compact(store_in(root), INSTANCE, Run("night", LATER))


def main(root: str, what: str, *given: str) -> None:
    """Die before or after the commit of a compaction; or write."""
    if what == "write":
        write(store_in(Path(root)), int(given[0]))
    else:
        _die(Path(root), what)


if __name__ == "__main__":
    main(*sys.argv[1:])
