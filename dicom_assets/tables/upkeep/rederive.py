"""Derived tables anew for every study there is, some at a time.

A run derives the studies that its hours touched; this is for what changes all of them: columns that
were added, or filled. The studies of a slice have so many instances together, so that memory stays
the same however many there are.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial, reduce
from typing import Any

from dicom_assets.schema import INSTANCE, SYNC, Table
from dicom_assets.tables.delta.arrow import ints
from dicom_assets.tables.delta.retry import Run, converge, settle
from dicom_assets.tables.delta.snapshot import Store, add_mark, mark_filled
from dicom_assets.tables.outcome import Outcome, Progress, Stopwatch
from dicom_assets.tables.rollup import difference_of
from dicom_assets.tables.sync import all_seals, shown_hours

# Instances whose columns are read at once.
SLICE_INSTANCES = 200_000


def rederive(store: Store, table: Table, run: Run) -> Outcome:
    """Derive the rows of every study anew; no other row is left."""
    sizes = _sizes(store, table)
    progress = Progress(run.say, f"{table.name}: derived {{}} of {len(sizes):,} studies")
    outcome = _derive(store, table, [], run)
    done = 0
    for studies in slices(sizes):
        outcome = outcome.then(_settled(store, table, studies, run))
        done += len(studies)
        progress(done)
    converge(partial(_mark, store, table, run))
    return outcome


def refill(store: Store, table: Table, run: Run) -> tuple[Outcome, list[datetime]]:
    """Fill a table that was added from `instance` alone, and mark the hours that it then shows.

    The table owes hours from then on. An hour that `instance` follows meanwhile is not marked,
    because its studies may have been derived before. Returns those hours beside the outcome.
    """
    seals = all_seals(store)
    outcome = rederive(store, table, run)
    converge(lambda: add_mark(store.open(SYNC), store.tables[SYNC.name][table.mark]))
    seals.mark(store, table.mark, run)
    return outcome, shown_hours(store)[table.name]


def _mark(store: Store, table: Table, run: Run) -> None:
    snapshot = store.open(table)
    mark_filled(snapshot, snapshot.table.names, run)


def slices(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Yield the studies, so many at a time that they have SLICE_INSTANCES together, or one."""
    taken: list[str] = []
    count = 0
    for study, size in sizes.items():
        if taken and count + size > SLICE_INSTANCES:
            yield taken
            taken, count = [], 0
        taken.append(study)
        count += size
    if taken:
        yield taken


def _sizes(store: Store, table: Table) -> dict[str, int]:
    """Return how many instances each study has; 0 where the table has one that has none."""
    listed: list[Any] = store.open(table).counts(table.study_column)[table.study_column].to_pylist()
    live = store.open(INSTANCE).counts("studyinstanceuid")
    studies: list[Any] = live["studyinstanceuid"].to_pylist()
    sizes: dict[str, int] = dict.fromkeys(listed, 0)
    return sizes | dict(zip(studies, ints(live["count"]), strict=True))


def _settled(store: Store, table: Table, studies: list[str], run: Run) -> Outcome:
    version = partial(store.version, INSTANCE)
    return reduce(Outcome.then, settle(version, lambda: _derive(store, table, studies, run)))


def _derive(store: Store, table: Table, studies: list[str], run: Run) -> Outcome:
    watch = Stopwatch()
    with watch.stage("derive"):
        target = store.open(table)
        difference = difference_of(store, target, studies)
        after = target.commit(difference, {"run_id": run.run_id, "studies": len(studies)})
    totals = Counter({**difference.counts(), "studies": len(studies)})
    rows = store.open(table).count()
    return Outcome(target.version, after, rows, totals=totals, seconds=watch.seconds)
